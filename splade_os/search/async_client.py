"""`AsyncSearchClient`: `SearchClient` for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from splade_os.encoding.idf_source import IdfSource
from splade_os.encoding.query import QueryEncoder
from splade_os.engines import Cursor, IndexMeta
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.engines.driver import drive_async
from splade_os.engines.rest.cluster import AsyncClusterEngine
from splade_os.errors import EngineError, SettingsError
from splade_os.search.options import DEFAULT_MODE, Mode, SearchKeywords, SearchOptions, check_scan
from splade_os.search.plan import Plan
from splade_os.search.results import Hit, Results
from splade_os.search.steps import (
    IDF_MAX_AGE,
    Aside,
    EncoderMode,
    SearchSteps,
    Step,
    Steps,
    Text,
    Wait,
    Work,
)
from splade_os.search.target import need_index
from splade_os.settings import load_settings

Result = TypeVar("Result")
_PAGE = 1000


class AsyncSearchClient:
    """Searches one index of a cluster, for asyncio. Models load and run in a thread.

    Arguments and errors are those of `SearchClient`; ``client`` is an ``AsyncOpenSearch`` or an
    ``AsyncElasticsearch``. SQLite has no asynchronous engine.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        client: Any = None,
        engine: AsyncClusterEngine | None = None,
        model: str | None = None,
        device: str | None = None,
        idf: IdfSource | None = None,
        idf_max_age: float | None = IDF_MAX_AGE,
        check_model: bool = True,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        settings = load_settings(url=url, index=index, model=model, **auth)
        self.index = need_index(settings, url)
        self._own = engine is None
        if engine is None and client is not None:
            engine = AsyncClusterEngine(client=client)
        elif engine is None:
            if not settings.url.startswith(("http://", "https://")):
                raise SettingsError(
                    f"{settings.url!r} is not the URL of a cluster.",
                    hint="SQLite has no asynchronous engine: use SearchClient.",
                )
            engine = AsyncClusterEngine(settings.url, **settings.connection())
        self.engine = engine
        self._aside: set[asyncio.Task[None]] = set()  # else nothing keeps them
        self._steps = SearchSteps(
            self.index,
            self.engine.url,
            model=settings.model,
            device=device,
            idf=idf,
            check_model=check_model,
            own_body=self.engine.own_body,
            idf_max_age=idf_max_age,
        )

    async def close(self) -> None:
        """Close the engine, if the client opened it."""
        for task in self._aside:
            task.cancel()
        if self._own:
            await self.engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, steps: Steps[Result]) -> Result:
        return await drive_async(steps, self._do)

    async def _do(self, step: Step) -> Any:
        match step:
            case Work():
                return await asyncio.to_thread(step.do)
            case Wait():
                return await asyncio.wrap_future(step.future)
            case Aside():
                task = asyncio.create_task(self._run(step.steps))
                self._aside.add(task)
                task.add_done_callback(self._aside.discard)
                return None
            case _:
                return await step(self.engine)

    async def meta(self) -> IndexMeta:
        """What the index remembers; read once."""
        return await self._run(self._steps.meta())

    async def encoder(self, mode: EncoderMode) -> QueryEncoder:
        """`SearchClient.encoder`."""
        return await self._run(self._steps.encoder(mode))

    async def ping(self) -> bool:
        """Whether the engine answers now: one request of its own, five seconds at most.

        Raises:
            AuthenticationError: it answers, and takes no credentials of these.
        """
        return await self.engine.ping()

    async def refresh(self) -> None:
        """Learn at once what has changed in the index since it was first searched: record, model
        and statistics. Searches notice it by themselves, some time later."""
        await self._run(self._steps.refresh())

    async def search(
        self, text: Text, k: int = 10, mode: Mode = DEFAULT_MODE, **options: Unpack[SearchKeywords]
    ) -> Results:
        """`SearchClient.search`."""
        return await self._run(self._steps.search(text, SearchOptions(k, mode, **options)))

    async def search_many(
        self,
        texts: Sequence[Text],
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        **options: Unpack[SearchKeywords],
    ) -> list[Results | EngineError]:
        """`SearchClient.search_many`."""
        return await self._run(self._steps.search_many(texts, SearchOptions(k, mode, **options)))

    async def scan(
        self,
        text: Text,
        mode: Mode = DEFAULT_MODE,
        *,
        page: int = _PAGE,
        **options: Unpack[SearchKeywords],
    ) -> AsyncIterator[Hit]:
        """`SearchClient.scan`."""
        check_scan(options)
        after: Cursor | None = Cursor()
        plans: list[Plan] = []
        rank = 0
        try:
            while after is not None:
                options["after"] = after
                asked = SearchOptions(page, mode, **options)
                results = await self._run(self._steps.search(text, asked, plans))
                after = results.following
                for hit in results:
                    rank += 1
                    yield hit.at_rank(rank)
        finally:
            if after is not None and after.pit:
                await self.engine.close_cursor(after)

    async def build(
        self, text: Text, k: int = 10, mode: Mode = DEFAULT_MODE, **options: Unpack[SearchKeywords]
    ) -> list[bytes]:
        """`SearchClient.build`."""
        return await self._run(self._steps.build(text, SearchOptions(k, mode, **options)))
