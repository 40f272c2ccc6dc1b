"""Local clusters: a real node is started, stopped, started again, and made to fail."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from splade_os import local
from splade_os.engines.sqlite.engine import SQLiteEngine
from splade_os.errors import ClusterError
from splade_os.ingest.documents.records import Item, Rejected
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.local import artifacts
from splade_os.local.node import is_alive
from splade_os.local.places import base_dir, is_trusted
from splade_os.local.state import NodeState
from splade_os.settings import cache_dir, state_dir

NAME = f"pytest-own-{os.getpid()}"


@pytest.fixture
def name() -> Iterator[str]:
    yield NAME
    local.down(NAME, delete_data=True)


def put(url: str, body: dict[str, object]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="PUT")
    urllib.request.urlopen(request).read()


def get(url: str) -> dict[str, object]:
    with urllib.request.urlopen(url) as answer:
        return dict(json.load(answer))


def test_life_of_a_cluster(name: str) -> None:
    steps: set[str] = set()
    state = local.up(
        name=name, via="jvm", port=0, heap="512m", report=lambda step, *_: steps.add(step)
    )
    assert "Starting opensearch 3.8.0" in steps
    assert get(state.url)["version"]["number"] == "3.8.0"  # type: ignore[index]
    assert local.status(name) == state
    assert local.up(name=name, via="jvm", port=0) == state
    with pytest.raises(ClusterError, match="not what is asked for"):
        local.up(name=name, via="jvm", version="2.19.1")
    assert "started" in local.logs(name, 200)
    put(f"{state.url}/keep/_doc/1?refresh=true", {"a": 1})
    with pytest.raises(ClusterError, match=r"taken by opensearch 3\.8\.0"):
        local.up(name=name + "-other", via="jvm", port=state.nodes[0].port)
    assert local.down(name)
    assert local.status(name) is None
    assert not local.down(name)
    state = local.up(name=name, via="jvm", port=0, heap="512m")
    assert get(f"{state.url}/keep/_doc/1")["found"]
    assert local.down(name, delete_data=True)
    assert not (base_dir() / "clusters" / name).exists()


def test_another_node_is_not_taken_for_ours(opensearch_url: str, tmp_path: Path) -> None:
    """A process number may be given again: the node is recognised by its data folder."""
    for file in (base_dir() / "clusters").glob("*/cluster.json"):
        for one in json.loads(file.read_text())["nodes"]:
            theirs = NodeState.model_validate(one)
            if f":{theirs.port}" in opensearch_url:
                assert is_alive(theirs)
                assert not is_alive(theirs.model_copy(update={"data": tmp_path}))
                return
    pytest.skip("the node was started elsewhere")


def test_node_that_dies_says_why(name: str) -> None:
    with pytest.raises(ClusterError, match="heap") as caught:
        local.up(name=name, via="jvm", port=0, heap="1m")  # below what the JVM accepts
    assert "console.log" in str(caught.value)
    assert local.status(name) is None


def test_port_taken_by_another_program(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ClusterError, match="taken by another program"):
            local.up(name=name, via="jvm", port=port)


def test_too_little_memory(name: str) -> None:
    with pytest.raises(ClusterError, match=r"of memory.*are free"):
        local.up(name=name, via="jvm", port=0, heap="9000g")


@pytest.mark.parametrize(
    "options",
    [
        {"heap": "much"},
        {"nodes": 2},
        {"flavor": "vanilla"},
        {"name": "../evil"},
        {"engine": "solr"},
        {"version": "0.1"},
        {"engine": "elasticsearch", "flavor": "plugins"},
    ],
)
def test_wrong_use(options: dict[str, object]) -> None:
    with pytest.raises(ClusterError):
        local.up(**{"name": NAME, "via": "jvm", "port": 0, **options})  # type: ignore[arg-type]


def test_wrong_file_is_removed(tmp_path: Path) -> None:
    pinned = artifacts.find_release("opensearch").libraries[1]
    file = tmp_path / pinned.file_name
    file.write_bytes(b"something else")
    with pytest.raises(ClusterError, match="not the file that splade-os knows"):
        artifacts.verify(pinned, file)
    assert not file.exists()


def test_artifact_that_the_registry_lacks(tmp_path: Path) -> None:
    pinned = artifacts.find_release("opensearch").libraries[1]
    absent = pinned.model_copy(update={"version": "0.0.0-absent"})
    with pytest.raises(ClusterError, match="cannot be had from the Maven registry"):
        artifacts.fetch(absent, tmp_path / "artifacts", lambda *_: None)
    assert not list(tmp_path.rglob("*.jar"))


@pytest.mark.skipif(
    "SPLADE_OS_TEST_FULL" not in os.environ, reason="three nodes: set SPLADE_OS_TEST_FULL=1"
)
def test_three_nodes(name: str) -> None:
    state = local.up(name=name, via="jvm", port=0, nodes=3, heap="512m")
    health = get(f"{state.url}/_cluster/health")
    assert (health["number_of_nodes"], health["status"]) == (3, "green")


@pytest.mark.skipif(
    "SPLADE_OS_TEST_FULL" not in os.environ, reason="570 MB: set SPLADE_OS_TEST_FULL=1"
)
def test_plugins(name: str) -> None:
    state = local.up(name=name, via="jvm", port=0, flavor="plugins")
    with urllib.request.urlopen(f"{state.url}/_cat/plugins") as answer:
        plugins = answer.read().decode()
    for plugin in ("opensearch-job-scheduler", "opensearch-knn", "opensearch-ml", "neural-search"):
        assert plugin in plugins


@pytest.mark.parametrize(
    ("file", "engine", "image"),
    [
        ("compose.yml", "opensearch", "opensearchproject/opensearch"),
        ("compose.3-nodes.yml", "opensearch", "opensearchproject/opensearch"),
        (
            "compose.elasticsearch.yml",
            "elasticsearch",
            "docker.elastic.co/elasticsearch/elasticsearch",
        ),
    ],
)
def test_compose_files(file: str, engine: str, image: str) -> None:
    """Nothing is open to the network, everything is bounded, every node is checked."""
    import splade_os.docker

    content = yaml.safe_load((Path(splade_os.docker.__path__[0]) / file).read_text())
    version = artifacts.find_release(engine).version
    for service in content["services"].values():
        assert service["image"] == f"{image}:${{SPLADE_OS_VERSION:-{version}}}"
        assert service["mem_limit"] and service["healthcheck"]["test"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert all(volume.split(":")[0] in content["volumes"] for volume in service["volumes"])


def test_a_node_is_alive_while_its_start_script_becomes_java(tmp_path: Path) -> None:
    """In the midst of exec() a process shows no arguments."""
    script = tmp_path / "node"
    script.write_text('#!/bin/sh\nexec "$0" "$@"\n')
    script.chmod(0o755)
    process = subprocess.Popen([script, f"-Epath.data={tmp_path}"])
    try:
        node = NodeState(name="node-1", port=1, pid=process.pid, data=tmp_path)
        assert all(is_alive(node) for _ in range(150))
    finally:
        process.kill()
        process.wait()
    assert not is_alive(node)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a node as somebody else")
def test_the_nodes_user_can_plant_nothing_that_root_opens(name: str, tmp_path: Path) -> None:
    """Whatever a folder of his was, or becomes, root writes and prints only files of its own."""
    secret = tmp_path / "secret"
    secret.write_text("only for root")
    secret.chmod(0o600)
    folder = base_dir() / "clusters" / name / "node-1"
    nobody = pwd.getpwnam("nobody")
    (folder / "logs").mkdir(parents=True)
    for link in (
        "console.log",
        "logs/console.log",
        "config",
        "data",
    ):  # as a version before left it
        (folder / link).symlink_to(secret)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
    with pytest.raises(ClusterError, match="symbolic link"):
        local.up(name=name, via="jvm", port=0, heap="512m")
    (folder / "console.log").unlink()
    state = local.up(name=name, via="jvm", port=0, heap="512m")
    assert secret.read_text() == "only for root" and "only for" not in local.logs(name)
    assert state.nodes[0].log is not None
    for file in (state.nodes[0].log, *(folder / "config").rglob("*")):
        found = file.lstat()
        assert found.st_uid == 0 and not found.st_mode & 0o027, file
        for parent in (file.parent, folder):
            assert parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o022
    for own in ("data", "logs", "tmp"):
        assert (folder / own).stat().st_uid == nobody.pw_uid
        assert (folder / own).stat().st_mode & 0o077 == 0


def test_a_folder_that_the_jvm_does_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "a folder"))
    with pytest.raises(ClusterError, match="' ' in its name"):
        local.up(name=NAME, via="jvm", port=0)


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    assert is_trusted(tmp_path) and not is_trusted(tmp_path / "absent")
    tmp_path.chmod(0o777)
    assert not is_trusted(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert not is_trusted(tmp_path / "link")


def test_files_are_for_their_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, made in (("CACHE", cache_dir), ("STATE", state_dir)):
        monkeypatch.setenv(f"SPLADE_OS_{name}", str(tmp_path / name / "deep"))
        assert made().stat().st_mode & 0o077 == 0
    with SQLiteEngine(tmp_path / "new" / "folder" / "x.db")._transaction() as db:
        db.execute("CREATE TABLE written (n)")
    Checkpoint(tmp_path / "state" / "ledger").close()
    with DeadLetters(tmp_path / "dead" / "letters.jsonl") as letters:
        letters.reject(Rejected(1, "here", "reason", Item("here", value={"a": 1})))
    for folder in ("new", "state", "dead"):
        for path in ((tmp_path / folder), *(tmp_path / folder).rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path
