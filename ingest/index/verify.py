"""At the end of an ingest: a sample of what was written is read back and searched for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from splade_os.engines import Engine, IndexMeta, SearchRequest, TermsQuery
from splade_os.features import truncate
from splade_os.ingest.documents.stamps import stored_stamp
from splade_os.ingest.state.results import Written
from splade_os.vocabulary import FEATURE_NAMING

_QUERIES = 20
_TERMS = 30
_TOLERANCE = 1e-4  # an engine adds float32


def check_meta(engine: Engine, index: str, meta: IndexMeta) -> list[str]:
    """Whether the index still remembers what the documents were encoded with: another ingest may
    have taken it for unused before this one had written."""
    difference = meta.model.difference(engine.index_meta(index).model)
    return [f"the index was given to another model meanwhile: {difference}"] if difference else []


def check_sample(
    engine: Engine, index: str, sample: Sequence[Written], run: str, meta: IndexMeta
) -> list[str]:
    """What is wrong with the sample; nothing, if all is well.

    Every document must be there and bear the mark with which it was written, or that of
    another writer. Some are searched for by their own heaviest terms: each must be among the
    hits with exactly its dot product, or the hits must score at least as high.
    """
    if not sample:
        return []
    faults = []
    stored = engine.documents(index, [written.id for written in sample], None)
    mine: list[Written] = []
    for written in sample:
        document = stored.get(written.id)
        if document is None:
            faults.append(f"the document {written.id} was acknowledged and is not there")
            continue
        mark = stored_stamp(document, meta.hash_field)
        if mark is None or mark.run != run or mark.position > written.stamp.position:
            continue  # of another writer, or of a later record with this id
        if mark != written.stamp:
            faults.append(f"the document {written.id} is not the one that was written last")
            continue
        mine.append(written)
    if meta.feature_naming != FEATURE_NAMING:
        return faults  # a field type whose searches are approximate
    for written in mine[:_QUERIES]:
        fault = _canary(engine, index, written, meta.field)
        if fault:
            faults.append(fault)
    return faults


def _canary(engine: Engine, index: str, written: Written, field: str) -> str | None:
    vector: dict[str, float] = orjson.loads(written.lines.split(b"\n", 2)[1])[field]
    if not vector:
        return None
    heaviest = sorted(vector, key=lambda name: -vector[name])[:_TERMS]
    weights = np.array([vector[name] for name in heaviest], np.float32)
    expected = float(np.dot(weights.astype(np.float64), truncate(weights)))
    request = SearchRequest(TermsQuery(heaviest, weights), k=10, source=())
    hits = engine.search(index, request).hits
    slack = _TOLERANCE * expected
    for hit in hits:
        if hit.id == written.id:
            if abs(hit.score - expected) <= slack:
                return None
            return f"{written.id} scores {hit.score:.5f} instead of {expected:.5f}"
    if len(hits) == 10 and all(hit.score >= expected - slack for hit in hits):
        return None
    return f"the document {written.id} is not found by its own terms"
