"""Answers that are JSON but none of an engine, or only of some of its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splade_os import SearchClient
from splade_os.engines import Engine
from splade_os.engines.rest.answers import complete
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.engines.rest.steps import ClusterSteps
from splade_os.errors import SpladeError
from tests.search.test_search import fill

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["hits", "took", "responses", "count", "_all", "mappings", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(answer=ANY_JSON)
@settings(max_examples=60)
def test_json_of_something_else(answer: Any) -> None:
    """Whatever a proxy answers, it is an error of ours that names the URL, or nothing is found."""
    for ask in ("index_meta", "count", "stats", "identity"):
        steps: Any = getattr(ClusterSteps("http://somewhere"), ask)("i")
        try:
            asked = next(steps)
            while True:  # several that do not wait for each other are answered as a list
                asked = steps.send([answer] * len(asked) if isinstance(asked, tuple) else answer)
        except StopIteration:
            pass
        except SpladeError as error:
            assert "http://somewhere" in str(error) or "index" in str(error)


@pytest.mark.parametrize(
    ("shards", "whole"),
    [
        ({"total": 2, "successful": 1, "skipped": 0, "failed": 0}, False),
        ({"total": 2, "successful": 1, "skipped": 1, "failed": 0}, False),
        ({"total": 2, "successful": 1, "skipped": 0, "failed": 1}, False),
        ({"total": 2, "successful": 2, "skipped": 2, "failed": 0}, True),
        ({"total": 0, "successful": 0, "skipped": 0, "failed": 0}, True),
    ],
)
def test_complete(shards: dict[str, int], whole: bool) -> None:
    assert complete({"_shards": shards}) == whole


def test_long_texts_are_explained(engine: Engine, index: str, tiny: Path) -> None:
    """One text over what a highlighter reads fails no search that explains."""
    fill(engine, index, tiny / "router", 30)
    if isinstance(engine, ClusterEngine):
        long = "cat " + "lighthouse keeper " * 60_000
        body = {"text": long, "html": long}
        engine.request("PUT", f"/{index}/_doc/long?refresh=true", body)
    client = SearchClient(engine=engine, index=index)
    for mode in ("bm25", "hybrid"):
        assert len(client.search("cat", 10, mode, explain=True, filter=None)) > 1  # type: ignore[arg-type]
