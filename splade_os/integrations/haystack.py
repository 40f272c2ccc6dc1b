"""Haystack: embedders, a document store and its retriever."""

# No `from __future__ import annotations`: Haystack 2 compares the types of what it connects.

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, TypeVar

from splade_os.encoding.query import QueryMode
from splade_os.errors import MissingExtraError, SettingsError
from splade_os.integrations.passages import Passage, PassageIndex
from splade_os.integrations.sparse_texts import SparseTexts
from splade_os.search.options import DEFAULT_MODE, MODES, Mode

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream, SparseEmbedding
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy, apply_filter_policy
    from haystack.utils import Secret

    from splade_os.integrations.haystack_filters import translated
except ImportError as error:
    raise MissingExtraError("The integration with Haystack", "haystack") from error

Result = TypeVar("Result")


@component
class SpladeTextEmbedder:
    """A query as a sparse embedding.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        device: torch device.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
    """

    def __init__(
        self, model: str = "starter", device: str | None = None, query_mode: QueryMode = "encoder"
    ) -> None:
        self._texts = SparseTexts(model, device, query_mode)

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        texts = self._texts
        saved: dict[str, Any] = default_to_dict(
            self, model=texts.model, device=texts.device, query_mode=texts.query_mode
        )
        return saved

    def warm_up(self) -> None:
        """Load the model."""
        _ = self._texts.query_encoder

    @component.output_types(sparse_embedding=SparseEmbedding)
    def run(self, text: str) -> dict[str, SparseEmbedding]:
        """Encode one text.

        Raises:
            TypeError: it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(
                f"SpladeTextEmbedder takes one text, not {type(text).__name__}; for documents "
                "there is SpladeDocumentEmbedder."
            )
        ((ids, weights),) = self._texts.queries([text])
        return {"sparse_embedding": SparseEmbedding(indices=ids, values=weights)}


@component
class SpladeDocumentEmbedder:
    """Documents with sparse embeddings. (A `SpladeDocumentStore` encodes those that have none.)

    Args:
        model, device: as of `SpladeTextEmbedder`.
        meta_fields_to_embed: metadata put before the content.
        embedding_separator: between them.
    """

    def __init__(
        self,
        model: str = "starter",
        device: str | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        self._texts = SparseTexts(model, device)
        self._fields, self._separator = meta_fields_to_embed or [], embedding_separator

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        saved: dict[str, Any] = default_to_dict(
            self,
            model=self._texts.model,
            device=self._texts.device,
            meta_fields_to_embed=self._fields,
            embedding_separator=self._separator,
        )
        return saved

    def warm_up(self) -> None:
        """Load the model."""
        _ = self._texts.document_encoder

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, list[Document]]:
        """New documents with ``sparse_embedding``; those given stay as they are.

        Raises:
            TypeError: they are no documents.
        """
        _check(documents, TypeError)
        rows = self._texts.documents([self._text(document) for document in documents])
        return {
            "documents": [
                replace(document, sparse_embedding=SparseEmbedding(indices=ids, values=weights))
                for document, (ids, weights) in zip(documents, rows, strict=True)
            ]
        }

    def _text(self, document: Document) -> str:
        known = [document.meta.get(name) for name in self._fields]
        parts = [*(str(value) for value in known if value is not None), document.content or ""]
        return self._separator.join(parts)


class SpladeDocumentStore:
    """Documents in one index, which is made on the first write. A document that brings a
    ``sparse_embedding`` (of the same model) is written with it; others are encoded here.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name or alias.
        model, device: what encodes; default the index's own model, else the starter.
        username, password, api_key, ca_certs: of the cluster; default from the settings, as every
            other option of the connection.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        model: str | None = None,
        device: str | None = None,
        username: str | None = None,
        password: Secret | None = None,
        api_key: Secret | None = None,
        ca_certs: str | None = None,
    ) -> None:
        self._plain = {
            "url": url,
            "index": index,
            "model": model,
            "device": device,
            "username": username,
            "ca_certs": ca_certs,
        }
        self._secrets = {"password": password, "api_key": api_key}

    @cached_property
    def passages(self) -> PassageIndex:
        """The index; opened on first use."""
        secrets = {n: s.resolve_value() for n, s in self._secrets.items() if s is not None}
        return PassageIndex(**self._plain, **secrets)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved; of secrets the names of their environment variables."""
        secrets = {n: s.to_dict() if s is not None else None for n, s in self._secrets.items()}
        saved: dict[str, Any] = default_to_dict(self, **self._plain, **secrets)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From what `to_dict` gave."""
        parameters = dict(data.get("init_parameters", {}))
        for name in ("password", "api_key"):
            if isinstance(parameters.get(name), dict):
                parameters[name] = Secret.from_dict(parameters[name])
        made: Self = default_from_dict(cls, {**data, "init_parameters": parameters})
        return made

    def count_documents(self) -> int:
        """Number of documents; 0 where there is no index yet."""
        return self.passages.count()

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """All documents that pass the filter.

        Raises:
            FilterError: it is none.
        """
        return [_document(passage) for passage in self._found(filters)]

    def write_documents(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Write documents.

        Args:
            policy: of ids that exist: ``OVERWRITE`` (and ``NONE``) replaces, ``SKIP`` leaves, and
                ``FAIL`` writes nothing at all. The ids are looked up before: what another program
                writes at the same moment is replaced.

        Returns:
            How many were written.

        Raises:
            ValueError: they are no documents.
            DuplicateDocumentError: some exist, or are given twice (``FAIL``).
            DocumentError: some could not be written; the others were.
        """
        _check(documents, ValueError)
        given = {document.id: document for document in documents}
        if policy in (DuplicatePolicy.FAIL, DuplicatePolicy.SKIP):
            there = self.passages.existing(list(given))
            if policy == DuplicatePolicy.FAIL and (there or len(given) < len(documents)):
                ids = [document.id for document in documents]
                twice = min(there) if there else next(i for i in ids if ids.count(i) > 1)
                raise DuplicateDocumentError(f"There is a document {twice!r} already.")
            if policy == DuplicatePolicy.SKIP:
                first: dict[str, Document] = {}
                for document in documents:
                    first.setdefault(document.id, document)
                given = {id: each for id, each in first.items() if id not in there}
        self.passages.write(self._passage(document) for document in given.values())
        return len(given) if policy == DuplicatePolicy.SKIP else len(documents)

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by id; what is not there is no fault."""
        self.passages.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Delete every document; the index stays."""
        self.delete_by_filter({})

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete all documents that pass the filter; how many."""
        ids = [passage.id for passage in self._found(filters)]
        return sum(each.result == "deleted" for each in self.passages.delete(ids))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Change metadata of all documents that pass the filter; how many. No text is encoded
        again."""
        ids = [passage.id for passage in self._found(filters)]
        for id in ids:
            self.passages.change(id, meta)
        return len(ids)

    async def count_documents_async(self) -> int:
        """`count_documents`."""
        return await asyncio.to_thread(self.count_documents)

    async def filter_documents_async(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """`filter_documents`."""
        return await asyncio.to_thread(self.filter_documents, filters)

    async def write_documents_async(
        self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """`write_documents`."""
        return await asyncio.to_thread(self.write_documents, documents, policy)

    async def delete_documents_async(self, document_ids: list[str]) -> None:
        """`delete_documents`."""
        await asyncio.to_thread(self.delete_documents, document_ids)

    def search(
        self,
        query: str | SparseEmbedding,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Mode = DEFAULT_MODE,
    ) -> list[Document]:
        """The best documents with their scores; what `SpladeRetriever` asks.

        Args:
            query: a text, or the sparse embedding of one.
        """
        clauses = translated(filters, self.passages.exact)
        if isinstance(query, SparseEmbedding):
            weights = self.passages.by_token(query.indices, query.values)
            found = self.passages.search(weights, top_k, "raw", filter=clauses)
        else:
            found = self.passages.search(query, top_k, mode, filter=clauses)
        return [replace(_document(passage), score=hit.score) for passage, hit in found]

    def _found(self, filters: dict[str, Any] | None) -> Iterator[Passage]:
        return self.passages.scan(translated(filters, self.passages.exact))

    def _passage(self, document: Document) -> Passage:
        extra: dict[str, Any] = {}
        if document.embedding is not None:
            extra["embedding"] = document.embedding
        if document.blob is not None:
            data = b64encode(document.blob.data).decode()
            extra["blob"] = {**_without_data(document.blob), "data": data}
        sparse = document.sparse_embedding
        return Passage(
            document.id,
            document.content or "",
            document.meta,
            extra,
            None if sparse is None else self.passages.by_token(sparse.indices, sparse.values),
        )


@component
class SpladeRetriever:
    """Documents of a `SpladeDocumentStore` for a query.

    Args:
        document_store: where.
        filters: in Haystack's language.
        top_k: number of documents, 1 to 10,000.
        mode: ``hybrid``, ``idf``, ``encoder``, ``bm25`` ... (`SearchClient.search`), of a text.
        filter_policy: whether the filters of a run replace those here, or are added.

    Raises:
        SettingsError: another document store, or a mode that there is not.
    """

    def __init__(
        self,
        document_store: SpladeDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Mode = DEFAULT_MODE,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
    ) -> None:
        if not isinstance(document_store, SpladeDocumentStore):
            raise SettingsError(
                f"SpladeRetriever searches a SpladeDocumentStore, not {document_store!r}."
            )
        if mode not in MODES:
            raise SettingsError(f"There is no mode {mode!r}.", hint=f"One of {', '.join(MODES)}.")
        self.document_store, self.filters, self.top_k = document_store, filters or {}, top_k
        self.mode = mode
        self.filter_policy = FilterPolicy.from_str(str(filter_policy))

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are saved."""
        saved: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            filters=self.filters,
            top_k=self.top_k,
            mode=self.mode,
            filter_policy=self.filter_policy.value,
        )
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From what `to_dict` gave."""
        parameters = dict(data.get("init_parameters", {}))
        if isinstance(parameters.get("document_store"), Mapping):
            store = SpladeDocumentStore.from_dict(parameters["document_store"])
            parameters["document_store"] = store
        made: Self = default_from_dict(cls, {**data, "init_parameters": parameters})
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """The best documents, with their scores.

        Args:
            query, query_sparse_embedding: one of them: a text, or its embedding by the model that
                encoded the index.

        Raises:
            SettingsError: none of them, or both.
            FilterError: a filter that is none.
        """
        if (query is None) == (query_sparse_embedding is None):
            raise SettingsError("Give the retriever a query, or else its sparse embedding.")
        asked: Any = query if query is not None else query_sparse_embedding
        wanted = apply_filter_policy(self.filter_policy, self.filters, filters)
        return {
            "documents": self.document_store.search(
                asked, wanted, self.top_k if top_k is None else top_k, self.mode
            )
        }

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        query_sparse_embedding: SparseEmbedding | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """`run`."""
        ask: Callable[..., dict[str, list[Document]]] = self.run
        return await asyncio.to_thread(ask, query, query_sparse_embedding, filters, top_k)


def _document(passage: Passage) -> Document:
    blob = passage.extra.get("blob")
    if isinstance(blob, Mapping):
        blob = ByteStream(**{**blob, "data": b64decode(blob["data"])})
    return Document(
        id=passage.id,
        content=passage.text or None,
        meta=dict(passage.metadata),
        blob=blob,
        embedding=passage.extra.get("embedding"),
    )


def _without_data(blob: ByteStream) -> dict[str, Any]:
    return {"meta": blob.meta, "mime_type": blob.mime_type}


def _check(documents: Any, kind: type[Exception]) -> None:
    if not isinstance(documents, list) or not all(isinstance(d, Document) for d in documents):
        raise kind(f"A list of Haystack's documents is needed, not {documents!r:.80}.")
