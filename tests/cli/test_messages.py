"""What a user is told who has mistyped, forgotten or not installed something."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from splade_os import Index
from splade_os.cli import main
from splade_os.engines import Engine, connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import IndexNotFoundError


@dataclass
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line as the entry point runs it."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["splade-os", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(str(ended.value.code)), *capsys.readouterr())

    return call


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("serch", "search"), ("ingst", "ingest"), ("indx", "index"), ("aply", "apply")],
)
def test_a_mistyped_command(run: Run, typed: str, meant: str) -> None:
    done = run(typed, "x")
    assert done.code == 2 and f"Did you mean '{meant}'?" in done.err
    done = run("zzzzzz")
    assert done.code == 2 and "splade-os --help" in done.err


@pytest.fixture
def filled(engine_url: str, tiny: Path) -> Iterator[tuple[str, str]]:
    """URL and name of an index with a document."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    engine = connect(engine_url)
    with Index(engine=engine, index=name, model=str(tiny / "router"), text_fields=["text"]) as some:
        some.upsert({"id": "1", "text": "cat"})
    yield engine_url, name
    with contextlib.suppress(IndexNotFoundError):
        engine.delete_index(name)
    engine.close()


@pytest.mark.parametrize(
    "command",
    [
        ["index", "show"], ["index", "delete", "--yes"], ["search", "cat"], ["enrich"],
        ["index", "recount"], ["index", "optimize"], ["ingest", "-"], ["apply", "-"],
    ],
)  # fmt: skip
def test_a_command_without_an_index_lists_those_there(
    run: Run, filled: tuple[str, str], command: list[str]
) -> None:
    url, name = filled
    done = run(*command, "--url", url)
    assert done.code == 2 and "Which index?" in done.err
    assert name in done.err or " more (splade-os index list)" in done.err


def test_merged(run: Run, filled: tuple[str, str]) -> None:
    url, name = filled
    done = run("index", "optimize", "--url", url, "--index", name)
    assert done.code == 0 and f"{name}: " in done.err and "bytes before" in done.err


@pytest.mark.parametrize("command", [["index", "show"], ["search", "cat"], ["enrich"]])
def test_a_mistyped_index(run: Run, filled: tuple[str, str], command: list[str]) -> None:
    url, name = filled
    done = run(*command, "--json", "--url", url, "--index", name[:-1])
    assert done.code == 1 and f"There are: {name}" in done.err
    error = json.loads(done.out)["error"]
    assert error["type"] == "IndexNotFoundError" and name in error["hint"]


@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        (["search", "x", "--json", "--url", "http://127.0.0.1:9", "--index", "a"], 1,
         "EngineUnavailableError"),
        (["search", "--json", "--indx", "a", "b"], 2, "NoSuchOption"),
        (["serch", "--json"], 2, "UsageError"),
        (["index", "show", "--json", "--url", "ftp://x", "--index", "a"], 1, "SettingsError"),
        (["ingest", "/no/such/file", "--json", "--index", "a", "--url", "sqlite:///x.db"], 1,
         "InputError"),
        (["apply", "/no/such/file", "--json", "--index", "a", "--url", "sqlite:///x.db"], 1,
         "InputError"),
    ],
)  # fmt: skip
def test_an_error_of_json_is_json(
    run: Run,
    arguments: list[str],
    code: int,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    told = json.loads(done.out)
    assert (done.code, told["exit_code"], told["error"]["type"]) == (code, code, kind)
    assert told["error"]["message"] in done.err  # and people read it as before
    assert run(*(each for each in arguments if each != "--json")).out == ""


@pytest.mark.parametrize("explicit", [[], ["--backend", "torch"]])
def test_the_smallest_install(tmp_path: Path, explicit: list[str]) -> None:
    """Neither torch nor ONNX Runtime: the starter has a graph, for which 78 MB are enough."""
    hidden = "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnxruntime']))"
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "cat"}\n')
    url = f"sqlite:///{tmp_path}/x.db"
    ingest = ["ingest", str(tmp_path / "a.jsonl"), "--index", "a", "--url", url, *explicit]
    command = [sys.executable, "-c", f"{hidden}; from splade_os.cli import main; main()", *ingest]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    extra = "torch" if explicit else "onnx"
    assert done.returncode == 1 and f"pip install 'splade-os[{extra}]'" in done.stderr


def test_index_list(run: Run, filled: tuple[str, str], engine: Engine) -> None:
    url, name = filled
    engine.point_alias(f"{name}-live", name)
    try:
        rows = json.loads(run("index", "list", "--json", "--url", url).out)["indices"]
        (row,) = (row for row in rows if row["index"] == name)
        assert (row["documents"], row["field_type"]) == (1, "rank_features")
        assert row["aliases"] == [f"{name}-live"] and row["model"]
        assert 0 <= row["statistics_age"] < 60
        shown = run("index", "list", "--url", url).out
        assert name in shown and "s old" in shown
    finally:
        engine.remove_alias(f"{name}-live", name)


def test_statistics_have_their_own_index(
    run: Run, opensearch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"test-{uuid.uuid4().hex[:12]}"
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "cat"}\n')
    engine = connect(opensearch_url)
    where = ["--index", name, "--url", opensearch_url, "--statistics-index", f"{name}-statistics"]
    try:
        assert run("ingest", "a.jsonl", "--text", "text", *where).code == 0
        assert engine.indices(f"{name}*") == [name, f"{name}-statistics"]
        assert json.loads(run("index", "show", "--json", *where).out)["documents_in_idf"] == 1
    finally:
        run("index", "delete", "--yes", *where)
        assert isinstance(engine, ClusterEngine)
        engine.request("DELETE", f"/{name}-statistics", None)
        engine.close()
