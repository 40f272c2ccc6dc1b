"""LlamaIndex: a retriever over an index that is there, a vector store, and a sparse embedding."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Unpack

from splade_os.encoding.query import QueryMode
from splade_os.engines import Engine
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import MissingExtraError, SettingsError
from splade_os.integrations.filters import equal_to, one_of
from splade_os.integrations.passages import Passage, PassageIndex, passage_of
from splade_os.integrations.sparse_texts import Sparse, SparseTexts
from splade_os.search.async_client import AsyncSearchClient
from splade_os.search.client import SearchClient
from splade_os.search.options import DEFAULT_MODE, Fusion, Mode, SearchKeywords
from splade_os.search.results import Results

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import (
        BaseNode,
        MetadataMode,
        NodeWithScore,
        QueryBundle,
        TextNode,
    )
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict

    from splade_os.integrations.llama_index_filters import translated
except ImportError as error:
    raise MissingExtraError("The integration with LlamaIndex", "llama-index") from error

_NODE = ("_node_content", "_node_type")  # LlamaIndex's names of what a node is beside its metadata
_REF_DOC_ID = "ref_doc_id"


class SpladeSparseEmbedding(BaseSparseEmbedding):
    """Texts as sparse embeddings: id in the model's vocabulary → weight.

    Args:
        model_name: ``starter``, a folder, or a name on the hub.
        device: torch device.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
    """

    _texts: SparseTexts = PrivateAttr()

    def __init__(
        self,
        model_name: str = "starter",
        device: str | None = None,
        query_mode: QueryMode = "encoder",
        **kwargs: Any,
    ) -> None:
        super().__init__(model_name=model_name, **kwargs)
        self._texts = SparseTexts(model_name, device, query_mode)

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex saves it."""
        return "SpladeSparseEmbedding"

    def _get_query_embedding(self, query: str) -> dict[int, float]:
        return _by_id(self._texts.queries([query]))[0]

    async def _aget_query_embedding(self, query: str) -> dict[int, float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> dict[int, float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> dict[int, float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return _by_id(self._texts.documents(texts))

    async def _aget_text_embeddings(self, texts: list[str]) -> list[dict[int, float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


def _by_id(rows: list[Sparse]) -> list[dict[int, float]]:
    return [dict(zip(*row, strict=True)) for row in rows]


class SpladeRetriever(BaseRetriever):
    """Nodes of one index for a text, with their scores. The text fields of a hit are the text of
    the node, everything else that is stored is metadata.

    Args:
        client: of the index, for `retrieve`.
        async_client: of the index, for `aretrieve`; without it, ``client`` runs in a thread.
        similarity_top_k: number of nodes, 1 to 10,000.
        mode: ``hybrid``, ``idf``, ``encoder``, ``bm25`` ... (`SearchClient.search`).
        search_kwargs: every other option of a search (`SearchOptions`): ``filter`` ...
        kwargs: of LlamaIndex's retrievers.

    Raises:
        SettingsError: neither client is given.
    """

    def __init__(
        self,
        client: SearchClient | None = None,
        async_client: AsyncSearchClient | None = None,
        *,
        similarity_top_k: int = 10,
        mode: Mode = DEFAULT_MODE,
        search_kwargs: SearchKeywords | None = None,
        **kwargs: Any,
    ) -> None:
        if client is None and async_client is None:
            raise SettingsError(
                "The retriever has nothing to search.",
                hint="Give it a client: SpladeRetriever(SearchClient(url, index)).",
            )
        self.client, self.async_client = client, async_client
        self.similarity_top_k, self.mode = similarity_top_k, mode
        self.search_kwargs: SearchKeywords = search_kwargs or {}
        super().__init__(**kwargs)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if self.client is None:
            raise SettingsError(
                "The retriever has an asynchronous client alone.",
                hint="await retriever.aretrieve(...), or give a SearchClient too.",
            )
        results = self.client.search(
            query_bundle.query_str, self.similarity_top_k, self.mode, **self.search_kwargs
        )
        return _scored(results, self.client.meta.text_fields)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if self.async_client is None:
            return await asyncio.to_thread(self._retrieve, query_bundle)
        results = await self.async_client.search(
            query_bundle.query_str, self.similarity_top_k, self.mode, **self.search_kwargs
        )
        return _scored(results, (await self.async_client.meta()).text_fields)


class SpladeVectorStore(BasePydanticVectorStore):
    """Nodes in and out of one index, which is made on the first write. The splade model encodes
    their text: what an ``embed_model`` makes of them is not stored.

    Args:
        url, index, engine, model, device, auth: as of `PassageIndex`.
        mode: of queries in ``VectorStoreQueryMode.DEFAULT``. ``SPARSE`` is ``sparse_mode``,
            ``HYBRID`` ``hybrid`` and ``TEXT_SEARCH`` ``bm25``.
        sparse_mode: ``idf`` (no model runs) or ``encoder``.
    """

    stores_text: bool = True
    is_embedding_query: bool = False
    mode: Mode = DEFAULT_MODE
    sparse_mode: QueryMode = "idf"

    _passages: PassageIndex = PrivateAttr()

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        mode: Mode = DEFAULT_MODE,
        sparse_mode: QueryMode = "idf",
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        super().__init__(mode=mode, sparse_mode=sparse_mode)
        self._passages = PassageIndex(url, index, engine=engine, model=model, device=device, **auth)

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex saves it."""
        return "SpladeVectorStore"

    @property
    def client(self) -> PassageIndex:
        """The index."""
        return self._passages

    def close(self) -> None:
        """Write what has been asked for; close the engine, if it was opened here."""
        self._passages.close()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Write nodes; those of an id that exists are replaced.

        Returns:
            Their ids.

        Raises:
            DocumentError: some could not be written; the others were.
        """
        self._passages.write(_passage(node) for node in nodes)
        return [node.node_id for node in nodes]

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """`add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a source document."""
        field = self._passages.exact(_REF_DOC_ID)
        self._passages.delete(p.id for p in self._passages.scan([equal_to(field, ref_doc_id)]))

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """`delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Nodes by id, by metadata, or both; all of them without either."""
        return [_node(passage) for passage in self._found(node_ids, filters)]

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Delete nodes by id, by metadata, or both.

        Raises:
            SettingsError: neither is given (`clear` deletes all).
        """
        if node_ids is None and filters is None:
            raise SettingsError(
                "Which nodes shall be deleted? Neither ids nor filters are given.",
                hint="clear() deletes all of them.",
            )
        self._passages.delete([passage.id for passage in self._found(node_ids, filters)])

    def clear(self) -> None:
        """Delete every node; the index stays."""
        self._passages.delete([passage.id for passage in self._passages.scan()])

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The best nodes for ``query_str``. ``alpha`` weights the halves of a hybrid query: 1 is
        the sparse one alone, 0 BM25.

        Args:
            kwargs: every option of a search (`SearchOptions`).

        Raises:
            SettingsError: no text is asked for, or in a mode that dense vectors alone have.
        """
        if not query.query_str:
            raise SettingsError(
                "The query has no text: a sparse index is not asked by a dense embedding.",
                hint="VectorStoreQuery(query_str=...).",
            )
        clauses = translated(query.filters, self._passages.exact)
        if query.node_ids:
            clauses.append({"ids": {"values": list(query.node_ids)}})
        if query.doc_ids:
            clauses.append(one_of(self._passages.exact(_REF_DOC_ID), query.doc_ids))
        options: SearchKeywords = {"filter": clauses, **kwargs}  # type: ignore[typeddict-item]
        mode, top_k = self._mode(query.mode), query.similarity_top_k
        if mode == "hybrid":
            top_k = query.hybrid_top_k or top_k
            if query.alpha is not None:
                weights = (query.alpha, 1 - query.alpha)
                options.setdefault("fusion", Fusion(weights=weights, sparse=self.sparse_mode))
        found = self._passages.search(query.query_str, top_k, mode, **options)
        return VectorStoreQueryResult(
            nodes=[_node(passage) for passage, _ in found],
            similarities=[hit.score for _, hit in found],
            ids=[hit.id for _, hit in found],
        )

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _mode(self, wanted: VectorStoreQueryMode) -> Mode:
        modes: dict[VectorStoreQueryMode, Mode] = {
            VectorStoreQueryMode.DEFAULT: self.mode,
            VectorStoreQueryMode.SPARSE: self.sparse_mode,
            VectorStoreQueryMode.HYBRID: "hybrid",
            VectorStoreQueryMode.TEXT_SEARCH: "bm25",
        }
        if wanted not in modes:
            raise SettingsError(
                f"A sparse index has no query of the mode {getattr(wanted, 'value', wanted)!r}.",
                hint=f"One of {', '.join(mode.value for mode in modes)}.",
            )
        return modes[wanted]

    def _found(self, node_ids: list[str] | None, filters: MetadataFilters | None) -> list[Passage]:
        clauses = translated(filters, self._passages.exact)
        if node_ids is not None:
            clauses.append({"ids": {"values": list(node_ids)}})
        return list(self._passages.scan(clauses))


def _passage(node: BaseNode) -> Passage:
    metadata = node_to_metadata_dict(node, remove_text=True)
    extra = {name: metadata.pop(name) for name in _NODE}
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return Passage(node.node_id, text, metadata, extra)


def _node(passage: Passage) -> BaseNode:
    if _NODE[0] in passage.extra:
        return metadata_dict_to_node(dict(passage.extra), text=passage.text)
    return TextNode(id_=passage.id, text=passage.text, metadata=dict(passage.metadata))


def _scored(results: Results, text_fields: Sequence[str]) -> list[NodeWithScore]:
    return [
        NodeWithScore(node=_node(passage_of(hit.id, hit.source, text_fields)), score=hit.score)
        for hit in results
    ]
