"""Clusters, behind one narrow protocol. `connect` opens one."""

from __future__ import annotations

from typing import Any

from splade_os.engines.base import (
    CONTENT_FIELD,
    HASH_FIELD,
    VECTOR_FIELD,
    Cursor,
    Engine,
    EngineHit,
    EngineInfo,
    HybridQuery,
    IndexMeta,
    IndexStats,
    MatchQuery,
    Outcome,
    QueryPipeline,
    SearchRequest,
    SearchResponse,
    TermsQuery,
    TextQuery,
    TwoPhase,
)
from splade_os.engines.documents import DocumentRenderer
from splade_os.engines.shares import Share, explain_terms
from splade_os.errors import SettingsError

__all__ = [
    "CONTENT_FIELD",
    "HASH_FIELD",
    "VECTOR_FIELD",
    "Cursor",
    "DocumentRenderer",
    "Engine",
    "EngineHit",
    "EngineInfo",
    "HybridQuery",
    "IndexMeta",
    "IndexStats",
    "MatchQuery",
    "Outcome",
    "QueryPipeline",
    "SearchRequest",
    "SearchResponse",
    "Share",
    "TermsQuery",
    "TextQuery",
    "TwoPhase",
    "connect",
    "explain_terms",
]

_SQLITE = "sqlite:///"


def connect(url: str, **options: Any) -> Engine:
    """Open an engine.

    Args:
        url: ``http://`` or ``https://`` of an OpenSearch or Elasticsearch cluster,
            ``sqlite:///file.db`` (relative) or ``sqlite:////folder/file.db`` (absolute).
        options: of a cluster: ``username``, ``password``, ``api_key``, ``ca_certs``,
            ``verify_certs``, ``timeout``. SQLite needs none.

    Raises:
        SettingsError: the URL is none of these.
    """
    if url.startswith(("http://", "https://")):
        from splade_os.engines.cluster import ClusterEngine

        return ClusterEngine(url, **options)
    if url.startswith(_SQLITE) and url != _SQLITE:
        from splade_os.engines.sqlite import SQLiteEngine

        return SQLiteEngine(url.removeprefix(_SQLITE))
    raise SettingsError(
        f"{url!r} is not the URL of an engine.",
        hint="Use http://localhost:9200, https://host:9200 or sqlite:///file.db.",
    )
