"""At the end of an ingest: a sample of what was written is read back and searched for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from splade_os.engines import Engine, IndexMeta, SearchRequest, TermsQuery
from splade_os.engines.fields.stored import scored_vector
from splade_os.errors import SpladeWarning
from splade_os.ingest.documents.stamps import stored_stamp
from splade_os.ingest.state.results import Written
from splade_os.vocabulary import FEATURE_NAMING

_QUERIES = 20
_TERMS = 30
_KEPT = 2.0**-8  # of a weight: an engine may give back what the index holds, 9 significant bits
_TOLERANCE = 1e-4  # an engine adds float32


def check_meta(engine: Engine, index: str, meta: IndexMeta) -> list[str]:
    """Whether the index still remembers what the documents were encoded with: another ingest may
    have taken it for unused before this one had written."""
    difference = meta.model.difference(engine.index_meta(index).model)
    return [f"the index was given to another model meanwhile: {difference}"] if difference else []


@dataclass(frozen=True)
class SampleCheck:
    """What came of reading a sample back.

    Attributes:
        checked: documents that were compared with what had been sent.
        faults: what is wrong; nothing, if all is well.
    """

    checked: int = 0
    faults: tuple[str, ...] = ()


def check_sample(
    engine: Engine, index: str, sample: Sequence[Written], run: str, meta: IndexMeta
) -> SampleCheck:
    """Read a sample back and search for some of it.

    Every document must be there, with the mark and the vector with which it was written, unless
    another writer, or a later record of this id, has been there since. Texts that are stored
    otherwise are warned of: an ingest pipeline may be meant to change them. Some documents are
    searched for by their own heaviest terms: each must be among the hits with exactly its dot
    product, or the hits must score at least as high.
    """
    if not sample:
        return SampleCheck()
    faults: list[str] = []
    stored = engine.documents(index, [written.id for written in sample], None)
    mine: list[Written] = []
    others = 0
    changed: list[str] = []
    for written in sample:
        document = stored.get(written.id)
        if document is None:
            faults.append(f"the document {written.id} was acknowledged and is not there")
            continue
        mark = stored_stamp(document, meta.hash_field)
        if mark is None:
            continue
        if mark.run != run or mark.position > written.stamp.position:
            others += 1  # of another writer, or of a later record with this id
            continue
        sent: dict[str, Any] = orjson.loads(written.lines.split(b"\n", 2)[1])
        if mark != written.stamp:
            faults.append(f"the document {written.id} is not the one that was written last")
        elif not _same_vector(sent, document, meta):
            faults.append(f"the document {written.id} has another vector than was sent, or none")
        else:
            mine.append(written)
            if any(sent.get(name) != document.get(name) for name in meta.text_fields):
                changed.append(written.id)
    if not mine and not others and not faults:
        faults.append(
            f"none of {len(sample)} documents that were read back bears the mark "
            f"{meta.hash_field!r} with which it was sent: an ingest pipeline of the cluster takes "
            "it away, or another program has written them since"
        )
    if changed:
        warnings.warn(
            f"{len(changed)} of {len(mine)} documents that were read back have other texts than "
            f"were sent, e.g. {changed[0]}: an ingest pipeline of the cluster, or another program, "
            "changed them; their vectors are those of the texts that were sent.",
            SpladeWarning,
            stacklevel=2,
        )
    if meta.feature_naming == FEATURE_NAMING:  # searches of the other field types approximate
        found = (_canary(engine, index, written, meta) for written in mine[:_QUERIES])
        faults.extend(fault for fault in found if fault)
    return SampleCheck(len(mine), tuple(faults))


def _same_vector(sent: Mapping[str, Any], document: Mapping[str, Any], meta: IndexMeta) -> bool:
    """Whether a stored vector is the one that was sent, as exactly as engines keep it."""
    mine = scored_vector(sent.get(meta.field), meta)
    try:
        stored = scored_vector(document.get(meta.field), meta)
    except ValueError:
        return False
    if stored.keys() != mine.keys():
        return False
    return all(abs(stored[name] - weight) <= _KEPT * weight for name, weight in mine.items())


def _canary(engine: Engine, index: str, written: Written, meta: IndexMeta) -> str | None:
    sent = orjson.loads(written.lines.split(b"\n", 2)[1])
    vector = scored_vector(sent.get(meta.field), meta)
    if not vector:
        return None
    heaviest = sorted(vector, key=lambda name: -vector[name])[:_TERMS]
    weights = np.array([vector[name] for name in heaviest], np.float32)
    expected = float(np.square(weights, dtype=np.float64).sum())
    request = SearchRequest(TermsQuery(heaviest, weights), k=10, source=(), internal=True)
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
