"""The lexical prior of an index: measured on its first documents, and the same ever after."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from splade_os import DocumentEncoder, ingest_documents
from splade_os.engines import Engine
from splade_os.errors import InputError, ModelMismatchError
from splade_os.ingest.documents.records import Record
from splade_os.ingest.index.average_length import settle
from splade_os.ingest.index.target import new_meta
from splade_os.ingest.state.statistics import recount

TEXTS = ["cat dog", "red sun and the moon", "search engine " * 40, ""]
LENGTHS = (2, 5, 80)


def encoder(tiny: Path, **options: object) -> DocumentEncoder:
    given = {"lexical_weight": 2.0, "mean_weight": 0.5, **options}
    return DocumentEncoder.load(str(tiny / "router"), device="cpu", **given)


def records(texts: list[str] = TEXTS, first: int = 0) -> Iterator[Record]:
    for i, text in enumerate(texts, first):
        yield Record(i + 1, f"t:{i}", f"d{i}", text, {"text": text})


def load(engine: Engine, index: str, by: DocumentEncoder, source: Iterator[Record]) -> None:
    report = ingest_documents(
        source, engine=engine, index=index, encoder=by, dead_letters="never.jsonl"
    )
    assert report.verified, report.faults


def test_measured_once(engine: Engine, index: str, tiny: Path) -> None:
    first = encoder(tiny)
    load(engine, index, first, records())
    recorded = engine.index_meta(index).model
    assert recorded == first.identity
    assert recorded.average_length == pytest.approx(sum(LENGTHS) / 3, rel=0.005)
    # later documents, other lengths: the index decides, through the API and through its record
    later = encoder(tiny)
    load(engine, index, later, records(["moon"] * 3, 10))
    named = encoder(
        tiny, **recorded.options().model_dump(exclude={"lexical_weight", "mean_weight"})
    )
    assert later.identity == recorded == named.identity
    # the document frequencies see the whole text, too: counted and recounted
    statistics = engine.load_statistics(index)
    assert statistics is not None and statistics.tokens == sum(LENGTHS) + 3
    again = recount(engine, index, later, engine.index_meta(index))
    assert again.tokens == statistics.tokens
    assert (again.frequencies == statistics.frequencies).all()


def test_an_index_of_before_stays_as_it_is(engine: Engine, index: str, tiny: Path) -> None:
    old = encoder(tiny, whole_text=False, average_length=100)
    load(engine, index, old, records(TEXTS[:3]))
    recorded = engine.index_meta(index).model
    assert not recorded.whole_text and recorded.average_length == 100
    new = encoder(tiny)
    load(engine, index, new, records(TEXTS[1:3], 10))
    assert new.identity == engine.index_meta(index).model == recorded
    statistics = engine.load_statistics(index)
    kept = old.identity.max_length - 2
    assert statistics is not None and statistics.tokens == 2 + 2 * 5 + 2 * kept
    renewed = encoder(tiny, **{**recorded.options(anew=True).model_dump(), "lexical_weight": 2.0})
    assert {"whole_text", "average_length"} <= renewed.left_open


def test_an_index_that_waits_for_documents(engine: Engine, index: str, tiny: Path) -> None:
    first = encoder(tiny)
    engine.create_index(index, new_meta(engine, first.unmeasured, ("title", "text")))
    assert engine.index_meta(index).model.average_length == 0
    load(engine, index, first, records())
    assert engine.index_meta(index).model.average_length == first.identity.average_length == 29


def test_chosen_is_chosen(engine: Engine, index: str, tiny: Path) -> None:
    chosen = encoder(tiny, average_length=7)
    load(engine, index, chosen, records())
    assert engine.index_meta(index).model.average_length == 7


@pytest.mark.parametrize("broken", [None, InputError("the source broke off")])
def test_all_records_come_in_their_order(
    broken: Exception | None, engine: Engine, index: str, tiny: Path
) -> None:
    def source() -> Iterator[Record]:
        yield from records(TEXTS * 500)
        if broken:
            raise broken

    short = list(records(TEXTS))
    by = encoder(tiny)
    stream = settle(engine, index, by, source(), lambda: False)
    ids = []
    try:
        ids.extend(item.id for item in stream if isinstance(item, Record))
    except InputError as error:
        assert error is broken
    assert ids == [f"d{i}" for i in range(4 * 500)] and by.identity.average_length == 29
    nothing = encoder(tiny)
    assert list(settle(engine, index, nothing, iter([]), lambda: False)) == []
    assert nothing.identity.average_length == 100
    assert list(settle(engine, index, encoder(tiny), iter(short), lambda: True)) == short


def test_a_source_that_waits_holds_nobody_up(engine: Engine, index: str, tiny: Path) -> None:
    more = threading.Event()

    def source() -> Iterator[Record]:
        yield from records(["cat dog", "sun"])
        more.wait(60)
        yield from records(["moon"], 2)

    by = encoder(tiny)
    stream = settle(engine, index, by, source(), lambda: False)
    assert not more.is_set() and by.identity.average_length == 1.5
    assert [next(stream).text, next(stream).text] == ["cat dog", "sun"]  # type: ignore[union-attr]
    more.set()
    assert [item.text for item in stream] == ["moon"]  # type: ignore[union-attr]


@pytest.mark.parametrize("before", [2.0, 0.0])
def test_a_model_whose_prior_has_changed(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, before: float
) -> None:
    """Its index goes on with the prior that it was made with, unless another one is asked for."""
    model = tmp_path / "model"
    shutil.copytree(tiny / "router", model)
    options = model / "splade_os.json"

    def state(weight: float) -> None:
        options.write_text(f'{{"lexical_weight": {weight}, "mean_weight": 0.5}}')

    state(before)
    load(engine, index, DocumentEncoder.load(str(model), device="cpu"), records(TEXTS[:3]))
    recorded = engine.index_meta(index).model
    assert recorded.lexical_weight == before
    state(1.0)
    new = DocumentEncoder.load(str(model), device="cpu")
    load(engine, index, new, records(TEXTS[:1], 10))
    assert new.identity == engine.index_meta(index).model == recorded
    first, later = (engine.documents(index, [name], None)[name] for name in ("d0", "d10"))
    field = engine.index_meta(index).field
    assert first[field] == later[field]
    chosen = DocumentEncoder.load(str(model), device="cpu", lexical_weight=1.0)
    with pytest.raises(ModelMismatchError, match="lexical weight"):
        load(engine, index, chosen, records(TEXTS[:1], 20))
