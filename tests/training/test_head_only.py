"""Training the head alone: gradients, states on disk, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder

from splade_os import DocumentEncoder
from splade_os.encoding.pooling_grad import leaky_max_pool
from splade_os.errors import SettingsError
from splade_os.training import token_states, train
from splade_os.training.recipe import Recipe
from tests.training.conftest import make_rows

MakeRecipe = Callable[..., Recipe]
TEXTS = [row["positive"] for row in make_rows(6)]
HEAD: dict[str, Any] = {
    "data.corpus": None, "data.leave_out": {}, "data.negatives": 2,
    "model.query_max_length": None,
    "training.max_steps": 60, "training.eval_steps": 20, "training.per_device_train_batch_size": 8,
    "training.learning_rate": 1e-2, "training.bf16": False, "training.logging_steps": 10,
    "head_only.columns": 200, "head_only.cosine_weight": 0, "stop_if_below_start": None,
}  # fmt: skip


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_gradient(leak: float) -> None:
    """Autograd of the plain formula; below zero the slope that is promised."""
    torch.manual_seed(0)
    lengths = [3, 1, 5]
    hidden = torch.randn(9, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(20, dtype=torch.float64, requires_grad=True)
    flow = torch.randn(3, 20)
    found = leaky_max_pool(hidden, lengths, weight, bias, leak)
    (found * flow).sum().backward()
    ours = [t.grad.clone() for t in (hidden, weight, bias) if t.grad is not None]
    for tensor in (hidden, weight, bias):
        tensor.grad = None
    best = torch.stack([part.amax(0) for part in (hidden @ weight.T).split(lengths)]) + bias
    below = leak * (torch.exp(best) - torch.exp(best).detach())  # value 0, slope leak · exp(x)
    expected = torch.where(best > 0, torch.log1p(best.relu()), below)
    (expected * flow).sum().backward()
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-6)
    for mine, tensor in zip(ours, (hidden, weight, bias), strict=True):
        torch.testing.assert_close(mine, tensor.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_trains_the_head_alone(base: str, recipe: MakeRecipe, bases: Path) -> None:
    """It learns, the body stays to the bit, and sentence-transformers loads the folder."""
    done = train(recipe("starter-head", base, ["positive", "negatives"], evaluation=[], **HEAD))
    losses = [entry["infonce"] for entry in done.log if "infonce" in entry]
    assert len(losses) == 6 and np.mean(losses[-2:]) < 0.98 * losses[0]
    file = "document_0_Transformer/model.safetensors"
    after, before = load_file(done.folder / file), load_file(bases / base / "model.safetensors")
    changed = {name for name in before if name in after and not after[name].equal(before[name])}
    assert changed and not any(name.startswith(f"{base}.") for name in changed)
    theirs = SparseEncoder(str(done.folder), device="cpu").encode_document(TEXTS).to_dense()
    ours = DocumentEncoder.load(
        str(done.folder), device="cpu", backend="torch", lexical_weight=0
    ).encode(TEXTS)
    np.testing.assert_allclose(ours.to_dense(), theirs.numpy(), atol=1e-5)
    assert not list(done.folder.glob("states-*"))


def test_states_are_computed_once(
    recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    """A run that ended before its last step leaves them to the next. With the lexical prior, which
    stays as it was; the best of its evaluations is kept."""
    start = {"model.base": str(tiny / "router"), "model.lexical_prior": {"weight": 2.0}}
    made = recipe("starter-head", "bert", ["positive", "negatives"], **HEAD | start)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(made)
    (kept,) = Path(made.output).glob("states-*.f16")
    assert kept.stat().st_size > 0

    def refuse(*_: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(token_states.TokenStates, "_compute", refuse)
    done = train(made, resume=True)
    options = json.loads((done.folder / "splade_os.json").read_text())
    tried = [entry["eval_dev_ndcg@10"] for entry in done.log if "eval_dev_ndcg@10" in entry]
    assert len(tried) == 4 and done.metrics["eval_dev_ndcg@10"] == max(tried)
    assert done.steps == 60
    assert options["lexical_weight"] == 2.0 and options["mean_weight"] > 0


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_what_it_does_not_do(recipe: MakeRecipe) -> None:
    columns = ["positive", "negatives"]
    with pytest.raises(SettingsError, match="inference-free"):
        train(recipe("starter-head", "bert", columns, **HEAD | {"model.query": {}}))
    with pytest.raises(SettingsError, match="max_steps"):
        train(recipe("starter-head", "bert", columns, **HEAD | {"training.max_steps": -1}))
    with pytest.raises(SettingsError, match="fewer training rows"):
        many = {"training.per_device_train_batch_size": 4000}
        train(recipe("starter-head", "bert", columns, **HEAD | many))
