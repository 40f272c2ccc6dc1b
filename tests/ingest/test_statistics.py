"""Whatever runs write into an index, in whatever order: its statistics are those of a count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splade_os import DocumentEncoder, IngestOptions, IngestReport, ingest_documents
from splade_os.engines import Engine
from splade_os.ingest.documents.records import Record
from splade_os.statistics import TermStatistics, total

Texts = dict[str, str]


@pytest.fixture
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "router"), device="cpu")


def load(
    engine: Engine, index: str, encoder: DocumentEncoder, folder: Path, texts: Texts, **more: bool
) -> IngestReport:
    return ingest_documents(
        [
            Record(i, f"t:{i}", id, text, {"text": text})
            for i, (id, text) in enumerate(texts.items(), 1)
        ],
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=folder / "dead.jsonl",
        options=IngestOptions(**more),
    )


def check(engine: Engine, index: str, encoder: DocumentEncoder, there: Texts) -> None:
    expected = TermStatistics.empty(encoder.identity.vocabulary_size)
    expected.count_many([encoder.counted(ids) for ids in encoder.tokenize([*there.values()])])
    statistics = engine.load_statistics(index)
    assert statistics is not None
    assert (statistics.documents, statistics.tokens) == (len(there), expected.tokens)
    np.testing.assert_array_equal(statistics.frequencies, expected.frequencies)
    assert not any(count.under_way for count in engine.counts(index))  # nobody waits for it


def test_runs_that_add_overwrite_and_rewrite(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    first = {"a": "cat", "b": "dog moon"}
    more = {"c": "sun", "d": "river"}
    for texts in (first, more):
        report = load(engine, index, encoder, tmp_path, texts)
        assert report.statistics_lag is None
    there = {**first, **more}
    check(engine, index, encoder, there)
    there = dict.fromkeys(there, "winter dog")  # all of them, by a run that saw every document
    assert load(engine, index, encoder, tmp_path, there).statistics_lag is None
    check(engine, index, encoder, there)
    there["b"] = "moon moon"
    report = load(engine, index, encoder, tmp_path, there, skip_unchanged=True)
    assert (report.updated, report.unchanged, report.statistics_lag) == (1, 3, None)
    check(engine, index, encoder, there)


def test_a_run_that_indexes_nothing_holds_nobody_up(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    there = {"a": "cat", "b": "dog"}
    load(engine, index, encoder, tmp_path, there)
    load(engine, index, encoder, tmp_path, {"c": "\ud800"})  # a dead letter
    check(engine, index, encoder, there)
    whole = total(engine.counts(index))
    assert whole is not None and whole.changed == 0
