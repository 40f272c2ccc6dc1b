"""Vectors and dot products of sentence-transformers are the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from splade_os.engines import Engine
from splade_os.errors import IngestError, InputError, SettingsError
from tests.integrations.conftest import framework
from tests.tiny_models import TEXTS

framework("sentence_transformers")
import torch  # noqa: E402
from sentence_transformers import SparseEncoder, util  # noqa: E402

from splade_os.integrations.sentence_transformers import (  # noqa: E402
    semantic_search,
    to_index,
)


@pytest.fixture
def model(tiny: Path) -> SparseEncoder:
    """Its queries and documents are encoded by different parts."""
    return SparseEncoder(str(tiny / "router"), device="cpu")


QUERIES = [*TEXTS[:6], "."]


def exact(model: SparseEncoder) -> list[dict[int, float]]:
    """Of each query: position → dot product."""
    queries, documents = model.encode_query(QUERIES), model.encode_document(TEXTS)
    scores = util.dot_score(queries, documents)
    return [{i: float(s) for i, s in enumerate(row) if s > 0} for row in torch.as_tensor(scores)]


def test_scores_are_dot_products(
    model: SparseEncoder, engine: Engine, engine_url: str, index: str
) -> None:
    def texts() -> Iterator[str]:
        yield from TEXTS

    made = to_index(model, texts(), engine_url, index)
    found = made.search(QUERIES, top_k=len(TEXTS))
    for mine, theirs in zip(found, exact(model), strict=True):
        scores = {hit["corpus_id"]: hit["score"] for hit in mine}
        assert scores == pytest.approx(theirs, rel=5e-3)  # 9 significant bits are stored
        assert [hit["score"] for hit in mine] == sorted(scores.values(), reverse=True)
    assert made.client.search(TEXTS[0], 1, "bm25")[0].id == "0"
    some = made.search([TEXTS[0]], filter={"ids": {"values": ["3"]}})
    assert [hit["corpus_id"] for hit in some[0]] in ([3], [])
    with pytest.raises(SettingsError, match="exists already"):
        to_index(model, ["x"], index=index, engine=engine)
    with pytest.raises(InputError, match="list of texts"):
        made.search("one text")
    made.close()


def test_in_place_of_their_helpers(model: SparseEncoder, engine: Engine, engine_url: str) -> None:
    queries = model.decode(model.encode_query(QUERIES))
    corpus = model.decode(model.encode_document(TEXTS))
    before = set(engine.indices("sparse-encoder-*"))
    found, seconds = semantic_search(queries, corpus, top_k=3, url=engine_url)
    assert set(engine.indices("sparse-encoder-*")) <= before and seconds > 0
    again, _, (opened, name) = semantic_search(
        queries, corpus, top_k=3, output_index=True, url=engine_url
    )
    third, _ = semantic_search(queries, corpus_index=(opened, name), top_k=3)
    assert found == again == third
    for mine, theirs in zip(found, exact(model), strict=True):
        best = sorted(theirs.values(), reverse=True)[:3]
        assert [hit["score"] for hit in mine] == pytest.approx(best, rel=5e-3)
    opened.delete_index(name)
    opened.close()
    with pytest.raises(SettingsError, match="or else corpus_index"):
        semantic_search(queries)
    with pytest.raises(IngestError, match="1 of 2 texts"):
        semantic_search(queries, [[("cat", 1.0)], [("cat", -1.0)]], url=engine_url)
    assert set(engine.indices("sparse-encoder-*")) <= before
