"""OpenSearch and Elasticsearch behind the `Engine` protocol, and behind `AsyncEngine`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Unpack

import orjson

from splade_os.engines.base import (
    Cursor,
    EngineInfo,
    Identity,
    IndexMeta,
    IndexStats,
    Outcome,
    QueryPipeline,
    SearchRequest,
    SearchResponse,
    StatisticsVersion,
)
from splade_os.engines.connection.keywords import WireKeywords
from splade_os.engines.driver import drive, drive_async
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.rest.retry import ATTEMPTS
from splade_os.engines.rest.server import Ask, Steps
from splade_os.engines.rest.statistics import STATISTICS_INDEX, RestStatistics
from splade_os.engines.rest.steps import ClusterSteps
from splade_os.engines.rest.upkeep import RestUpkeep
from splade_os.engines.rest.wire import (
    AsyncWire,
    Call,
    Wire,
    open_async_wire,
    open_wire,
    wrap_async_client,
    wrap_client,
)
from splade_os.errors import AuthenticationError, EngineError, EngineUnavailableError
from splade_os.statistics import Count, TermStatistics

Result = TypeVar("Result")


def _holds(asked: Ask) -> bool:
    return isinstance(asked, Call) and asked.holds


class ClusterEngine(RestUpkeep, RestStatistics):
    """A cluster of OpenSearch (1.1 or newer) or Elasticsearch (7.12 or newer).

    Args:
        url: ``http://host:9200``.
        client: a client of opensearch-py or elasticsearch-py of your own, instead of the URL
            and all options; it is not closed with the engine.
        wire: what carries the requests, instead of both.
        statistics_index: the companion index that holds the term statistics.
        options: credentials, TLS and ``timeout``
            (`splade_os.engines.connection.options.client_options`); ``compress``: gzip of requests
            and answers.
    """

    own_body = True

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        wire: Wire | None = None,
        statistics_index: str = STATISTICS_INDEX,
        **options: Unpack[WireKeywords],
    ) -> None:
        if wire is None:
            wire = open_wire(str(url), **options) if client is None else wrap_client(client)
        self.url = wire.url
        self._wire = wire
        self.statistics_index = statistics_index
        self._steps = ClusterSteps(self.url, statistics_index)

    def _run(self, steps: Steps[Result]) -> Result:
        return drive(steps, self._send, _holds)

    def _send(self, asked: Ask) -> Any:
        if isinstance(asked, Call):
            return self._wire.send(asked)
        answers: list[Any] = []
        for call in asked:
            try:
                answers.append(self._wire.send(call))
            except (AuthenticationError, EngineUnavailableError):
                raise  # so would all of them
            except EngineError as error:
                answers.append(error)
        return answers

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        index: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """Any request: its parsed answer; failures as `EngineError`.

        With ``params={"ignore": 404}`` what is not there is answered like all else.
        """
        given = {name: str(value) for name, value in (params or {}).items()}
        absent = given.pop("ignore", None) == "404"
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        return self._wire.send(Call(method, path, data, given, index=index, absent=absent))

    def request(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Any API that has no method here: the parsed answer; ``bytes`` are sent as they are."""
        return self._call(method, path, body, params=params)

    def capabilities(self) -> Capabilities:
        """What the server is and has; asked once."""
        return self._run(self._steps.capabilities())

    def info(self) -> EngineInfo:
        return self._run(self._steps.info())

    def ping(self) -> bool:
        return self._run(self._steps.ping())

    def field_types(self) -> Sequence[str]:
        return self._run(self._steps.field_types())

    def feature_naming(self, field_type: str) -> str:
        return self._run(self._steps.feature_naming(field_type))

    def create_index(
        self,
        index: str,
        meta: IndexMeta,
        settings: Mapping[str, Any] | None = None,
        mapping: Mapping[str, Any] | None = None,
    ) -> None:
        self._run(self._steps.create_index(index, meta, settings, mapping))

    def delete_index(self, index: str) -> None:
        self._run(self._steps.delete_index(index))

    def index_meta(self, index: str) -> IndexMeta:
        return self._run(self._steps.index_meta(index))

    def describe(self, index: str) -> tuple[IndexMeta, Identity]:
        return self._run(self._steps.describe(index))

    def stats(self, index: str) -> IndexStats:
        return self._run(self._steps.stats(index))

    def bulk(
        self, index: str, body: bytes, *, attempts: int = ATTEMPTS, guard: str | None = None
    ) -> list[Outcome]:
        return self._run(self._steps.bulk(index, body, attempts, guard))

    def refresh(self, index: str) -> None:
        self._run(self._steps.refresh(index))

    def merge(self, index: str, segments: int = 1) -> None:
        self._run(self._steps.merge(index, segments))

    def count(self, index: str) -> int:
        return self._run(self._steps.count(index))

    def query_pipeline(self, index: str) -> QueryPipeline:
        return self._run(self._steps.query_pipeline(index))

    def search(self, index: str, request: SearchRequest) -> SearchResponse:
        return self._run(self._steps.search(index, request))

    def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> list[SearchResponse | EngineError]:
        return self._run(self._steps.search_many(index, requests))

    def render(self, index: str, request: SearchRequest) -> bytes | None:
        return self._run(self._steps.render(index, request))

    def close_cursor(self, cursor: Cursor) -> None:
        self._run(self._steps.close_cursor(cursor))

    def alias_targets(self, alias: str) -> list[str]:
        return self._run(self._steps.alias_targets(alias))

    def identity(self, index: str) -> Identity:
        return self._run(self._steps.identity(index))

    def counts(self, index: str) -> list[Count]:
        (found,) = self._run(self._steps.counts(index)).values()
        return found

    def _drop_counts(self, ids: Sequence[str]) -> None:
        self._run(self._steps.drop_counts(ids))

    def load_statistics(
        self, index: str, identity: Identity = frozenset()
    ) -> TermStatistics | None:
        return self._run(self._steps.load_statistics(index, identity))

    def statistics_version(self, index: str, identity: Identity = frozenset()) -> StatisticsVersion:
        return self._run(self._steps.statistics_version(index, identity))

    def close(self) -> None:
        self._wire.close()


class AsyncClusterEngine:
    """The searching half of `ClusterEngine`, for asyncio; arguments as there."""

    own_body = True

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        wire: AsyncWire | None = None,
        statistics_index: str = STATISTICS_INDEX,
        **options: Unpack[WireKeywords],
    ) -> None:
        if wire is None:
            wire = (
                open_async_wire(str(url), **options)
                if client is None
                else wrap_async_client(client)
            )
        self.url = wire.url
        self._wire = wire
        self._steps = ClusterSteps(self.url, statistics_index)

    async def _run(self, steps: Steps[Result]) -> Result:
        return await drive_async(steps, self._send, _holds)

    async def _send(self, asked: Ask) -> Any:
        if isinstance(asked, Call):
            return await self._wire.send(asked)
        # what fails as all others would ends it; other errors are answers
        return await asyncio.gather(*map(self._answer, asked))

    async def _answer(self, call: Call) -> Any:
        try:
            return await self._wire.send(call)
        except (AuthenticationError, EngineUnavailableError):
            raise
        except EngineError as error:
            return error

    async def info(self) -> EngineInfo:
        return await self._run(self._steps.info())

    async def ping(self) -> bool:
        return await self._run(self._steps.ping())

    async def index_meta(self, index: str) -> IndexMeta:
        return await self._run(self._steps.index_meta(index))

    async def describe(self, index: str) -> tuple[IndexMeta, Identity]:
        return await self._run(self._steps.describe(index))

    async def query_pipeline(self, index: str) -> QueryPipeline:
        return await self._run(self._steps.query_pipeline(index))

    async def search(self, index: str, request: SearchRequest) -> SearchResponse:
        return await self._run(self._steps.search(index, request))

    async def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> list[SearchResponse | EngineError]:
        return await self._run(self._steps.search_many(index, requests))

    async def render(self, index: str, request: SearchRequest) -> bytes | None:
        return await self._run(self._steps.render(index, request))

    async def close_cursor(self, cursor: Cursor) -> None:
        await self._run(self._steps.close_cursor(cursor))

    async def alias_targets(self, alias: str) -> list[str]:
        return await self._run(self._steps.alias_targets(alias))

    async def identity(self, index: str) -> Identity:
        return await self._run(self._steps.identity(index))

    async def load_statistics(
        self, index: str, identity: Identity = frozenset()
    ) -> TermStatistics | None:
        return await self._run(self._steps.load_statistics(index, identity))

    async def statistics_version(
        self, index: str, identity: Identity = frozenset()
    ) -> StatisticsVersion:
        return await self._run(self._steps.statistics_version(index, identity))

    async def close(self) -> None:
        await self._wire.close()
