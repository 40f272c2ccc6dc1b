"""``splade-os model check``: what is promised, tried with good models and a damaged one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from sentence_transformers import SparseEncoder

from splade_os.cli import cli
from splade_os.model_check.encoding import ROUNDED_MEAN_ERROR, mean_error
from tests.tiny_models import TEXTS, change


@pytest.mark.parametrize("kind", ["bert", "router"])
def test_good_models(tiny: Path, kind: str) -> None:
    done = CliRunner().invoke(cli, ["model", "check", str(tiny / kind), "--quick", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    status = {row["name"]: row["status"] for row in report["checks"]}
    assert report["ok"]
    for name in ("tokenizer", "runs", "head", "padding", "sentence-transformers"):
        assert status[name] == "ok", report
    for precision in ("bfloat16", "float16"):
        assert status[precision] == "ok", report
    assert status["onnx"] == status["trainable"] == "skipped"


def test_damaged(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    shutil.copytree(tiny / "bert", folder)
    (folder / "config.json").unlink()
    done = CliRunner().invoke(cli, ["model", "check", str(folder)])
    assert done.exit_code == 1 and "config.jsonismissing" in "".join(done.stdout.split())
    assert CliRunner().invoke(cli, ["model", "check", str(tmp_path / "none")]).exit_code == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_bound_of_a_precision(tiny: Path, tmp_path: Path, precision: str) -> None:
    """Logits that nearly cancel out: what is left is the rounding, against sentence-transformers in
    that precision. Too large for float16: said, and no error."""
    folder = tmp_path / "rounded"
    shutil.copytree(tiny / "bert", folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    large = 3e5 if precision == "float16" else 300.0
    decoder = tensors["bert.embeddings.word_embeddings.weight"].clone()
    decoder[:, 0] += large
    tensors["cls.predictions.decoder.weight"] = decoder
    tensors["cls.predictions.transform.LayerNorm.weight"][0] = 0.0
    tensors["cls.predictions.transform.LayerNorm.bias"][0] = 1.0
    tensors["cls.predictions.bias"] -= large
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    change(folder / "config.json", tie_word_embeddings=False)
    save_file(tensors, file, metadata={"format": "pt"})
    oracle = [
        SparseEncoder(str(folder), device="cpu", model_kwargs={"dtype": dtype})
        .encode_document(TEXTS).to_dense().float().numpy()
        for dtype in (torch.float32, getattr(torch, precision))
    ]  # fmt: skip
    assert not mean_error(oracle[1], oracle[0]) <= ROUNDED_MEAN_ERROR
    done = CliRunner().invoke(cli, ["model", "check", str(folder), "--quick", "--json"])
    report = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert report[precision]["status"] == "refused", report
    assert "--dtype float32" in report[precision]["hint"]
    wanted = "rankings would change" if precision == "bfloat16" else "too large for it"
    assert wanted in report[precision]["detail"]
