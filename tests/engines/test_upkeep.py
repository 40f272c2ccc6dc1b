"""Documents by id, scans, settings, aliases and term statistics, on every engine."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import orjson
import pytest

from splade_os.engines import Engine, MatchQuery, SearchRequest
from splade_os.errors import EngineError, IndexNotFoundError
from splade_os.statistics import TermStatistics
from tests.engines.test_engines import meta_for


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
    assert not engine.add_statistics(index, one, "t")  # nothing is kept for it yet
    engine.save_statistics(index, TermStatistics.empty(1500))
    assert engine.load_statistics(index) is None
    with ThreadPoolExecutor(4) as pool:  # every ticket twice
        done = pool.map(lambda i: engine.add_statistics(index, one, f"t{i // 2}"), range(24))
    assert all(done)
    stored = engine.load_statistics(index)
    assert stored is not None
    assert (stored.documents, stored.tokens, stored.frequencies[7]) == (12, 24, 12)
    assert stored.frequencies.sum() == 12
