"""Several devices, one process each. Two CPU processes stand for two GPUs: the code is the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from splade_os.encoding import DocumentEncoder
from splade_os.errors import EncodingError, SettingsError
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
    with pytest.raises(EncodingError, match="ended with code -9"):
        encoder.encode(TEXTS * 20)
