"""What stands in the index itself: whoever comes later, from another machine, goes by it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splade_os import DocumentEncoder
from splade_os.engines import Engine, LoadState
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IngestError, SettingsError, SpladeError, SpladeWarning
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.index.aliases import generations, new_index_name, roll_back
from splade_os.ingest.index.target import ensure_index
from splade_os.ingest.load import AliasOptions, load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.sources import Selection


class Rows:
    """A source of texts; ``during`` is called before the row of this number is read."""

    name = "rows"
    unit = "items"
    total = None
    done = 0
    repeatable = True

    def __init__(self, count: int, at: int = 0, during: Any = None, said: str = "cat") -> None:
        self.count, self.at, self.during, self.said = count, at, during, said

    def fingerprint(self) -> str:
        return f"{self.count} {self.said}"

    def items(self, skip: int = 0) -> Iterator[Item]:
        for n in range(skip, self.count):
            if self.during is not None and n == self.at:
                self.during()
            value = {"id": f"d{n}", "text": f"the {self.said} {n % 7}"}
            yield Item(f"rows:{n + 1}", value=value)


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "router"), device="cpu")


@pytest.fixture
def alias(engine: Engine, index: str) -> Iterator[str]:
    yield (name := f"{index}-a")
    for each in engine.indices(f"{name}*"):
        engine.delete_index(each)


@pytest.fixture
def load(
    engine: Engine, encoder: DocumentEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))

    def run(rows: Rows, target: str, alias: bool = False, **more: Any) -> IngestReport:
        return load_source(
            rows,
            engine=engine,
            target=target,
            encoder=encoder,
            alias=AliasOptions() if alias else None,
            options=more.pop("options", IngestOptions(window=8, max_documents=8, patience=5)),
            **more,
        )

    return run


def killed() -> None:
    time.sleep(1)  # what was read before is written by then
    raise KeyboardInterrupt


def test_a_load_says_how_far_it_is(engine: Engine, index: str, load: Any) -> None:
    seen: list[LoadState | None] = []
    assert load(Rows(40, 20, lambda: seen.append(engine.load_state(index))), index).verified
    state = engine.load_state(index)
    assert seen[0] is not None and seen[0].loading and not seen[0].whole
    assert state is not None and state.whole and state.documents == 40 and not state.loading


@pytest.mark.parametrize("again", [False, True])
def test_an_index_that_is_deleted_under_a_load(
    engine: Engine, index: str, load: Any, encoder: DocumentEncoder, again: bool
) -> None:
    """It is neither made anew by the engine, nor loaded from the middle on."""

    def delete() -> None:
        engine.delete_index(index)
        if again:
            ensure_index(engine, index, encoder.identity, ("title", "text"))

    with pytest.raises(IngestError, match=r"deleted|no such index"):
        load(Rows(200, 100, delete), index)
    assert bool(engine.indices(f"{index}*")) is again
    assert not again or engine.count(index) == 0
    with pytest.raises(IngestError, match="deleted"):
        load(Rows(200), index, begin="resume")
    assert load(Rows(200), index, begin="restart").verified
    assert engine.count(index) == 200


@pytest.mark.parametrize("again", [False, True])
def test_an_index_that_is_deleted_before_a_request(
    engine: Engine,
    index: str,
    load: Any,
    encoder: DocumentEncoder,
    again: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever was looked up before: the engine refuses the request itself."""
    send, sent = type(engine).bulk, []

    def bulk(self: Engine, name: str, body: bytes, **more: Any) -> Any:
        sent.append(body)
        if len(sent) == 3:
            engine.delete_index(index)
            if again:
                ensure_index(engine, index, encoder.identity, ("title", "text"))
        return send(self, name, body, **more)

    monkeypatch.setattr(type(engine), "bulk", bulk)
    with pytest.raises(IngestError, match="deleted"):
        load(Rows(200), index)
    assert bool(engine.indices(f"{index}*")) is again
    assert not again or engine.count(index) == 0


def test_a_guard_is_there_for_the_load_alone(engine: Engine, index: str, load: Any) -> None:
    seen: list[LoadState | None] = []
    assert load(Rows(40, 20, lambda: seen.append(engine.load_state(index))), index).verified
    assert seen[0] is not None and seen[0].guard is not None
    state = engine.load_state(index)
    assert state is not None and state.guard is None and not state.loading
    assert not engine.alias_targets(seen[0].guard)


def test_unfinished_builds_are_no_generations(engine: Engine, alias: str, load: Any) -> None:
    """The good index of before is the one that is kept, and gone back to."""
    first = load(Rows(40), alias, True).index
    with pytest.raises(KeyboardInterrupt):
        load(Rows(60, 30, killed), alias, True, named="another file")
    with pytest.raises(IngestError, match="10 documents"):  # refused: much smaller
        load(Rows(10), alias, True, named="a third file")
    assert generations(engine, alias) == [first]
    with pytest.warns(SpladeWarning, match="not whole"):
        last = load(Rows(41), alias, True).index
    assert set(generations(engine, alias)) == {first, last}
    assert roll_back(engine, alias) == (last, first)


def test_another_process_builds_at_the_same_time(engine: Engine, alias: str, load: Any) -> None:
    """What somebody loads now is not deleted by the swap of somebody else."""
    inner: list[str] = []

    def other() -> None:
        with pytest.warns(SpladeWarning, match="not whole"):
            inner.append(load(Rows(50), alias, True, named="another file").index)

    outer = load(Rows(48, 24, other), alias, True).index
    assert engine.count(outer) == 48 and engine.count(inner[0]) == 50
    assert engine.alias_targets(alias) == [outer]
    assert roll_back(engine, alias) == (outer, inner[0])


def test_the_first_swap_is_rolled_back(engine: Engine, index: str, alias: str, load: Any) -> None:
    """To an index that was there before any generation, of whatever name."""
    load(Rows(20), index)
    engine.point_alias(alias, index)
    first = load(Rows(21), alias, True)
    assert first.live and engine.alias_targets(alias) == [first.index]
    assert roll_back(engine, alias) == (first.index, index)
    assert engine.alias_targets(alias) == [index]


def test_what_was_rolled_back_is_not_kept_for_the_good_one(
    engine: Engine, alias: str, load: Any
) -> None:
    good, bad = (load(Rows(20, said=said), alias, True).index for said in ("cat", "dog"))
    roll_back(engine, alias)
    last = load(Rows(20, said="sun"), alias, True)
    assert last.deleted_indices == (bad,) and roll_back(engine, alias) == (last.index, good)


def test_an_alias_does_not_move_to(engine: Engine, alias: str, load: Any) -> None:
    with pytest.raises(SettingsError, match="shard"):
        load(Rows(20), alias, True, selection=Selection(0, None, 1, 2))
    assert load(Rows(0), alias, True).removed
    assert not engine.alias_targets(alias) and not engine.indices(f"{alias}*")
    # an index that was made before indices said anything, in the middle of its load
    old = new_index_name(alias)
    done = load(Rows(20), alias, True)
    assert done.live and old < done.index


def test_a_template_that_adds_the_alias(engine: Engine, alias: str, load: Any) -> None:
    """Nobody sees an index before it is whole."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite has no templates")
    body = {"index_patterns": [f"{alias}-*"], "template": {"aliases": {alias: {}}}}
    engine.request("PUT", f"/_index_template/{alias}", json.dumps(body).encode())
    targets: list[list[str]] = []
    try:
        for count in (20, 21):
            rows = Rows(count, 10, lambda: targets.append(engine.alias_targets(alias)))
            load(rows, alias, True)
        first, second = generations(engine, alias)
        assert targets == [[], [first]] and engine.alias_targets(alias) == [second]
    finally:
        engine.request("DELETE", f"/_index_template/{alias}")


def test_an_index_and_an_alias_of_one_name(engine: Engine, alias: str, load: Any) -> None:
    """An interrupted load into what an alias stands for is not that which builds for it."""
    live = load(Rows(30), alias, True).index
    with pytest.raises(KeyboardInterrupt):
        load(Rows(60, 30, killed), alias)
    assert load(Rows(60), alias, True, begin="restart").live
    assert engine.count(live) >= 30  # kept, not deleted at the start
    with pytest.raises(SpladeError, match="alias has moved"):
        load(Rows(60), alias, begin="resume")


def test_dead_letters_keep_an_alias_where_it_is(engine: Engine, alias: str, load: Any) -> None:
    class Damaged(RecordReader):
        def read(self, item: Item, position: int) -> Record | Rejected:
            if position == 3:
                return Rejected(position, item.where, "damaged", item)
            return super().read(item, position)

    with pytest.raises(IngestError, match="dead letters"):
        load(Rows(20), alias, True, reader=Damaged())
    assert not engine.alias_targets(alias) and not generations(engine, alias)
    allowed = IngestOptions(max_errors=1)
    report = load(Rows(20), alias, True, reader=Damaged(), begin="resume", options=allowed)
    assert report.live and report.dead == 1 and engine.count(alias) == 19
