"""LangChain: a retriever over an index that is there, and a vector store that writes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, Unpack
from uuid import uuid4

from splade_os.engines import Engine
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import MissingExtraError, SettingsError
from splade_os.integrations.passages import Passage, PassageIndex, passage_of
from splade_os.search.async_client import AsyncSearchClient
from splade_os.search.client import SearchClient
from splade_os.search.options import DEFAULT_MODE, Mode
from splade_os.search.results import Results

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.runnables import run_in_executor
    from langchain_core.vectorstores import VectorStore
    from pydantic import ConfigDict, Field, model_validator
except ImportError as error:
    raise MissingExtraError("The integration with LangChain", "langchain") from error

SCORE = "_score"
"""Where the retriever puts the score of a document in its metadata."""


class SpladeRetriever(BaseRetriever):
    """Documents of one index for a text. The text fields of a hit are the content, everything else
    that is stored is metadata, its score stands there as ``_score``.

    Attributes:
        client: of the index, for `invoke`.
        async_client: of the index, for `ainvoke`; without it, `client` runs in a thread.
        k: number of documents, 1 to 10,000.
        mode: ``hybrid``, ``idf``, ``encoder``, ``bm25`` ... (`SearchClient.search`).
        search_kwargs: every other option of a search (`SearchOptions`): ``filter`` ...

    ``invoke(text, k=..., mode=..., filter=...)`` overrides them.

    Raises:
        ValidationError: (pydantic) neither client is given.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    client: SearchClient | None = None
    async_client: AsyncSearchClient | None = None
    k: int = 10
    mode: Mode = DEFAULT_MODE
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_is_there(self) -> Self:
        if self.client is None and self.async_client is None:
            raise ValueError("Give a client: SpladeRetriever(client=SearchClient(url, index)).")
        return self

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        if self.client is None:
            raise SettingsError(
                "The retriever has an asynchronous client alone.",
                hint="await retriever.ainvoke(...), or give client=SearchClient(url, index) too.",
            )
        results = self.client.search(query, **self._asked(options))
        return _documents(results, self.client.meta.text_fields)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        if self.async_client is None:
            found: list[Document] = await run_in_executor(
                None,
                self._get_relevant_documents,
                query,
                run_manager=run_manager.get_sync(),
                **options,
            )
            return found
        results = await self.async_client.search(query, **self._asked(options))
        return _documents(results, (await self.async_client.meta()).text_fields)

    def _asked(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"k": self.k, "mode": self.mode, **self.search_kwargs, **options}


def _documents(results: Results, text_fields: Sequence[str]) -> list[Document]:
    return [
        _document(passage_of(hit.id, hit.source, text_fields), {SCORE: hit.score})
        for hit in results
    ]


def _document(passage: Passage, more: dict[str, Any] | None = None) -> Document:
    metadata = {**passage.metadata, **(more or {})}
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)


class SpladeVectorStore(VectorStore):
    """Documents in and out of one index, which is made on the first write. The splade model encodes
    them: there is no ``embedding`` (a dense one), and no search by a dense vector.

    Args:
        url, index, engine, model, device, auth: as of `PassageIndex`.
        mode: of every search that names none.

    Raises:
        SettingsError: nothing to write to is named.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        mode: Mode = DEFAULT_MODE,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        self.passages = PassageIndex(url, index, engine=engine, model=model, device=device, **auth)
        self.mode = mode

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts in it.

        Args:
            embedding: none, whatever LangChain's interface has there.
            kwargs: of the store.

        Raises:
            SettingsError: an ``embedding`` is given.
        """
        if embedding is not None:
            raise SettingsError(
                "The vectors of this store are those of its splade model, not of an embedding.",
                hint="Give embedding=None, and model=... for another model than the starter.",
            )
        store = cls(**kwargs)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Write texts; those of an id that exists are replaced.

        Args:
            metadatas: of each.
            ids: of each; default, and for ``None``, a new one.

        Returns:
            The ids.

        Raises:
            SettingsError: their numbers differ, or there are options that do not exist.
            DocumentError: some could not be written; the others were.
        """
        if kwargs:
            raise SettingsError(f"add_texts has no option {min(kwargs)!r}.")
        given = list(texts)
        for name, each in (("metadatas", metadatas), ("ids", ids)):
            if each is not None and len(each) != len(given):
                raise SettingsError(f"There are {len(given):,} texts, and {len(each):,} {name}.")
        written = [id or str(uuid4()) for id in ids or [None] * len(given)]
        known = metadatas or [{} for _ in given]
        self.passages.write(map(Passage, written, given, known))
        return written

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents by id; what is not there is no fault.

        Returns:
            ``True``: none of them is there now.

        Raises:
            SettingsError: no ids are given: a whole index is deleted by ``splade-os index delete``.
            DocumentError: some could not be deleted; the others were.
        """
        if ids is None:
            raise SettingsError(
                "Which documents shall be deleted? No ids are given.",
                hint="A whole index: splade-os index delete --index NAME.",
            )
        self.passages.delete(ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Documents by id, those that exist, in the order of the ids."""
        return [_document(passage) for passage in self.passages.read(ids)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The ``k`` best documents for a text.

        Args:
            kwargs: ``mode``, ``filter`` and every other option of a search (`SearchOptions`).
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """`similarity_search`, each with the engine's score: higher is better, without a bound."""
        options = {"mode": self.mode, **kwargs}
        found = self.passages.search(query, k, **options)
        return [(_document(passage), hit.score) for passage, hit in found]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """LangChain wants 0 to 1: s / (1 + s), which keeps the order."""
        return lambda score: score / (1.0 + score)
