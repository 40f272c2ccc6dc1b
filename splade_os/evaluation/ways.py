"""Ways of searching an index, as ``--modes`` names them.

A way is a mode of the client, and what it is asked beside it: ``encoder:top=32``. The options:

| option | of | what |
|---|---|---|
| ``exact`` | idf, encoder | all documents are scored with all terms |
| ``top=N`` | idf, encoder, hybrid | only the N heaviest terms of the query |
| ``ratio=R`` | idf, encoder, hybrid | only terms of at least R × the heaviest weight |
| ``two-phase``, ``two-phase=F/W`` | idf, encoder, hybrid | F heavy terms find, then all score W |
| ``encoder`` | hybrid | the sparse half is the encoder's, not IDF |
| ``tf=none``, ``tf=log``, ``tf=raw`` | idf, hybrid | what repetition in a query counts |
| ``sum``, ``rrf``, ``min_max`` | hybrid | how two parts become one ranking |
| ``weights=S/B`` | hybrid | of the sparse and of the BM25 part |
| ``engine`` | hybrid | OpenSearch fuses (``rrf`` or ``min_max``), not the client |
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from splade_os.encoding.query import QUERY_TF, QueryMode, QueryTf
from splade_os.engines import TwoPhase
from splade_os.errors import SettingsError
from splade_os.search.options import (
    DEFAULT_PRUNING,
    EXACT,
    FUSION_METHODS,
    Fusion,
    Mode,
    QueryPruning,
    SearchKeywords,
)

WAY_MODES: tuple[Mode, ...] = ("bm25", "idf", "encoder", "engine", "hybrid")
_WITH_TF = ("idf", "hybrid")
_WITHOUT_OPTIONS = ("bm25", "engine")
DEFAULT_WAYS = "bm25,idf,encoder,hybrid"
_PRUNING = "exact, top=N, ratio=R, two-phase, two-phase=FIRST/WINDOW"
_TF = "tf=none, tf=log, tf=raw"
_FUSION = "encoder, sum, rrf, min_max, weights=SPARSE/BM25, engine"


@dataclass(frozen=True)
class Way:
    """One way of searching.

    Attributes:
        label: as the user wrote it.
        mode: of `SearchClient.search`.
        options: further arguments of `SearchClient.search`.
    """

    label: str
    mode: Mode
    options: SearchKeywords = field(default_factory=SearchKeywords)

    @property
    def encoder(self) -> QueryMode:
        """Which query encoder makes its sparse query."""
        if self.mode == "hybrid":
            return self.options.get("fusion", Fusion()).sparse
        return "encoder" if self.mode == "encoder" else "idf"

    @property
    def counts_words(self) -> bool:
        """Whether scores would depend on the number of shards, were words not counted over all."""
        fused = self.mode == "hybrid" and self.options.get("fusion", Fusion()).engine
        return self.mode in ("bm25", "hybrid") and not fused

    @property
    def exact(self) -> bool:
        """Whether the score of every document is the whole product."""
        if self.mode not in ("idf", "encoder"):
            return False
        chosen = self.options.get("query_pruning") or DEFAULT_PRUNING.get(self.mode, EXACT)
        return chosen == EXACT


def exact_way(mode: QueryMode) -> Way:
    """The way of a sparse mode without any short cut."""
    return Way(f"{mode}:exact", mode, {"query_pruning": EXACT})


def parse_ways(text: str, query_tf: QueryTf | None = None) -> list[Way]:
    """``bm25,idf,encoder:top=32`` → ways.

    Args:
        text: what they are.
        query_tf: of those that may say it, and do not; default that of a search.

    Raises:
        SettingsError: naming the part that is not understood.
    """
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise SettingsError("No mode is named.", hint=f"One or more of {', '.join(WAY_MODES)}.")
    if len(set(labels)) != len(labels):
        raise SettingsError(f"A mode is named twice: {text}.")
    ways = [_way(label) for label in labels]
    if query_tf is None:
        return ways
    return [
        replace(way, options=SearchKeywords(query_tf=query_tf) | way.options)
        if way.mode in _WITH_TF
        else way
        for way in ways
    ]


def _way(label: str) -> Way:
    name, *options = label.split(":")
    for mode in WAY_MODES:
        if mode == name:
            return Way(label, mode, _keywords(label, mode, options))
    raise SettingsError(f"There is no mode {name!r}.", hint=f"One of {', '.join(WAY_MODES)}.")


def _keywords(label: str, mode: Mode, options: list[str]) -> SearchKeywords:
    keywords = SearchKeywords()
    known = "none" if mode in _WITHOUT_OPTIONS else _PRUNING
    if mode in _WITH_TF:
        known += f", {_TF}"
    if mode == "hybrid":
        known += f", {_FUSION}"
    for option in options:
        name, _, value = option.partition("=")
        try:
            pruning = _pruned(keywords.get("query_pruning") or EXACT, name, value)
            if pruning is not None and mode not in _WITHOUT_OPTIONS:
                keywords["query_pruning"] = pruning
                continue
            if name == "tf" and value in QUERY_TF and mode in _WITH_TF:
                keywords["query_tf"] = value
                continue
            fusion = _fused(keywords.get("fusion", Fusion()), name, value)
        except ValueError:
            raise SettingsError(f"{label}: {option!r} has no such value.", hint=known) from None
        if fusion is None or mode != "hybrid":
            raise SettingsError(
                f"{label}: {mode} has no option {name!r}.", hint=f"Its options: {known}."
            )
        keywords["fusion"] = fusion
    return keywords


def _pruned(pruning: QueryPruning, name: str, value: str) -> QueryPruning | None:
    if name == "exact" and not value:
        return EXACT
    if name == "top":
        return replace(pruning, top=int(value))
    if name == "ratio":
        return replace(pruning, max_ratio=float(value))
    if name == "two-phase":
        first, window = value.split("/") if value else (TwoPhase.first, TwoPhase.window)
        return replace(pruning, two_phase=TwoPhase(float(first), int(window)))
    return None


def _fused(fusion: Fusion, name: str, value: str) -> Fusion | None:
    if name == "encoder" and not value:
        return replace(fusion, sparse="encoder")
    if name in FUSION_METHODS and not value:
        return replace(fusion, method=name)
    if name == "engine" and not value:
        method = "rrf" if fusion.method == "sum" else fusion.method
        return replace(fusion, method=method, engine=True)
    if name == "weights":
        sparse, bm25 = value.split("/")
        return replace(fusion, weights=(float(sparse), float(bm25)))
    return None
