"""A client that lives on while an alias is pointed at another index."""

from __future__ import annotations

from pathlib import Path

import pytest

from splade_os import Results, SearchClient
from splade_os.engines import Engine
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
