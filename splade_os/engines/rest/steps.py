"""What is asked of a cluster, without knowing how it is carried.

Each method is a generator: it yields `Call` values, is sent the parsed answers (or thrown what
went wrong), and returns its result. `ClusterEngine` and `AsyncClusterEngine` drive them over a
`Wire`, so that both ask exactly the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError

from splade_os.engines.base import (
    Cursor,
    EngineInfo,
    IndexMeta,
    IndexStats,
    Outcome,
    QueryPipeline,
    SearchRequest,
    SearchResponse,
)
from splade_os.engines.fields.capabilities import (
    Capabilities,
    amazon_serverless,
    clause_limit,
    read_modules,
)
from splade_os.engines.fields.strategies import FieldStrategy, strategy_for
from splade_os.engines.opensearch_ml.query_pipeline import query_pipeline
from splade_os.engines.rest.answers import (
    complete,
    expect,
    foreign,
    incomplete,
    objects,
    read_response,
)
from splade_os.engines.rest.bodies import PIT_KEEP_ALIVE, search_body
from splade_os.engines.rest.clauses import fitted
from splade_os.engines.rest.failures import PUT_OFF, refused
from splade_os.engines.rest.statistics import STATISTICS_INDEX, counts_of, query_of_counts
from splade_os.engines.rest.wire import Call
from splade_os.errors import (
    AuthenticationError,
    AuthorizationError,
    DeploymentError,
    EngineError,
    EngineUnavailableError,
    IndexFormatError,
    SpladeWarning,
)
from splade_os.statistics import Count, TermStatistics, summed

_BULK_FILTER = "errors,items.*._id,items.*.status,items.*.result,items.*.error"
_NODES_FILTER = (
    "nodes.*.version,nodes.*.modules.name,nodes.*.plugins.name,"
    "nodes.*.jvm.mem.heap_max_in_bytes,nodes.*.thread_pool.search.size"
)
_OLDEST = {"opensearch": "2.9", "elasticsearch": "8.0"}
"""What a server is taken for that does not tell its version to this user."""
_NETWORK_GRACE = 5.0  # seconds over a search's own time-out, for the way there and back

Result = TypeVar("Result")
Steps = Generator[Call, Any, Result]


class ClusterSteps:
    """The requests behind every method of an engine, and what is remembered between them.

    Args:
        url: for messages.
        statistics_index: where term statistics are.
    """

    def __init__(self, url: str, statistics_index: str = STATISTICS_INDEX) -> None:
        self._url = url
        self.statistics_index = statistics_index
        self._server: Capabilities | None = None
        self._metas: dict[str, IndexMeta] = {}
        self._strategies: dict[str, FieldStrategy] = {}
        self._warned = False

    def capabilities(self) -> Steps[Capabilities]:
        """What the server is and has; asked once.

        Raises:
            EngineError: it is neither OpenSearch nor Elasticsearch, or too old to score a dot
                product.
        """
        if self._server is None:
            distribution, version, serverless = yield from self._version()
            nodes = yield from self._allowed(
                Call(
                    "GET", "/_nodes/plugins,jvm,thread_pool", params={"filter_path": _NODES_FILTER}
                )
            )
            if version is None:
                told = [node["version"] for node in nodes.get("nodes", {}).values()]
                version = told[0] if told else _OLDEST[distribution]
            server = Capabilities(distribution, version, read_modules(nodes), serverless=serverless)
            if not server.number:
                raise EngineError(f"{self._url} is neither OpenSearch nor Elasticsearch.")
            if not server.linear:
                raise EngineError(
                    f"{distribution} {version} cannot score a dot product: it has no linear "
                    "rank_feature.",
                    hint="OpenSearch has it from 1.1 on, Elasticsearch from 7.12 on. (OpenSearch "
                    "calls itself 7.10.2 where compatibility.override_main_response_version is on: "
                    "set it to false.)",
                )
            parameters = {"include_defaults": "true", "filter_path": "*.indices.query"}
            settings = yield from self._allowed(
                Call("GET", "/_cluster/settings", params=parameters)
            )
            limit = clause_limit(distribution, server.number, settings, nodes)
            self._server = replace(server, max_clauses=limit)
        return self._server

    def _version(self) -> Steps[tuple[str, str | None, bool]]:
        """Distribution, version (``None`` = to be asked of the nodes), and whether it is
        serverless."""
        try:
            root = yield Call("GET", "/")
        except AuthorizationError as error:  # without cluster:monitor/main all else may go well
            return error.distribution, None, False
        except (AuthenticationError, EngineUnavailableError):
            raise
        except EngineError as error:
            if error.status == 404 and amazon_serverless(self._url):  # has no GET /, is a 2.x
                return "opensearch", "2.0 (serverless)", True
            if error.status != 405:
                raise
            return "elasticsearch", None, False
        root = root if isinstance(root, Mapping) else {}
        version = root.get("version", {})
        distribution, number = version.get("distribution"), str(version.get("number") or "")
        if distribution is None and "OpenSearch" in str(root.get("tagline")):
            return "opensearch", None, False  # in compatibility mode: it calls itself 7.10.2
        serverless = version.get("build_flavor") == "serverless"
        return distribution or "elasticsearch", number, serverless

    def _allowed(self, call: Call) -> Steps[Mapping[str, Any]]:
        """The answer, or nothing where the user may not ask, or a managed service lacks it."""
        try:
            answer = yield call
        except EngineUnavailableError:
            raise
        except EngineError:
            return {}
        return answer if isinstance(answer, Mapping) else {}

    def info(self) -> Steps[EngineInfo]:
        server = yield from self.capabilities()
        return EngineInfo(server.distribution, server.version)

    def field_types(self) -> Steps[Sequence[str]]:
        return (yield from self.capabilities()).field_types

    def feature_naming(self, field_type: str) -> Steps[str]:
        return strategy_for(field_type, (yield from self.capabilities())).feature_naming

    def create_index(
        self, index: str, meta: IndexMeta, settings: Mapping[str, Any] | None
    ) -> Steps[None]:
        server = yield from self.capabilities()
        body = strategy_for(meta.field_type, server).index_body(meta, settings)
        body["settings"]["index"] = server.index_settings(body["settings"]["index"])
        try:
            yield Call("PUT", f"/{index}", orjson.dumps(body), index=index)
        except EngineError as error:
            if "[english]" not in error.message:
                raise
            for name, definition in body["mappings"]["properties"].items():
                if definition.get("analyzer") == "english":
                    body["mappings"]["properties"][name] = {**definition, "analyzer": "standard"}
            yield Call("PUT", f"/{index}", orjson.dumps(body), index=index)
            warnings.warn(
                f"{self._url} lacks the analyzer 'english' (its module analysis-common is not "
                f"there): BM25 on {index} compares whole words.",
                SpladeWarning,
                stacklevel=4,
            )

    def delete_index(self, index: str) -> Steps[None]:
        names = dict((yield from self.identity(index)))
        yield Call("DELETE", f"/{index}", index=index)
        self._metas.pop(index, None)
        with suppress(AuthorizationError):
            yield from self._forget(names)

    def _forget(self, names: Mapping[str, str]) -> Steps[None]:
        """Records that nothing finds any more: they only take up room."""
        companion = self.statistics_index
        own = yield from self.own_parameters()
        body = orjson.dumps({**query_of_counts(names), "_source": False})
        call = Call("POST", f"/{companion}/_search", body, own, index=companion)
        answer = yield from self._found(call)
        lines = [
            orjson.dumps({"delete": {"_id": hit["_id"]}}) + b"\n"
            for hit in (answer or {}).get("hits", {}).get("hits", ())
        ]
        if lines:
            params = {"refresh": "true"}
            path = f"/{companion}/_bulk"
            yield Call("POST", path, b"".join(lines), params, index=companion, ndjson=True)

    def _found(self, call: Call) -> Steps[Any]:
        """The answer, or ``None`` for a document (or its index) that is not there."""
        try:
            return (yield call)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def index_meta(self, index: str) -> Steps[IndexMeta]:
        answer = yield Call("GET", f"/{index}/_mapping", index=index)
        mappings = {
            name: expect(body, self._url, "mappings", kind=Mapping)
            for name, body in objects(answer, self._url).items()
        }
        found = [(mapping.get("_meta") or {}).get("splade_os") for mapping in mappings.values()]
        if not found or any(meta is None for meta in found):
            raise IndexFormatError(
                f"The index {index} was not made by splade-os: its mapping has no _meta.splade_os.",
                hint="Ingest into a new index: splade-os ingest SOURCE --index NAME.",
            )
        if any(meta != found[0] for meta in found):
            raise IndexFormatError(
                f"{index} stands for {len(found)} indices that were encoded in different ways: "
                f"{', '.join(sorted(mappings))}.",
                hint="Name one of them.",
            )
        try:
            meta = IndexMeta.read(found[0])
        except ValidationError as error:
            raise IndexFormatError(
                f"The splade-os record in the mapping of {index} is damaged or of a newer "
                f"version: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.",
            ) from None
        for name, mapping in mappings.items():
            if meta.field not in mapping.get("properties", {}):
                raise IndexFormatError(
                    f"The index {name} has no field {meta.field!r}, in which its record says that "
                    "the vectors are.",
                    hint="Ingest into a new index.",
                )
        self._metas[index] = meta
        return meta

    def _meta(self, index: str) -> Steps[IndexMeta]:
        if index not in self._metas:
            return (yield from self.index_meta(index))
        return self._metas[index]

    def stats(self, index: str) -> Steps[IndexStats]:
        answer = yield Call("GET", f"/{index}/_stats/store", index=index)
        size = expect(answer, self._url, "_all", "primaries", "store", "size_in_bytes", kind=int)
        # the statistics of an index count nested objects as documents too
        return IndexStats((yield from self.count(index)), size)

    def bulk(self, index: str, body: bytes, attempts: int) -> Steps[list[Outcome]]:
        yield from self._meta(index)  # else a missing index would be made, without a mapping
        answer = yield Call(
            "POST",
            f"/{index}/_bulk",
            body,
            index=index,
            ndjson=True,
            params={"filter_path": _BULK_FILTER},
            attempts=attempts,
            repeat_timeouts=True,
        )
        return [_outcome(next(iter(item.values()))) for item in answer.get("items", [])]

    def refresh(self, index: str) -> Steps[None]:
        server = yield from self.capabilities()
        if not server.refreshes_alone:
            yield Call("POST", f"/{index}/_refresh", index=index)

    def concrete(self, index: str) -> Steps[str]:
        """The indices behind a name, which see nothing of an alias's filter."""
        return ",".join(sorted(name for name, _ in (yield from self.identity(index))))

    def own_parameters(self) -> Steps[dict[str, str]]:
        """Of every search that is not the user's: past the search pipeline that an index has by
        default, and never a part of the answer for the whole."""
        server = yield from self.capabilities()
        own = {"allow_partial_search_results": "false"}
        return {**own, "search_pipeline": "_none"} if server.search_pipelines else own

    def query_pipeline(self, index: str) -> Steps[QueryPipeline]:
        server = yield from self.capabilities()
        if server.distribution != "opensearch" or (
            server.modules is not None and not server.neural_search
        ):
            raise DeploymentError(
                f"{self._url} ({server.distribution} {server.version}) encodes no queries itself: "
                "only OpenSearch with the plugin neural-search does.",
                hint="Let the client encode them: mode idf.",
            )
        meta = yield from self._meta(index)
        return (yield from query_pipeline(index, meta.field))

    def count(self, index: str) -> Steps[int]:
        # not by _count, which goes through the index's default search pipeline and cannot be told
        # not to
        names, parameters = (yield from self.concrete(index)), (yield from self.own_parameters())
        body = orjson.dumps({"size": 0, "track_total_hits": True})
        answer = yield Call("POST", f"/{names}/_search", body, parameters, index=names)
        count = int(expect(answer, self._url, "hits", "total", "value", kind=int))
        if not complete(answer):
            raise incomplete(answer, f"The count of {index}")
        return count

    def _prepared(
        self, index: str, request: SearchRequest
    ) -> Steps[tuple[SearchRequest, IndexMeta, bytes]]:
        # what is known already costs no generator: this runs for every query
        meta = self._metas.get(index) or (yield from self._meta(index))
        server = self._server or (yield from self.capabilities())
        strategy = self._strategies.get(meta.field_type)
        if strategy is None:
            strategy = strategy_for(meta.field_type, server)
            self._strategies[meta.field_type] = strategy
        request = self._limited(request, server.max_clauses, len(meta.bm25) or 1)
        return request, meta, search_body(request, meta, strategy, server)

    def _limited(self, request: SearchRequest, limit: int, fields: int) -> SearchRequest:
        """What fits into the server's limit of clauses; `SearchResponse` says what took part."""
        fit = fitted(request, limit, fields)
        if fit is not request and not self._warned and fit != request:
            self._warned = True
            warnings.warn(
                f"{self._url} takes {limit:,} clauses of one query and its filter: the heaviest "
                "are kept of the terms, the first of the words. (This is said once; the results "
                "say every time what took part.)",
                SpladeWarning,
                stacklevel=6,
            )
        return fit

    def render(self, index: str, request: SearchRequest) -> Steps[bytes | None]:
        _, _, body = yield from self._prepared(index, request)
        return body

    def search(self, index: str, request: SearchRequest) -> Steps[SearchResponse]:
        opened = None
        if request.after is not None and not request.after.pit:
            opened = yield from self.open_pit(index)
            request = replace(request, after=opened)
        try:
            request, meta, body = yield from self._prepared(index, request)
            call = self._search_call(index, request, body)
            if request.internal:
                names = yield from self.concrete(index)
                own = yield from self.own_parameters()
                call = replace(call, path=f"/{names}/_search", index=names, params=own)
            answer = yield call
            response = read_response(answer, request, meta, body, index, self._url)
        except GeneratorExit:
            raise
        except BaseException:  # cancelled, too
            if opened is not None:
                yield from self.close_cursor(opened)
            raise
        if request.after is not None and response.following is None:
            pit = answer.get("pit_id", request.after.pit)
            yield from self.close_cursor(Cursor(pit))
        return response

    def _search_call(self, index: str, request: SearchRequest, body: bytes) -> Call:
        path = "/_search" if request.after is not None else f"/{index}/_search"
        timeout = None if request.timeout is None else request.timeout + _NETWORK_GRACE
        return Call("POST", path, body, index=index, timeout=timeout)

    def open_pit(self, index: str) -> Steps[Cursor]:
        """A view of an index that stays the same."""
        server = yield from self.capabilities()
        path = "_pit" if server.distribution == "elasticsearch" else "_search/point_in_time"
        if not server.points_in_time:
            raise EngineError(
                f"{server.distribution} {server.version} has no point in time (OpenSearch has it "
                "from 2.4 on).",
                hint="Page with offset= instead.",
            )
        parameters = {"keep_alive": PIT_KEEP_ALIVE}
        answer = yield Call("POST", f"/{index}/{path}", params=parameters, index=index, holds=True)
        return Cursor(answer.get("id") or answer["pit_id"])

    def close_cursor(self, cursor: Cursor) -> Steps[None]:
        """Release the point in time; one that ran out is gone already."""
        server = yield from self.capabilities()
        if server.distribution == "elasticsearch":
            call = Call("DELETE", "/_pit", orjson.dumps({"id": cursor.pit}))
        else:
            path = "/_search/point_in_time"
            call = Call("DELETE", path, orjson.dumps({"pit_id": [cursor.pit]}))
        yield from self._found(call)

    def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> Steps[list[SearchResponse | EngineError]]:
        if not requests:
            return []
        prepared = []
        for request in requests:
            ready = yield from self._prepared(index, request)
            prepared.append(ready)
        lines = [part for _, _, body in prepared for part in (b"{}", body)]
        timeouts = [request.timeout for request in requests]
        # the server runs them side by side, but not necessarily all at once
        timeout = None if None in timeouts else sum(filter(None, timeouts)) + _NETWORK_GRACE
        body = b"\n".join(lines) + b"\n"
        answer = yield Call(
            "POST", f"/{index}/_msearch", body, ndjson=True, index=index, timeout=timeout
        )
        items = expect(answer, self._url, "responses", kind=list)
        if len(items) != len(prepared):
            raise foreign(answer, self._url)
        results: list[SearchResponse | EngineError] = []
        for item, (request, meta, body) in zip(items, prepared, strict=True):
            try:
                if isinstance(item, Mapping) and "error" in item:
                    status = int(item.get("status", 500))
                    if status in PUT_OFF:  # alone, with the pauses of every single search
                        again = yield from self.search(index, request)
                        results.append(again)
                        continue
                    raise refused(self._url, index, status, item)
                results.append(read_response(item, request, meta, body, index, self._url))
            except EngineError as error:
                results.append(error)
        return results

    def alias_targets(self, alias: str) -> Steps[list[str]]:
        answer = yield from self._found(Call("GET", f"/_alias/{alias}", index=alias))
        return sorted(answer or ())

    def identity(self, index: str) -> Steps[frozenset[tuple[str, str]]]:
        answer = yield Call("GET", f"/{index}/_settings/index.uuid", index=index)
        return frozenset(
            (name, str(expect(body, self._url, "settings", "index", "uuid")))
            for name, body in objects(answer, self._url).items()
        )

    def counts(self, index: str) -> Steps[dict[str, list[Count]]]:
        """The records of statistics of every index that a name stands for."""
        names = dict((yield from self.identity(index)))
        own = yield from self.own_parameters()
        companion, body = self.statistics_index, orjson.dumps(query_of_counts(names))
        call = Call("POST", f"/{companion}/_search", body, own, index=companion)
        answer = yield from self._found(call)
        if answer is None:
            return {name: [] for name in names}
        hits = expect(answer, self._url, "hits", "hits", kind=list)
        if not complete(answer):
            raise incomplete(answer, f"The statistics of {index}")
        return counts_of(hits, names)

    def load_statistics(self, index: str) -> Steps[TermStatistics | None]:
        try:
            counts = yield from self.counts(index)
        except AuthorizationError as error:
            warnings.warn(
                f"{error.message} The model's own table weighs the queries instead.",
                SpladeWarning,
                stacklevel=4,
            )
            return None
        return summed(counts.values())


def _outcome(item: Mapping[str, Any]) -> Outcome:
    reason = None
    error = item.get("error")
    if error:
        reason = f"{error.get('type')}: {error.get('reason')}"
        cause = error.get("caused_by")
        if cause:
            reason += f" ({cause.get('type')}: {cause.get('reason')})"
    elif item.get("result") == "noop":
        reason = "dropped by the cluster's ingest pipeline"
    return Outcome(item["_id"], item["status"], item.get("result"), reason)
