"""Sections of the engine's own in a search: the answers are those that the engines' own client gets
for the same body."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from opensearchpy import OpenSearch

from splade_os import DocumentEncoder, Fusion, SearchClient, connect, ingest_documents
from splade_os.engines import Cursor, Engine
from splade_os.errors import IndexFormatError, IndexNotFoundError, SettingsError, SpladeError
from splade_os.ingest.documents.records import Record
from splade_os.search.options import SearchOptions
from tests.search.test_search import WORDS, loaded

WAYS: list[dict[str, Any]] = [
    {"mode": "idf"},
    {"mode": "encoder"},
    {"mode": "bm25"},
    {"mode": "hybrid"},
    {"mode": "raw"},
]
QUERY = "the search engine of a red cat"
BRAND = "brand.keyword"
BRANDS = ("Acme", "Bolt", "Cog")


def documents(count: int = 60) -> list[dict[str, Any]]:
    random = np.random.default_rng(1)
    made = []
    for n in range(count):
        text = " ".join(random.choice(WORDS, random.integers(1, 12)))
        made.append({"text": text, "n": n, "price": int(random.integers(5)) if n % 7 else None,
                     "brand": BRANDS[n % 3], "day": f"2024-01-{1 + n % 28:02}"})  # fmt: skip
    return made


@pytest.fixture(scope="module")
def kept() -> Iterator[dict[str, str]]:
    """URL → index, which no test here changes."""
    made: dict[str, str] = {}
    yield made
    for url, name in made.items():
        with closing(connect(url)) as engine:
            engine.delete_index(name)


@pytest.fixture
def filled(engine: Engine, tiny: Path, kept: dict[str, str]) -> str:
    if not engine.own_body:
        kept = {}  # a file of each test
    if engine.url not in kept:
        name = f"test-{uuid4().hex[:12]}"
        # a random model whose vectors have the tokens of the text
        load(engine, name, loaded(tiny / "router", lexical_weight=2), documents())
        kept[engine.url] = name
    return kept[engine.url]


def load(engine: Engine, index: str, encoder: DocumentEncoder, given: list[dict[str, Any]]) -> None:
    records = [
        Record(i, f"test:{i}", f"d{i}", each["text"], each) for i, each in enumerate(given, 1)
    ]
    ingest_documents(
        iter(records), engine=engine, index=index, encoder=encoder, dead_letters=Path("never.jsonl")
    )


@pytest.fixture
def clustered(engine: Engine) -> None:
    if not engine.own_body:
        pytest.skip("SQLite has no bodies")


def query(way: dict[str, Any]) -> Any:
    return {"search": 1.0, "cat": 2.0, "red": 0.5, "engine": 1.5} if way["mode"] == "raw" else QUERY


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["mode"])
@pytest.mark.usefixtures("clustered")
def test_the_answer_is_that_of_the_same_body(
    engine: Engine, filled: str, way: dict[str, Any]
) -> None:
    sections: dict[str, Any] = {
        "filter": {"range": {"n": {"lt": 50}}},
        "sort": [{"price": {"order": "asc", "missing": "_last"}}, "n:desc"],
        "aggs": {"brands": {"terms": {"field": BRAND}}, "dear": {"avg": {"field": "price"}}},
        "post_filter": {"terms": {BRAND: ["Acme", "Cog"]}},
        "body": {"fields": ["day"], "docvalue_fields": ["n"], "version": True},
        "total": True,
    }
    raw = OpenSearch(engine.url)
    with SearchClient(engine=engine, index=filled) as client:
        results = client.search(query(way), 7, **way, **sections)
        (sent,) = client.build(query(way), 7, **way, **sections)
        theirs = raw.search(index=filled, body=json.loads(sent))
        assert len(results) and results.bodies == (sent,)
        many = client.search_many([query(way)] * 2, 7, **way, **sections)
    assert dict(results.aggregations) == theirs["aggregations"]
    assert results.total == theirs["hits"]["total"]["value"] > len(results)
    for ours in (results, *many):
        assert not isinstance(ours, SpladeError)
        for hit, other in zip(ours, theirs["hits"]["hits"], strict=True):
            assert (hit.id, hit.score) == (other["_id"], other["_score"])
            assert list(hit.sort) == other["sort"]
            assert hit.more["fields"] == other["fields"]
            assert hit.more["_version"] == other["_version"]
        assert ours.aggregations["brands"]["buckets"]
    # the score is what it is without all that
    plain = {hit.id: hit.score for hit in client.search(query(way), 60, **way)}
    assert all(plain[hit.id] == pytest.approx(hit.score, rel=1e-6) for hit in results)
    counted = Counter(each["brand"] for each in documents()[:50])
    for bucket in results.aggregations["brands"]["buckets"]:
        assert bucket["doc_count"] <= counted[bucket["key"]]
    assert json.loads(json.dumps(results.to_dict()))["aggregations"] == theirs["aggregations"]


@pytest.mark.usefixtures("clustered")
def test_facets_are_of_all_that_match_in_two_phases_too(engine: Engine, filled: str) -> None:
    aggs = {"brands": {"terms": {"field": BRAND}}}
    with SearchClient(engine=engine, index=filled) as client:
        first, second = (
            client.search(QUERY, 5, "encoder", aggs=aggs, offset=offset).aggregations
            for offset in (0, 5)
        )
        assert first == second and first["brands"]["buckets"]


@pytest.mark.usefixtures("clustered")
@pytest.mark.parametrize(
    "order", ["price:asc", "price:desc", "day.keyword:desc", "brand.keyword:asc", "_score"]
)
def test_pages_of_a_sort_are_each_document_once(engine: Engine, filled: str, order: str) -> None:
    path, _, direction = order.partition(":")
    field = path.removesuffix(".keyword")
    with SearchClient(engine=engine, index=filled) as client:
        whole = client.search(QUERY, 60, sort=order)
        hits, after = [], Cursor()
        while after is not None:
            page = client.search(QUERY, 7, sort=order, after=after)
            hits += list(page)
            after = page.following
        scanned = list(client.scan(QUERY, page=11, sort=order))
    stored = {f"d{n}": each for n, each in enumerate(documents(), 1)}
    assert Counter(hit.id for hit in hits) == Counter(hit.id for hit in whole)
    assert [hit.id for hit in scanned] == [hit.id for hit in hits]
    if field == "_score":
        values: list[Any] = [-hit.score for hit in hits]
    else:
        values = [stored[hit.id][field] for hit in hits]
        missing = values.count(None)
        assert all(value is None for value in values[len(values) - missing :])  # the engines' rule
        values = values[: len(values) - missing]
        assert all(len(hit.sort) == 1 for hit in hits)
    assert values == sorted(values, reverse=direction == "desc")
    scores = {hit.id: hit.score for hit in whole}
    assert all(scores[hit.id] == hit.score for hit in hits)


@pytest.mark.usefixtures("clustered")
def test_groups_routing_and_preference(engine: Engine, filled: str) -> None:
    with SearchClient(engine=engine, index=filled) as client:
        groups = client.search(QUERY, 10, "encoder", collapse={"field": BRAND})
        assert sorted(hit.source["brand"] for hit in groups) == sorted(BRANDS)
        asked = client.search(QUERY, 5, preference="_local", routing="x")
        assert asked.endpoint.endswith("?routing=x&preference=_local") and len(asked)
        with pytest.raises(SpladeError, match=r"no data nodes|nowhere"):
            client.search(QUERY, 5, preference="_only_nodes:nowhere")
        answer = client.search_many([QUERY], 5, preference="_only_nodes:nowhere")[0]
        assert isinstance(answer, SpladeError)
        for fusion in ("rrf", "min_max"):  # which ask twice, and once more for the fields
            fused = client.search(
                QUERY, 5, "hybrid", fusion=Fusion(fusion), routing="x", preference="_local"
            )
            assert len(fused) == 5


@pytest.mark.parametrize("section", ["body", "sort", "aggs", "highlight", "collapse"])
@pytest.mark.parametrize("method", ["rrf", "min_max"])
def test_what_a_fused_ranking_refuses(section: str, method: Any) -> None:
    with pytest.raises(SettingsError, match=rf"fused of two.*{section}"):
        SearchOptions(mode="hybrid", fusion=Fusion(method), **{section: {"a": {}}})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"query": {"match_all": {}}}, "filter="),
        ({"knn": {}}, "filter="),
        ({"from": 3}, "offset="),
        ({"size": 3}, "k="),
        ({"_source": False}, "source="),
        ({"rescore": {}}, "query_pruning="),
        ({"search_after": [1]}, "after="),
        ({"routing": "x"}, "keyword routing="),
        ({"sort": []}, "sort is empty"),
        ({"sort": [3]}, "Name fields"),
        ({"aggs": {}, "aggregations": {}}, "the same"),
        ({"fields": {1, 2}}, "no JSON"),
        ({"fields": {1: 2}}, "no JSON"),
        ("{}", "mapping"),
    ],
    ids=str,
)
def test_what_a_body_may_not_hold(body: Any, says: str) -> None:
    with pytest.raises(SettingsError) as told:
        SearchOptions(body=body)
    assert says in f"{told.value} {told.value.hint}"


def test_what_is_said_twice_or_is_no_json() -> None:
    with pytest.raises(SettingsError, match="twice"):
        SearchOptions(body={"sort": "n"}, sort="n")
    with pytest.raises(SettingsError, match="filter is no JSON"):
        SearchOptions(filter={"terms": {"n": {1, 2}}})
    with pytest.raises(SettingsError, match="no aggs"):
        next(SearchClient("http://localhost:9", "x").scan("cat", aggs={"a": {}}))
    with pytest.raises(SettingsError, match="after a cursor"):
        SearchOptions(collapse={"field": "n"}, after=Cursor())


def test_sqlite_says_what_it_has_not(tmp_path: Path, tiny: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/a.db")
    load(engine, "docs", loaded(tiny / "router"), documents(5))
    with SearchClient(engine=engine, index="docs") as client:
        for given in (
            {"sort": "n"},
            {"aggs": {"a": {}}},
            {"routing": "x"},
            {"body": {"fields": []}},
        ):
            with pytest.raises(
                SettingsError, match=r"SQLite.*has none.*(sort|aggs|routing|fields)"
            ):
                client.search("cat", **given)
    engine.close()


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["mode"])
def test_what_matched_is_marked(engine: Engine, filled: str, way: dict[str, Any]) -> None:
    with SearchClient(engine=engine, index=filled) as client:
        results = client.search(query(way), 60, **way, highlight=["text"], source=["n"])
        explained = client.search(query(way), 60, **way, explain=True)
        same = client.search(query(way), 60, **way, highlight=True, explain=True)
    marked = 0
    for hit, told, other in zip(results, explained, same, strict=True):
        assert set(hit.source) == {"n"} and not hit.terms and not hit.matched_words
        assert hit.highlight == other.highlight and other.terms == told.terms
        text = told.source["text"]
        found = hit.highlight.get("text", [])
        assert "".join(found).replace("<em>", "").replace("</em>", "") == (text if found else "")
        own = {term.token for term in told.terms} | set(told.matched_words)
        wanted = [word for word in text.split() if word in own]
        assert [part.partition("</em>")[0] for part in "".join(found).split("<em>")[1:]] == wanted
        marked += len(wanted)
    assert marked > 20 or way["mode"] == "encoder"  # whose random terms are of no text


@pytest.mark.usefixtures("clustered")
def test_a_highlight_section(engine: Engine, filled: str) -> None:
    section = {"fields": {"text": {}}, "pre_tags": ["<b>"], "post_tags": ["</b>"]}
    with SearchClient(engine=engine, index=filled) as client:
        for mode in ("idf", "bm25", "hybrid"):
            marked = 0
            for hit in client.search("red cat", 20, mode, highlight=section):  # type: ignore[arg-type]
                assert "highlight" not in hit.more
                if {"red", "cat"} & set(hit.source["text"].split()):
                    marked += "<b>" in "".join(hit.highlight.get("text", ()))
            assert marked > 5
        words = {"fields": {"text": {"highlight_query": {"match": {"text": "moon"}}}}}
        with pytest.raises(SettingsError, match=r"text\.highlight_query"):
            client.search("red cat", 5, "idf", highlight=words)
        whole = {"fields": {"text": {}}, "highlight_query": {"match": {"text": "moon"}}}
        hits = client.search("red moon", 60, highlight=whole)
        assert any(
            "<em>moon</em>" in text for hit in hits for text in hit.highlight.get("text", ())
        )
    with pytest.raises(SettingsError, match="type"):
        SearchOptions(mode="idf", highlight={**section, "type": "plain"})
    with pytest.raises(SettingsError, match="both need"):
        SearchOptions(mode="bm25", explain=True, highlight=section)


@pytest.fixture
def two(engine: Engine, index: str, tiny: Path) -> Iterator[tuple[str, str]]:
    names = (f"{index}-a", f"{index}-b")
    for name in names:
        load(engine, name, loaded(tiny / "router"), documents(20))
    yield names
    for name in names:
        with suppress(IndexNotFoundError):
            engine.delete_index(name)


@pytest.mark.usefixtures("clustered")
def test_several_indices(engine: Engine, two: tuple[str, str], index: str) -> None:
    with SearchClient(engine=engine, index=two[0]) as client:
        assert len(client.search(QUERY, 40)) > 7
    for name in (",".join(two), f"{index}-*"):
        with SearchClient(engine=engine, index=name) as client:
            for mode in ("idf", "bm25", "hybrid"):
                found = client.search(QUERY, 40, mode, sort=["_score", "n"], total=True)  # type: ignore[arg-type]
                assert Counter(hit.index for hit in found) == dict.fromkeys(two, len(found) // 2)
                assert len({(hit.index, hit.id) for hit in found}) == len(found) == found.total
                hits = list(client.scan(QUERY, mode, page=7))  # type: ignore[arg-type]
                assert Counter(hit.id for hit in hits) == Counter(hit.id for hit in found)
            fused = client.search(QUERY, 30, "hybrid", fusion=Fusion("rrf"))
            assert len({(hit.index, hit.id) for hit in fused}) == len(fused)
    with pytest.raises(IndexNotFoundError, match="No index matches"):
        SearchClient(engine=engine, index=f"{index}-nothing*").search(QUERY)
    raw = OpenSearch(engine.url)
    raw.indices.create(index=f"{index}-foreign")
    try:
        with pytest.raises(IndexFormatError, match=f"{index}-foreign was not made"):
            SearchClient(engine=engine, index=f"{index}-*").search(QUERY)
    finally:
        raw.indices.delete(index=f"{index}-foreign")
