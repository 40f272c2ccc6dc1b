"""What takes longer: the command line on Ray, a driver that is killed, encoding to Parquet."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import dataset

from tests.distributed.conftest import Job, assert_same
from tests.faults.loads import FULL

pytestmark = pytest.mark.skipif(not FULL, reason="SPLADE_OS_TEST_FULL=1: a Ray of its own each")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "splade_os", *map(str, words)]


@pytest.fixture(autouse=True)
def whatever_others_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray kills its workers where the memory of a machine is full to 95 %, by whomever."""
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")


def run(*words: object) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=240)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def test_a_killed_driver(job: Job, names: tuple[str, str], tmp_path: Path) -> None:
    index, plain = names
    how: tuple[object, ...] = (
        "ingest", job.folder, "--text", "text", "--url", job.engine.url, "--index", index, "--json",
        "--on", "ray", "--writers", 1, "--dtype", "int8", "--dead-letters", tmp_path / "cli.jsonl",
    )  # fmt: skip
    for number in range(200):  # more to do: it is to be killed in the middle
        rows = [json.dumps({"id": f"m{number}-{i}", "text": f"cat {i}"}) for i in range(20)]
        with (job.folder / "2.jsonl").open("a") as file:
            file.write("\n".join(rows) + "\n")
    driver = subprocess.Popen(command(*how), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 180
    while driver.poll() is None and time.monotonic() < until:
        if job.engine.indices(f"{index}*"):
            job.engine.refresh(index)
            if job.engine.count(index) > 500:
                break
        time.sleep(0.05)
    assert driver.poll() is None, "it ended before it could be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert job.engine.settings(index).get("refresh_interval") == "-1"
    code, report, talk = run(*how, "--resume")
    assert code == 3 and report["verified"], talk
    # (of the three of one id, the first may be counted as overwritten already)
    assert (report["dead"], report["indexed"]) == (1, job.count + 4002)
    job.plain(plain)
    assert_same(job.engine, index, plain)


def test_encoded_on_ray(job: Job, names: tuple[str, str], tmp_path: Path) -> None:
    index, plain = names
    out = tmp_path / "v.parquet"
    how = ("--text", "text", "--dtype", "int8", "-o", out)
    code, _, talk = run("encode", job.folder, *how, "--on", "ray", "--writers", 1)
    assert code == 3 and "1 skipped" in talk, talk
    assert dataset.dataset(str(out)).count_rows() == job.count + 2  # of one id, all three
    assert (out / "_SUCCESS").is_file()
    code, _, talk = run("encode", job.folder, *how, "--on", "ray")
    assert code == 1 and "there already" in talk
    code, report, talk = run(
        "ingest", out, "--url", job.engine.url, "--index", index, "--json", "--on", "ray"
    )
    assert code == 3 and report["verified"] and report["created"] == job.count, talk
    job.plain(plain)
    assert_same(job.engine, index, plain)


def test_no_cluster_answers(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "1", "text": "cat"}\n')
    code, _, talk = run("encode", tmp_path, "-o", tmp_path / "v.parquet", "--on", "ray:nowhere")
    assert code == 1 and "no address of a Ray cluster" in talk, talk
    code, _, talk = run("encode", tmp_path, "-o", tmp_path / "v.parquet", "--on", "ray:auto")
    assert code == 1 and "No Ray cluster answers" in talk, talk
