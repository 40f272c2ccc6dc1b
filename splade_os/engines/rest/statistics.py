"""Term statistics of indices, in a companion index: one document for each index and run.

They are found by the UUID of the index, so that they outlive nothing that it does not: an index
that was deleted and made anew, restored or cloned begins with none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from splade_os import mappings
from splade_os.engines.base import Identity
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.errors import IndexExistsError, IndexNotFoundError
from splade_os.statistics import BASE, Count, TermStatistics, base_of

STATISTICS_INDEX = "splade-os-statistics"


class RestStatistics:
    """Part of an engine, that which writes; ``_call`` sends one request and returns the answer."""

    statistics_index: str

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        index: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        raise NotImplementedError

    def capabilities(self) -> Capabilities:
        raise NotImplementedError

    def counts(self, index: str) -> list[Count]:
        raise NotImplementedError

    def identity(self, index: str) -> Identity:
        raise NotImplementedError

    def _drop_counts(self, ids: Sequence[str]) -> None:
        raise NotImplementedError

    def save_count(self, index: str, count: Count) -> None:
        self._save_count(*min(self.identity(index)), count)

    def _save_count(self, name: str, uuid: str, count: Count) -> None:
        self._ensure_companion()
        document = {"index": name, "uuid": uuid, **count.packed()}
        # found by the next search for it; and past the pipelines that every index may have
        params = {"refresh": "true", "pipeline": "_none"}
        path = f"/{self.statistics_index}/_doc/{uuid}.{count.run}"
        self._call("PUT", path, document, index=self.statistics_index, params=params)

    def save_base(self, index: str, base: Count) -> None:
        name, uuid = min(self.identity(index))
        self._save_count(name, uuid, base)
        self._drop_counts([f"{uuid}.{run}" for run in base.covers])  # they count no more

    def save_statistics(self, index: str, statistics: TermStatistics) -> None:
        self.save_base(index, base_of(statistics, self.counts(index)))

    def _ensure_companion(self) -> None:
        name = self.statistics_index
        body = mappings.load("opensearch", "statistics")
        try:
            answer = self._call("GET", f"/{name}/_mapping", index=name)
        except IndexNotFoundError:
            settings = body["settings"]["index"]
            body["settings"]["index"] = self.capabilities().index_settings(settings)
            with suppress(IndexExistsError):  # another process was faster
                self._call("PUT", f"/{name}", body, index=name)
            return
        there = [found["mappings"].get("properties", {}) for found in answer.values()]
        if any("uuid" not in properties for properties in there):  # of before
            self._call("PUT", f"/{name}/_mapping", body["mappings"], index=name)


def query_of_counts(names: Mapping[str, str]) -> dict[str, Any]:
    """The search for the records of indices.

    Args:
        names: of the indices → UUID. By name they had one document each in earlier versions.
    """
    wanted = [{"terms": {"uuid": list(names.values())}}, {"ids": {"values": list(names)}}]
    return {"size": 1000, "query": {"bool": {"should": wanted}}}


def counts_of(
    hits: Iterable[Mapping[str, Any]], names: Mapping[str, str]
) -> dict[str, list[Count]]:
    """Index → its records, as that search finds them; those of before where there are no others."""
    found: dict[str, list[Count]] = {name: [] for name in names}
    before: dict[str, list[Count]] = {}
    by_uuid = {uuid: name for name, uuid in names.items()}
    for hit in hits:
        source = hit["_source"]
        name = by_uuid.get(source.get("uuid", ""))
        if name is not None:
            found[name].append(Count.unpacked(source))
        elif "uuid" not in source and hit["_id"] in names:
            before[hit["_id"]] = [Count(BASE, _as_before(source))]
    return {name: counts or before.get(name, []) for name, counts in found.items()}


def _as_before(source: Mapping[str, Any]) -> TermStatistics:
    frequencies = np.zeros(source["width"], np.int64)
    frequencies[source["frequencies"]["ids"]] = source["frequencies"]["df"]
    return TermStatistics(source["documents"], source["tokens"], frequencies)
