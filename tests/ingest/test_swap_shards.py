"""An alias moves only when all shards of its new index are there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder
from splade_os.cli.ingest import ingest
from splade_os.engines import Engine, connect
from splade_os.engines.base import IndexLayout
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IngestError
from splade_os.ingest.index import aliases
from splade_os.ingest.index.aliases import wait_for_shards
from splade_os.ingest.load import AliasOptions, load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport

_NODE = "index.routing.allocation.require._name"


@pytest.fixture(params=["opensearch", "elasticsearch"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterEngine]:
    engine = connect(request.getfixturevalue(f"{request.param}_url"))
    assert isinstance(engine, ClusterEngine)
    yield engine
    engine.close()


@pytest.fixture
def index(cluster: ClusterEngine) -> Iterator[str]:
    yield (prefix := f"test-{uuid.uuid4().hex[:12]}")
    for name in cluster.indices(f"{prefix}*"):
        cluster.delete_index(name)


def _set(engine: ClusterEngine, index: str, **settings: Any) -> None:
    engine.request("PUT", f"/{index}/_settings", settings)


def test_a_shard_that_is_nowhere(cluster: ClusterEngine, index: str) -> None:
    """What the engine lists of each shard is what can answer."""
    settings = {"number_of_shards": 2, "number_of_replicas": 0, _NODE: "nowhere"}
    at_once = {"wait_for_active_shards": "0"}  # else making it waits for them
    cluster.request("PUT", f"/{index}", {"settings": settings}, params=at_once)
    with pytest.raises(IngestError, match="2 of the 2 shards"):
        wait_for_shards(cluster, index, 1, 0)
    _set(cluster, index, **{_NODE: None})
    wait_for_shards(cluster, index, 1, 60)
    assert list(cluster.active_copies(index)) == [1, 1]
    wait_for_shards(cluster, index, "all", 0)
    with pytest.raises(IngestError, match="never be 2"):
        wait_for_shards(cluster, index, 2, 60)


def test_a_wait_sees_what_an_operator_does(
    cluster: ClusterEngine, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"number_of_shards": 1, "number_of_replicas": 1}
    cluster.request("PUT", f"/{index}", {"settings": settings})
    asked = []

    def sleep(seconds: float) -> None:
        asked.append(seconds)
        _set(cluster, index, number_of_replicas=0)

    monkeypatch.setattr(aliases.time, "sleep", sleep)
    wait_for_shards(cluster, index, "all", 60)
    assert len(asked) == 1  # one node never has two copies


def test_an_alias_waits_and_resumes(
    cluster: ClusterEngine,
    index: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))
    (tmp_path / "docs.jsonl").write_text('{"id": "1", "text": "red map"}\n')
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")

    def load(wanted: int | Literal["all"], begin: Any, patience: float) -> IngestReport:
        layout = IndexLayout({"number_of_replicas": 1}, None)
        return load_source(
            "docs.jsonl",
            engine=cluster,
            target=index,
            encoder=encoder,
            alias=AliasOptions(wait_for_active_shards=wanted),
            options=IngestOptions(patience=patience, layout=layout),
            begin=begin,
        )

    monkeypatch.setattr(aliases, "_POLL", 0.05)
    with pytest.raises(IngestError, match="fewer than 2 active copies") as caught:
        load("all", "new", 3)
    assert "--resume" in str(caught.value.hint)
    assert cluster.alias_targets(index) == []
    report = load(1, "resume", 30)
    assert report.live
    assert cluster.alias_targets(index) == [report.index]
    assert cluster.count(index) == 1


def test_sqlite_has_no_shards(tmp_path: Path) -> None:
    engine: Engine = connect(f"sqlite:///{tmp_path / 'a.db'}")
    wait_for_shards(engine, "any", "all", 0)
    engine.close()


@pytest.mark.parametrize("text", ["0", "-1", "ALL", "", "1.5", "\u0663", "9" * 5000])
def test_numbers_of_copies_that_are_none(text: str) -> None:
    told = CliRunner().invoke(ingest, ["x.jsonl", f"--wait-for-active-shards={text}"])
    assert told.exit_code == 2
    assert "number of copies" in told.output
