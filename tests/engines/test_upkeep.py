"""Documents by id, scans, settings, aliases and term statistics, on every engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_os.engines import Engine, MatchQuery, SearchRequest
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.engines.rest.statistics import STATISTICS_INDEX
from splade_os.errors import EngineError, IndexNotFoundError
from splade_os.statistics import BASE, Count, TermStatistics, total
from tests.engines.contract import meta_for


def write(engine: Engine, index: str, operation: str, ids: list[str]) -> list[int]:
    lines = [
        orjson.dumps({operation: {"_id": i}}) + b"\n" + orjson.dumps({"text": f"cat {i}"}) + b"\n"
        for i in ids
    ]
    return [outcome.status for outcome in engine.bulk(index, b"".join(lines), attempts=1)]


def test_documents_and_scan(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    ids = [f"d{i}" for i in range(25)]
    assert write(engine, index, "create", ids) == [201] * 25
    assert write(engine, index, "create", ["d3", "new"]) == [409, 201]
    found = engine.documents(index, ["d3", "nobody", "d4", "d3"])  # before any refresh
    assert found == {"d3": {"text": "cat d3"}, "d4": {"text": "cat d4"}}
    assert engine.documents(index, ["d3"], ()) == {"d3": {}}
    assert engine.documents(index, ["d3"], ["title"]) == {"d3": {}}
    assert engine.documents(index, []) == {}
    engine.refresh(index)
    scanned = dict(engine.scan(index, ["text"], page=7))
    assert scanned == {i: {"text": f"cat {i}"} for i in [*ids, "new"]}
    assert dict(engine.scan(index, (), page=100)) == {i: {} for i in [*ids, "new"]}
    some: list[dict[str, Any]] = [{"ids": {"values": [ids[1], ids[8], "none"]}}, {"match_all": {}}]
    assert [i for i, _ in engine.scan(index, (), page=1, filter=some)] == [ids[1], ids[8]]
    absent = {"bool": {"must_not": [{"exists": {"field": "text"}}]}}
    assert not list(engine.scan(index, filter=[absent]))
    with pytest.raises(IndexNotFoundError):
        engine.documents("nowhere", ["a"])


def test_aliases(engine: Engine, index: str) -> None:
    old, new = f"{index}-1", f"{index}-2"
    try:
        for name in (old, new):
            engine.create_index(name, meta_for(engine))
            write(engine, name, "index", [name])
            engine.refresh(name)
        assert engine.indices(f"{index}-*") == [old, new]
        assert engine.indices(f"{index}-nothing") == []
        assert engine.alias_targets(index) == []
        for name in (old, new, new, old):
            engine.point_alias(index, name)
            assert engine.alias_targets(index) == [name]
            (hit,) = engine.search(index, SearchRequest(MatchQuery("cat"))).hits
            assert hit.id == name
        engine.save_statistics(old, TermStatistics(3, 9, np.full(1500, 2)))
        statistics = engine.load_statistics(index)
        assert statistics is not None and statistics.documents == 3
        with pytest.raises(EngineError):
            engine.point_alias(new, old)  # a name of an index
    finally:
        for name in (old, new):
            engine.delete_index(name)
    assert engine.alias_targets(index) == []


def test_settings(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    before = engine.settings(index)
    engine.update_settings(index, {"refresh_interval": "-1", "number_of_replicas": 0})
    if engine.url.startswith("http"):
        assert "refresh_interval" not in before
        assert engine.settings(index)["refresh_interval"] == "-1"
    engine.update_settings(index, {"refresh_interval": None})
    assert "refresh_interval" not in engine.settings(index)


def test_statistics_of_many_writers(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    one = TermStatistics(1, 2, np.eye(1, 1500, 7, dtype=np.int64)[0])
    assert engine.load_statistics(index) is None and engine.counts(index) == []
    with ThreadPoolExecutor(4) as pool:  # every run twice: the second time changes nothing
        list(pool.map(lambda i: engine.save_count(index, Count(f"r{i // 2}", one)), range(24)))
    stored = engine.load_statistics(index)
    assert stored is not None
    assert (stored.documents, stored.tokens, stored.frequencies[7]) == (12, 24, 12)
    assert stored.frequencies.sum() == 12
    whole = total(engine.counts(index))
    assert whole is not None and len(whole.covers) == 12
    engine.save_base(index, whole)  # put together
    assert [count.run for count in engine.counts(index)] == [BASE]
    engine.save_count(index, Count("late", one, empty=1, changed=2))
    engine.save_count(index, Count("r3", one))  # covered: a run that was counted already
    again = total(engine.counts(index))
    assert again is not None and again.statistics.documents == 13
    assert (again.empty, again.changed) == (1, 2)


def test_statistics_are_those_of_the_index_not_of_its_name(engine: Engine, index: str) -> None:
    one = TermStatistics(1, 2, np.eye(1, 1500, 7, dtype=np.int64)[0])
    engine.create_index(index, meta_for(engine))
    engine.save_count(index, Count("run", one))
    assert engine.load_statistics(index) is not None
    if isinstance(engine, ClusterEngine):
        engine.request("DELETE", f"/{index}")  # by somebody else, who knows nothing of them
    else:
        engine.delete_index(index)
    engine.create_index(index, meta_for(engine))
    assert engine.load_statistics(index) is None
    engine.save_count(index, Count("run", one))
    engine.delete_index(index)
    if isinstance(engine, ClusterEngine):
        left = engine.request(
            "POST", f"/{STATISTICS_INDEX}/_count", {"query": {"term": {"index": index}}}
        )
        assert left["count"] == 1  # that of the index which was deleted behind our back


def test_statistics_that_cannot_be(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    for df in (-1, 5):
        impossible = TermStatistics(4, 8, np.full(1500, df, np.int64))
        engine.save_statistics(index, impossible)
        assert engine.load_statistics(index) is None  # the model's table, not nonsense


@given(st.lists(st.integers(0, 2**40), max_size=300), st.integers(0, 2**40), st.integers(0, 9))
def test_a_record_survives_its_form(frequencies: list[int], documents: int, changed: int) -> None:
    statistics = TermStatistics(documents, 3, np.array(frequencies, np.int64))
    count = Count("run", statistics, 2, changed, ("a", "b"), 7.5)
    read = Count.unpacked(orjson.loads(orjson.dumps(count.packed())))
    assert read.statistics.frequencies.tolist() == frequencies
    assert (read.statistics.documents, read.changed, read.covers) == (
        documents,
        changed,
        count.covers,
    )


def test_a_large_vocabulary_fits_through_a_gateway() -> None:
    frequencies = np.random.default_rng(0).zipf(1.3, 250_000).astype(np.int64) % 10_000_000
    count = Count("run", TermStatistics(10_000_000, 1, frequencies))
    assert len(orjson.dumps(count.packed())) < 1_000_000
