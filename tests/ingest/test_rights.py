"""Users with few rights, and gateways that let not everything through."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from splade_os import connect
from splade_os.cli import cli
from splade_os.errors import AuthorizationError, EngineError, SpladeError
from tests.faults.gate import Gate, Refusal, Refuse
from tests.faults.loads import Load, check_index, make_load

DOCS = Path(__file__).parents[2] / "docs" / "connect.md"
ACTIONS: tuple[tuple[str, str, str], ...] = (
    # method, path (INDEX stands for one or several names), the action of OpenSearch
    ("GET", "/", "cluster:monitor/main"),
    ("GET", "/_nodes/.*", "cluster:monitor/nodes/info"),
    ("GET", "/_cluster/settings", "cluster:monitor/state"),
    ("PUT", "/INDEX", "indices:admin/create"),
    ("GET", "/INDEX", "indices:admin/get"),
    ("DELETE", "/INDEX", "indices:admin/delete"),
    ("GET", "/INDEX/_mapping", "indices:admin/mappings/get"),
    ("PUT", "/INDEX/_mapping", "indices:admin/mapping/put"),
    ("GET", "/INDEX/_settings.*", "indices:monitor/settings/get"),
    ("PUT", "/INDEX/_settings", "indices:admin/settings/update"),
    ("GET", "/_alias/INDEX", "indices:admin/aliases/get"),
    ("POST", "/_aliases", "indices:admin/aliases"),
    ("POST", "/INDEX/_refresh", "indices:admin/refresh"),
    ("GET", "/INDEX/_search_shards", "indices:admin/shards/search_shards"),
    ("POST", "/INDEX/_bulk", "indices:data/write/bulk"),
    ("(GET|POST)", "/INDEX/_search", "indices:data/read/search"),
    ("(GET|POST)", "/INDEX/_count", "indices:data/read/search"),
    ("POST", "/INDEX/_msearch", "indices:data/read/msearch"),
    ("POST", "/INDEX/_mget", "indices:data/read/mget"),
    ("GET", "/INDEX/_doc/.*", "indices:data/read/get"),
    ("PUT", "/INDEX/_doc/.*", "indices:data/write/index"),
    ("DELETE", "/INDEX/_doc/.*", "indices:data/write/delete"),
    ("POST", "/INDEX/_search/point_in_time", "indices:data/read/point_in_time/create"),
    ("DELETE", "/_search/point_in_time", "indices:data/read/point_in_time/delete"),
    ("GET", "/INDEX/_stats/.*", "indices:monitor/stats"),
)


def role(name: str) -> Any:
    """The role of OpenSearch that the documentation prints under this name."""
    blocks = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    found = [body for body in map(json.loads, blocks) if body.get("description") == name]
    assert len(found) == 1, f"docs/connect.md has no role {name!r}"
    return found[0]


def action_of(method: str, path: str) -> tuple[str, str]:
    """The action of a request, and the index that it names."""
    for verb, pattern, action in ACTIONS:
        match = re.fullmatch(pattern.replace("INDEX", "(?P<index>[^_/][^/]*)"), path)
        if match and re.fullmatch(verb, method):
            return action, match.groupdict().get("index") or ""
    return f"indices:unknown/{method}{path}", ""


def enforcing(body: Any, only: str) -> Refuse:
    """What OpenSearch's security does with a role: its sentences, and 403.

    Args:
        only: the indices for which the patterns ``products*`` of the role stand here.
    """

    def may(action: str, index: str) -> bool:
        cluster = any(fnmatchcase(action, each) for each in body["cluster_permissions"])
        if not index:
            return cluster
        for rule in body["index_permissions"]:
            patterns = [only if p == "products*" else p for p in rule["index_patterns"]]
            if all(any(fnmatchcase(n, p) for p in patterns) for n in index.split(",")) and any(
                fnmatchcase(action, each) for each in rule["allowed_actions"]
            ):
                return True
        return False

    def refuse(method: str, path: str, data: bytes) -> Refusal | None:
        action, index = action_of(method, path)
        if path == "/_aliases":  # the rights of every index and alias that it names
            named = [next(iter(each.values())) for each in orjson.loads(data)["actions"]]
            index = ",".join(str(each[key]) for each in named for key in ("index", "alias"))
        return None if may(action, index) else forbidden(action)

    return refuse


def forbidden(action: str) -> Refusal:
    reason = f"no permissions for [{action}] and User [name=loader, backend_roles=[]]"
    error = {"type": "security_exception", "reason": reason}
    body = {"error": {"root_cause": [error], **error}, "status": 403}
    return 403, "application/json", orjson.dumps(body)


def lacking(*patterns: str) -> Refuse:
    """Everything but the requests ``METHOD path`` that match one of these."""

    def refuse(method: str, path: str, body: bytes) -> Refusal | None:
        asked = f"{method} {path}"
        if any(re.fullmatch(pattern, asked) for pattern in patterns):
            return forbidden(action_of(method, path)[0])
        return None

    return refuse


def beyond_looking(gate: Gate) -> list[str]:
    """What was refused, but for looks at the cluster, which are tried and done without."""
    looks = ("GET /_nodes", "GET /_cluster/settings")
    return [each for each in gate.refused if each != "GET /" and not each.startswith(looks)]


@pytest.fixture
def load(tiny: Path, tmp_path: Path) -> Load:
    return make_load(tiny / "router", tmp_path, 12)


@pytest.fixture
def name(opensearch_url: str) -> Iterator[str]:
    made = f"test-{uuid.uuid4().hex[:12]}"
    yield made
    engine = connect(opensearch_url)
    for index in engine.indices(f"{made}*"):
        engine.delete_index(index)
    engine.close()


def run(url: str, load: Load, index: str, *more: str) -> Result:
    command = [str(load.file) if part == load.file.name else part for part in
               load.command(url, index, "--patience", "10", *more)[3:]]  # fmt: skip
    command[command.index("dead.jsonl")] = str(load.file.with_name("dead.jsonl"))
    return CliRunner().invoke(cli, command)


def told(result: Result) -> str:
    assert result.exception is None or isinstance(result.exception, SystemExit | SpladeError)
    return f"{result.output} {result.exception}"


def test_the_role_for_ingest_is_enough(opensearch_url: str, name: str, load: Load) -> None:
    with Gate(opensearch_url, enforcing(role("splade-os ingest"), f"{name}*")) as gate:
        result = run(gate.url, load, name)
        assert result.exit_code == 0, told(result)
        result = run(gate.url, load, name, "--restart", "--skip-unchanged")
        assert result.exit_code == 0, told(result)
        assert beyond_looking(gate) == []
    engine = connect(opensearch_url)
    check_index(engine, name, load)
    engine.close()


def test_the_role_for_search_is_enough(opensearch_url: str, name: str, load: Load) -> None:
    assert run(opensearch_url, load, name).exit_code == 0
    text = load.documents["d1"]["text"]
    with Gate(opensearch_url, enforcing(role("splade-os search"), f"{name}*")) as gate:
        for mode in ("idf", "bm25", "hybrid"):
            command = ["search", text, "--url", gate.url, "--index", name, "--mode", mode]
            result = CliRunner().invoke(cli, [*command, "--model", str(load.model), "--json"])
            assert result.exit_code == 0, told(result)
        assert beyond_looking(gate) == []


@pytest.mark.parametrize(
    "missing",
    [("GET /",), ("GET /_nodes.*",), ("GET /", "GET /_nodes.*", "GET /_cluster.*")],
    ids=["main", "nodes", "both"],
)
def test_rights_to_look_at_the_cluster_are_not_needed(
    opensearch_url: str, name: str, load: Load, missing: tuple[str, ...]
) -> None:
    with Gate(opensearch_url, lacking(*missing)) as gate:
        result = run(gate.url, load, name)
        assert result.exit_code == 0, told(result)
        assert gate.refused


@pytest.mark.parametrize(
    ("pattern", "action"),
    [
        ("PUT /test-[^/]*", "indices:admin/create"),
        ("GET /test-[^/]*/_mapping", "indices:admin/mappings/get"),
        ("POST /test-[^/]*/_bulk", "indices:data/write/bulk"),
    ],
)
def test_a_right_that_is_needed_is_named(
    opensearch_url: str, name: str, load: Load, pattern: str, action: str
) -> None:
    with Gate(opensearch_url, lacking(pattern)) as gate:
        result = run(gate.url, load, name)
    assert result.exit_code == 1
    assert action in told(result)
    assert name in told(result)
    assert "credentials" not in told(result)


def test_a_right_to_search_that_is_missing_is_an_error_of_its_own(
    opensearch_url: str, name: str, load: Load
) -> None:
    assert run(opensearch_url, load, name).exit_code == 0
    with Gate(opensearch_url, lacking(f"POST /{name}/_search")) as gate:
        engine = connect(gate.url)
        with pytest.raises(AuthorizationError, match="lacks the right indices:data/read/search"):
            engine.count(name)
        engine.close()


PAGE = b"<html><body><h1>403 Forbidden</h1>Request blocked.</body></html>"


@pytest.mark.parametrize("status", [403, 406, 411, 413, 415, 422])
def test_a_document_that_a_gateway_refuses_is_a_dead_letter(
    opensearch_url: str, name: str, load: Load, status: int
) -> None:
    """One of twelve: the others are written."""

    def refuse(method: str, path: str, body: bytes) -> Refusal | None:
        blocked = path.endswith("_bulk") and b'"d7"' in body
        return (status, "text/html", PAGE) if blocked else None

    with Gate(opensearch_url, refuse) as gate:
        result = run(gate.url, load, name)
    assert result.exit_code == 3, told(result)
    assert [letter["id"] for letter in load.letters()] == ["d7"]
    engine = connect(opensearch_url)
    assert engine.count(name) == 11
    engine.close()


def answer(change: Callable[[dict[str, Any]], None]) -> Callable[[str], Refuse]:
    """``GET /`` answers something else."""

    def make(url: str) -> Refuse:
        engine = connect(url)
        root = engine.request("GET", "/")  # type: ignore[attr-defined]
        engine.close()
        change(root)
        return lambda method, path, body: (
            (200, "application/json", orjson.dumps(root)) if path == "/" else None
        )

    return make


def test_opensearch_that_calls_itself_elasticsearch(
    opensearch_url: str, name: str, load: Load
) -> None:
    """As `compatibility.override_main_response_version` has it."""

    def change(root: dict[str, Any]) -> None:
        root["version"].pop("distribution")
        root["version"]["number"] = "7.10.2"

    with Gate(opensearch_url, answer(change)(opensearch_url)) as gate:
        engine = connect(gate.url)
        info = engine.info()
        assert (info.distribution, info.version[:2] >= "2.") == ("opensearch", True)
        assert run(gate.url, load, name).exit_code == 0
        engine.close()


def test_a_lost_page_of_a_scan_is_asked_for_again(
    opensearch_url: str, name: str, load: Load
) -> None:
    assert run(opensearch_url, load, name).exit_code == 0
    asked = iter(range(100))

    def refuse(method: str, path: str, body: bytes) -> Refusal | None:
        late = path == "/_search" and next(asked) == 1
        return (503, "application/json", b'{"error": "busy"}') if late else None

    with Gate(opensearch_url, refuse) as gate:
        engine = connect(gate.url)
        assert {key for key, _ in engine.scan(name, page=5)} == set(load.documents)
        assert len(gate.refused) == 1
        engine.close()


def _without_a_shard(data: bytes) -> bytes:
    answered = orjson.loads(data)
    answered["_shards"]["total"] += 1
    return orjson.dumps(answered)


def test_an_answer_without_one_of_the_shards_is_none(
    opensearch_url: str, name: str, load: Load
) -> None:
    """OpenSearch counts a shard that no node holds neither as failed nor as successful."""
    assert run(opensearch_url, load, name).exit_code == 0
    direct = connect(opensearch_url)

    def refuse(method: str, path: str, body: bytes) -> Refusal | None:
        if not path.endswith("/_search") or b'"pit"' in body:
            return None
        found = direct.request(method, path, body)  # type: ignore[attr-defined]
        return 200, "application/json", _without_a_shard(orjson.dumps(found))

    with Gate(opensearch_url, refuse) as gate:
        engine = connect(gate.url)
        with pytest.raises(EngineError, match="incomplete"):
            engine.count(name)
        engine.close()
    direct.close()
