"""The GPU path against the CPU in fp32. Needs a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.cuda import BUCKETS, bucket
from tests.tiny_models import TEXTS

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_buckets() -> None:
    assert [bucket(n) for n in (1, 8, 9, 512, 513, 769)] == [8, 8, 16, 512, 768, 1024]
    assert list(BUCKETS) == sorted(BUCKETS)


@needs_gpu
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("head", ["torch", "triton"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "router"])
def test_equals_cpu(tiny: Path, family: str, head: str, graphs: bool) -> None:
    texts = [*TEXTS, *(f"{text} {n}" for n in range(40) for text in TEXTS)]
    expected = DocumentEncoder.load(str(tiny / family), device="cpu").encode(texts).to_dense()
    for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 0.2)):
        encoder = DocumentEncoder.load(
            str(tiny / family),
            device="cuda",
            dtype=dtype,  # type: ignore[arg-type]
            head=head,  # type: ignore[arg-type]
            cuda_graphs=graphs,
            batch_tokens=512,
        )
        for _ in range(2):  # the second time through captured graphs
            ours = encoder.encode(texts).to_dense()
            np.testing.assert_allclose(ours, expected, atol=tolerance)


@needs_gpu
def test_bf16_is_the_default(tiny: Path) -> None:
    encoder = DocumentEncoder.load(str(tiny / "bert"))
    assert encoder.device.startswith("cuda") and encoder.precision == "bfloat16"
