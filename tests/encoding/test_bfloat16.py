"""bf16, which GPUs and some processors compute natively; others slowly, but the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.resolve import starter_folder
from tests.tiny_models import TEXTS, change

SENTENCES = [
    "The museum opens at nine in the morning and is closed on public holidays.",
    "How do I replace the battery of a laptop without losing my files?",
    "Heavy rain is expected in the north, with strong winds along the coast.",
    "The study found that regular exercise lowers the risk of heart disease.",
    "Returns are accepted within thirty days if the product is unused.",
    "A function that calls itself needs a condition under which it stops.",
]


def both(model: str, texts: list[str]) -> list[np.ndarray]:
    """Weights in fp32 and in bf16."""
    kinds: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    found = []
    for dtype in kinds:
        encoder = DocumentEncoder.load(
            model, device="cpu", dtype=dtype, backend="torch", lexical_weight=0
        )
        found.append(encoder.encode(texts).to_dense())
    return found


def test_the_transform_is_exact() -> None:
    """What weighs most is not rounded: the error is about half of sentence-transformers'."""
    exact, rounded = both("starter", SENTENCES)
    theirs = SparseEncoder(
        str(starter_folder()), device="cpu", model_kwargs={"torch_dtype": "bfloat16"}
    )
    peer = theirs.encode_document(SENTENCES).to_dense().float().numpy()
    assert 0 < np.abs(rounded - exact).sum() < 0.65 * np.abs(peer - exact).sum()


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_heads(tiny: Path, tmp_path: Path, pooling: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny / "bert", folder)
    change(folder / "1_SpladePooling" / "config.json", pooling_strategy=pooling)
    exact, rounded = both(str(folder), TEXTS)
    np.testing.assert_allclose(rounded, exact, atol=0.03 * exact.max())
