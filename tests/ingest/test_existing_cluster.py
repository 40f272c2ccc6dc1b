"""Loads into a cluster that has pipelines, aliases, templates and limits of its own."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from splade_os import DocumentEncoder, ingest_documents
from splade_os.engines import Engine, IndexMeta, connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    EngineError,
    IndexFormatError,
    IngestError,
    SettingsError,
    SpladeError,
    SpladeWarning,
)
from splade_os.ingest.documents.records import Item, RecordReader
from splade_os.ingest.index.target import ensure_index
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport

Documents = Mapping[str, Mapping[str, Any]]
TEXTS: Documents = {
    str(n): {"title": f"cat {n}", "text": text, "lang": "en" if n % 2 else "de"}
    for n, text in enumerate(("red map", "blue river", "old tree", "small fish", "the house"))
}


class Cluster:
    """An index of one cluster, and what an operator does there."""

    def __init__(self, url: str, model: Path, folder: Path) -> None:
        self.engine = connect(url)
        assert isinstance(self.engine, ClusterEngine)
        self.raw = self.engine.request
        self.encoder = DocumentEncoder.load(str(model))
        self.dead = folder / "dead.jsonl"
        self.index = f"test-{uuid.uuid4().hex[:12]}"
        self.undo: list[tuple[str, str]] = []

    def put(self, path: str, body: Any, *, undo: bool = True) -> None:
        self.raw("PUT", path, body)
        if undo:
            self.undo.insert(0, ("DELETE", path))

    def make(self, name: str | None = None) -> IndexMeta:
        return ensure_index(
            self.engine, name or self.index, self.encoder.identity, ("title", "text")
        )

    def load(
        self, documents: Documents = TEXTS, *, into: str | None = None, **options: Any
    ) -> IngestReport:
        items = [
            Item(f"d:{n}", value={"_id": key, **value})
            for n, (key, value) in enumerate(documents.items(), 1)
        ]
        reader = RecordReader()
        return ingest_documents(
            [reader.read(item, n) for n, item in enumerate(items, 1)],
            engine=self.engine,
            index=into or self.index,
            encoder=self.encoder,
            dead_letters=self.dead,
            options=IngestOptions(patience=15, **options),
        )

    def letters(self) -> dict[str, str]:
        rows = [json.loads(line) for line in self.dead.read_text().splitlines()]
        return {row["id"]: row["reason"] for row in rows}

    def stored(self, identifier: str) -> Any:
        return self.raw("GET", f"/{self.index}/_doc/{identifier}")["_source"]

    def close(self) -> None:
        for name in self.engine.indices(f"{self.index}*"):
            with contextlib.suppress(EngineError):
                self.engine.delete_index(name)
        for method, path in self.undo:
            with contextlib.suppress(EngineError):
                self.raw(method, path)
        self.engine.close()


@pytest.fixture(params=["opensearch", "elasticsearch"])
def cluster(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(request.getfixturevalue(f"{request.param}_url"), tiny / "router", tmp_path)
    yield made
    made.close()


@pytest.fixture
def opensearch(opensearch_url: str, tiny: Path, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(opensearch_url, tiny / "router", tmp_path)
    yield made
    made.close()


def default_pipeline(cluster: Cluster, *processors: Mapping[str, Any]) -> None:
    cluster.put(f"/_ingest/pipeline/{cluster.index}", {"processors": list(processors)})
    settings = {"index.default_pipeline": cluster.index}
    cluster.put(f"/{cluster.index}/_settings", settings, undo=False)


def test_what_a_pipeline_drops_is_a_dead_letter(opensearch: Cluster) -> None:
    """New documents, and such as overwrite others, whose old text stays there."""
    opensearch.make()
    opensearch.load({"4": {"title": "before", "text": "sun"}})
    drop = {"drop": {"if": "['map', 'house'].stream().anyMatch(w -> ctx.text.contains(w))"}}
    default_pipeline(opensearch, drop)
    report = opensearch.load()
    assert (report.created, report.updated, report.dead, report.count_after) == (3, 0, 2, 4)
    assert set(opensearch.letters()) == {"0", "4"}
    assert all("ingest pipeline" in reason for reason in opensearch.letters().values())
    assert opensearch.stored("4")["title"] == "before"


@pytest.mark.parametrize(
    ("processor", "words"),
    [
        ({"remove": {"field": ["splade_os_vector", "splade_os_hash"]}}, "mark"),
        ({"remove": {"field": "splade_os_vector"}}, "another vector"),
        ({"remove": {"field": "splade_os_hash"}}, "mark"),
        ({"script": {"source": "ctx.splade_os_vector.clear(); ctx.splade_os_vector.x = 1"}}, "vec"),
    ],
)
def test_what_a_pipeline_takes_away_is_not_verified(
    opensearch: Cluster, processor: Mapping[str, Any], words: str
) -> None:
    opensearch.make()
    default_pipeline(opensearch, processor)
    report = opensearch.load()
    assert not report.verified
    assert report.checked == 0
    assert words in " ".join(report.faults)


def test_what_a_pipeline_changes_is_said(opensearch: Cluster) -> None:
    opensearch.make()
    default_pipeline(opensearch, {"uppercase": {"field": "title"}})
    with pytest.warns(SpladeWarning, match="other texts"):
        report = opensearch.load()
    assert report.verified
    assert report.checked == len(TEXTS)


@pytest.mark.parametrize("value", ["same", "{{{lang}}}"])
def test_a_pipeline_that_sets_the_id_ends(opensearch: Cluster, value: str) -> None:
    """The documents that would overwrite each other are dead letters, in seconds."""
    opensearch.make()
    default_pipeline(opensearch, {"set": {"field": "_id", "value": value}})
    report = opensearch.load()
    assert report.created == 0
    assert report.dead == len(TEXTS)
    assert all("ingest pipeline" in reason for reason in opensearch.letters().values())


def test_the_search_pipeline_of_an_index_hides_nothing_from_the_tool(opensearch: Cluster) -> None:
    opensearch.load()
    only = {"filter_query": {"query": {"match": {"lang": "en"}}}}
    opensearch.put(f"/_search/pipeline/{opensearch.index}", {"request_processors": [only]})
    settings = {"index.search.default_pipeline": opensearch.index}
    opensearch.put(f"/{opensearch.index}/_settings", settings, undo=False)
    assert opensearch.engine.count(opensearch.index) == len(TEXTS)
    assert {key for key, _ in opensearch.engine.scan(opensearch.index)} == set(TEXTS)
    more = {f"more-{n}": {"title": "dog", "text": "sun", "lang": "de"} for n in range(3)}
    report = opensearch.load(more)
    assert report.verified, report.faults


def test_the_filter_of_an_alias_hides_nothing_from_the_tool(cluster: Cluster) -> None:
    alias = f"{cluster.index}-alias"
    cluster.make()
    add = {"index": cluster.index, "alias": alias, "filter": {"match": {"lang": "en"}}}
    cluster.raw("POST", "/_aliases", {"actions": [{"add": add}]})
    with pytest.warns(SpladeWarning, match="has a filter"):
        report = cluster.load(into=alias)
    assert report.verified, report.faults
    assert cluster.engine.count(alias) == len(TEXTS)
    assert {key for key, _ in cluster.engine.scan(alias)} == set(TEXTS)


def no_write_index(cluster: Cluster) -> None:
    add = {"index": f"{cluster.index}-1", "alias": cluster.index, "is_write_index": False}
    cluster.make(f"{cluster.index}-1")
    cluster.raw("POST", "/_aliases", {"actions": [{"add": add}]})


def several_indices(cluster: Cluster) -> None:
    actions = []
    for n in range(2):
        cluster.make(f"{cluster.index}-{n}")
        add = {"index": f"{cluster.index}-{n}", "alias": cluster.index, "is_write_index": n == 1}
        actions.append({"add": add})
    cluster.raw("POST", "/_aliases", {"actions": actions})


def template(**body: Any) -> Callable[[Cluster], None]:
    def make(cluster: Cluster) -> None:
        pattern = {"index_patterns": [f"{cluster.index}*"], "priority": 900}
        cluster.put(f"/_index_template/{cluster.index}", {**pattern, "template": body})

    return make


def blocked(cluster: Cluster) -> None:
    cluster.make()
    settings = {"index.blocks.read_only_allow_delete": True}
    cluster.put(f"/{cluster.index}/_settings", settings, undo=False)


def closed(cluster: Cluster) -> None:
    cluster.make()
    cluster.raw("POST", f"/{cluster.index}/_close")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (no_write_index, "write index"),
        (several_indices, "stands for 2 indices"),
        (template(mappings={"_routing": {"required": True}}), "routing"),
        (template(mappings={"_source": {"enabled": False}}), "_source is disabled"),
        (template(mappings={"_source": {"excludes": ["splade_os_*"]}}), "splade_os_hash"),
        (template(mappings={"_source": {"includes": ["title", "text"]}}), "splade_os_vector"),
        (blocked, "read_only_allow_delete"),
        (closed, "closed"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_target_that_takes_nothing_is_told_before_the_load(
    cluster: Cluster, prepare: Callable[[Cluster], None], words: str
) -> None:
    prepare(cluster)
    with pytest.raises(SpladeError, match=words):
        cluster.load()
    assert not cluster.dead.exists() or not cluster.letters()


def test_a_data_stream_is_refused_before_the_load(opensearch: Cluster) -> None:
    made = f"{opensearch.index}-made"
    opensearch.make(made)
    mappings = opensearch.raw("GET", f"/{made}/_mapping")[made]["mappings"]
    mappings["properties"]["@timestamp"] = {"type": "date"}
    opensearch.put(
        f"/_index_template/{opensearch.index}",
        {
            "index_patterns": [f"{opensearch.index}-stream"],
            "data_stream": {},
            "priority": 901,
            "template": {"mappings": mappings},
        },
    )
    opensearch.put(f"/_data_stream/{opensearch.index}-stream", None)
    with pytest.raises(IndexFormatError, match="data stream"):
        opensearch.load(into=f"{opensearch.index}-stream")


def test_a_write_index_lost_during_the_load_stops_it(cluster: Cluster) -> None:
    """An error that names the target is none of a document."""
    several_indices(cluster)
    with pytest.raises((IngestError, EngineError), match="more than one ind"):
        cluster.engine.documents(cluster.index, ["1"])


def test_what_another_program_changed_is_mended(cluster: Cluster) -> None:
    cluster.load()
    change = {"doc": {"text": "a bicycle repair manual"}}
    cluster.raw("POST", f"/{cluster.index}/_update/1", change)
    report = cluster.load(skip_unchanged=True)
    assert (report.updated, report.unchanged) == (1, len(TEXTS) - 1)
    assert cluster.stored("1")["text"] == TEXTS["1"]["text"]


def test_metadata_never_decides_whether_a_text_is_searchable(cluster: Cluster) -> None:
    """Whatever comes first, the values of a stored field are no reason to lose a document."""
    fields: dict[str, list[Any]] = {
        "note": ["2024-01-02", "see page 7", ""],
        "code": [1, "A-17", 12345678901234567890, ""],
        "when": ["2024/01/02", "2024-01-02T00:00:00Z", "never"],
        "price": [1.5, "on request"],
    }
    documents = {
        f"{name}-{n}": {"text": "red map", name: value}
        for name, values in fields.items()
        for n, value in enumerate(values)
    }
    report = cluster.load(documents)
    assert report.dead == 0, cluster.letters()


def test_templates_decide_about_shards_and_replicas(cluster: Cluster) -> None:
    template(settings={"number_of_shards": 3, "number_of_replicas": 0})(cluster)
    cluster.make()
    settings = cluster.engine.settings(cluster.index)
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("3", "0")
    assert "auto_expand_replicas" not in settings


@pytest.mark.parametrize("name", ["x#b", "x?b", "x/_doc/1", "x y", "<x-{now/d}>", '"x"', "x|y"])
def test_a_name_that_would_be_another_path_is_refused(cluster: Cluster, name: str) -> None:
    engine: Engine = cluster.engine
    for asked in (engine.count, engine.delete_index, engine.index_meta, engine.refresh):
        with pytest.raises(SettingsError, match="cannot be the name"):
            asked(name)


@pytest.mark.parametrize("name", ["x*", "a,b", "X", "_x", "-x", "..", "x" * 256, "other:x"])
def test_a_name_of_several_is_not_written_or_deleted(cluster: Cluster, name: str) -> None:
    for write in (cluster.engine.delete_index, cluster.make):
        with pytest.raises(SettingsError, match="cannot be the name"):
            write(name)


def test_a_percent_in_a_name_is_a_percent(cluster: Cluster) -> None:
    cluster.make()
    with pytest.raises(SpladeError):
        cluster.engine.delete_index(f"{cluster.index[:-1]}%2a")
    assert cluster.engine.count(cluster.index) == 0
    odd = f"{cluster.index}-100%+[x]"
    cluster.make(odd)
    assert cluster.engine.indices(f"{cluster.index}-*") == [odd]
    cluster.engine.delete_index(odd)
    assert cluster.engine.indices(f"{cluster.index}-*") == []
