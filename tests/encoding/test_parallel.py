"""Several devices, one process each. Two CPU processes stand for two GPUs: the code is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os.encoding import DocumentEncoder, parallel
from splade_os.encoding.parallel import ParallelBackend
from splade_os.errors import EncoderProcessError, EncodingError, SettingsError
from tests.encoding.broken_backends import UnreadableStart
from tests.encoding.broken_backends import start as broken
from tests.tiny_models import TEXTS


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> Iterator[DocumentEncoder]:
    encoder = DocumentEncoder.load(str(tiny / "distilbert"), device="cpu,cpu", batch_tokens=64)
    yield encoder
    encoder.close()


def test_equals_one_device(tiny: Path, encoder: DocumentEncoder) -> None:
    texts = [f"{text} {n}" for n in range(30) for text in TEXTS]
    alone = DocumentEncoder.load(str(tiny / "distilbert"), device="cpu", batch_tokens=64)
    ours, expected = encoder.encode(texts), alone.encode(texts)
    assert ours.indices.tolist() == expected.indices.tolist()
    assert ours.indptr.tolist() == expected.indptr.tolist()
    np.testing.assert_allclose(ours.values, expected.values, rtol=1e-5)
    assert encoder.identity == alone.identity
    assert encoder.device == "cpu, cpu"


def test_settings_are_checked_in_the_processes(tiny: Path) -> None:
    with pytest.raises(SettingsError, match="no torch device"):
        DocumentEncoder.load(str(tiny / "bert"), device="cpu:x,cpu")
    for mixed in ("cpu,cuda:0", "cpu,"):
        with pytest.raises(SettingsError, match="several of one kind"):
            DocumentEncoder.load(str(tiny / "bert"), device=mixed)


def test_a_process_that_dies(encoder: DocumentEncoder) -> None:
    backend = encoder._backend
    os.kill(backend._workers[0]._process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(EncodingError, match=r"was killed \(SIGKILL\)(.|\n)*lower --batch-tokens"):
        encoder.encode(TEXTS * 20)


SCRIPT = """
import sys
from splade_os import DocumentEncoder
encoder = DocumentEncoder.load(sys.argv[1], device="cpu,cpu")
"""


def test_script_without_a_guard(tiny: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tiny / "distilbert")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count('if __name__ == "__main__":\n        main()') == 1, done.stderr
    assert "memory" not in done.stderr and "bootstrapping" not in done.stderr


@pytest.mark.parametrize("how", ["start", "unreadable"])
def test_a_process_that_cannot_start(how: str) -> None:
    start: Any = UnreadableStart() if how == "unreadable" else partial(broken, how)
    reason = "no number" if how == "unreadable" else "ImportError: libcudart.so.12"
    with pytest.raises(EncoderProcessError, match=f"cpu could not start: .*{reason}") as error:
        ParallelBackend(start, ["cpu", "cpu"])
    assert "Traceback" in error.value.__notes__[0]  # the child's own
    assert "--batch-tokens" not in str(error.value)


@pytest.mark.parametrize("how", ["launch", "encode", "answer"])
def test_an_answer_that_cannot_be_read(how: str) -> None:
    backend = ParallelBackend(partial(broken, how), ["cpu"])
    reason = "ValueError: .*no number" if how == "answer" else "out of memory on the device"
    waiting = [backend._workers[0].submit([np.array([1, 2], np.int32)], None)]
    with suppress(EncoderProcessError):  # the process may be gone already
        waiting.append(backend._workers[0].submit([np.array([1, 2], np.int32)], None))
    for future in waiting:
        with pytest.raises(EncoderProcessError, match=reason):
            future.result(timeout=10)
    backend.close()


class _Unwritable:
    def __reduce__(self) -> Any:
        raise TypeError("is not pickled")


class _Unreadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_a_request_that_cannot_be_read() -> None:
    backend = ParallelBackend(partial(broken, "well"), ["cpu"])
    good = [np.array([1, 2], np.int32)]
    first = backend.launch(good, None)
    with pytest.raises(TypeError, match="is not pickled"):
        backend.launch([_Unwritable()], None)  # type: ignore[list-item]
    bad = backend.launch([_Unreadable()], None)  # type: ignore[list-item]
    last = backend.launch(good, None)
    with pytest.raises(EncoderProcessError, match="no number"):
        bad(timeout=10)  # type: ignore[call-arg]
    for result in (first, last):  # each answer goes to its own request
        assert len(result(timeout=10)) == 1  # type: ignore[call-arg]
    backend.close()


def test_closing_takes_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_PATIENCE", 0.5)
    backend = ParallelBackend(partial(broken, "stubborn"), ["cpu", "cpu"])
    processes = [worker._process for worker in backend._workers]
    began = time.monotonic()
    backend.close()
    assert time.monotonic() - began < 3
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2
