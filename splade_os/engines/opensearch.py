"""OpenSearch, on opensearch-py's transport (node pool, authentication, TLS)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from opensearchpy import OpenSearch
from opensearchpy.serializer import JSONSerializer
from pydantic import ValidationError

from splade_os.engines.base import (
    HASH_FIELD,
    EngineHit,
    EngineInfo,
    IndexMeta,
    IndexStats,
    Outcome,
    SearchRequest,
    SearchResponse,
    TermsQuery,
)
from splade_os.engines.failures import translated
from splade_os.engines.rank_features import highlighted_words, index_body, search_body
from splade_os.engines.rest_statistics import RestStatistics
from splade_os.engines.rest_upkeep import RestUpkeep
from splade_os.engines.retry import with_retries
from splade_os.errors import EngineError, IndexFormatError

_BULK_FILTER = "errors,items.*._id,items.*.status,items.*.result,items.*.error"
_OLDEST = (1, 1)  # first with rank_feature's linear function


class _Serializer(JSONSerializer):  # type: ignore[misc]
    """orjson instead of simplejson, which opensearch-py prefers where it is installed."""

    def loads(self, s: str) -> Any:
        return orjson.loads(s)

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, str | bytes) else orjson.dumps(data)


class OpenSearchEngine(RestUpkeep, RestStatistics):
    """An OpenSearch cluster (1.1 or newer).

    Args:
        url: ``http://host:9200``.
        username, password: basic authentication.
        ca_certs: CA bundle; verify_certs: check the certificate.
        timeout: seconds per request.
        client: an opensearch-py client of your own, instead of all of these.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_certs: str | Path | None = None,
        verify_certs: bool = True,
        timeout: float = 60.0,
        client: OpenSearch | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._own = client is None
        self._client = client or OpenSearch(
            [self.url],
            http_auth=None if username is None else (username, password or ""),
            ca_certs=None if ca_certs is None else str(ca_certs),
            verify_certs=verify_certs,
            ssl_show_warn=False,
            timeout=timeout,
            max_retries=0,  # ours are in retry.py
            serializer=_Serializer(),
        )
        self._fields: dict[str, str] = {}  # index → vector field, of indices seen
        self._checked = False

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        index: str | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeat_timeouts: bool = False,
        attempts: int = 5,
    ) -> Any:
        with translated(self.url, index):
            return with_retries(
                lambda: self._client.transport.perform_request(
                    method, path, params=dict(params or {}), body=body, headers=headers
                ),
                attempts=attempts,
                repeat_timeouts=repeat_timeouts,
            )

    def request(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Any API that has no method here; ``bytes`` are sent as they are."""
        return self._call(method, path, body, params=params)

    def info(self) -> EngineInfo:
        """Distribution and version; refuses what cannot score a dot product.

        Raises:
            EngineError: no OpenSearch, or one older than 1.1.
        """
        version = self._call("GET", "/").get("version", {})
        info = EngineInfo(version.get("distribution", "elasticsearch"), version.get("number", "?"))
        if info.distribution != "opensearch":
            raise EngineError(
                f"{self.url} is {info.distribution} {info.version}, not OpenSearch.",
                hint="Elasticsearch is planned; see the README.",
            )
        if tuple(int(n) for n in info.version.split(".")[:2]) < _OLDEST:
            raise EngineError(f"OpenSearch {info.version} has no linear rank_feature; 1.1 has.")
        self._checked = True
        return info

    def create_index(
        self, index: str, meta: IndexMeta, settings: Mapping[str, Any] | None = None
    ) -> None:
        if not self._checked:
            self.info()
        self._call("PUT", f"/{index}", index_body(meta, settings), index=index)

    def delete_index(self, index: str) -> None:
        self._call("DELETE", f"/{index}", index=index)
        self._fields.pop(index, None)
        self._delete_statistics(index)

    def index_meta(self, index: str) -> IndexMeta:
        answer = self._call("GET", f"/{index}/_mapping", index=index)
        found = [body["mappings"].get("_meta", {}).get("splade_os") for body in answer.values()]
        if not found or any(meta is None for meta in found):
            raise IndexFormatError(
                f"The index {index} was not made by splade-os: its mapping has no _meta.splade_os.",
                hint="Ingest into a new index: splade-os ingest SOURCE --index NAME.",
            )
        if any(meta != found[0] for meta in found):
            raise IndexFormatError(
                f"{index} stands for {len(found)} indices that were encoded in different ways: "
                f"{', '.join(sorted(answer))}.",
                hint="Name one of them.",
            )
        try:
            meta = IndexMeta.model_validate(found[0])
        except ValidationError as error:
            raise IndexFormatError(
                f"The splade-os record in the mapping of {index} is damaged or of a newer "
                f"version: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.",
            ) from None
        self._fields[index] = meta.field
        return meta

    def stats(self, index: str) -> IndexStats:
        answer = self._call("GET", f"/{index}/_stats/docs,store", index=index)
        primaries = answer["_all"]["primaries"]
        return IndexStats(primaries["docs"]["count"], primaries["store"]["size_in_bytes"])

    def bulk(self, index: str, body: bytes, *, attempts: int = 5) -> list[Outcome]:
        self._field(index)  # else the engine would make a missing index, without a mapping
        answer = self._call(
            "POST",
            f"/{index}/_bulk",
            body,
            index=index,
            params={"filter_path": _BULK_FILTER},
            headers={"content-type": "application/x-ndjson"},
            attempts=attempts,
            repeat_timeouts=True,
        )
        return [_outcome(next(iter(item.values()))) for item in answer.get("items", [])]

    def _field(self, index: str) -> str:
        if index not in self._fields:
            self.index_meta(index)
        return self._fields[index]

    def refresh(self, index: str) -> None:
        self._call("POST", f"/{index}/_refresh", index=index)

    def count(self, index: str) -> int:
        return int(self._call("GET", f"/{index}/_count", index=index)["count"])

    def search(self, index: str, request: SearchRequest) -> SearchResponse:
        field = self._field(index)
        body = search_body(request, field)
        answer = self._call("POST", f"/{index}/_search", body, index=index)
        if answer.get("timed_out") or answer["_shards"]["failed"]:
            raise EngineError(
                f"The search of {index} is incomplete: {answer['_shards']['failed']} of "
                f"{answer['_shards']['total']} shards failed.",
                hint="Look at the cluster's health and try again.",
            )
        sparse = isinstance(request.query, TermsQuery)
        hits = [_hit(hit, field, request.with_vector and sparse) for hit in answer["hits"]["hits"]]
        return SearchResponse(hits, float(answer["took"]), body)

    def close(self) -> None:
        if self._own:
            self._client.close()


def _outcome(item: Mapping[str, Any]) -> Outcome:
    reason = None
    error = item.get("error")
    if error:
        reason = f"{error.get('type')}: {error.get('reason')}"
        cause = error.get("caused_by")
        if cause:
            reason += f" ({cause.get('type')}: {cause.get('reason')})"
    return Outcome(item["_id"], item["status"], item.get("result"), reason)


def _hit(hit: Mapping[str, Any], field: str, with_vector: bool) -> EngineHit:
    source = dict(hit.get("_source", {}))
    vector = source.pop(field, None)
    source.pop(HASH_FIELD, None)
    return EngineHit(
        hit["_id"],
        float(hit["_score"]),
        source,
        (vector or {}) if with_vector else None,
        highlighted_words(hit.get("highlight", {})),
    )
