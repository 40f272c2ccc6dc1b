"""Whatever the length of a query and of its filter: a search works, and says what took part."""

from __future__ import annotations

import warnings
from pathlib import Path

from splade_os import SearchClient
from splade_os.engines import Engine
from splade_os.engines.rest.cluster import ClusterEngine
from tests.search.test_search import fill


def test_any_length(engine: Engine, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router", 20)
    client = SearchClient(engine=engine, index=index)
    limit = engine.capabilities().max_clauses if isinstance(engine, ClusterEngine) else None
    over = (limit or 1024) + 300
    tokens = {"cat": 3.0, "dog": 2.0, **{f"t{i}": 1 - i / (2 * over) for i in range(over)}}
    text = "cat " + " ".join(f"word{i}" for i in range(over))
    words = {"match": {"text": text[5:900]}} if limit else {"term": {"n": 99}}
    some = {"bool": {"should": [{"term": {"n": i}} for i in range(1, 21)]}}
    nested = {"bool": {"must": [some, {"range": {"n": {"gte": 1}}}], "must_not": words}}
    values = {"terms": {"n": list(range(1, 21))}}
    for filter_ in (None, {"term": {"n": 3}}, values, nested):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = client.search(tokens, 3, "raw", filter=filter_, explain=True)
            bm25 = client.search(text, 3, "bm25", filter=filter_)
            hybrid = client.search(text, 3, "hybrid", filter=filter_)
        assert len(raw.query) == raw.used.terms and raw.used.of == len(tokens)
        if limit is None:
            assert not raw.used.cut and not bm25.used.cut
            continue
        assert raw.used.cut and raw.used.terms <= limit and hybrid.used.cut
        assert list(raw.query)[:2] == ["cat", "dog"]
        assert bm25.used.words_cut >= over + 1 - limit
        assert "more than the server takes" in str(bm25.used)
        assert f"{raw.used.terms:,} of {len(tokens):,} terms" in str(raw.used)
    short = client.search("cat", 3, "bm25")
    assert not short.used.cut
