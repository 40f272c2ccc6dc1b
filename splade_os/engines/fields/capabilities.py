"""What a cluster can do: read from it once, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

DEFAULT_MAX_CLAUSES = 1024
_CLAUSES_PER_GB = 65_536
_GB = 2**30
_OF_NODES = ("number_of_", "auto_expand_replicas", "translog.")


def amazon_serverless(url: str) -> bool:
    """Whether it is a collection of Amazon OpenSearch Serverless."""
    return (urlsplit(url).hostname or "").endswith(".aoss.amazonaws.com")


@dataclass(frozen=True)
class Capabilities:
    """Attributes:
    distribution: ``opensearch`` or ``elasticsearch``.
    version: as the server writes it.
    modules: names of its modules and plugins; ``None`` = it does not tell (a managed
        service, or a user without the right).
    max_clauses: terms of one query; more fail the whole search.
    serverless: Elastic Cloud Serverless or Amazon OpenSearch Serverless, which refuse what is
        about nodes and shards.
    """

    distribution: str
    version: str
    modules: frozenset[str] | None = None
    max_clauses: int = DEFAULT_MAX_CLAUSES
    serverless: bool = False

    @property
    def number(self) -> tuple[int, ...]:
        """The version to compare with: ``(9, 2)``."""
        digits = "".join(c if c.isdigit() else " " for c in self.version).split()
        return tuple(int(part) for part in digits[:2])

    def _is(self, distribution: str, *version: int) -> bool:
        # Elasticsearch's own serverless calls itself 8.11 and is always the newest
        newest = self.serverless and self.distribution == "elasticsearch"
        return self.distribution == distribution and (newest or self.number >= version)

    @property
    def refreshes_alone(self) -> bool:
        """It has no API to make writes searchable, and does so by itself after seconds."""
        return self.serverless and self.distribution == "opensearch"

    def index_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Those of these settings of an index that may be set."""
        if not self.serverless:
            return dict(settings)
        return {
            name: value
            for name, value in settings.items()
            if not name.removeprefix("index.").startswith(_OF_NODES)
        }

    @property
    def derives_clauses(self) -> bool:
        """``max_clauses`` follows from heap and threads, whatever is set."""
        return self._is("elasticsearch", 8, 1)

    @property
    def linear(self) -> bool:
        """``rank_feature`` has the linear function: the dot product."""
        return self._is("opensearch", 1, 1) or self._is("elasticsearch", 7, 12)

    @property
    def neural_search(self) -> bool:
        """OpenSearch with the neural-search plugin."""
        return any("neural-search" in name for name in self.modules or ())

    @property
    def field_types(self) -> tuple[str, ...]:
        """Ways of storing vectors that this server has, the default first."""
        types = []
        if self.linear and (self.modules is None or "mapper-extras" in self.modules):
            types.append("rank_features")
        if self._is("elasticsearch", 8, 11) or (
            self._is("opensearch", 3, 3) and self.neural_search
        ):
            types.append("sparse_vector")
        filters = self.modules is None or "analysis-common" in self.modules
        # a serverless collection has no term vectors, which tell the idf
        if self._is("opensearch", 2, 10) and filters and not self.serverless:
            types.append("impact")
        return tuple(types)

    @property
    def term_on_rank_features(self) -> bool:
        return self._is("elasticsearch", 8, 7)

    @property
    def sparse_vector_query(self) -> bool:
        return self._is("elasticsearch", 8, 15)

    @property
    def exclude_vectors(self) -> bool:
        """``_source.exclude_vectors`` asks for vectors that are left out of ``_source``."""
        return self._is("elasticsearch", 9, 1) or self.number == (8, 19)

    @property
    def search_pipelines(self) -> bool:
        """A search can go through a pipeline, its index's own or none."""
        return self._is("opensearch", 2, 9)

    @property
    def points_in_time(self) -> bool:
        """A search can page through a view that stays the same."""
        if self.distribution == "opensearch":
            return self._is("opensearch", 2, 4) and not self.serverless
        return True

    @property
    def hides_vectors(self) -> bool:
        """Documents that are read by id lack their vectors, unless those are asked for."""
        return self._is("elasticsearch", 9, 2)

    @property
    def highlight_end(self) -> str | None:
        """What lets a highlight end somewhere, instead of failing the search on a longer text."""
        if self._is("opensearch", 2, 2):
            return "max_analyzer_offset"
        return "max_analyzed_offset" if self._is("elasticsearch", 7, 12) else None

    @property
    def tie_breakers(self) -> list[dict[str, str]]:
        """What orders equal scores in a point in time, as clauses of ``sort``. OpenSearch (3.8)
        numbers the shards of each index by itself: documents of two indices may share a place."""
        if self.distribution != "opensearch":
            return [{"_shard_doc": "asc"}]
        return [{"_id" if self.number < (3, 3) else "_shard_doc": "asc"}, {"_index": "asc"}]


def clause_limit(
    distribution: str,
    version: tuple[int, ...],
    settings: Mapping[str, Any],
    nodes: Mapping[str, Any],
) -> int:
    """Terms that one query may have.

    Elasticsearch 8 and newer derive it from heap and search threads (SearchUtils: whole GB of
    heap x 65,536 / threads, at least 1,024) and ignore the setting that they still show; the
    others have it in ``indices.query.bool.max_clause_count``.

    Args:
        settings: answer of ``/_cluster/settings``, with defaults.
        nodes: answer of ``/_nodes/jvm,thread_pool``.
    """
    if distribution == "elasticsearch" and version >= (8, 1):
        limits = []
        for node in nodes.get("nodes", {}).values():
            heap = node.get("jvm", {}).get("mem", {}).get("heap_max_in_bytes", 0) // _GB
            threads = node.get("thread_pool", {}).get("search", {}).get("size", 0)
            limits.append(heap * _CLAUSES_PER_GB // threads if threads else 0)
        return max(DEFAULT_MAX_CLAUSES, min(limits, default=0))
    for level in ("transient", "persistent", "defaults"):
        found = (settings.get(level, {}).get("indices", {}).get("query", {}).get("bool", {})).get(
            "max_clause_count"
        )
        if found is not None:
            return int(found)
    return DEFAULT_MAX_CLAUSES


def read_modules(nodes: Mapping[str, Any]) -> frozenset[str] | None:
    """Modules and plugins that every node has, from ``/_nodes/plugins``."""
    lists = [
        {item["name"] for kind in ("modules", "plugins") for item in node.get(kind, ())}
        for node in nodes.get("nodes", {}).values()
    ]
    lists = [names for names in lists if names]
    return frozenset(set.intersection(*lists)) if lists else None
