"""Documents in, hits out: the whole way through both engines, checked by brute force."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from splade_os import EXACT, DocumentEncoder, SearchClient, ingest_documents
from splade_os.engines import Engine
from splade_os.errors import IndexNotFoundError, ModelMismatchError, SettingsError
from splade_os.features import truncate
from splade_os.ingest.documents.records import Record
from tests.conftest import stems

WORDS = "search engine index document query term cat dog red green sun moon fast slow".split()  # noqa: SIM905


def records(count: int, seed: int = 0) -> Iterator[Record]:
    random = np.random.default_rng(seed)
    for i in range(1, count + 1):
        text = " ".join(random.choice(WORDS, random.integers(1, 12)))
        yield Record(i, f"test:{i}", f"d{i}", text, {"text": text, "n": i})


@cache
def loaded(model: Path, **options: int) -> DocumentEncoder:
    return DocumentEncoder.load(str(model), device="cpu", **options)  # type: ignore[arg-type]


def fill(engine: Engine, index: str, model: Path, count: int = 60, **options: int) -> None:
    encoder = loaded(model, **options)
    report = ingest_documents(
        records(count),
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=Path("never.jsonl"),
    )
    assert report.verified and report.created == count and not report.dead


@pytest.mark.parametrize("mode", ["idf", "encoder"])
@pytest.mark.parametrize("name", ["router", "bert", "distilbert"])
def test_scores_are_the_product(
    engine: Engine, index: str, tiny: Path, name: str, mode: str
) -> None:
    fill(engine, index, tiny / name)
    client = SearchClient(engine=engine, index=index)
    oracle = SparseEncoder(str(tiny / name), device="cpu")
    texts = [record.text for record in records(60)]
    documents = oracle.encode_document(texts).to_dense().numpy()
    stored = np.where(documents > 0, truncate(documents), 0).astype(np.float64)
    found = 0
    for text in (" ".join(WORDS), "the search engine", "cat and dog in the red sun"):
        query = client.encoder(mode).encode([text]).to_dense()[0]  # type: ignore[arg-type]
        expected = stored @ query.astype(np.float64)
        results = client.search(text, 60, mode, explain=True, query_pruning=EXACT)  # type: ignore[arg-type]
        assert len(results) == (expected > 0).sum()
        found += len(results)
        for hit in results:
            assert hit.score == pytest.approx(expected[int(hit.id[1:]) - 1], rel=1e-4)
            assert sum(term.share for term in hit.terms) == pytest.approx(hit.score, rel=1e-5)
            own = set(hit.source["text"].split())
            for term in hit.terms:
                if term.token in WORDS:
                    assert term.expansion == (term.token not in own)
    assert found


def test_idf_comes_from_the_index(engine: Engine, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router")
    texts = [record.text.split() for record in records(60)]
    for word in ("cat", "moon", "bird"):
        df = sum(word in text for text in texts)
        idf = np.log(1 + (60 - df + 0.5) / (df + 0.5))
        client = SearchClient(engine=engine, index=index)
        for tf, factor in (("none", 1), ("log", 1 + np.log(3)), ("raw", 3)):
            query = client.search(f"{word} {word} {word}", 1, query_tf=tf, mode="idf").query  # type: ignore[arg-type]
            assert query == {word: pytest.approx(idf * factor, rel=1e-5)}
        assert (
            client.search(f"{word} " * 3, 1, mode="idf").query
            == client.search(f"{word} " * 3, mode="idf").query
        )
        assert client.search(f"{word} {word}", 1, mode="idf").query[word] == pytest.approx(
            idf * (1 + np.log(2)), rel=1e-5
        )


def test_bm25(engine: Engine, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router")
    text = "moons" if stems(engine) else "moon"
    results = SearchClient(engine=engine, index=index).search(text, mode="bm25", explain=True)
    assert results
    assert all("moon" in hit.source["text"].split() for hit in results)
    assert {word for hit in results for word in hit.matched_words} == {"moon"}


@pytest.mark.parametrize("text", ["", " \n", "日本 🙃", "[SEP]"])
@pytest.mark.parametrize("mode", ["idf", "encoder", "bm25"])
def test_query_without_terms_finds_nothing(
    engine: Engine, index: str, tiny: Path, text: str, mode: str
) -> None:
    fill(engine, index, tiny / "router", 5)
    results = SearchClient(engine=engine, index=index).search(text, mode=mode)  # type: ignore[arg-type]
    assert len(results) == 0
    if mode != "bm25":
        assert results.reason


def test_another_model_is_refused(engine: Engine, index: str, tiny: Path, tmp_path: Path) -> None:
    fill(engine, index, tiny / "bert", 5)
    with pytest.raises(ModelMismatchError, match="content hash"):
        SearchClient(engine=engine, index=index, model=str(tiny / "distilbert")).search("cat")
    with pytest.raises(ModelMismatchError, match="max length"):
        fill(engine, index, tiny / "bert", 5, max_length=8)
    moved = Path(shutil.copytree(tiny / "bert", tmp_path / "moved"))
    assert SearchClient(engine=engine, index=index, model=str(moved)).search("cat", 5, "encoder")
    forced = SearchClient(
        engine=engine, index=index, model=str(tiny / "distilbert"), check_model=False
    )
    assert forced.search("cat").query


def test_wrong_use(engine: Engine, index: str, tiny: Path) -> None:
    with pytest.raises(IndexNotFoundError, match="splade-os ingest"):
        SearchClient(engine=engine, index=index).search("cat")
    fill(engine, index, tiny / "router", 5)
    client = SearchClient(engine=engine, index=index)
    with pytest.raises(SettingsError, match="mode"):
        client.search("cat", mode="dense")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="k is 0"):
        client.search("cat", 0)
    with pytest.raises(SettingsError, match="Which index"):
        SearchClient(engine=engine)
