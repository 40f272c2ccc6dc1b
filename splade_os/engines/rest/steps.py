"""What is asked of a cluster, without knowing how it is carried.

Each method is a generator: it yields `Call` values, is sent the parsed answers (or thrown what
went wrong), and returns its result. `ClusterEngine` and `AsyncClusterEngine` drive them over a
`Wire`, so that both ask exactly the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

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
from splade_os.engines.fields.strategies import FieldStrategy, strategy_for
from splade_os.engines.names import check_name
from splade_os.engines.opensearch_ml.query_pipeline import check_searchable, query_pipeline
from splade_os.engines.rest.answers import (
    complete,
    expect,
    foreign,
    incomplete,
    objects,
    read_response,
)
from splade_os.engines.rest.bodies import PIT_KEEP_ALIVE, search_body, search_parameters
from splade_os.engines.rest.clauses import clauses, fitted
from splade_os.engines.rest.failures import PUT_OFF, refused, too_many_clauses
from splade_os.engines.rest.live_idf import LiveIdf
from splade_os.engines.rest.server import NODES, ROOT, ServerSteps, Steps
from splade_os.engines.rest.statistics import STATISTICS_INDEX, counts_of, query_of_counts
from splade_os.engines.rest.views import View, read_view
from splade_os.engines.rest.wire import Call
from splade_os.errors import (
    AuthorizationError,
    DeploymentError,
    EngineError,
    SpladeWarning,
)
from splade_os.statistics import Count, TermStatistics, summed

_BULK_FILTER = "errors,items.*._id,items.*.status,items.*.result,items.*.error"
_MERGE_TIMEOUT = 24 * 3600.0  # seconds: a large index is rewritten for hours
_NETWORK_GRACE = 5.0  # seconds over a search's own time-out, for the way there and back


class ClusterSteps(ServerSteps):
    """The requests behind every method of an engine, and what is remembered between them.

    Args:
        url: for messages.
        statistics_index: where term statistics are.
    """

    def __init__(self, url: str, statistics_index: str = STATISTICS_INDEX) -> None:
        super().__init__(url)
        self.statistics_index = statistics_index
        self._views: dict[str, View] = {}
        self._strategies: dict[str, FieldStrategy] = {}
        self._live_idf = LiveIdf(url)
        self._warned = False

    def info(self) -> Steps[EngineInfo]:
        server = yield from self.capabilities()
        return EngineInfo(server.distribution, server.version)

    def field_types(self) -> Steps[Sequence[str]]:
        return (yield from self.capabilities()).field_types

    def feature_naming(self, field_type: str) -> Steps[str]:
        return strategy_for(field_type, (yield from self.capabilities())).feature_naming

    def create_index(
        self,
        index: str,
        meta: IndexMeta,
        settings: Mapping[str, Any] | None,
        mapping: Mapping[str, Any] | None,
    ) -> Steps[None]:
        server = yield from self.capabilities()
        body = strategy_for(meta.field_type, server).index_body(meta, settings, mapping)
        body["settings"]["index"] = server.index_settings(body["settings"]["index"])
        try:
            yield Call("PUT", f"/{index}", orjson.dumps(body), index=index)
        except EngineError as error:
            if "[english]" not in error.message:
                yield from self._name_templates(index, error)
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

    def _name_templates(self, index: str, error: EngineError) -> Steps[None]:
        """Say which templates have a part in an index that cannot be made."""
        if error.status != 400:
            return
        found = []
        answers = yield (Call("GET", "/_index_template"), Call("GET", "/_template"))
        for answer in answers:
            told = answer if isinstance(answer, Mapping) else {}
            new = {t["name"]: t["index_template"] for t in told.get("index_templates", ())}
            for name, body in (new or told).items():
                patterns = body.get("index_patterns", ()) if isinstance(body, Mapping) else ()
                if any(fnmatchcase(index, pattern) for pattern in patterns):
                    found.append(name)
        if found:
            error.hint = (
                f"Templates that apply to the name: {', '.join(sorted(found))}. Look at what "
                f"they make of it: POST _index_template/_simulate_index/{index}. Or take a name "
                "that they do not match."
            )

    def delete_index(self, index: str) -> Steps[None]:
        check_name(index)  # a pattern is not asked for, either
        names = dict((yield from self.identity(index)))
        yield Call("DELETE", f"/{index}", index=index)
        self._views.pop(index, None)
        with suppress(AuthorizationError):  # nothing finds them any more: they only take up room
            answer = yield from self._counts_call(names, {"_source": False})
            hits = (answer or {}).get("hits", {}).get("hits", ())
            yield from self.drop_counts([hit["_id"] for hit in hits])

    def drop_counts(self, ids: Sequence[str]) -> Steps[None]:
        """Delete records of statistics, by the ids of their documents."""
        if not ids:
            return
        companion = self.statistics_index
        body = b"".join(orjson.dumps({"delete": {"_id": each}}) + b"\n" for each in ids)
        params = {"refresh": "true"}
        yield Call("POST", f"/{companion}/_bulk", body, params, index=companion, ndjson=True)

    def _counts_call(self, names: Mapping[str, str], more: Mapping[str, Any]) -> Steps[Any]:
        """The search for the records of indices, by name and UUID; ``None`` = there are none."""
        companion, own = self.statistics_index, (yield from self.own_parameters())
        body = orjson.dumps({**query_of_counts(names), **more})
        call = Call("POST", f"/{companion}/_search", body, own, index=companion)
        return (yield from self._found(call))

    def _found(self, call: Call) -> Steps[Any]:
        """The answer, or ``None`` for what is not there."""
        answer = yield replace(call, absent=True)
        return None if isinstance(answer, Mapping) and answer.get("status") == 404 else answer

    def index_meta(self, index: str) -> Steps[IndexMeta]:
        return (yield from self.describe(index))[0]

    def describe(self, index: str) -> Steps[tuple[IndexMeta, Identity]]:
        about = (ROOT, NODES) if self._server is None else ()  # does not depend on it
        answer, *server = yield (Call("GET", f"/{index}", index=index), *about)
        if isinstance(answer, AuthorizationError):  # the right to see mappings alone does, too
            answer = yield Call("GET", f"/{index}/_mapping", index=index)
        if isinstance(answer, EngineError):
            raise answer
        if server:
            self._server = self._read(*server)
        view = self._views[index] = read_view(answer, index, self._url)
        return view.meta, view.identity

    def view(self, index: str) -> Steps[View]:
        """What is known of an index; asked once."""
        if index not in self._views:
            yield from self.describe(index)
        return self._views[index]

    def stats(self, index: str) -> Steps[IndexStats]:
        answer = yield Call("GET", f"/{index}/_stats/store", index=index)
        size = expect(answer, self._url, "_all", "primaries", "store", "size_in_bytes", kind=int)
        # the statistics of an index count nested objects as documents too
        return IndexStats((yield from self.count(index)), size)

    def bulk(
        self, index: str, body: bytes, attempts: int, guard: str | None = None
    ) -> Steps[list[Outcome]]:
        yield from self.view(index)  # else a missing index would be made, without a mapping
        self._live_idf.written()
        required = {} if guard is None else {"require_alias": "true"}
        answer = yield Call(
            "POST",
            f"/{guard or index}/_bulk",
            body,
            index=index,
            ndjson=True,
            params={"filter_path": _BULK_FILTER, **required},
            attempts=attempts,
            repeat_timeouts=True,
        )
        return [_outcome(next(iter(item.values()))) for item in answer.get("items", [])]

    def refresh(self, index: str) -> Steps[None]:
        server = yield from self.capabilities()
        if not server.refreshes_alone:
            yield Call("POST", f"/{index}/_refresh", index=index)
        self._live_idf.written()

    def merge(self, index: str, segments: int) -> Steps[None]:
        server = yield from self.capabilities()
        if server.serverless:
            raise EngineError(
                f"{self._url} is a serverless service, which merges by itself.",
                hint="There is nothing to do.",
            )
        yield Call(
            "POST",
            f"/{index}/_forcemerge",
            params={"max_num_segments": str(segments)},
            index=index,
            timeout=_MERGE_TIMEOUT,
        )
        yield from self.refresh(index)

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
        view = yield from self.view(index)
        check_searchable(index, view.meta)
        return (yield from query_pipeline(index, view.meta.field))

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
        view = self._views.get(index) or (yield from self.view(index))
        server = self._server or (yield from self.capabilities())
        meta = view.meta
        strategy = self._strategies.get(meta.field_type)
        if strategy is None:
            strategy = strategy_for(meta.field_type, server)
            self._strategies[meta.field_type] = strategy
        own = max(map(clauses, view.filters), default=0)  # of the alias; beside the user's
        fields = len(meta.bm25) or 1
        fit = fitted(request, server.max_clauses - own, fields)
        if fit is not request:
            fit = fitted(request, (yield from self.clause_limit()) - own, fields)
            self._say_cut(fit is not request and fit != request)
        phases = fit.phases
        if phases is not None and phases.window > view.rescore_window:
            fit = replace(fit, two_phase=replace(phases, window=view.rescore_window))
        factors = None
        if meta.impact_max is not None and fit.terms is not None:
            pit = fit.after.pit if fit.after else ""
            factors = yield from self._live_idf.factors(index, view, pit, fit.terms.features)
            if sum(view.shards.values()) != 1:
                fit = replace(fit, dfs=True)
        return fit, meta, search_body(fit, meta, strategy, server, factors)

    def _say_cut(self, cut: bool) -> None:
        """`SearchResponse` says every time what took part."""
        if not cut or self._warned:
            return
        self._warned = True
        warnings.warn(
            f"{self._url} takes {self._server.max_clauses if self._server else 0:,} clauses of one "
            "query and its filter: the heaviest are kept of the terms, the first of the words. "
            "(This is said once; the results say every time what took part.)",
            SpladeWarning,
            stacklevel=6,
        )

    def render(self, index: str, request: SearchRequest) -> Steps[bytes | None]:
        _, _, body = yield from self._prepared(index, request)
        return body

    def search(self, index: str, request: SearchRequest) -> Steps[SearchResponse]:
        view = self._views.get(index) or (yield from self.view(index))
        if _is_deep(request, view):
            return (yield from self._deep(index, request, view.result_window))
        opened = None
        if request.after is not None and not request.after.pit:
            opened = yield from self.open_pit(index, request.parameters)
            request = replace(request, after=opened)
        try:
            response = yield from self._search(index, request)
        except GeneratorExit:
            raise
        except BaseException:  # cancelled, too
            if opened is not None:
                yield from self.close_cursor(opened)
            raise
        return response

    def _search(self, index: str, request: SearchRequest) -> Steps[SearchResponse]:
        """One request, and once more where the server's limit of clauses is another by now."""
        sent, meta, body = yield from self._prepared(index, request)
        try:
            answer = yield (yield from self._search_call(index, sent, body))
        except EngineError as error:
            if not too_many_clauses(error):
                raise
            yield from self.clause_limit(anew=True)
            sent, meta, body = yield from self._prepared(index, request)
            answer = yield (yield from self._search_call(index, sent, body))
        response = read_response(answer, sent, meta, body, index, self._url)
        if request.after is not None and response.following is None:
            yield from self.close_cursor(Cursor(answer.get("pit_id", request.after.pit)))
        return response

    def _deep(self, index: str, request: SearchRequest, window: int) -> Steps[SearchResponse]:
        """A page that reaches behind ``index.max_result_window``, in parts of that size through a
        point in time."""
        responses: list[SearchResponse] = []
        cursor: Cursor | None = request.after or Cursor()
        left = request.offset + request.k
        try:
            while left and cursor is not None:
                total = request.total if not responses else False
                part = replace(request, k=min(left, window), offset=0, after=cursor, total=total)
                if responses:  # once is enough
                    body = {name: own for name, own in request.body.items() if name != "aggs"}
                    part = replace(part, body=body)
                responses.append((yield from self.search(index, part)))
                cursor = responses[-1].following
                left -= len(responses[-1].hits)
        except GeneratorExit:
            raise
        except BaseException:
            theirs = request.after is not None and request.after.pit
            if cursor is not None and cursor.pit and not theirs:
                yield from self.close_cursor(cursor)
            raise
        if request.after is None and cursor is not None:
            yield from self.close_cursor(cursor)
        hits = [hit for response in responses for hit in response.hits][request.offset :]
        return replace(
            responses[0],
            hits=hits,
            took_ms=sum(response.took_ms for response in responses),
            following=None if request.after is None else cursor,
            index=hits[0].index if hits else None,
            partial=next((r.partial for r in responses if r.partial), None),
        )

    def _search_call(self, index: str, request: SearchRequest, body: bytes) -> Steps[Call]:
        parameters = search_parameters(request)
        path = f"/{index}/_search"
        if request.after is not None:  # the point in time knows them
            path = "/_search"
            parameters = {n: v for n, v in parameters.items() if n not in request.parameters}
        if request.internal:
            index = yield from self.concrete(index)
            parameters = {**parameters, **(yield from self.own_parameters())}
            path = f"/{index}/_search"
        timeout = None if request.timeout is None else request.timeout + _NETWORK_GRACE
        return Call("POST", path, body, parameters, index=index, timeout=timeout)

    def open_pit(self, index: str, parameters: Mapping[str, str]) -> Steps[Cursor]:
        """A view of an index that stays the same, of the shards that ``routing`` and
        ``preference`` choose."""
        server = yield from self.capabilities()
        path = "_pit" if server.distribution == "elasticsearch" else "_search/point_in_time"
        if not server.points_in_time:
            raise EngineError(
                f"{server.distribution} {server.version} has no point in time (OpenSearch has it "
                "from 2.4 on).",
                hint="Page with offset= instead.",
            )
        parameters = {"keep_alive": PIT_KEEP_ALIVE, **parameters}
        answer = yield Call("POST", f"/{index}/{path}", params=parameters, index=index, holds=True)
        return Cursor(answer.get("id") or answer["pit_id"])

    def close_cursor(self, cursor: Cursor) -> Steps[None]:
        """Release the point in time; one that ran out is gone already."""
        server = yield from self.capabilities()
        body: dict[str, Any]
        if server.distribution == "elasticsearch":
            path, body = "/_pit", {"id": cursor.pit}
        else:
            path, body = "/_search/point_in_time", {"pit_id": [cursor.pit]}
        yield from self._found(Call("DELETE", path, orjson.dumps(body), holds=True))

    def search_many(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> Steps[list[SearchResponse | EngineError]]:
        if not requests:
            return []
        view = yield from self.view(index)
        if any(_is_deep(r, view) or r.internal for r in requests):
            return (yield from self._one_by_one(index, requests))
        prepared = []
        for request in requests:
            ready = yield from self._prepared(index, request)
            prepared.append(ready)
        lines = [
            part
            for sent, _, body in prepared
            for part in (orjson.dumps(search_parameters(sent)), body)
        ]
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
        for item, whole, (request, meta, body) in zip(items, requests, prepared, strict=True):
            try:
                if isinstance(item, Mapping) and "error" in item:
                    status = int(item.get("status", 500))
                    error = refused(self._url, index, status, item)
                    if status in PUT_OFF or too_many_clauses(error):
                        # alone, with the pauses of every single search
                        again = yield from self.search(index, whole)
                        results.append(again)
                        continue
                    raise error
                results.append(read_response(item, request, meta, body, index, self._url))
            except EngineError as error:
                results.append(error)
        return results

    def _one_by_one(
        self, index: str, requests: Sequence[SearchRequest]
    ) -> Steps[list[SearchResponse | EngineError]]:
        results: list[SearchResponse | EngineError] = []
        for request in requests:
            try:
                results.append((yield from self.search(index, request)))
            except EngineError as error:
                results.append(error)
        return results

    def alias_targets(self, alias: str) -> Steps[list[str]]:
        answer = yield from self._found(Call("GET", f"/_alias/{alias}", index=alias))
        return sorted(answer or ())

    def identity(self, index: str) -> Steps[Identity]:
        answer = yield Call("GET", f"/{index}/_settings/index.uuid", index=index)
        return frozenset(
            (name, str(expect(body, self._url, "settings", "index", "uuid")))
            for name, body in objects(answer, self._url).items()
        )

    def counts(self, index: str, identity: Identity = frozenset()) -> Steps[dict[str, list[Count]]]:
        """The records of statistics of every index that a name stands for."""
        names = dict(identity or (yield from self.identity(index)))
        answer = yield from self._counts_call(names, {})
        if answer is None:
            return {name: [] for name in names}
        hits = expect(answer, self._url, "hits", "hits", kind=list)
        if not complete(answer):
            raise incomplete(answer, f"The statistics of {index}")
        return counts_of(hits, names)

    def statistics_version(
        self, index: str, identity: Identity = frozenset()
    ) -> Steps[StatisticsVersion]:
        names = dict(identity or (yield from self.identity(index)))
        more = {"_source": False, "seq_no_primary_term": True}
        answer = yield from self._counts_call(names, more)
        hits = () if answer is None else expect(answer, self._url, "hits", "hits", kind=list)
        return frozenset((hit["_id"], hit["_seq_no"], hit["_primary_term"]) for hit in hits)

    def load_statistics(
        self, index: str, identity: Identity = frozenset()
    ) -> Steps[TermStatistics | None]:
        try:
            counts = yield from self.counts(index, identity)
        except AuthorizationError as error:
            warnings.warn(
                f"{error.message} The model's own table weighs the queries instead.",
                SpladeWarning,
                stacklevel=4,
            )
            return None
        return summed(counts.values())


def _is_deep(request: SearchRequest, view: View) -> bool:
    """Whether a page has to come in parts; groups cannot, and the engine says so."""
    return request.offset + request.k > view.result_window and "collapse" not in request.body


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
