"""What a field of the type ``impact`` multiplies weights by, taken out of the query again.

Such a field scores ``boost · idf · w' / 2M`` (`splade_os.engines.fields.impacts`), with the idf of
the documents that the shards hold at that moment, deleted ones included until they are merged away.
A query that shall be a dot product is divided by it, so it is asked for: ``_mtermvectors`` of a
document that is made up of the query's terms tells their frequencies, one shard at a time. Several
shards score alike where the search counts over all of them first (``dfs_query_then_fetch``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from splade_os.engines.base import IndexMeta
from splade_os.engines.fields.impacts import idf, term_of
from splade_os.engines.rest.answers import expect
from splade_os.engines.rest.server import Steps
from splade_os.engines.rest.views import View
from splade_os.engines.rest.wire import Call
from splade_os.errors import EngineError

_MAX_AGE = 30.0
"""Seconds for which a frequency is believed where others write (what is written through the same
engine ends it at once): as long may a score be off, by what the idf has changed."""
_PROBES = 4  # routing values tried at once, for each shard
_MOST = 64  # names and points in time of which factors are kept


@dataclass
class _Known:
    """Factors that were asked for.

    Attributes:
        lasting: of a point in time, in which nothing changes.
        factors: feature → what a weight is multiplied by; only ever added to.
        since: when the first of them was asked for (`time.monotonic`).
    """

    lasting: bool
    factors: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    @property
    def fresh(self) -> bool:
        """Whether they may still be believed."""
        return self.lasting or time.monotonic() - self.since < _MAX_AGE


class LiveIdf:
    """What makes dot products of what ``impact`` fields score, for all indices of a cluster.

    Args:
        url: for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[tuple[str, str], _Known] = {}  # by name and point in time
        self._routings: dict[tuple[str, str], list[str | None]] = {}  # by index and UUID

    def factors(
        self, index: str, view: View, pit: str, features: Sequence[str]
    ) -> Steps[Mapping[str, float]]:
        """What the weight of each feature (and of others) is multiplied by.

        Args:
            pit: the point in time that is searched; empty = what the index holds now.
        """
        known = self._known.get((index, pit))
        if known is None or not known.fresh:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[index, pit] = _Known(lasting=bool(pit))
        missing = [feature for feature in features if feature not in known.factors]
        if missing:
            routings = {}
            for name, uuid in sorted(view.identity) or [(index, "")]:
                routings[name] = yield from self._routing(name, uuid, view.shards.get(name, 1))
            answer = yield frequencies_call(view.meta, missing, routings)
            known.factors.update(read_factors(answer, view.meta, missing, self._url))
        return known.factors

    def written(self) -> None:
        """Frequencies have changed, but those of points in time."""
        self._known = {key: known for key, known in self._known.items() if known.lasting}

    def _routing(self, name: str, uuid: str, shards: int) -> Steps[list[str | None]]:
        """A routing value for each shard of an index."""
        if shards == 1:
            return [None]
        if (name, uuid) not in self._routings:
            path = f"/{name}/_search_shards"
            values = [str(n) for n in range(_PROBES * shards)]
            calls = [Call("GET", path, params={"routing": n}, index=name) for n in values]
            found: dict[int, str | None] = {}
            for value, answer in zip(values, (yield tuple(calls)), strict=True):
                if isinstance(answer, EngineError):
                    raise answer
                ((first, *_), *_) = expect(answer, self._url, "shards", kind=list)
                found.setdefault(int(first["shard"]), value)
            self._routings[name, uuid] = list(found.values())
        return self._routings[name, uuid]


def frequencies_call(
    meta: IndexMeta, features: Sequence[str], routings: Mapping[str, Sequence[str | None]]
) -> Call:
    """The request for the frequencies of features in every shard.

    Args:
        routings: a routing value for each shard, of each index.
    """
    wanted = {
        "fields": [meta.field],
        "doc": {meta.field: " ".join(f"{term_of(feature)}|1" for feature in features)},
        "term_statistics": True,
        "field_statistics": True,
        "positions": False,
        "offsets": False,
        "payloads": False,
    }
    documents = [
        {"_index": name, **wanted} | ({} if routing is None else {"routing": routing})
        for name, values in routings.items()
        for routing in values
    ]
    name = ",".join(routings)
    return Call("POST", "/_mtermvectors", orjson.dumps({"docs": documents}), index=name)


def read_factors(
    answer: Any, meta: IndexMeta, features: Sequence[str], url: str
) -> dict[str, float]:
    """What weights are multiplied by, from the answer to `frequencies_call`.

    Raises:
        EngineError: a shard did not tell.
    """
    documents = 0
    counts = dict.fromkeys(features, 0)
    for each in expect(answer, url, "docs", kind=list):
        if "error" in each:
            raise EngineError(
                f"The frequencies of the terms in {each.get('_index')} cannot be read: "
                f"{str(each['error'])[:200]}",
                hint="Look at the cluster's health and try again.",
                transient=True,
            )
        found = each.get("term_vectors", {}).get(meta.field, {})
        documents += max(0, found.get("field_statistics", {}).get("doc_count", 0))
        terms = found.get("terms", {})
        for feature in features:
            counts[feature] += terms.get(term_of(feature), {}).get("doc_freq", 0)
    assert meta.impact_max is not None
    scale = 2 * meta.impact_max
    return {name: scale / idf(max(documents, df), df) for name, df in counts.items()}
