"""A load on Ray whose processes die, whose cluster is busy, which is stopped and goes on: the index
is that of an undisturbed load on one machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splade_os.distributed import runner
from splade_os.distributed.cluster import RayOptions
from splade_os.distributed.worker import EncodeWorker, SendWorker, Work
from splade_os.errors import SettingsError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.load import AliasOptions
from splade_os.ingest.report import IngestReport
from tests.distributed.conftest import Job, assert_same
from tests.faults.loads import FULL
from tests.faults.proxy import FaultyProxy

full = pytest.mark.skipif(not FULL, reason="SPLADE_OS_TEST_FULL=1: some 20 s each")


def die_once(flag: Path) -> None:
    """Kills this process, the first time that one gets here."""
    try:
        flag.touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def mortal_encoder(flag: Path, poison: str | None) -> type[EncodeWorker]:
    class Mortal(EncodeWorker):
        def work(self, window: Sequence[Record | Rejected]) -> Work:
            done = super().work(window)
            if poison and any(record.id == poison for record in window):
                os.kill(os.getpid(), signal.SIGKILL)
            if window[0].position > 20:
                die_once(flag)
            return done

    return Mortal


def mortal_writer(flag: Path) -> type[SendWorker]:
    class Mortal(SendWorker):
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            done = super().__call__(batch)  # the documents are in the index: nobody hears of it
            die_once(flag)
            return done

    return Mortal


@pytest.fixture(autouse=True)
def by_value(ray: Any) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@full
def test_a_load_on_ray_is_a_load(ray: Any, job: Job, names: tuple[str, str]) -> None:
    index, plain = names
    expected, report = job.plain(plain), job.on_ray(index)
    counts = "read created updated unchanged duplicates conflicts dead empty cut hashed"
    for name in counts.split():
        assert getattr(report, name) == getattr(expected, name), name
    assert report.verified and report.statistics_lag is None and report.checked > 30
    assert_same(job.engine, index, plain)
    (letter,) = job.letters()
    assert (letter["where"], letter["record"]) == ("1.jsonl:4", "no JSON")
    stored = job.engine.documents(index, ["twice"])["twice"]
    assert stored["n"] == -3  # of the last file, whichever was sent last
    # once more: nothing is written, nothing is counted twice
    again = job.on_ray(index, options={"skip_unchanged": True})
    # (which of three different records of one id stays is not settled then: docs/scale.md)
    assert again.created == 0 and again.unchanged >= job.count - 1
    assert again.unchanged + again.updated == job.count + 2


def stop_at(count: int) -> Callable[[IngestReport], None]:
    def stop(report: IngestReport) -> None:
        if report.indexed >= count:
            raise RuntimeError("stopped by the test")

    return stop


def test_dead_processes_a_poison_document_and_a_stop(
    ray: Any, job: Job, names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder and a writer are killed, one document kills whoever encodes it, the cluster puts
    requests off, the driver stops in the middle; the job goes on. The alias waits for the end."""
    index, plain = names
    alias = f"{index}-alias"
    encoder, writer = tmp_path / "encoder", tmp_path / "writer"
    job = replace(job, average_length=7.0)  # else it is measured on other documents at the end
    monkeypatch.setattr(runner, "EncodeWorker", mortal_encoder(encoder, "d75"))
    monkeypatch.setattr(runner, "SendWorker", mortal_writer(writer))
    how: dict[str, Any] = {
        "alias": AliasOptions(min_documents=0),
        "options": {"max_errors": 2},
        "cluster": RayOptions(workers=1, writers=1, attempts=1),
    }
    with FaultyProxy(job.engine.url, lambda n, size: "429" if n in (1, 2) else "pass") as proxy:
        with pytest.raises(RuntimeError, match="stopped by the test"):
            job.on_ray(alias, url=proxy.url, on_progress=stop_at(30), **how)
        assert [fate for fate, _ in proxy.seen].count("429") == 2
    assert encoder.exists() and writer.exists()
    assert not job.engine.alias_targets(alias)
    (behind,) = job.engine.indices(f"{alias}*")
    report = job.on_ray(alias, begin="resume", **how)
    assert report.live and report.index == behind and report.verified, report
    assert job.engine.alias_targets(alias) == [behind]
    assert (report.dead, report.read, report.indexed) == (2, job.count + 3, job.count + 1)
    damaged, poison = sorted(job.letters(), key=lambda letter: letter["id"] or "")
    assert "with this document alone" in poison["reason"] and poison["record"]["n"] == 75
    assert damaged["record"] == "no JSON"
    for file in job.folder.iterdir():  # the same documents but that one
        lines = [line for line in file.read_text().splitlines() if '"d75"' not in line]
        file.write_text("\n".join(lines) + "\n")
    job.plain(plain)
    assert_same(job.engine, behind, plain)


@full
@pytest.mark.filterwarnings("ignore:.*stays set for loading")
def test_two_jobs_on_one_index(ray: Any, job: Job, names: tuple[str, str], tmp_path: Path) -> None:
    index, plain = names
    expected = job.plain(plain)
    how: dict[str, Any] = {"cluster": RayOptions(workers=1, writers=1)}
    second = Job(tmp_path / "second", job.engine, job.count)
    second.folder.mkdir()
    for file in job.folder.iterdir():
        (second.folder / file.name).write_bytes(file.read_bytes())
    begun = threading.Event()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(job.on_ray, index, on_progress=lambda _: begun.set(), **how)
        begun.wait(120)
        reports = [second.on_ray(index, **how), first.result()]
    assert sum(report.created for report in reports) == job.count
    assert {report.indexed for report in reports} == {expected.indexed}
    assert_same(job.engine, index, plain)


def test_too_small_a_cluster_is_refused(ray: Any, job: Job, names: tuple[str, str]) -> None:
    with pytest.raises(SettingsError, match="some would never start"):
        job.on_ray(names[0], cluster=RayOptions(workers=20))
    with pytest.raises(SettingsError, match="0 GPUs"):
        job.on_ray(names[0], cluster=RayOptions(gpus=0.5))
    assert not job.engine.indices(f"{names[0]}*")
