"""`AsyncIndex`: `Index` for asyncio, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from splade_os.engines import Engine, IndexLayout, IndexMeta
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.online.index import PAGE, Document, Index, OnError, checked
from splade_os.online.results import DocumentResult
from splade_os.search.options import DEFAULT_MODE, Mode, SearchKeywords
from splade_os.search.results import Results


class AsyncIndex:
    """One index, document by document, for asyncio: nothing holds the event loop, and what many
    tasks write goes out together.

    Arguments, methods, results and errors are those of `Index`.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        text_fields: Sequence[str] | None = None,
        model: str | None = None,
        device: str | None = None,
        engine: Engine | None = None,
        layout: IndexLayout | None = None,
        patience: float = 30.0,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        self.sync = Index(
            url,
            index,
            text_fields=text_fields,
            model=model,
            device=device,
            engine=engine,
            layout=layout,
            patience=patience,
            **auth,
        )
        self.name = self.sync.name
        self._opened = False

    async def upsert(
        self,
        documents: Document | Iterable[Document] | AsyncIterable[Document],
        *,
        vectors: bool = False,
        on_error: OnError = "raise",
    ) -> list[DocumentResult]:
        """`Index.upsert`; the documents may come from an asynchronous iterator."""
        results: list[DocumentResult] = []
        async for page in _pages(documents):
            if self._opened:  # nothing slow is left but the writing
                begun = self.sync.begin_upsert(page, vectors)
            else:
                begun = await asyncio.to_thread(self.sync.begin_upsert, page, vectors)
                self._opened = True
            written: list[DocumentResult] = await asyncio.wrap_future(begun.written)
            results += begun.results(written)
        return checked(results, "written", on_error)

    async def update(
        self, id: str, fields: Mapping[str, Any], *, on_error: OnError = "raise"
    ) -> DocumentResult:
        """`Index.update`."""
        return await asyncio.to_thread(self.sync.update, id, fields, on_error=on_error)

    async def delete(
        self, ids: str | Iterable[str], *, on_error: OnError = "return"
    ) -> list[DocumentResult]:
        """`Index.delete`."""
        return await asyncio.to_thread(self.sync.delete, ids, on_error=on_error)

    async def enrich(self, ids: Iterable[str] | None = None) -> dict[str, int]:
        """`Index.enrich`."""
        return await asyncio.to_thread(self.sync.enrich, ids)

    async def get(self, id: str, fields: Sequence[str] | None = None) -> dict[str, Any] | None:
        """`Index.get`."""
        return await asyncio.to_thread(self.sync.get, id, fields)

    async def scan(
        self, fields: Sequence[str] | None = None, *, filter: Sequence[Mapping[str, Any]] = ()
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """`Index.scan`."""
        found = self.sync.scan(fields, filter=filter)
        end = object()
        while (each := await asyncio.to_thread(next, found, end)) is not end:
            yield each  # type: ignore[misc]

    async def count(self) -> int:
        """`Index.count`."""
        return await asyncio.to_thread(self.sync.count)

    async def refresh(self) -> None:
        """`Index.refresh`."""
        await asyncio.to_thread(self.sync.refresh)

    async def search(
        self,
        text: str | Mapping[str, float],
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        *,
        refresh: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> Results:
        """`Index.search`."""
        return await asyncio.to_thread(self.sync.search, text, k, mode, refresh=refresh, **options)

    async def target(self) -> IndexMeta:
        """`Index.target`."""
        return await asyncio.to_thread(self.sync.target)

    async def close(self) -> None:
        """`Index.close`."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _pages(
    documents: Document | Iterable[Document] | AsyncIterable[Document],
) -> AsyncIterator[list[Document]]:
    page: list[Document] = []
    async for document in _each(documents):
        page.append(document)
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page


async def _each(
    documents: Document | Iterable[Document] | AsyncIterable[Document],
) -> AsyncIterator[Document]:
    if isinstance(documents, AsyncIterable):
        async for document in documents:
            yield document
    else:
        for document in [documents] if isinstance(documents, Mapping) else documents:
            yield document
