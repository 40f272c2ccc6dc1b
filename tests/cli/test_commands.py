"""Commands that are tested nowhere else, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from splade_os import DocumentEncoder, __version__
from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.errors import SpladeError
from splade_os.features import truncate
from tests.tiny_models import masked_lm


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    file = tmp_path / "docs.jsonl"
    texts = ["the cat", "red sun and moon", "", "fast search engine"]
    lines = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    file.write_text("\n".join([*lines[:2], "broken", *lines[2:]]))
    return file


@pytest.mark.parametrize("form", ["jsonl", "npz"])
def test_encode(tiny: Path, tmp_path: Path, docs: Path, form: str) -> None:
    out = tmp_path / f"vectors.{form}"
    where = ("--model", str(tiny / "bert"), "-o", str(out), "--device", "cpu", "--dtype", "float32")
    done = run("encode", str(docs), *where)
    assert done.exit_code == 3 and "docs.jsonl:3" in done.stderr  # the broken line
    encoder = DocumentEncoder.load(str(tiny / "bert"), device="cpu")
    dense = encoder.encode(["the cat", "red sun and moon", "", "fast search engine"]).to_dense()
    dense[2] = 0  # for an index a text without content has no vector
    if form == "npz":
        with np.load(out) as file:
            got = np.zeros_like(dense)
            places = np.repeat(np.arange(4), np.diff(file["indptr"]))
            got[places, file["indices"]] = file["values"]
            assert (
                file["ids"].tolist() == ["d0", "d1", "d2", "d3"] and file["width"] == dense.shape[1]
            )
        np.testing.assert_allclose(got, dense, atol=1e-5)
        return
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["d0", "d1", "d2", "d3"]
    for line, row in zip(lines, dense, strict=True):
        ids = np.flatnonzero(row)
        assert {encoder.vocabulary.tokens[i] for i in ids} == set(line["vector"])
        sent = np.array([line["vector"][encoder.vocabulary.tokens[i]] for i in ids], np.float32)
        np.testing.assert_allclose(truncate(sent), row[ids], rtol=2**-8 + 1e-4)


def test_explain(tiny: Path) -> None:
    done = run("explain", "the red cat", "--model", str(tiny / "bert"), "--json")
    terms = json.loads(done.stdout)
    assert [t["weight"] for t in terms] == sorted((t["weight"] for t in terms), reverse=True)
    assert all(not t["expansion"] for t in terms if t["token"] in {"the", "red", "cat"})
    shown = run("explain", "the red cat", "--model", str(tiny / "bert"), "-n", "3")
    assert shown.stdout.count("█") > 3 and len(shown.stdout.splitlines()) == 3


@pytest.mark.parametrize("name", ["bert", "router-pre", "distilbert-50"])
def test_model_show(tiny: Path, name: str) -> None:
    facts = json.loads(run("model", "show", str(tiny / name), "--json").stdout)
    assert facts["family"] == ("bert" if name == "bert" else "distilbert")
    assert facts["max_length"] == 48 and facts["activation"] == "relu"
    assert ("inference-free" in facts["query_side"]) == (name == "router-pre")


def test_model_show_of_what_says_nothing(tmp_path: Path) -> None:
    folder = str(masked_lm("bert", tmp_path / "plain"))
    assert json.loads(run("model", "show", folder, "--json").stdout)["activation"] is None
    assert "not stated" in run("model", "show", folder).stdout


def test_index_commands(engine: Engine, engine_url: str, index: str, tiny: Path) -> None:
    place = ["--url", engine_url, "--index", index]
    model = ["--model", str(tiny / "router"), "--max-active-dims", "9"]
    assert run("index", "create", *place, *model).exit_code == 0
    facts = json.loads(run("index", "show", *place, "--json").stdout)
    assert (facts["documents"], facts["model"]["max_active_dims"]) == (0, 9)
    assert facts["splade_os"] == __version__
    assert "active dimensions  9" in run("index", "show", *place).stdout
    assert run("index", "delete", *place).exit_code == 1  # nobody said yes
    assert run("index", "delete", *place, "--yes").exit_code == 0
    assert isinstance(run("index", "show", *place).exception, SpladeError)


def test_search(engine_url: str, index: str, engine: Engine, tiny: Path, docs: Path) -> None:
    place = ["--url", engine_url, "--index", index]
    dead = str(docs.with_name("dead.jsonl"))
    run("ingest", str(docs), *place, "--model", str(tiny / "router"), "--lexical-weight", "2",
        "--dead-letters", dead)  # fmt: skip
    for mode in ("idf", "encoder", "bm25"):
        done = run("search", "fast engine", *place, "--mode", mode, "--json", "--explain")
        found = json.loads(done.stdout)
        assert found["mode"] == mode and found["hits"]
        if mode != "encoder":  # a random encoder has a mind of its own
            assert found["hits"][0]["id"] == "d3", (mode, done.output)
    shown = run("search", "fast engine", *place, "--explain")
    assert "d3" in shown.stdout and "engine" in shown.stdout
    nothing = run("search", "日本", *place)
    assert nothing.exit_code == 0 and "no term with a weight" in nothing.stderr


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from _commands(command) if isinstance(command, click.Group) else [command]


def test_no_number_is_too_large_for_what_takes_it() -> None:
    """Whole numbers have an upper bound: what is behind them (tokenizers, sockets, slices) takes
    no more than 64 bits."""
    assert isinstance(cli, click.Group)
    numbers = [
        (command.name, option.name, option.type)
        for command in _commands(cli)
        for option in command.params
        if isinstance(option.type, click.types.IntParamType)
    ]
    assert len(numbers) > 20
    for command, option, kind in numbers:
        assert isinstance(kind, click.IntRange) and kind.max, f"{command} {option}"
        assert kind.max < 2**53
