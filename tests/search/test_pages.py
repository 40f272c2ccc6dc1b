"""Pages: each hit once, and together one ranking, in every mode and with several shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splade_os import Fusion, SearchClient
from splade_os.engines import Engine
from splade_os.errors import EngineError, SettingsError
from tests.search.test_search import fill

TEXT = "cat and dog in the red sun"
COUNT = 160


@pytest.fixture
def client(engine: Engine, index: str, tiny: Path) -> SearchClient:
    fill(engine, index, tiny / "router", 1)
    meta = engine.index_meta(index)
    engine.delete_index(index)
    engine.create_index(index, meta, {"number_of_shards": 3})
    fill(engine, index, tiny / "router", COUNT)
    return SearchClient(engine=engine, index=index)


def test_pages(client: SearchClient) -> None:
    for mode in ("idf", "encoder", "bm25"):
        pages_are_one_ranking(client, mode)
    for method, depth in (("rrf", 20), ("min_max", 70), ("rrf", COUNT)):
        fused_pages_are_one_ranking(client, depth, method)


def pages_are_one_ranking(client: SearchClient, mode: Any) -> None:
    whole = client.search(TEXT, COUNT, mode, total=True)
    pages = [client.search(TEXT, 30, mode, offset=o) for o in range(0, len(whole) + 30, 30)]
    assert whole.total == len(whole) > 30 and not pages[-1].hits
    paged = [hit for page in pages for hit in page]
    assert [hit.score for hit in paged] == pytest.approx([hit.score for hit in whole], rel=1e-6)
    assert {hit.id for hit in paged} == {hit.id for hit in whole}
    assert [hit.rank for hit in paged] == list(range(1, len(whole) + 1))
    least = whole[len(whole) // 2].score * (1 - 1e-6)
    above = client.search(TEXT, COUNT, mode, min_score=least, total=True)
    assert above.total == len(above) == sum(hit.score >= least for hit in whole)


def fused_pages_are_one_ranking(client: SearchClient, depth: int, method: Any) -> None:
    """The oracle fuses the two lists that the modes by themselves give."""
    fusion = Fusion(method, depth=depth)
    halves = [client.search(TEXT, depth, mode) for mode in ("idf", "bm25")]  # type: ignore[arg-type]
    documents = {hit.id for half in halves for hit in half}
    ends = any(len(half) == depth for half in halves)
    pages = []
    while not pages or (len(pages[-1]) == 10 and not pages[-1].depth_ended):
        offset = 10 * len(pages)
        pages.append(client.search(TEXT, 10, "hybrid", offset=offset, fusion=fusion, total=True))
    hits = [hit for page in pages for hit in page]
    assert len(hits) == len(documents) and {hit.id for hit in hits} == documents
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert pages[-1].depth_ended == ends and not any(p.depth_ended for p in pages[:-1])
    for page in pages:
        assert page.total == (None if ends else len(documents))
        assert ("not counted" in (page.reason or "")) == ends
    least = scores[len(scores) // 2]
    above = client.search(TEXT, depth, "hybrid", min_score=least, fusion=fusion, total=True)
    assert [hit.score for hit in above] == [score for score in scores if score >= least][:depth]
    if ends:
        with pytest.raises(EngineError, match=f"ends after {len(documents)} hits") as caught:
            client.search(TEXT, 10, "hybrid", offset=len(documents), fusion=fusion)
        assert "--fusion-depth" in str(caught.value.hint)
        (said,) = client.search_many([TEXT], 10, "hybrid", offset=len(documents), fusion=fusion)
        assert isinstance(said, EngineError)
    else:
        beyond = client.search(TEXT, 10, "hybrid", offset=len(documents), fusion=fusion)
        assert not beyond.hits and not beyond.depth_ended


def test_a_page_larger_than_what_is_fused(client: SearchClient) -> None:
    assert len(client.search(TEXT, 101, "hybrid", fusion=Fusion("rrf"))) == 101
    with pytest.raises(SettingsError, match="needs more") as caught:
        client.search(TEXT, 150, "hybrid", offset=150, fusion=Fusion("rrf"))
    assert "Fusion(depth=300)" in str(caught.value.hint)
    with pytest.raises(SettingsError):
        Fusion(depth=10_001)


def test_a_page_behind_the_last_one_has_the_total(client: SearchClient) -> None:
    whole = client.search(TEXT, 1, total=True)
    behind = client.search(TEXT, 5, total=True, offset=(whole.total or 0) + 3)
    assert whole.total and behind.total == whole.total and len(behind) == 0
