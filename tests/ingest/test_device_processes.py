"""An ingest over several devices, one of whose processes dies: it ends, says why, and goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from splade_os import DocumentEncoder, ingest_documents
from splade_os.engines import connect
from splade_os.errors import EncoderProcessError, EncodingError
from splade_os.ingest.documents.records import Record
from splade_os.ingest.documents.vector_files import write_jsonl
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.state.checkpoint import Checkpoint, Job

COUNT = 600


def test_killed_process(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/engine.db")
    dead = tmp_path / "dead.jsonl"
    records = [Record(i, f"t:{i}", f"d{i}", f"cat dog {i}", {"n": i}) for i in range(1, COUNT + 1)]
    encoder = DocumentEncoder.load("starter", device="cpu,cpu", dtype="int8", batch_tokens=64)
    job = Job(
        url="sqlite",
        target="x",
        source="t",
        selection={},
        fingerprint="f",
        reader={},
        model=encoder.identity,
    )
    file = tmp_path / "checkpoint.sqlite"
    killed: list[float] = []

    def kill(report: IngestReport) -> None:
        if report.created and not killed:
            process = encoder._backend._workers[1]._process  # type: ignore[attr-defined]
            os.kill(process.pid, signal.SIGKILL)
            killed.append(time.monotonic())

    def load(encoder: DocumentEncoder, checkpoint: Checkpoint) -> IngestReport:
        return ingest_documents(
            records[checkpoint.done :],
            engine=engine,
            index="x",
            encoder=encoder,
            dead_letters=dead,
            checkpoint=checkpoint,
            on_progress=kill,
            options=IngestOptions(window=64, max_documents=64),
        )

    checkpoint = Checkpoint(file)
    checkpoint.begin(job, "x", dead)
    with pytest.raises(EncodingError, match="SIGKILL") as error:
        load(encoder, checkpoint)
    assert isinstance(error.value, EncoderProcessError)
    assert time.monotonic() - killed[0] < 10
    assert not dead.exists()  # no text was at fault
    skipped: list[str] = []
    with pytest.raises(EncoderProcessError):  # nor is one in a file of vectors
        write_jsonl(tmp_path / "v.jsonl", records, encoder, lambda where, _: skipped.append(where))
    assert not skipped
    encoder.close()
    checkpoint.close()

    engine.refresh("x")
    before = engine.count("x")
    assert 0 < before < COUNT
    report = load(DocumentEncoder.load("starter", device="cpu", dtype="int8"), Checkpoint(file))
    assert (report.dead, report.verified, engine.count("x")) == (0, True, COUNT)
    engine.close()
