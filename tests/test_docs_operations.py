"""The operator's page: its commands parse, its files are what they say, its main line runs."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from splade_os.cli import cli
from splade_os.cli.ingest import DEAD_LETTERS_EXIT, INTERRUPTED_EXIT
from splade_os.engines import Engine

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
TEXT = PAGE.read_text()
MANIFESTS = [yaml.safe_load(b) for b in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
UNITS = re.findall(r"```ini\n(.*?)```", TEXT, re.S)


def _commands() -> list[list[str]]:
    lines = re.findall(r"(?:^|[ /`])splade-os ((?:ingest|retry|index) [^`\n]*)", TEXT, re.M)
    found = [shlex.split(line.split(" 2>>")[0]) for line in lines]
    job = MANIFESTS[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return [*found, job["containers"][0]["args"]]


@pytest.mark.parametrize("arguments", _commands(), ids=" ".join)
def test_commands_parse(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dead.jsonl").touch()
    command: click.Command = cli
    context = click.Context(command)
    rest = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, arguments
        command = found
    command.make_context("x", rest)  # raises for what it does not know


def test_the_page_says_all_of_them() -> None:
    assert len(_commands()) >= 8
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", TEXT, re.M)]
    assert codes == [0, 1, 2, DEAD_LETTERS_EXIT, INTERRUPTED_EXIT]


def test_extras_of_the_image_exist() -> None:
    root = PAGE.parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    known = extras["optional-dependencies"].keys()
    texts = ((root / "docker" / "Dockerfile").read_text(), TEXT)
    named = [
        n
        for text in texts
        for group in re.findall(r"EXTRAS=([\w,]+)", text)
        for n in group.split(",")
    ]
    assert len(named) > 4 and set(named) <= known


def test_units_and_manifests() -> None:
    sections: dict[str, dict[str, str]] = {}
    for unit in UNITS:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(unit)
        sections |= {name: dict(parser[name]) for name in parser.sections()}
    service = sections["Service"]
    assert service["RestartPreventExitStatus"].split() == ["2", str(DEAD_LETTERS_EXIT)]
    assert service["SuccessExitStatus"] == str(INTERRUPTED_EXIT)
    assert "OnCalendar" in sections["Timer"]
    (job,) = (m["spec"]["jobTemplate"]["spec"] for m in MANIFESTS)
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2, DEAD_LETTERS_EXIT]
    pod: dict[str, Any] = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which a podFailurePolicy needs
    (container,) = pod["containers"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert str(ports["metrics"]) in container["args"]
    written = {e["name"]: e["value"] for e in container["env"]}
    assert all(written[n].startswith("/data/") for n in ("SPLADE_OS_STATE", "SPLADE_OS_CACHE"))


def test_the_line_runs(
    engine: Engine,
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Night after night, with another dump; the report says how it ended. A dump with a damaged
    line leaves the alias as it is, unless so many are allowed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SPLADE_OS_URL", engine_url)
    alias = f"{index}-alias"
    (line, *_) = _commands()
    assert "--resume=auto" in line
    line = [alias if word == "products" else word for word in line]
    try:
        for text, damaged, allowed, code, seen in (
            ("red cat", "", [], 0, "red cat"),
            ("blue dog", "not json\n", [], 1, "red cat"),
            ("blue dog", "not json\n", ["--max-errors", "5"], DEAD_LETTERS_EXIT, "blue dog"),
        ):
            Path("dump.jsonl").write_text(json.dumps({"id": "1", "text": text}) + "\n" + damaged)
            model = ["--model", str(tiny / "router")]
            done = CliRunner().invoke(cli, [*line, *model, *allowed])
            assert done.exit_code == code, done.stderr
            assert json.loads(Path("ingest.json").read_text())["exit_code"] == code
            assert all("time" in json.loads(x) for x in done.stderr.splitlines() if x[:1] == "{")
            assert {i: d["text"] for i, d in engine.scan(alias, ["text"])} == {"1": seen}
        done = CliRunner().invoke(cli, ["index", "rollback", "--alias", alias])
        assert done.exit_code == 0, done.stderr
        assert {i: d["text"] for i, d in engine.scan(alias, ["text"])} == {"1": "red cat"}
    finally:
        for name in engine.indices(f"{alias}-*"):
            engine.delete_index(name)
