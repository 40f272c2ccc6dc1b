"""The fields of an index that can be filtered, counted and sorted by."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from splade_os.engines import IndexMeta
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.serve.searcher import Searcher

_NUMBERS = frozenset(
    "long integer short byte double float half_float scaled_float unsigned_long date".split()  # noqa: SIM905
)
_WORDS = frozenset({"keyword", "boolean", "constant_keyword"})
_MOST = 4
_MAX_AGE = 60.0  # seconds
FACET_SIZE = 8


@dataclass(frozen=True)
class IndexFields:
    """Names of fields.

    Attributes:
        facets: of words, whose values can be counted; the first few.
        sortable: of numbers, dates and words.
    """

    facets: tuple[str, ...] = ()
    sortable: tuple[str, ...] = ()

    def aggregations(self) -> dict[str, Any]:
        """What counts the values of the facets."""
        return {name: {"terms": {"field": name, "size": FACET_SIZE}} for name in self.facets}


class KnownFields:
    """The fields of each index, asked for once in a while. SQLite counts and sorts nothing."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, IndexFields]] = {}

    def of(self, searcher: Searcher, meta: IndexMeta) -> IndexFields:
        """Those of an index; it waits for the engine."""
        engine = searcher.engine
        if not isinstance(engine, ClusterEngine):
            return IndexFields()
        at, fields = self._known.get(searcher.index, (0.0, IndexFields()))
        if not at or time.monotonic() - at > _MAX_AGE:
            path = f"/{quote(searcher.index, safe='')}/_field_caps"
            found = engine.request("GET", path, params={"fields": "*"})
            fields = fields_of(found.get("fields", {}), meta)
            self._known[searcher.index] = time.monotonic(), fields
        return fields


def fields_of(capabilities: Mapping[str, Mapping[str, Any]], meta: IndexMeta) -> IndexFields:
    """Of the answer to ``_field_caps``."""
    facets, sortable = [], []
    for name, types in sorted(capabilities.items()):
        if name.startswith("_") or name.partition(".")[0] in meta.own_fields or len(types) != 1:
            continue
        ((kind, about),) = types.items()
        if not about.get("aggregatable") or about.get("metadata_field"):
            continue
        text = name.removesuffix(".keyword") in meta.text_fields
        if kind in _WORDS and not text:
            facets.append(name)
        if kind in _NUMBERS or (kind in _WORDS and not text):
            sortable.append(name)
    return IndexFields(tuple(facets[:_MOST]), tuple(sortable))
