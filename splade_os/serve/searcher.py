"""One index of a service: searched without holding the event loop, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import QueryEncoder
from splade_os.encoding.resolve import resolve_recorded
from splade_os.engines import Engine, IndexMeta
from splade_os.engines.rest.cluster import AsyncClusterEngine
from splade_os.errors import EngineError, InputError, ModelMismatchError
from splade_os.online.async_index import AsyncIndex
from splade_os.search.async_client import AsyncSearchClient
from splade_os.search.client import SearchClient
from splade_os.search.options import Mode, SearchKeywords
from splade_os.search.results import Results
from splade_os.search.steps import EncoderMode, Text


class Searcher:
    """Searches, and on demand writes, one index. What it loads is loaded when it is first needed.

    Args:
        index: name or alias.
        engine: for everything but searches of a cluster.
        cluster: what a cluster is searched with; ``None`` on SQLite.
        model: where the model lies; default what the index names.
    """

    def __init__(
        self, index: str, engine: Engine, cluster: AsyncClusterEngine | None, model: str | None
    ) -> None:
        self.index, self.engine = index, engine
        self._model = model
        self._client: AsyncSearchClient | None = None
        self._sync: SearchClient | None = None
        if cluster is not None:
            self._client = AsyncSearchClient(engine=cluster, index=index, model=model)
        else:
            self._sync = SearchClient(engine=engine, index=index, model=model)
        self._documents: AsyncIndex | None = None
        self._encoder: asyncio.Task[tuple[IndexMeta, DocumentEncoder]] | None = None

    async def search(
        self, text: Text, k: int, mode: Mode, **options: Unpack[SearchKeywords]
    ) -> Results:
        """`SearchClient.search`."""
        if self._client is not None:
            return await self._client.search(text, k, mode, **options)
        assert self._sync is not None
        return await asyncio.to_thread(self._sync.search, text, k, mode, **options)

    async def search_many(
        self, texts: Sequence[Text], k: int, mode: Mode, **options: Unpack[SearchKeywords]
    ) -> list[Results | EngineError]:
        """`SearchClient.search_many`."""
        if self._client is not None:
            return await self._client.search_many(texts, k, mode, **options)
        assert self._sync is not None
        return await asyncio.to_thread(self._sync.search_many, texts, k, mode, **options)

    async def meta(self) -> IndexMeta:
        """What the index remembers."""
        if self._client is not None:
            return await self._client.meta()
        client = self._sync
        assert client is not None
        return await asyncio.to_thread(lambda: client.meta)

    async def query_encoder(self, mode: EncoderMode) -> QueryEncoder:
        """The query encoder of a mode."""
        if self._client is not None:
            return await self._client.encoder(mode)
        assert self._sync is not None
        return await asyncio.to_thread(self._sync.encoder, mode)

    async def tokens_of(self, text: str) -> frozenset[str]:
        """The tokens that a text has itself, as the index's model cuts it."""
        encoder: Any = await self.query_encoder("idf")
        (ids,) = await asyncio.to_thread(encoder.tokenize, [text])
        tokens = encoder.vocabulary.tokens
        return frozenset(tokens[i] for i in ids.tolist())

    async def document_encoder(self) -> DocumentEncoder:
        """What encodes documents as those of the index are; loaded once, for all who wait for it.

        Raises:
            ModelMismatchError: the model at hand is not the one that encoded the index.
        """
        meta = await self.meta()
        task = self._encoder
        if task is not None and task.done():  # it failed, or the name stands for another index
            failed = task.cancelled() or task.exception() is not None
            if failed or task.result()[0].model != meta.model:
                task = None
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self._load, meta))
            self._encoder = task
        return (await asyncio.shield(task))[1]  # who gives up waiting ends it for nobody else

    def _load(self, meta: IndexMeta) -> tuple[IndexMeta, DocumentEncoder]:
        if meta.model.external:
            raise ModelMismatchError(
                f"The vectors of the index {self.index} came from outside: no model is named that "
                "could encode a text as they are."
            )
        name = self._model or resolve_recorded(meta.model, self.index).name
        encoder = DocumentEncoder.load(name, **meta.model.options().model_dump())
        difference = encoder.identity.difference(meta.model, encoder.left_open)
        if difference is not None:
            raise ModelMismatchError(
                f"The index {self.index} was encoded with {meta.model.name}, and {name} is not the "
                f"same: {difference}.",
                hint="Name the model of the index with --model.",
            )
        encoder.adopt(meta.model)
        return meta, encoder

    @property
    def documents(self) -> AsyncIndex:
        """What writes documents."""
        if self._documents is None:
            self._documents = AsyncIndex(index=self.index, engine=self.engine, model=self._model)
        return self._documents

    async def stored(self, id: str, index: str = "") -> Mapping[str, Any] | None:
        """All stored fields of a document, its vector among them; ``None`` = it is not there.

        Args:
            index: behind an alias, the one that holds it.
        """
        if not id:
            raise InputError("Which document? Its id is empty.")
        found = await asyncio.to_thread(self.engine.documents, index or self.index, [id])
        return found.get(id)

    async def close(self) -> None:
        """Write what has been asked for; the engines are closed by whoever opened them."""
        if self._documents is not None:
            await self._documents.close()
        if self._client is not None:
            await self._client.close()
