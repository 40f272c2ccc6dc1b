"""Training the top alone: gradients, states on disk, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder
from torch import nn
from transformers import AutoModelForMaskedLM

from splade_os import DocumentEncoder
from splade_os.errors import SettingsError
from splade_os.training import token_states, train
from splade_os.training.arguments import checkpoint_folder
from splade_os.training.recipe import Recipe
from splade_os.training.token_states import above, body_states
from tests.training.conftest import make_rows

MakeRecipe = Callable[..., Recipe]
TEXTS = [row["positive"] for row in make_rows(6)]
TOP: dict[str, Any] = {
    "data.corpus": None, "data.leave_out": {}, "data.negatives": 2,
    "model.query_max_length": None,
    "training.max_steps": 60, "training.eval_steps": 20, "training.per_device_train_batch_size": 8,
    "training.learning_rate": 1e-2, "training.bf16": False, "training.logging_steps": 10,
    "top_only.layers": 1, "top_only.columns": 200, "top_only.cosine_weight": 0,
    "top_only.start_weight": 0.5,
    "stop_if_below_start": None,
}  # fmt: skip


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_trains_the_top_alone(base: str, layers: int, recipe: MakeRecipe, bases: Path) -> None:
    """It learns, what lies below stays to the bit, and sentence-transformers loads the folder."""
    made = recipe("starter-cpu", base, ["positive", "negatives"], evaluation=[],
                  **TOP | {"top_only.layers": layers})  # fmt: skip
    done = train(made)
    losses = [entry["infonce"] for entry in done.log if "infonce" in entry]
    assert len(losses) == 6 and np.mean(losses[-2:]) < 0.98 * losses[0]
    file = "document_0_Transformer/model.safetensors"
    after, before = load_file(done.folder / file), load_file(bases / base / "model.safetensors")
    changed = {name for name in before if name in after and not after[name].equal(before[name])}
    top = tuple(f"{place}.layer.1." for place in ("bert.encoder", "distilbert.transformer"))
    body = {name for name in changed if name.startswith(f"{base}.")}
    assert changed - body and all(name.startswith(top) for name in body)
    assert len(body) == layers * sum(name.startswith(top) for name in before)
    theirs = SparseEncoder(str(done.folder), device="cpu").encode_document(TEXTS).to_dense()
    ours = DocumentEncoder.load(
        str(done.folder), device="cpu", backend="torch", lexical_weight=0
    ).encode(TEXTS)
    np.testing.assert_allclose(ours.to_dense(), theirs.numpy(), atol=1e-5)
    assert not list(done.folder.glob("states-*"))


@pytest.mark.parametrize("layers", [0, 1])
@pytest.mark.parametrize("base", ["bert", "distilbert"])
def test_states_and_what_lies_above(base: str, layers: int, bases: Path) -> None:
    """Together they are the whole model of transformers."""
    mlm = AutoModelForMaskedLM.from_pretrained(bases / base).eval()
    ids, mask = torch.randint(5, 40, (3, 9)), torch.ones(3, 9, dtype=torch.long)
    mask[1, 4:] = 0
    with torch.no_grad():
        whole = mlm(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        last = whole.hidden_states[-1]
        model = SimpleNamespace(device=ids.device, document=SimpleNamespace(mlm=mlm))
        features = {"input_ids": ids, "attention_mask": mask}
        below, end = body_states(model, features, layers)  # type: ignore[arg-type]
        torch.testing.assert_close(end, last[mask.bool()])
        torch.testing.assert_close(below, whole.hidden_states[-1 - layers][mask.bool()])
        padded = nn.utils.rnn.pad_sequence(below.split(mask.sum(1).tolist()), batch_first=True)
        with above(mlm, layers) as rest:
            logits = rest(inputs_embeds=padded, attention_mask=mask).logits
        torch.testing.assert_close(logits[mask.bool()], whole.logits[mask.bool()])
        again = mlm(input_ids=ids, attention_mask=mask).logits  # it is whole again
    torch.testing.assert_close(again, whole.logits)
    with pytest.raises(SettingsError, match=r"top_only.layers is 2; the body has 2"):
        body_states(model, features, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", [0, 1])
def test_states_are_computed_once(
    layers: int, recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    """A run that ended before its last step leaves them to the next. With the lexical prior, which
    stays as it was, and the whole teacher; the best of its evaluations is kept."""
    start = {"model.base": str(tiny / "router"), "model.lexical_prior": {"weight": 2.0}}
    start |= {"top_only.layers": layers, "top_only.cosine_weight": 20}
    made = recipe("starter-cpu", "bert", ["positive", "negatives"], **TOP | start)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(made)
    kept = sorted(file.suffix for file in checkpoint_folder(made).glob("states-*"))
    assert kept == [".f16", ".npy"]

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
        train(recipe("starter-cpu", "bert", columns, **TOP | {"model.query": {}}))
    with pytest.raises(SettingsError, match="max_steps"):
        train(recipe("starter-cpu", "bert", columns, **TOP | {"training.max_steps": -1}))
    with pytest.raises(SettingsError, match="fewer training rows"):
        many = {"training.per_device_train_batch_size": 4000}
        train(recipe("starter-cpu", "bert", columns, **TOP | many))
