"""Exports of models, read by what they are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sentence_transformers import SparseEncoder
from transformers import AutoTokenizer

from splade_os.cli.export import export as command
from splade_os.encoding.layout import read_layout
from splade_os.export.sentence_transformers import export_sentence_transformers
from splade_os.export.torchscript import FILE, export_torchscript
from tests.training.conftest import make_rows

TEXTS = [row["positive"] for row in make_rows(7)] + ["fish"]


def theirs(
    folder: Path, side: str = "document"
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    peer = SparseEncoder(str(folder), device="cpu")
    encode = peer.encode_document if side == "document" else peer.encode_query
    return np.asarray(encode(TEXTS).to_dense().numpy())


@pytest.mark.parametrize("name", ["bert-50", "router-pre", "router-json"])
def test_older_layouts(name: str, tiny: Path, tmp_path: Path) -> None:
    """sentence-transformers encodes with the new folder as with the current layout of the same."""
    made = export_sentence_transformers(str(tiny / name), tmp_path / "made")
    same = tiny / name.split("-")[0]
    for side in ("document", "query"):
        expected = theirs(same, side)
        assert (expected > 0).any()
        np.testing.assert_allclose(theirs(made, side), expected, atol=1e-5)


def test_checkpoint(bases: Path, tmp_path: Path) -> None:
    """A plain checkpoint needs its activation; sentence-transformers has it as its own."""
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    folder, made = bases / "distilbert", tmp_path / "made"
    flags = [str(folder), "--to", "sentence-transformers", "-o", str(made)]
    refused = CliRunner().invoke(command, flags)
    assert refused.exit_code and "activation" in str(refused.exception)
    done = CliRunner().invoke(command, [*flags, "--activation", "log1p_relu", "--pooling", "max"])
    assert done.exit_code == 0, done.output
    peer = SparseEncoder(str(folder), device="cpu")
    assert isinstance(peer[1], SpladePooling)
    peer[1].activation_function = "log1p_relu"
    expected = peer.encode_document(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(theirs(made), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "distilbert", "router"])
def test_torchscript(name: str, tiny: Path, tmp_path: Path) -> None:
    """Alone with a tokenizer it gives the vectors of sentence-transformers."""
    assert export_torchscript(str(tiny / name), tmp_path / "made") < 1e-4
    loaded = torch.jit.load(str(tmp_path / "made" / FILE))
    tokenizer = AutoTokenizer.from_pretrained(read_layout(tiny / name).document.folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    kept = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        got = loaded(kept)["output"].numpy()
    np.testing.assert_allclose(got, theirs(tiny / name), atol=1e-4)
