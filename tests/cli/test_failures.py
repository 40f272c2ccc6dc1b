"""What a user sees when something fails: one line, and never a traceback but for a bug of ours."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from splade_os.cli import cli
from splade_os.cli.failures import run
from splade_os.errors import InputError, SpladeWarning
from tests.evaluation.collections import make, write_beir

ON_A_FULL_DISK = Path("/dev/full").exists()


def splade_os(*arguments: object, stdout: int | None = subprocess.PIPE, **env: str) -> Result:
    """The command as a shell runs it; text as its bytes say."""
    command = [sys.executable, "-m", "splade_os", *map(str, arguments)]
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env={**os.environ, **env}, check=False
    )
    out = done.stdout or b""
    return Result(CliRunner(), out, done.stderr, out, None, done.returncode, None)


@pytest.fixture
def quiet_streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["splade-os"])
    shown = warnings.showwarning
    yield
    warnings.showwarning = shown


@pytest.mark.usefixtures("quiet_streams")
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("bad.", hint="Do this."), 1, "Error: bad.\nDo this.\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "Error: No space left on device.\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x.yaml"), 1,
         "Error: x.yaml: Permission denied.\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 1,
         f"Error: {'x' * 300}: File name too long.\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a", None, "b"), 1,
         "Error: a -> b: No such file.\n"),
        (click.UsageError("Which?"), 2, "Error: Which?\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (SystemExit(3), 3, ""),
    ],
)  # fmt: skip
def test_what_a_user_can_mend_is_a_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    @click.command()
    def fails() -> None:
        raise error

    assert run(fails) == code
    assert capsys.readouterr().err.removeprefix("\n").endswith(message)


@pytest.mark.usefixtures("quiet_streams")
@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError("a library's own"), EOFError("cut"), AttributeError("y")]
)
def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    @click.command()
    def fails() -> None:
        raise error

    assert run(fails) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown and type(error).__name__ in shown and "Please report it" in shown


@pytest.mark.usefixtures("quiet_streams")
def test_endless_recursion_is_shown_short(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def fails() -> None:
        def again() -> None:
            again()

        again()

    assert run(fails) == 1
    assert len(capsys.readouterr().err.splitlines()) < 100


@pytest.mark.usefixtures("quiet_streams")
def test_our_warnings_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def warns() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning("ours", SpladeWarning, "file.py", 1)
            warnings.showwarning("theirs", FutureWarning, "file.py", 1)

    assert run(warns) == 0
    assert capsys.readouterr().err == "Warning: ours\nfile.py:1: FutureWarning: theirs\n"


def test_explain_on_a_terminal_of_ascii() -> None:
    done = splade_os("explain", "na\u00efve \u6771", "-n", "5", PYTHONIOENCODING="ascii")
    assert done.exit_code == 0 and "Traceback" not in done.stderr
    assert "#####" in done.stdout and done.stdout.isascii()


@pytest.mark.skipif(not ON_A_FULL_DISK, reason="no /dev/full here")
def test_a_full_disk(tmp_path: Path) -> None:
    docs = tmp_path / "docs.jsonl"
    docs.write_text(json.dumps({"_id": "1", "text": "red sun"}) + "\n")
    done = splade_os("encode", docs, "-o", "/dev/full")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        1,
        "Error: /dev/full: No space left on device.",
    )
    with Path("/dev/full").open("wb") as full:
        done = splade_os("train", "--list", stdout=full.fileno())
    assert (done.exit_code, done.stderr) == (1, "Error: No space left on device.\n")


@pytest.mark.parametrize(
    ("out", "message"),
    [("missing/x.jsonl", "no folder"), (".", "is a folder"), ("missing/x.npz", "no folder")],
)
def test_an_output_that_cannot_be(tmp_path: Path, out: str, message: str) -> None:
    docs = tmp_path / "docs.jsonl"
    docs.write_text("{}\n")
    done = CliRunner().invoke(cli, ["encode", str(docs), "-o", str(tmp_path / out)])
    assert done.exit_code == 2 and message in done.stderr and "Loading" not in done.stderr


def test_compare_one_query(tmp_path: Path) -> None:
    for name, score in (("a", 1), ("b", 3)):
        (tmp_path / name).write_text(f"q Q0 d1 1 2 x\nq Q0 d2 2 {score} x\n")
    (tmp_path / "qrels").write_text("q 0 d1 1\n")
    files = [str(tmp_path / name) for name in ("a", "b")]
    done = CliRunner().invoke(
        cli, ["compare", *files, "--qrels", str(tmp_path / "qrels"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert {c["p"] for c in json.loads(done.stdout)["measures"]} == {1.0}


def test_evaluate_says_what_is_meant(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["evaluate", "scifact"])
    assert isinstance(done.exception, InputError)
    assert "There is no folder scifact" in done.exception.message
    assert "irds:beir/scifact/test" in str(done.exception.hint)
    docs = tmp_path / "docs.jsonl"
    docs.write_text("{}\n")
    done = CliRunner().invoke(cli, ["evaluate", str(docs)])
    assert isinstance(done.exception, InputError) and "--qrels FILE" in str(done.exception.hint)


def test_judged_documents_that_the_collection_lacks(tiny: Path, tmp_path: Path) -> None:
    corpus, queries, qrels = make(30, 5)
    relevant = {d for judged in qrels.values() for d, r in judged.items() if r > 0}
    gone = sorted(relevant)[0]
    folder = write_beir(
        tmp_path / "part", ({i: t for i, t in corpus.items() if i != gone}, queries, qrels)
    )
    options = ["--model", str(tiny / "bert"), "--device", "cpu", "--json"]
    done = CliRunner().invoke(cli, ["evaluate", str(folder), *options])
    assert done.exit_code == 0, done.exception
    (note,) = json.loads(done.stdout)["notes"]
    assert f"lacks 1 of {len(relevant)} relevant documents, '{gone}'" in note
    folder = write_beir(tmp_path / "other", ({"x": "red"}, queries, qrels))
    done = CliRunner().invoke(cli, ["evaluate", str(folder), *options])
    assert isinstance(done.exception, InputError)
    assert f"none of the {len(relevant)} relevant documents" in done.exception.message


@pytest.mark.parametrize("name", ["nDCG@0", "AP@0", "P@99999999999999999999", "AP(rel=0)@10", "x"])
def test_measures_that_end_the_process(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").write_text("q Q0 d1 1 2 x\n")
    (tmp_path / "qrels").write_text("q 0 d1 1\n")
    files = [str(tmp_path / "run")] * 2
    done = CliRunner().invoke(
        cli, ["compare", *files, "--qrels", str(tmp_path / "qrels"), "--measures", name]
    )
    assert done.exit_code == 1 and name in str(done.exception)


@pytest.mark.parametrize(("name", "grade"), [("ERR@10", 100_000), ("Accuracy@10", 1)])
def test_a_measure_that_cannot_be_computed(tmp_path: Path, name: str, grade: int) -> None:
    (tmp_path / "run").write_text("q Q0 d1 1 2 x\n")
    (tmp_path / "qrels").write_text(f"q 0 d1 {grade}\n")
    files = [str(tmp_path / "run")] * 2
    done = CliRunner().invoke(
        cli, ["compare", *files, "--qrels", str(tmp_path / "qrels"), "--measures", name]
    )
    assert done.exit_code == 1 and f"{name} cannot be computed" in str(done.exception)
    assert f"{grade:,}" in str(done.exception)


def test_a_pair_that_is_judged_twice(tmp_path: Path) -> None:
    from splade_os.evaluation.trec import read_qrels

    (tmp_path / "qrels").write_text("q 0 d1 1\nq 0 d2 0\nq 0 d1 2\nq 1 d2 0\n")
    with pytest.warns(
        SpladeWarning, match=r"2 judgements .*qrels:3: d1 is judged 2 for q, before 1"
    ):
        assert read_qrels(tmp_path / "qrels") == {"q": {"d1": 2, "d2": 0}}
