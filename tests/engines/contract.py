"""What every engine does: `splade_os.engines.Engine`, as tests.

They take the fixtures ``engine`` (opened) and ``index`` (a name that is free).
``tests/engines/test_contract.py`` runs them on SQLite and on real nodes, ``make test-matrix`` on
six versions; another engine's tests import them with ``from tests.engines.contract import *``.
"""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from splade_os.engines import (
    Cursor,
    DocumentRenderer,
    Engine,
    IdsQuery,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    TermsQuery,
    explain_terms,
)
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    EngineError,
    IndexExistsError,
    IndexNotFoundError,
    SpladeWarning,
)
from splade_os.features import truncate
from splade_os.identity import ModelIdentity
from splade_os.ingest.index.target import new_meta
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import Vocabulary
from tests.conftest import stems

IDENTITY = ModelIdentity(
    name="m",
    content_hash="h",
    activation="relu",
    pooling="max",
    max_length=8,
    vocabulary_size=1500,
)


def meta_for(engine: Engine, field_type: str | None = None) -> IndexMeta:
    """What an index of these tests remembers, with the engine's own way to store vectors."""
    return new_meta(engine, IDENTITY, ("title", "text"), field_type)


ODD = [
    ".",
    "...",
    "##.",
    "a.b",
    "␛",
    "",
    " ",
    '"',
    "\\",
    "[CLS]",
    "##ing",
    "é",
    "日",
    "🙃",
    "%",
    "~",
    *(chr(i) for i in (*range(32), 127, 133, 160, 0x2028, 0xFEFF)),
    "a",
    "a\x00",
    "a\x00b",
    "a\x00c",
    "\x00\x00",
]
VOCABULARY = Vocabulary([*ODD, *(f"t{i}" for i in range(1500 - len(ODD)))])


def random_batch(rows: int, seed: int = 0) -> SparseBatch:
    random = np.random.default_rng(seed)
    content = []
    for _ in range(rows):
        ids = np.sort(random.choice(1500, random.integers(1, 80), replace=False)).astype(np.int32)
        content.append((ids, np.exp(random.normal(0, 1.5, len(ids))).astype(np.float32)))
    return SparseBatch.from_rows(content, 1500)


def fill(engine: Engine, index: str, batch: SparseBatch, field_type: str | None = None) -> None:
    meta = meta_for(engine, field_type)
    engine.create_index(index, meta)
    renderer = DocumentRenderer.for_index(VOCABULARY, meta)
    body = b"".join(renderer.render(f"d{i}", {"n": i}, *row) for i, row in enumerate(batch))
    assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)


def terms(ids: list[int], weights: list[float]) -> TermsQuery:
    return TermsQuery([VOCABULARY.features[i] for i in ids], np.array(weights, np.float32))


def test_scores_are_exact(engine: Engine, index: str) -> None:
    batch = random_batch(300)
    fill(engine, index, batch)
    dense = batch.to_dense()
    stored = np.where(dense > 0, truncate(dense), 0).astype(np.float64)
    random = np.random.default_rng(1)
    for _ in range(20):
        ids = random.choice(1500, 12, replace=False)
        weights = random.uniform(0.01, 90, 12).astype(np.float32)
        expected = stored[:, ids] @ weights.astype(np.float64)
        query = terms(ids.tolist(), weights.tolist())
        hits = engine.search(index, SearchRequest(query, k=300)).hits
        assert len(hits) == (expected > 0).sum()
        got = np.array([hit.score for hit in hits])
        mine = np.array([expected[int(hit.id[1:])] for hit in hits])
        np.testing.assert_allclose(got, mine, rtol=1e-5)
        np.testing.assert_allclose(got, np.sort(expected[expected > 0])[::-1], rtol=1e-5)


def test_every_token_is_found(engine: Engine, index: str) -> None:
    batch = SparseBatch.from_rows(
        [(np.array([i], np.int32), np.array([1.5], np.float32)) for i in range(len(ODD))], 1500
    )
    fill(engine, index, batch)
    for i in range(len(ODD)):
        hits = engine.search(index, SearchRequest(terms([i], [2.0]))).hits
        assert [(hit.id, hit.score) for hit in hits] == [(f"d{i}", 3.0)], ODD[i]


@pytest.mark.parametrize("mark", ["", "\x00", "\n", '"', "日", "🙃"], ids=ascii)
def test_every_id_is_found(engine: Engine, index: str, mark: str) -> None:
    ids = [f"x{mark}", f"x{mark}y", f"x{mark}z"]
    engine.create_index(index, meta_for(engine))
    row = np.array([1], np.int32), np.array([1], np.float32)
    renderer = DocumentRenderer(VOCABULARY)
    body = b"".join(renderer.render(i, {"text": f"moon{mark}of {i}"}, *row) for i in ids)
    assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)
    for i in ids:
        assert list(engine.documents(index, [i])) == [i]
        assert [h.id for h in engine.search(index, SearchRequest(IdsQuery([i]))).hits] == [i]


def test_explanation_adds_up(engine: Engine, index: str) -> None:
    fill(engine, index, random_batch(50, seed=4))
    query = terms(list(range(0, 1500, 3)), [0.37] * 500)
    for hit in engine.search(index, SearchRequest(query, with_vector=True)).hits:
        assert hit.vector is not None
        shares = explain_terms(query, hit.vector)
        assert sum(share.share for share in shares) == pytest.approx(hit.score, rel=1e-5)
        assert shares == sorted(shares, key=lambda s: -s.share)


def test_one_bad_document_does_not_harm_the_others(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    good = DocumentRenderer(VOCABULARY).render(
        "good", {}, np.array([1], np.int32), np.array([1], np.float32)
    )
    lines = [good]
    for i, vector in enumerate(({"a": 0}, {"a": -1}, {"a": "x"}, [1], {"a": 1e-45}, {"a": [1]})):
        lines.append(orjson.dumps({"index": {"_id": f"bad{i}"}}) + b"\n")
        lines.append(orjson.dumps({"splade_os_vector": vector}) + b"\n")
    lines.append(good.replace(b'"good"', b'"last"'))
    outcomes = engine.bulk(index, b"".join(lines))
    assert [o.id for o in outcomes] == ["good", *(f"bad{i}" for i in range(6)), "last"]
    assert [o.ok for o in outcomes] == [True, *[False] * 6, True]
    assert all(o.status == 400 and o.reason for o in outcomes[1:-1])
    engine.refresh(index)
    assert engine.count(index) == 2


def test_overwriting_leaves_nothing_behind(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    renderer = DocumentRenderer(VOCABULARY)

    def write(token: int, text: str) -> str | None:
        row = np.array([token], np.int32), np.array([1], np.float32)
        (outcome,) = engine.bulk(index, renderer.render("x", {"text": text}, *row))
        engine.refresh(index)
        return outcome.result

    assert write(20, "elephants") == "created"
    assert write(21, "giraffes") == "updated"
    assert engine.count(index) == 1
    assert not engine.search(index, SearchRequest(terms([20], [1]))).hits
    assert len(engine.search(index, SearchRequest(terms([21], [1]))).hits) == 1
    assert not engine.search(index, SearchRequest(MatchQuery("elephant"))).hits
    word = "giraffe" if stems(engine) else "giraffes"
    assert len(engine.search(index, SearchRequest(MatchQuery(word))).hits) == 1
    (outcome,) = engine.bulk(index, b'{"delete":{"_id":"x"}}\n')
    assert outcome.result == "deleted"
    engine.refresh(index)
    assert engine.count(index) == 0


def test_merging_changes_nothing(engine: Engine, index: str) -> None:
    batch = random_batch(60)
    fill(engine, index, batch)
    body = b"".join(orjson.dumps({"delete": {"_id": f"d{i}"}}) + b"\n" for i in range(0, 60, 2))
    assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)
    request = SearchRequest(terms([ODD.index("a"), 700, 900, 1100], [1.0, 2.0, 3.0, 4.0]), k=60)
    before = [(hit.id, hit.score) for hit in engine.search(index, request).hits]
    engine.merge(index)
    assert [(hit.id, hit.score) for hit in engine.search(index, request).hits] == before
    assert engine.count(index) == 30


def test_empty_vector_is_kept(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    body = DocumentRenderer(VOCABULARY).render("e", {"text": "only words"}, *nothing)
    assert engine.bulk(index, body)[0].ok
    engine.refresh(index)
    (hit,) = engine.search(index, SearchRequest(MatchQuery("words"), highlight=True)).hits
    assert (hit.id, hit.matched_words) == ("e", ("words",))


def test_bm25_takes_any_text(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    source = {"title": 'The "quoted" AND title', "text": "running (dogs) OR 'cats' — NEAR naïve*"}
    nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    engine.bulk(index, DocumentRenderer(VOCABULARY).render("d", source, *nothing))
    engine.refresh(index)
    stemmed = ['"dog" run!', "cat* NEAR"] if stems(engine) else ['"dogs" running!']
    for text in (*stemmed, "AND (title", "quoted'; --"):
        hits = engine.search(index, SearchRequest(MatchQuery(text))).hits
        assert [hit.id for hit in hits] == ["d"] and hits[0].score > 0, text
        assert hits[0].source == source
    assert not engine.search(index, SearchRequest(MatchQuery("?! ..."))).hits


def test_source_fields(engine: Engine, index: str) -> None:
    fill(engine, index, random_batch(3))
    query = terms(list(range(1024)), [1.0] * 1024)
    (hit, *_) = engine.search(index, SearchRequest(query)).hits
    assert set(hit.source) == {"n"} and hit.vector is None
    (hit, *_) = engine.search(index, SearchRequest(query, source=())).hits
    assert hit.source == {}
    (hit, *_) = engine.search(index, SearchRequest(query, source=("n",), with_vector=True)).hits
    assert set(hit.source) == {"n"} and hit.vector


def test_meta_and_statistics(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    assert engine.index_meta(index) == meta_for(engine)
    assert engine.load_statistics(index) is None
    statistics = TermStatistics(7, 70, np.arange(30_522, dtype=np.int64) % 5)
    engine.save_statistics(index, statistics)
    engine.save_statistics(index, statistics + statistics)
    loaded = engine.load_statistics(index)
    assert loaded is not None and (loaded.documents, loaded.tokens) == (14, 140)
    assert np.array_equal(loaded.frequencies, statistics.frequencies * 2)
    with pytest.raises(IndexExistsError):
        engine.create_index(index, meta_for(engine))
    engine.delete_index(index)
    engine.create_index(index, meta_for(engine))
    assert engine.load_statistics(index) is None


def test_missing_index(engine: Engine) -> None:
    one = DocumentRenderer(VOCABULARY).render(
        "d", {}, np.array([1], np.int32), np.array([1], np.float32)
    )
    for call in (
        lambda: engine.bulk("nowhere", one),
        lambda: engine.count("nowhere"),
        lambda: engine.index_meta("nowhere"),
        lambda: engine.delete_index("nowhere"),
        lambda: engine.search("nowhere", SearchRequest(terms([1], [1]))),
    ):
        with pytest.raises(IndexNotFoundError, match="nowhere"):
            call()


def test_queries_that_are_never_sent(engine: Engine, index: str) -> None:
    fill(engine, index, random_batch(3))
    for ids, weights in (([], []), ([1], [0.0]), ([1], [-1.0]), ([1], [float("nan")])):
        with pytest.raises(ValueError, match="quer"):
            engine.search(index, SearchRequest(terms(ids, weights)))


def test_too_many_terms(engine: Engine, index: str) -> None:
    """The server's limit is obeyed, and said once; SQLite has none."""
    batch = random_batch(30)
    fill(engine, index, batch)
    weights = np.linspace(1, 2, 1500, dtype=np.float32)
    request = SearchRequest(terms(list(range(1500)), weights.tolist()), k=30)
    limit = 1500
    if isinstance(engine, ClusterEngine):
        limit = engine.capabilities().max_clauses
        if limit > 1500:
            pytest.skip("a server with a large heap")
        with pytest.warns(SpladeWarning, match="heaviest are kept"):
            engine.search(index, request)
    hits = engine.search(index, request).hits  # without a second warning
    dense = batch.to_dense()
    stored = np.where(dense > 0, truncate(dense), 0).astype(np.float64)
    expected = stored[:, -limit:] @ weights[-limit:].astype(np.float64)
    got = [hit.score for hit in hits]
    np.testing.assert_allclose(got, np.sort(expected[expected > 0])[::-1], rtol=1e-5)


def test_pages_are_the_ranking(engine: Engine, index: str) -> None:
    """By offset and by cursor each hit comes once, best first; what is counted is what there is."""
    fill(engine, index, random_batch(30))
    query = terms(list(range(400)), [1 + i / 400 for i in range(400)])
    whole = engine.search(index, SearchRequest(query, 100, total=True))
    ranking = [hit.key for hit in whole.hits]
    scores = [hit.score for hit in whole.hits]
    assert whole.total == len(set(ranking)) == len(ranking) > 7
    assert scores == sorted(scores, reverse=True)
    by_offset = [
        hit.key
        for start in range(0, len(ranking) + 3, 3)
        for hit in engine.search(index, SearchRequest(query, 3, offset=start)).hits
    ]
    by_cursor, cursor = [], Cursor()
    while cursor is not None:
        page = engine.search(index, SearchRequest(query, 3, after=cursor))
        by_cursor += [hit.key for hit in page.hits]
        cursor = page.following  # type: ignore[assignment]
    assert sorted(by_offset) == sorted(by_cursor) == sorted(ranking)
    assert by_offset == ranking
    least = scores[4]
    some = engine.search(index, SearchRequest(query, 100, total=True, min_score=least))
    assert some.total == len(some.hits) == sum(score >= least for score in scores)


def test_a_filter_changes_no_score(engine: Engine, index: str) -> None:
    fill(engine, index, random_batch(30))
    query = terms(list(range(400)), [1 + i / 400 for i in range(400)])
    scores = {hit.id: hit.score for hit in engine.search(index, SearchRequest(query, 100)).hits}
    chosen = sorted(scores)[::2]
    clause = {"ids": {"values": [*chosen, "nowhere"]}}
    found = engine.search(index, SearchRequest(query, 100, filter=[clause]))
    assert {hit.id: hit.score for hit in found.hits} == {i: scores[i] for i in chosen}
    none = engine.search(index, SearchRequest(query, filter=[{"term": {"absent": 1}}]))
    assert not none.hits and none.following is None


def test_several_searches_in_one_request(engine: Engine, index: str) -> None:
    """Each as it is alone, in their order."""
    fill(engine, index, random_batch(30))
    requests = [SearchRequest(terms([i, i + 200], [1.0, 2.0]), 5) for i in range(6)]
    for request, found in zip(requests, engine.search_many(index, requests), strict=True):
        assert not isinstance(found, EngineError)
        alone = engine.search(index, request)
        assert [hit.key for hit in found.hits] == [hit.key for hit in alone.hits]
    assert engine.search_many(index, []) == []


def test_an_index_made_anew_is_another(engine: Engine, index: str) -> None:
    engine.create_index(index, meta_for(engine))
    meta, identity = engine.describe(index)
    assert meta == engine.index_meta(index) and identity == engine.identity(index)
    assert {name for name, _ in identity} == {index}
    engine.delete_index(index)
    with pytest.raises(IndexNotFoundError):
        engine.describe(index)
    engine.create_index(index, meta_for(engine))
    assert engine.identity(index) != identity
