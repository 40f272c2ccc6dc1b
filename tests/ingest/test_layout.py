"""New indices with a mapping and settings of the user's own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splade_os import SearchClient
from splade_os.cli import cli
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError, InputError, SpladeWarning
from splade_os.ingest.index.layout import chosen_layout

BODY: dict[str, Any] = {
    "settings": {
        "index": {
            "number_of_shards": 2,
            "max_result_window": 7000,
            "analysis": {
                "filter": {"joined": {"type": "synonym", "synonyms": ["moon, luna"]}},
                "analyzer": {"own": {"tokenizer": "standard", "filter": ["lowercase"]}},
            },
        }
    },
    "mappings": {
        "dynamic": "strict",
        "_meta": {"owner": "shop"},
        "properties": {
            "title": {"type": "text", "analyzer": "own", "copy_to": ["all"]},
            "all": {"type": "text"},
            "brand": {"type": "keyword", "ignore_above": 64},
            "made": {"type": "date", "format": "yyyy-MM-dd"},
            "parts": {"type": "nested", "properties": {"name": {"type": "keyword"}}},
            "place": {"type": "geo_point"},
        },
    },
}
PRODUCTS = [
    {"id": f"p{n}", "title": f"cat moon {n}", "brand": "Acme", "made": "2024-05-01",
     "parts": [{"name": "wheel"}, {"name": "door"}], "place": {"lat": n, "lon": 1}}
    for n in range(5)
]  # fmt: skip
Run = Callable[..., Result]


@pytest.fixture
def engine(cluster_engine: ClusterEngine) -> ClusterEngine:
    return cluster_engine


@pytest.fixture
def old(engine: ClusterEngine) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    body = {**BODY, "mappings": {**BODY["mappings"]}}
    fields = {**BODY["mappings"]["properties"], "id": {"type": "keyword"}}
    body["mappings"]["properties"] = fields
    if "analysis-common" not in (engine.capabilities().modules or ()):
        analysis = {"analyzer": BODY["settings"]["index"]["analysis"]["analyzer"]}
        body["settings"] = {"index": {**BODY["settings"]["index"], "analysis": analysis}}
    engine.request("PUT", f"/{name}", body)
    for product in PRODUCTS:
        engine.request("PUT", f"/{name}/_doc/{product['id']}", product)
    engine.request("POST", f"/{name}/_refresh")
    yield name
    for each in engine.indices(f"{name}*"):
        engine.delete_index(each)


@pytest.fixture
def run(engine: ClusterEngine, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    model = str(tiny / "router")
    common = ("--url", engine.url, "--model", model, "--text", "title", "--dead-letters", "d.jsonl")

    def ingest(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["ingest", *arguments, *common])

    return ingest


def told(engine: ClusterEngine, index: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mapping and settings, as the server has them."""
    (body,) = engine.request("GET", f"/{index}").values()
    return dict(body["mappings"]), dict(body["settings"]["index"])


def test_a_copy_has_all_that_the_old_one_has(engine: ClusterEngine, old: str, run: Run) -> None:
    new = f"{old}-new"
    done = run(f"index:{old}", "--index", new)
    assert done.exit_code == 0, done.output
    mapping, settings = told(engine, old)
    copied, taken = told(engine, new)
    meta = engine.index_meta(new)
    own = {meta.field, meta.hash_field}
    assert own == set(copied["properties"]) - set(mapping["properties"])
    assert all(copied["properties"][name] == d for name, d in mapping["properties"].items())
    assert copied["dynamic"] == "strict" and copied["_meta"]["owner"] == "shop"
    of_one = {"uuid", "creation_date", "provided_name", "version"}
    left = [{n: v for n, v in each.items() if n not in of_one} for each in (settings, taken)]
    assert left[0].pop("resize", None) is None and left[0] == left[1]
    assert dict(engine.scan(new, [*PRODUCTS[0]])) == {p["id"]: p for p in PRODUCTS}
    with SearchClient(engine=engine, index=new) as client:
        assert len(client.search("moon", mode="bm25")) == len(PRODUCTS)
        assert len(client.search("moon", filter={"term": {"brand": "Acme"}}, mode="bm25")) == 5
    # a copy of ours again: none of our fields twice, and still searchable
    again = f"{old}-again"
    assert run(f"index:{new}", "--index", again).exit_code == 0
    assert told(engine, again)[0]["properties"] == copied["properties"]


def test_an_alias_is_built_like_the_old_one(engine: ClusterEngine, old: str, run: Run) -> None:
    alias = f"{old}-live"
    done = run(f"index:{old}", "--alias", alias, "--shards", "3")
    assert done.exit_code == 0, done.output
    (index,) = engine.alias_targets(alias)
    mapping, settings = told(engine, index)
    assert mapping["properties"]["parts"]["type"] == "nested"
    assert settings["number_of_shards"] == "3" and settings["max_result_window"] == "7000"
    assert engine.count(alias) == 5


def _jsonl(folder: Path) -> str:
    file = folder / "docs.jsonl"
    file.write_text(
        "".join(json.dumps({"id": f"n{n}", "title": f"cat {n}"}) + "\n" for n in range(6))
    )
    return str(file)


@pytest.mark.parametrize("first", ["ours", "of the operator"])
def test_a_generation_takes_over_settings(
    engine: ClusterEngine, old: str, run: Run, tmp_path: Path, first: str
) -> None:
    """What operators have put on the index behind an alias, and says what it maps otherwise."""
    alias, source = f"{old}-live", _jsonl(tmp_path)
    if first == "ours":
        assert run(source, "--alias", alias).exit_code == 0
        (before,) = engine.alias_targets(alias)
        engine.request("PUT", f"/{before}/_mapping", {"properties": {"sku": {"type": "keyword"}}})
    else:
        engine.request("PUT", f"/{old}/_alias/{alias}")
        before = old
    put = {"index": {"max_result_window": 8111, "mapping.total_fields.limit": 1234}}
    engine.request("PUT", f"/{before}/_settings", put)
    engine.request("PUT", f"/{before}/_settings", {"index": {"blocks.write": True}})
    expected = (
        r"not there: sku \(keyword\)" if first == "ours" else r"otherwise: .*title \(text, ana"
    )
    with pytest.warns(SpladeWarning, match=rf"{expected}.* --like {alias}"):
        done = run(source, "--alias", alias, "--min-documents", "0")
    assert done.exit_code == 0, done.output
    (now,) = engine.alias_targets(alias)
    assert now != before
    mapping, settings = told(engine, now)
    assert settings["max_result_window"] == "8111"
    assert settings["mapping"]["total_fields"]["limit"] == "1234"
    assert "blocks" not in settings
    if first == "of the operator":
        assert "brand" not in mapping["properties"]
        return
    (tmp_path / "own.json").write_text('{"index.max_result_window": 9000}')
    done = run(source, "--alias", alias, "--settings", "own.json")
    assert done.exit_code == 0, done.output
    (index,) = engine.alias_targets(alias)
    settings = told(engine, index)[1]
    assert settings["max_result_window"] == "9000"
    assert settings["mapping"]["total_fields"]["limit"] == "1234"
    # the mapping goes on where it is asked for, and nothing where that is
    engine.request("PUT", f"/{index}/_mapping", {"properties": {"sku": {"type": "keyword"}}})
    done = run(source, "--alias", alias, "--like", alias)
    assert done.exit_code == 0, done.output
    (index,) = engine.alias_targets(alias)
    assert told(engine, index)[0]["properties"]["sku"] == {"type": "keyword"}
    with pytest.warns(SpladeWarning, match="not there: sku"):
        done = run(source, "--alias", alias, "--own-mapping")
    assert done.exit_code == 0, done.output
    (index,) = engine.alias_targets(alias)
    assert "max_result_window" not in told(engine, index)[1]


def test_a_generation_of_a_sorted_index(
    engine: ClusterEngine, old: str, run: Run, tmp_path: Path
) -> None:
    """Its order needs a field that the mapping of splade-os has not."""
    alias = f"{old}-live"
    body = {
        "settings": {"index": {"sort.field": "rank", "sort.order": "desc"}},
        "mappings": {"properties": {"rank": {"type": "integer"}}},
        "aliases": {alias: {}},
    }
    engine.request("PUT", f"/{old}-sorted", body)
    with pytest.warns(SpladeWarning, match=r"not there: rank \(integer\)"):
        done = run(_jsonl(tmp_path), "--alias", alias)
    assert done.exit_code == 0, done.output


def test_the_mapping_of_splade_os_is_there_when_asked_for(
    engine: ClusterEngine, old: str, run: Run
) -> None:
    new = f"{old}-new"
    assert run(f"index:{old}", "--index", new, "--own-mapping").exit_code == 0
    mapping, settings = told(engine, new)
    assert mapping["properties"]["title"]["analyzer"] in ("english", "standard")
    assert "max_result_window" not in settings
    both = run(f"index:{old}", "--index", f"{old}-x", "--own-mapping", "--like", old)
    assert both.exit_code == 2 and "--own-mapping" in both.output


@pytest.mark.parametrize("form", ["put", "get", "part"])
def test_files(engine: ClusterEngine, old: str, run: Run, tmp_path: Path, form: str) -> None:
    body: Any = engine.request("GET", f"/{old}")[old]
    mappings = {"properties": {**body["mappings"]["properties"], "extra": {"type": "ip"}}}
    settings: Any = {"index": {"max_result_window": 123}}
    wrapped = {"mappings": mappings, "settings": settings, "aliases": {}}
    for name, part in (("mappings", mappings), ("settings", settings)):
        whole = {"put": wrapped, "get": {old: wrapped}, "part": part}[form]
        (tmp_path / f"{name}.json").write_text(json.dumps(whole))
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PRODUCTS))
    new = f"{old}-new"
    more = ("--like", old, "--mapping", "mappings.json", "--settings", "settings.json")
    done = run("docs.jsonl", "--index", new, *more)
    assert done.exit_code == 0, done.output
    mapping, found = told(engine, new)
    assert mapping["properties"]["extra"] == {"type": "ip"}
    assert found["max_result_window"] == "123" and found["number_of_shards"] == "2"
    done = run("docs.jsonl", "--index", new, "--shards", "9", "--restart")
    assert done.exit_code == 0 and "stay as they are" in done.output


def test_what_cannot_be(engine: ClusterEngine, old: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PRODUCTS))
    for text, words in (("{", "no JSON"), ("[1]", "no settings"), ('{"index": 3}', "no JSON obj")):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=words):
            chosen_layout(engine, settings="bad.json")
    (tmp_path / "bad.json").write_text('{"properties": {"title": {"type": "txt"}}}')
    done = run("docs.jsonl", "--index", f"{old}-new", "--mapping", "bad.json")
    assert isinstance(done.exception, EngineError) and "txt" in done.exception.message
    assert run("docs.jsonl", "--index", f"{old}-new", "--like", "none-such").exit_code == 1
    assert engine.indices(f"{old}*") == [old]
