"""The client's own disk is full, read-only or not there: one line and an exit code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from splade_os.engines import Engine
from tests.faults.loads import Load, make_load

LONG = "n" * 300


def run(
    load: Load, url: str, index: str, *more: str, limit: int | None = None, **environment: str
) -> tuple[int, str]:
    """Exit code and talk; no file may grow beyond ``limit`` bytes, which is what a full disk is."""

    def restrict() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        load.command(url, index, *more),
        cwd=load.file.parent,
        capture_output=True,
        env={**os.environ, **environment},
        preexec_fn=restrict,
        check=False,
    )
    talk = done.stderr.decode()
    assert "Traceback" not in talk, talk
    return done.returncode, talk


@pytest.fixture
def load(tiny: Path, tmp_path: Path) -> Load:
    return make_load(tiny / "router", tmp_path, 200)


@pytest.mark.parametrize("place", ["a file", "below a file", "ledgers is a file", "no name"])
def test_state_folder(load: Load, engine_url: str, index: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledgers").write_text("x")
    folder = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "below",
        "ledgers is a file": tmp_path / "state",
        "no name": LONG,
    }[place]
    code, talk = run(load, engine_url, index, SPLADE_OS_STATE=str(folder))
    assert code == 1 and "Error: The" in talk and "SPLADE_OS_STATE" in talk, talk


def test_damaged_checkpoint(
    load: Load, engine_url: str, index: str, tmp_path: Path, engine: Engine
) -> None:
    state = tmp_path / "state"
    code, _ = run(load, engine_url, index, "--canary", "cat=gone", SPLADE_OS_STATE=str(state))
    assert code == 1
    (file,) = (state / "ledgers").glob("*.sqlite")
    file.write_bytes(b"no database" * 1000)
    code, talk = run(load, engine_url, index, "--resume", SPLADE_OS_STATE=str(state))
    assert code == 1 and f"The checkpoint {file} is damaged" in talk and "rm " in talk
    file.unlink()
    assert run(load, engine_url, index, "--resume", SPLADE_OS_STATE=str(state))[0] == 0
    assert engine.count(index) == 200


def test_no_room_for_the_checkpoint(
    load: Load, index: str, tmp_path: Path, opensearch_url: str
) -> None:
    for limit in (100, 5_000, 30_000):
        state = str(tmp_path / f"state-{limit}")
        code, talk = run(load, opensearch_url, index, limit=limit, SPLADE_OS_STATE=state)
        assert code == 1 and "The checkpoint" in talk, talk


@pytest.mark.parametrize("where", ["device", "limit"])
def test_no_room_for_dead_letters(
    load: Load, engine: Engine, index: str, opensearch_url: str, tmp_path: Path, where: str
) -> None:
    bad = json.dumps({"id": "bad", "text": "cat", "vector": {"no such": 1}, "more": "x" * 9000})
    good = load.file.read_text().splitlines()
    load.file.write_text("\n".join([*good[:100], *[bad] * 90, *good[100:]]) + "\n")
    # the checkpoint and its log need more room than the letters get, so it is not limited there
    dead = ("--dead-letters", "/dev/full" if where == "device" else "dead-2.jsonl")
    limit = None if where == "device" else 500_000
    code, talk = run(load, opensearch_url, index, *dead, limit=limit)
    assert code == 1 and "cannot be written to" in talk and "--dead-letters" in talk, talk
    assert Path("/dev/full").is_char_device()


def test_no_room_for_the_report(load: Load, index: str, opensearch_url: str) -> None:
    code, talk = run(load, opensearch_url, index, "--report", "/dev/full")
    assert code == 1 and "The report cannot be written to /dev/full" in talk, talk
    assert Path("/dev/full").is_char_device()
    code, talk = run(load, opensearch_url, index, "--report", f"{LONG}.json")
    assert code == 1 and "report cannot be written" in talk, talk
    code, talk = run(load, opensearch_url, index, "--report", "nowhere/r.json")
    assert code == 2 and "no folder" in talk, talk
    code, talk = run(load, opensearch_url, index, "--report", "/dev/stderr")
    assert code == 0 and '"exit_code": 0' in talk, talk


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--limit", "18446744073709551616"], 2),
        (["--offset", "9" * 5000], 2),
        (["--shard", "1/" + "9" * 5000], 2),
        (["--shard", "1/999999999"], 0),
        (["--offset", "999999999999999"], 0),
        (["--dead-letters", LONG], 1),
        (["--id", LONG], 1),
        (["--alias", LONG], 1),
    ],
)
def test_numbers_and_names_that_are_too_long(
    load: Load, index: str, opensearch_url: str, more: list[str], code: int
) -> None:
    found, talk = run(load, opensearch_url, index, *more)
    assert found == code, talk


def test_standard_input_is_closed(load: Load, index: str, opensearch_url: str) -> None:
    command = load.command(opensearch_url, index)
    for source in (load.file.name, "-"):
        command[4] = source
        done = subprocess.run(
            ["sh", "-c", '"$@" <&-', "sh", *command],
            cwd=load.file.parent,
            capture_output=True,
            check=False,
        )
        talk = done.stderr.decode()
        assert "Traceback" not in talk, talk
        assert done.returncode == (1 if source == "-" else 0), talk
