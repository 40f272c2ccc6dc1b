"""A client that lives on while an alias is pointed at another index."""

from __future__ import annotations

from pathlib import Path

import pytest

from splade_os import Results, SearchClient
from splade_os.engines import Engine
from splade_os.search.client import Mode
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"


@pytest.mark.parametrize("many", [False, True])
def test_alias_is_pointed_elsewhere(engine: Engine, index: str, tiny: Path, many: bool) -> None:
    names = [f"{index}-{i}" for i in range(3)]
    try:
        for name, model, count in zip(names, ("router", "bert", "bert"), (20, 30, 40), strict=True):
            fill(engine, name, tiny / model, count)
        client = SearchClient(engine=engine, index=index)
        for name, count in zip([*names, names[0]], (20, 30, 40, 20), strict=True):
            engine.point_alias(index, name)
            if many:
                (results,) = client.search_many([TEXT], 5)
            else:
                results = client.search(TEXT, 5)
            assert isinstance(results, Results)
            expected = SearchClient(engine=engine, index=name).search(TEXT, 5)
            assert [(h.id, h.score) for h in results] == [(h.id, h.score) for h in expected]
            assert results.weights_from == f"index ({count} documents)"
            assert client.meta.model.content_hash == engine.index_meta(name).model.content_hash
    finally:
        for name in names:
            engine.delete_index(name)


@pytest.mark.parametrize("mode", ["idf", "hybrid"])
def test_a_scan_is_of_one_view_and_one_query(
    engine: Engine, index: str, tiny: Path, mode: Mode
) -> None:
    """Up to its last page, though the alias is pointed elsewhere and the statistics have changed
    meanwhile, and the client has noticed both."""
    names = [f"{index}-{i}" for i in range(2)]
    try:
        for name, count in zip(names, (20, 35), strict=True):
            fill(engine, name, tiny / "router", count)
        engine.point_alias(index, names[0])
        client = SearchClient(engine=engine, index=index)
        expected = [(h.id, h.score) for h in client.search(TEXT, 100, mode)]
        hits = []
        for number, hit in enumerate(client.scan(TEXT, mode, page=4), 1):
            hits.append((hit.id, hit.score))
            assert hit.rank == number
            if number in (3, 6):
                engine.point_alias(index, names[number == 3])
                client.refresh()
                client.search(TEXT, 3)
            client._steps._looked = 0.0  # as if every search were seconds later
        assert len(hits) > 8
        assert [i for i, _ in hits] == [i for i, _ in expected]
        assert [s for _, s in hits] == pytest.approx([s for _, s in expected], rel=1e-6)
    finally:
        for name in names:
            engine.delete_index(name)
