"""The field type ``impact``: dot products of quantised weights, whatever the shards hold.

The oracle is the brute-force product of the weights that the documents' own strings say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import opensearchpy
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_os import DocumentEncoder, Index, SearchClient
from splade_os.engines import (
    Cursor,
    DocumentRenderer,
    Engine,
    IndexLayout,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    SumQuery,
    TermsQuery,
    connect,
    explain_terms,
)
from splade_os.engines.base import TwoPhase
from splade_os.engines.fields import impacts
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.fields.strategies import strategy_for
from splade_os.errors import (
    DeploymentError,
    EncodingError,
    EngineError,
    IndexFormatError,
    SettingsError,
)
from splade_os.evaluation.live import indexed_sparsity
from splade_os.ingest.documents.records import RecordReader
from splade_os.ingest.index.adopt import adopt_index
from splade_os.ingest.index.target import ensure_index, new_meta
from splade_os.ingest.load import AliasOptions, load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.vectors import SparseBatch
from tests.conftest import MATRIX, url_of
from tests.engines.contract import IDENTITY, ODD, VOCABULARY

MAXIMUM = 4.0
WIDTH = len(VOCABULARY)


@pytest.fixture(params=[server for server in MATRIX if server.startswith("opensearch")])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = connect(url_of(request.param, request, tmp_path))
    yield opened
    opened.close()


def quantised(weights: np.ndarray) -> np.ndarray:
    """The rule of the documentation, written once more."""
    tf = np.maximum(1, np.rint(255 * weights / (2 * MAXIMUM - weights)))
    return np.where(weights > 0, 2 * MAXIMUM * tf / (tf + 255), 0)


def vectors(rows: int, seed: int = 0, largest: float = 6.0) -> SparseBatch:
    random = np.random.default_rng(seed)
    content = []
    for _ in range(rows):
        ids = np.sort(random.choice(WIDTH, random.integers(1, 80), replace=False)).astype(np.int32)
        content.append((ids, random.uniform(0.001, largest, len(ids)).astype(np.float32)))
    return SparseBatch.from_rows(content, WIDTH)


def made(engine: Engine, index: str, shards: int = 1) -> IndexMeta:
    meta = new_meta(engine, IDENTITY, ("title", "text"), f"impact:{MAXIMUM:g}")
    engine.create_index(index, meta, {"number_of_shards": shards, "number_of_replicas": 0})
    return meta


def write(engine: Engine, index: str, batch: SparseBatch, first: int = 0) -> None:
    renderer = DocumentRenderer.for_index(VOCABULARY, engine.index_meta(index))
    named = [(f"d{first + i}", {"text": f"word{i % 7}"}) for i in range(len(batch))]
    lines = renderer.render_many(named, batch)
    assert all(o.ok for o in engine.bulk(index, b"".join(lines)))  # type: ignore[arg-type]
    engine.refresh(index)


def query(seed: int, count: int = 12) -> tuple[np.ndarray, np.ndarray, TermsQuery]:
    random = np.random.default_rng(seed)
    ids = random.choice(WIDTH, count, replace=False)
    weights = random.uniform(0.01, 90, count).astype(np.float32)
    return ids, weights, TermsQuery([VOCABULARY.features[i] for i in ids], weights)


def check(engine: Engine, index: str, stored: np.ndarray, seeds: range, **more: object) -> None:
    for seed in seeds:
        ids, weights, terms = query(seed)
        expected = stored[:, ids] @ weights.astype(np.float64)
        request = SearchRequest(terms, k=len(stored), **more)  # type: ignore[arg-type]
        hits = engine.search(index, request).hits
        assert "two_phase" in more or len(hits) == (expected > 0).sum()
        mine = [expected[int(hit.id[1:])] for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], mine, rtol=1e-4)
        assert all(a >= b * (1 - 1e-4) for a, b in pairwise(mine))


@pytest.mark.parametrize("shards", [1, 3])
def test_scores_are_exact(engine: Engine, index: str, shards: int) -> None:
    batch = vectors(300)
    made(engine, index, shards)
    write(engine, index, batch)
    stored = quantised(batch.to_dense())
    check(engine, index, stored, range(10))
    check(engine, index, stored, range(5), two_phase=TwoPhase(0.5, 10_000))


@pytest.mark.parametrize("shards", [1, 3])
def test_scores_stay_exact(engine: Engine, index: str, shards: int) -> None:
    """Whatever is written, overwritten or deleted, here or by another program."""
    batch = vectors(200)
    made(engine, index, shards)
    write(engine, index, batch)
    stored = quantised(batch.to_dense())
    check(engine, index, stored, range(3))
    more = vectors(150, seed=5)
    write(engine, index, more, first=120)  # 80 of them overwrite
    stored = np.concatenate([stored[:120], quantised(more.to_dense())])
    check(engine, index, stored, range(3))
    gone = range(0, 100, 3)
    body = b"".join(orjson.dumps({"delete": {"_id": f"d{i}"}}) + b"\n" for i in gone)
    assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)
    stored[list(gone)] = 0
    check(engine, index, stored, range(3))


def test_several_indices(engine: Engine, index: str) -> None:
    """Of one shard each, and searched together: by a pattern, and by their names."""
    batch = vectors(200)
    parts = [batch.take(range(100)), batch.take(range(100, 200))]
    for n, part in enumerate(parts):
        made(engine, f"{index}-{n}", shards=n + 1)
        write(engine, f"{index}-{n}", part, first=100 * n)
    stored = quantised(batch.to_dense())
    check(engine, f"{index}-*", stored, range(3))
    check(engine, f"{index}-0,{index}-1", stored, range(3))
    for n in range(2):
        engine.delete_index(f"{index}-{n}")


def test_every_token_is_found(engine: Engine, index: str) -> None:
    """The separators of the stored string are tokens, too."""
    tokens = [*range(len(ODD)), WIDTH - 1]
    rows = [(np.array([i], np.int32), np.array([1.5], np.float32)) for i in tokens]
    made(engine, index)
    write(engine, index, SparseBatch.from_rows(rows, WIDTH))
    for n, i in enumerate(tokens):
        terms = TermsQuery([VOCABULARY.features[i]], np.array([2.0], np.float32))
        (hit,) = engine.search(index, SearchRequest(terms, with_vector=True)).hits
        assert hit.id == f"d{n}" and hit.vector is not None
        assert hit.score == pytest.approx(2 * quantised(np.array([1.5]))[0], rel=1e-5)
        assert list(hit.vector) == [VOCABULARY.features[i]]


@given(st.lists(st.tuples(st.text(min_size=1), st.floats(1e-30, 15.9)), max_size=20))
def test_strings_say_their_vectors(pairs: list[tuple[str, float]]) -> None:
    vector = {impacts.term_of(name): weight for name, weight in pairs}
    tf = impacts.frequencies(np.array(list(vector.values()), np.float32), 8.0)
    text = " ".join(f"{name}|{n}" for name, n in zip(vector, tf, strict=True))
    back = impacts.vector_of(text, 8.0)
    assert {impacts.term_of(name) for name in back} == set(vector)
    for name, weight in back.items():
        exact = vector[impacts.term_of(name)]
        step = (16 - exact) ** 2 / 16 / 255  # the derivative of w by tf
        assert abs(weight - exact) <= max(step, 16 / 256) * 0.51 + 16 / 256 * (exact < 16 / 256)


def test_parts_of_a_score(engine: Engine, index: str) -> None:
    """explain adds up to the score; a sum with BM25, a filter and pages change none of it."""
    batch = vectors(250)
    made(engine, index, 2)
    write(engine, index, batch)
    stored = quantised(batch.to_dense())
    _, _, terms = query(3)
    ranking = engine.search(index, SearchRequest(terms, k=100, with_vector=True)).hits
    for hit in ranking:
        assert hit.vector is not None
        assert sum(s.share for s in explain_terms(terms, hit.vector)) == pytest.approx(
            hit.score, rel=1e-4
        )
    some = SearchRequest(terms, k=100, filter=[{"match": {"text": "word3"}}])
    scores = {hit.id: hit.score for hit in ranking}
    for hit in engine.search(index, some).hits:
        assert int(hit.id[1:]) % 7 == 3 and hit.score == pytest.approx(scores[hit.id], rel=1e-6)
    match = MatchQuery("word3")
    words = {
        h.id: h.score for h in engine.search(index, SearchRequest(match, k=250, dfs=True)).hits
    }
    wide = TermsQuery([*terms.features, "word4"], np.append(terms.weights, np.float32(1)))
    marked = engine.search(index, SearchRequest(SumQuery(wide, match), k=250, highlight=True)).hits
    assert {word for hit in marked for word in hit.matched_words} == {"word3"}
    both = engine.search(index, SearchRequest(SumQuery(terms, match), k=250)).hits
    ids, weights, _ = query(3)
    for hit in both:
        dot = stored[int(hit.id[1:]), ids] @ weights.astype(np.float64)
        assert hit.score == pytest.approx(dot + words.get(hit.id, 0), rel=1e-4)
    paged: list[str] = []
    cursor: Cursor | None = Cursor()
    while cursor is not None:
        page = engine.search(index, SearchRequest(terms, k=17, after=cursor))
        if len(paged) == 17:  # others write meanwhile
            write(engine, index, vectors(100, seed=9), first=1000)
        paged += [hit.id for hit in page.hits]
        cursor = page.following
    first = engine.search(index, SearchRequest(terms, k=400)).hits
    assert len(paged) == len(set(paged)) and not any(int(i[1:]) >= 1000 for i in paged)
    assert paged[:100] == [hit.id for hit in ranking] and len(first) > len(paged)


def test_any_client_can_search(engine: Engine, index: str) -> None:
    """The tokens alone, in a match, are ranked as by the table of document frequencies."""
    batch = vectors(300)
    made(engine, index, 3)
    write(engine, index, batch)
    stored = quantised(batch.to_dense())
    df = (stored > 0).sum(0)
    ids = np.argsort(-df[len(ODD) :])[:6] + len(ODD)
    idf = np.log1p((300 - df[ids] + 0.5) / (df[ids] + 0.5))
    expected = stored[:, ids] @ idf / (2 * MAXIMUM)
    client = opensearchpy.OpenSearch(engine.url)
    body = {"query": {"match": {"splade_os_vector": " ".join(f"t{i - len(ODD)}" for i in ids)}}}
    answer = client.search(
        index=index, body=body, params={"search_type": "dfs_query_then_fetch", "size": 300}
    )
    hits = answer["hits"]["hits"]
    assert len(hits) == (expected > 0).sum() > 50
    for hit in hits:
        assert hit["_score"] == pytest.approx(expected[int(hit["_id"][1:])], rel=1e-4)


def test_no_encoder_of_the_engine(engine: Engine, index: str) -> None:
    made(engine, index)
    with pytest.raises(DeploymentError, match=r"impact|encodes no queries itself"):
        engine.query_pipeline(index)


def test_a_weight_that_is_too_great(engine: Engine, index: str) -> None:
    meta = made(engine, index)
    rows = [(np.array([7], np.int32), np.array([w], np.float32)) for w in (7.9, 8.0, np.inf)]
    renderer = DocumentRenderer.for_index(VOCABULARY, meta)
    lines = renderer.render_many(
        [(f"d{i}", {}) for i in range(3)], SparseBatch.from_rows(rows, WIDTH)
    )
    assert isinstance(lines[0], bytes)
    assert isinstance(lines[1], EncodingError) and "impact:8" in str(lines[1])
    assert isinstance(lines[2], EncodingError) and "infinite" in str(lines[2])


def test_where_there_is_none(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/engine.db")
    with pytest.raises(EngineError, match="'impact'"):
        new_meta(engine, IDENTITY, ("text",), "impact")
    engine.close()
    servers = [("elasticsearch", "9.2.0"), ("opensearch", "2.9.0"), ("opensearch", "3.8.0")]
    for server in servers:
        modules = frozenset({"mapper-extras"} if server[1] == "3.8.0" else {"analysis-common"})
        with pytest.raises(EngineError, match="'impact'"):
            strategy_for("impact", Capabilities(*server, modules))


@pytest.fixture
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "router"), device="cpu", backend="none")


def test_the_life_of_an_index(
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Loaded, verified, loaded again, replaced; each time found by the same search."""
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))
    words = encoder.vocabulary.tokens[10:30]
    lines = [
        {
            "id": f"d{n}",
            "text": words[n % 20],
            "vector": {words[n % 20]: 1.5, words[(n + 1) % 20]: 0.5},
        }
        for n in range(60)
    ]
    lines[7]["vector"] = {words[0]: 99.0}
    source = tmp_path / "docs.jsonl"
    source.write_text("\n".join(map(json.dumps, lines)))

    def load(target: str, **more: Any) -> IngestReport:
        return load_source(
            str(source), engine=engine, target=target, encoder=encoder,
            reader=RecordReader(vectors=True), dead_letters=tmp_path / "dead.jsonl",
            **{"field_type": "impact:2", **more},
        )  # fmt: skip

    report = load(index)
    assert (report.indexed, report.dead, report.verified) == (59, 1, True)
    assert "impact:99" in (tmp_path / "dead.jsonl").read_text()
    assert load(index, options=IngestOptions(skip_unchanged=True)).unchanged == 59
    client = SearchClient(engine=engine, index=index, model=str(tiny / "router"))
    before = client.search(words[3], 5, "idf", explain=True)
    assert len(before) == 5 and all(
        sum(term.share for term in hit.terms) == pytest.approx(hit.score, rel=1e-4)
        for hit in before
    )
    sparsity = indexed_sparsity(engine, index, client.meta, encoder.vocabulary)
    assert sparsity.rows == 59 and sparsity.frequencies.sum() == 2 * 59
    lines[7]["vector"] = {words[0]: 3.9}
    source.write_text("\n".join(map(json.dumps, lines)))
    assert load(f"{index}-live", alias=AliasOptions()).verified
    after = SearchClient(engine=engine, index=f"{index}-live", model=str(tiny / "router"))
    assert [h.id for h in after.search(words[3], 5, "idf")] == [h.id for h in before]
    with pytest.raises(IndexFormatError, match="impact:2"):
        load(index, field_type="impact:3")
    for name in engine.alias_targets(f"{index}-live"):
        engine.delete_index(name)


def test_an_index_of_somebody_else(
    engine: Engine, index: str, encoder: DocumentEncoder, tiny: Path
) -> None:
    """It gets what the field needs only while it is closed; the message says the requests."""
    call = opensearchpy.OpenSearch(engine.url).transport.perform_request
    call("PUT", f"/{index}", body={"mappings": {"properties": {"title": {"type": "text"}}}})
    with pytest.raises(SettingsError, match="closed") as caught:
        adopt_index(engine, index, encoder.identity, ["title"], field_type="impact")
    settings = json.loads(str(caught.value.hint).split("with ", 1)[1].split(", POST", 1)[0])
    call("POST", f"/{index}/_close")
    call("PUT", f"/{index}/_settings", body=settings)
    call("POST", f"/{index}/_open")
    assert adopt_index(engine, index, encoder.identity, ["title"], field_type="impact").impact_max
    with Index(engine=engine, index=index, model=str(tiny / "router")) as documents:
        texts = encoder.vocabulary.tokens[10:12]
        model = DocumentEncoder.load(str(tiny / "router"), device="cpu")
        vectors_of = model.encode(texts).to_dense()
        whole = {encoder.vocabulary.tokens[i]: 1.0 for i in np.flatnonzero(vectors_of.any(0))}

        def scores() -> dict[str, float]:
            return {hit.id: hit.score for hit in documents.search(whole, mode="raw")}

        first, second = (pytest.approx(quantised(row).sum(), rel=1e-4) for row in vectors_of)
        documents.upsert([{"id": "1", "title": texts[0]}, {"id": "2", "title": texts[1]}])
        assert scores() == {"1": first, "2": second}
        documents.update("1", {"price": 3})
        documents.update("2", {"title": texts[0]})
        assert scores() == {"1": first, "2": first}
        documents.delete(["2"])
        assert scores() == {"1": first} and documents.get("1")["price"] == 3
    layout = IndexLayout({"analysis": {"analyzer": {"mine": {"type": "keyword"}}}}, None)
    ensure_index(engine, f"{index}-2", encoder.identity, ["title"], "impact", layout=layout)
    names = engine.settings(f"{index}-2")
    assert "analysis.analyzer.mine.type" in names and "similarity.splade_os_impact.type" in names
    engine.delete_index(f"{index}-2")
