"""Clusters, behind one narrow protocol. `connect` opens one."""

from __future__ import annotations

from typing import Unpack

from splade_os.engines.base import (
    CONTENT_FIELD,
    HASH_FIELD,
    VECTOR_FIELD,
    Cursor,
    Engine,
    EngineHit,
    EngineInfo,
    HybridQuery,
    IdsQuery,
    IndexLayout,
    IndexListing,
    IndexMeta,
    IndexStats,
    MatchQuery,
    Outcome,
    QueryPipeline,
    SearchRequest,
    SearchResponse,
    StoredDocument,
    SumQuery,
    TermsQuery,
    TextQuery,
    TwoPhase,
)
from splade_os.engines.connection.keywords import EngineKeywords
from splade_os.engines.documents import DocumentRenderer
from splade_os.engines.load_state import LoadState
from splade_os.engines.shares import Share, explain_terms
from splade_os.errors import SettingsError
from splade_os.settings import cloud_url
from splade_os.urls import is_cluster, shown

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
    "IdsQuery",
    "IndexLayout",
    "IndexListing",
    "IndexMeta",
    "IndexStats",
    "LoadState",
    "MatchQuery",
    "Outcome",
    "QueryPipeline",
    "SearchRequest",
    "SearchResponse",
    "Share",
    "StoredDocument",
    "SumQuery",
    "TermsQuery",
    "TextQuery",
    "TwoPhase",
    "connect",
    "explain_terms",
]

_SQLITE = "sqlite:///"


def connect(
    url: str | None = None, *, cloud_id: str | None = None, **options: Unpack[EngineKeywords]
) -> Engine:
    """Open an engine.

    Args:
        url: ``http://`` or ``https://`` of an OpenSearch or Elasticsearch cluster,
            ``sqlite:///file.db`` (relative) or ``sqlite:////folder/file.db`` (absolute).
        cloud_id: of a deployment in Elastic Cloud, instead of the URL.
        options: of a cluster: credentials, TLS, ``timeout`` and ``compress`` (gzip both ways)
            (`splade_os.engines.connection.options.client_options`). SQLite needs none.

    Raises:
        SettingsError: the URL is none of these, or the options contradict each other.
        MissingExtraError: they need a package that is not installed.
        EngineUnavailableError: the server does not show the ``fingerprint``.
    """
    if (url is None) == (cloud_id is None):
        raise SettingsError("Where is the engine? Give a URL, or else a cloud id.")
    if url is None:
        url = cloud_url(str(cloud_id))
    if is_cluster(url):
        from splade_os.engines.rest.cluster import ClusterEngine

        return ClusterEngine(url, **options)
    if url.startswith(_SQLITE) and url != _SQLITE:
        from splade_os.engines.sqlite.engine import SQLiteEngine

        return SQLiteEngine(url.removeprefix(_SQLITE))
    raise SettingsError(
        f"{shown(url)!r} is not the URL of an engine.",
        hint="Use http://localhost:9200, https://host:9200 or sqlite:///file.db.",
    )
