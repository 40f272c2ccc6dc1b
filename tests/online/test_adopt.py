"""An index that somebody else made: adopted, enriched, changed from outside, repaired, searched."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from splade_os import Index, SearchClient
from splade_os.cli import cli
from splade_os.engines import MatchQuery, SearchRequest
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IndexFormatError, ModelMismatchError, SettingsError
from splade_os.ingest.index.adopt import adopt_index

PRODUCTS = {
    "1": {"title": "cat moon", "text": "river", "brand": "Acme", "price": 10,
          "parts": [{"name": "wheel", "n": 4}], "made": "2024-05-01"},
    "2": {"title": "dog", "text": "moon winter", "brand": "Bolt", "price": 20,
          "parts": [{"name": "door", "n": 2}], "made": "2025-05-01"},
    "3": {"title": "sun", "text": "engine", "brand": "Acme", "price": 30, "parts": [],
          "made": "2026-05-01"},
}  # fmt: skip
MAPPING = {
    "properties": {
        "title": {"type": "text", "analyzer": "own"},
        "text": {"type": "text"},
        "brand": {"type": "keyword"},
        "price": {"type": "integer"},
        "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}}},
        "made": {"type": "date"},
    },
    "_meta": {"owner": "shop"},
}


@pytest.fixture
def engine(cluster_engine: ClusterEngine) -> ClusterEngine:
    return cluster_engine


@pytest.fixture
def shop(engine: ClusterEngine) -> Iterator[str]:
    """An index with a mapping, an analyser, shards and an alias of its own, and documents."""
    name = f"shop-{uuid.uuid4().hex[:12]}"
    analysis = {"analyzer": {"own": {"type": "custom", "tokenizer": "standard"}}}
    body = {
        "settings": {"index": {"number_of_shards": 2, "analysis": analysis}},
        "mappings": MAPPING,
        "aliases": {f"{name}-live": {"is_write_index": True}},
    }
    engine.request("PUT", f"/{name}", body)
    lines = b"".join(
        json.dumps({"index": {"_id": id}}).encode() + b"\n" + json.dumps(product).encode() + b"\n"
        for id, product in PRODUCTS.items()
    )
    engine.request("POST", f"/{name}/_bulk", lines, params={"refresh": "true"})
    yield name
    engine.request("DELETE", f"/{name}")


def mapping_of(engine: ClusterEngine, index: str) -> dict[str, Any]:
    (body,) = engine.request("GET", f"/{index}/_mapping").values()
    return dict(body["mappings"])


def test_adopted_enriched_changed_repaired_searched(
    engine: ClusterEngine, shop: str, tiny: Path
) -> None:
    model = str(tiny / "router")
    index = Index(index=shop, engine=engine, model=model, text_fields=["title", "text"])
    meta = index.target()
    mapping = mapping_of(engine, shop)
    assert mapping["_meta"]["owner"] == "shop"
    left = {n: d for n, d in mapping["properties"].items() if n not in meta.own_fields}
    assert left["title"] == MAPPING["properties"]["title"]  # type: ignore[index]
    assert left["parts"]["type"] == "nested" and left["brand"]["type"] == "keyword"
    assert engine.count(shop) == 3  # nested documents are none
    assert index.enrich() == {"updated": 3}
    for id, product in PRODUCTS.items():
        assert index.get(id) == product  # untouched
    assert index.enrich() == {"unchanged": 3}

    engine.request("POST", f"/{shop}/_update/2", {"doc": {"text": "cat cat"}})
    assert index.enrich() == {"updated": 1, "unchanged": 2}
    index.close()
    statistics = engine.load_statistics(shop)
    assert statistics is not None and statistics.documents == 3

    client = SearchClient(index=shop, engine=engine, model=model)
    found = client.search("cat", mode="bm25", filter={"term": {"brand": "Acme"}})
    assert [hit.id for hit in found] == ["1"]
    nested = {"nested": {"path": "parts", "query": {"term": {"parts.name": "wheel"}}}}
    assert [hit.id for hit in client.search("moon", mode="bm25", filter=nested)] == ["1"]
    both = client.search("moon", mode="hybrid")
    assert {hit.id for hit in both} >= {"1"}
    through = SearchClient(index=f"{shop}-live", engine=engine, model=model)
    assert {hit.id for hit in through.search("moon", mode="bm25")} == {"1"}


def test_a_next_generation_and_back(
    engine: ClusterEngine, shop: str, tiny: Path, tmp_path: Path
) -> None:
    """The alias of an adopted index moves to one that was built beside it, and back: the first
    index is none of ours, and has no generation's name."""
    model, alias = str(tiny / "router"), f"{shop}-live"
    template = {"index_patterns": [f"{shop}*"], "template": {"aliases": {alias: {}}}}
    engine.request("PUT", f"/_index_template/{shop}", template)
    try:
        with Index(index=shop, engine=engine, model=model, text_fields=["title", "text"]) as index:
            assert index.enrich() == {"updated": 3}
            assert index.delete(["3"])[0].result == "deleted"
        common = ("--url", engine.url, "--model", model, "--text", "title,text")
        arguments = ("ingest", f"index:{shop}", "--alias", alias, "--min-documents", "0.5")
        letters = ("--dead-letters", str(tmp_path / "dead.jsonl"))
        done = CliRunner().invoke(cli, [*arguments, *common, *letters])
        assert done.exit_code == 0, done.output
        (now,) = engine.alias_targets(alias)
        assert now != shop and engine.count(now) == 2
        assert mapping_of(engine, now)["properties"]["parts"]["type"] == "nested"
        with SearchClient(index=alias, engine=engine, model=model) as client:
            facets = {"brands": {"terms": {"field": "brand"}}}
            found = client.search("moon", mode="bm25", sort=[{"price": "desc"}], aggs=facets)
            assert [hit.id for hit in found] == ["2", "1"]
            counts = found.aggregations["brands"]["buckets"]
            assert {b["key"]: b["doc_count"] for b in counts} == {"Acme": 1, "Bolt": 1}
            back = CliRunner().invoke(cli, ["index", "rollback", "--alias", alias, *common[:2]])
            assert back.exit_code == 0, back.output
            assert engine.alias_targets(alias) == [shop]
            assert {hit.id for hit in client.search("moon", mode="hybrid")} == {"1", "2"}
        assert mapping_of(engine, shop)["_meta"]["owner"] == "shop"
    finally:
        engine.request("DELETE", f"/_index_template/{shop}")
        for name in engine.indices(f"{shop}-*"):
            if name != shop:  # its alias is called so
                engine.delete_index(name)


def test_bm25_over_the_fields_of_the_index(engine: ClusterEngine, shop: str, tiny: Path) -> None:
    """The same hits and scores as the engine's own multi_match."""
    runner = CliRunner()
    arguments = [
        "--url", engine.url, "--index", shop, "--model", str(tiny / "router"),
        "--text", "title,text", "--bm25", "title^3,text",
    ]  # fmt: skip
    done = runner.invoke(cli, ["index", "adopt", *arguments])
    assert done.exit_code == 0, done.output
    assert f"splade-os enrich --index {shop}" in done.output
    hits = engine.search(shop, SearchRequest(MatchQuery("moon cat"))).hits
    body = {"query": {"multi_match": {"query": "moon cat", "fields": ["title^3", "text"]}}}
    theirs = engine.request("POST", f"/{shop}/_search", body)["hits"]["hits"]
    assert [(h.id, h.score) for h in hits] == [(h["_id"], h["_score"]) for h in theirs]
    enriched = runner.invoke(cli, ["enrich", *arguments[:4], "--json"])
    assert enriched.exit_code == 0, enriched.output
    assert json.loads(enriched.stdout)["updated"] == 3
    shown = runner.invoke(cli, ["index", "show", *arguments[:4]])
    assert "for BM25 as title^3, text" in shown.output


def test_what_cannot_be_adopted(engine: ClusterEngine, shop: str, tiny: Path) -> None:
    from splade_os import DocumentEncoder

    identity = DocumentEncoder.load(str(tiny / "router"), device="cpu").identity
    with pytest.raises(SettingsError, match=r"no field 'body'") as raised:
        adopt_index(engine, shop, identity, ["body"])
    assert "title" in str(raised.value.hint) and "brand" not in str(raised.value.hint)
    with pytest.raises(SettingsError, match="has a field 'price' already"):
        adopt_index(engine, shop, identity, ["title"], vector_field="price")
    before = mapping_of(engine, shop)
    assert mapping_of(engine, shop) == before  # nothing of it was done
    adopt_index(engine, shop, identity, ["title"])
    adopt_index(engine, shop, identity, ["title"])  # again: it is
    other = DocumentEncoder.load(str(tiny / "bert"), device="cpu").identity
    with pytest.raises(ModelMismatchError):
        adopt_index(engine, shop, other, ["title"])
    off = f"off-{uuid.uuid4().hex[:12]}"
    mapping = {"_source": {"enabled": False}, "properties": {"title": {"type": "text"}}}
    engine.request("PUT", f"/{off}", {"mappings": mapping})
    try:
        with pytest.raises(IndexFormatError, match="_source is disabled"):
            adopt_index(engine, off, identity, ["title"])
    finally:
        engine.request("DELETE", f"/{off}")
