"""The process of an ingest dies; the next one goes on; every document is there once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from splade_os.engines import Engine, connect
from tests.conftest import NEWEST, Nodes
from tests.faults.loads import FULL, Load, check_index, make_load


@pytest.fixture(params=["sqlite", *NEWEST] if FULL else ["sqlite", NEWEST[0]])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path, nodes: Nodes) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/engine.db"
    return nodes.url(request.param)


@pytest.fixture
def engine(engine_url: str) -> Iterator[Engine]:
    opened = connect(engine_url)
    yield opened
    opened.close()


SMALL = ("--max-bytes", "60000")  # many requests, so that there is much to lose


def wait_for(engine: Engine, index: str, count: float, process: Popen[bytes]) -> None:
    """Until the index has ``count`` documents, however fast the machine is."""
    while process.poll() is None:
        if engine.indices(f"{index}*"):
            engine.refresh(index)
            if engine.count(index) >= count:
                return
        time.sleep(0.005)


def kill_and_resume(
    load: Load, engine: Engine, url: str, index: str, kills: int, before: int = 0
) -> int:
    """Kill it at ``kills`` random moments, then let it finish; how often it was alive.

    ``before``: documents in the index at the start, all of which are overwritten.
    """
    draw = random.Random(5)
    hits = 0
    for n, share in enumerate(sorted(draw.uniform(0, 0.7) for _ in range(kills))):
        process = load.start(url, index, *SMALL, *(["--resume"] if n else []))
        assert process.stderr is not None
        for line in process.stderr:  # until it has begun
            if b"Encoding with" in line:
                break
        if before:
            time.sleep(draw.uniform(0, 0.6))
        else:
            wait_for(engine, index, share * len(load.documents), process)
        hits += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, report, talk = load.run(url, index, *SMALL, "--resume")
    assert code == 0, talk
    assert report["read"] == len(load.documents) and report["verified"], report
    return hits


def test_killed_while_loading(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    load = make_load(tiny / "router", tmp_path, 30_000 if FULL else 8_000)
    hits = kill_and_resume(load, engine, engine_url, index, 20 if FULL else 3)
    assert hits >= (19 if FULL else 2)
    check_index(engine, index, load)
    assert engine.settings(index).get("refresh_interval") is None


def test_killed_while_overwriting(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    old = make_load(tiny / "router", tmp_path, 6_000, seed=1, name="old.jsonl")
    assert old.run(engine_url, index)[0] == 0
    new = make_load(tiny / "router", tmp_path, 6_000, seed=2)
    kill_and_resume(new, engine, engine_url, index, 6 if FULL else 2, before=6_000)
    check_index(engine, index, new)


def test_interrupted(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    embedded = engine_url.startswith("sqlite")  # many times faster
    number = signal.SIGTERM if embedded else signal.SIGINT
    load = make_load(tiny / "router", tmp_path, 40_000 if embedded else 12_000)
    process = load.start(engine_url, index, *SMALL)
    wait_for(engine, index, 100, process)
    process.send_signal(number)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk.decode()
    assert b"--resume" in talk
    engine.refresh(index)
    assert engine.count(index) < len(load.documents)
    code, _, talk_ = load.run(engine_url, index, *SMALL)
    assert code == 1 and "--resume" in talk_ and "--restart" in talk_
    code, report, talk_ = load.run(engine_url, index, *SMALL, "--resume")
    assert code == 0 and report["created"] == len(load.documents), talk_
    check_index(engine, index, load)


def test_a_pipe_that_pauses_is_interrupted(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    """What it gave before is in the index, and SIGTERM does not wait for it."""
    load = make_load(tiny / "router", tmp_path, 300)
    command = load.command(engine_url, index)
    command[4] = "-"
    process = Popen(command, cwd=tmp_path, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    assert process.stdin is not None
    process.stdin.write(load.file.read_bytes())
    process.stdin.flush()
    wait_for(engine, index, 300, process)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    code = process.wait(timeout=60)
    assert time.monotonic() - start < 15
    assert process.stderr is not None and process.stdout is not None
    talk = process.stderr.read().decode()
    assert code == 130 and "Fatal" not in talk and "Traceback" not in talk, talk
    process.stdin.close()
    check_index(engine, index, load)
