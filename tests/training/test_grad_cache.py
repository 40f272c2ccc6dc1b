"""Gradient caching: the gradient of the plain way, in bounded memory, with one first pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import TrainerCallback

from splade_os.training.recipe import Recipe
from splade_os.training.run import build_trainer

MakeRecipe = Callable[..., Recipe]
Over = Literal["step", "micro-batch"]
STEPS: dict[str, Any] = {
    "evaluation": [],
    "data.held_out": 0,
    "data.sampler": "sequential",
    "model.dropout": 0.0,
    "training.save_strategy": "no",
    "training.max_grad_norm": 0.0,
    "training.optim": "sgd",
    "training.learning_rate": 0.01,
    "training.bf16": False,
    "training.fp16": False,
    "training.max_steps": 3,
}


def steps(over: Over = "step", **changes: Any) -> dict[str, Any]:
    """Changes of a recipe, for the fixture."""
    regularisers = {
        "query": {"kind": "l1", "weight": 0.01, "warmup": 0, "over": over},
        "document": {"kind": "flops", "weight": 0.1, "warmup": 0, "over": over},
    }
    return STEPS | {"regularisers": regularisers} | changes


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Of every step, as the optimiser sees them."""

    def __init__(self, unscale: Callable[[Any], None] | None = None) -> None:
        self.unscale, self.steps = unscale, list[dict[str, Tensor]]()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self.unscale is not None:
            self.unscale(given["optimizer"].optimizer)
        named = given["model"].named_parameters()
        self.steps.append({n: p.grad.clone() for n, p in named if p.grad is not None})


def run(recipe: Recipe, scaler: Any = None) -> Gradients:
    trainer = build_trainer(recipe)
    seen = Gradients(None if scaler is None else scaler.unscale_)
    trainer.add_callback(seen)
    if scaler is not None:
        trainer.accelerator.scaler = scaler
    trainer.train()
    return seen


def assert_equal(found: Gradients, expected: Gradients) -> None:
    assert len(found.steps) == len(expected.steps) == 3
    for mine, plain in zip(found.steps, expected.steps, strict=True):
        assert mine.keys() == plain.keys() and any(g.abs().max() > 1e-3 for g in plain.values())
        for name in plain:
            torch.testing.assert_close(mine[name], plain[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("over", ["step", "micro-batch"])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("base", "texts"), [("bert", 1), ("bert", 64), ("inference-free", 3)])
def test_gradients(
    base: str, texts: int, accumulation: int, over: Over, recipe: MakeRecipe
) -> None:
    """Of three steps; with accumulation the last is one batch, and one of 8 rows instead of 13."""
    changes = steps(
        over,
        training__gradient_accumulation_steps=accumulation,
        training__per_device_train_batch_size=13,
    )
    name = "mini" if base == "bert" else "nq-inference-free"
    documents = ["positive", "negative_1"]
    plain = run(recipe(name, "bert", documents, **changes))
    assert_equal(run(recipe(name, "bert", documents, **changes, grad_cache=texts)), plain)


def test_scaled_gradients(recipe: MakeRecipe) -> None:
    """What fp16 does: scaled, unscaled, stepped. The optimiser sees the plain gradients."""
    changes = steps(training__gradient_accumulation_steps=2)
    plain = run(recipe("mini", "bert", ["positive"], **changes))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    assert_equal(run(recipe("mini", "bert", ["positive"], **changes, grad_cache=3), scaler), plain)
    assert scaler.get_scale() == 2048  # three good steps


def test_precision(recipe: MakeRecipe) -> None:
    """bf16 holds for the cached passes too: their vectors are those of the plain way."""
    found = []
    for size in (None, 2):
        changes = steps(grad_cache=size) | {"training.max_steps": 1}
        trainer = build_trainer(recipe("mini", "bert", ["positive"], **changes))
        trainer.accelerator.state._mixed_precision = "bf16"
        trainer.accelerator.native_amp = True
        kinds: set[torch.dtype] = set()
        body = trainer.model.document.mlm.bert.encoder.layer[0].intermediate.dense
        body.register_forward_hook(lambda m, a, out, kinds=kinds: kinds.add(out.dtype))
        trainer.train()
        found.append(kinds)
    assert found == [{torch.bfloat16}, {torch.bfloat16}]


@pytest.mark.parametrize("over", ["step", "micro-batch"])
def test_memory_and_passes(over: Over, recipe: MakeRecipe) -> None:
    """No forward pass has more texts, and each text is seen twice: without a graph, and with."""
    trainer = build_trainer(
        recipe("mini", "bert", ["positive"], **steps(over) | {
            "training.gradient_accumulation_steps": 2, "training.per_device_train_batch_size": 16,
            "training.max_steps": 1, "grad_cache": 4,
        })
    )  # fmt: skip
    passes: list[tuple[int, bool]] = []
    trainer.model.document.register_forward_hook(
        lambda module, args, out: passes.append((len(out), out.requires_grad))
    )
    trainer.train()
    assert max(texts for texts, _ in passes) == 4
    texts = 2 * 2 * 16  # batches, sides, rows
    assert sum(n for n, graph in passes if graph) == texts
    assert sum(n for n, graph in passes if not graph) == texts


def test_dropout_draws_the_same(recipe: MakeRecipe) -> None:
    """The vectors of both passes are the same, and those of another step are not."""
    trainer = build_trainer(
        recipe("mini", "bert", ["positive"], **steps() | {
            "model.dropout": 0.3, "training.gradient_accumulation_steps": 2, "grad_cache": 3,
            "training.max_steps": 2, "training.learning_rate": 0.0,
        })
    )  # fmt: skip
    passes: dict[bool, list[Tensor]] = {False: [], True: []}
    trainer.model.document.register_forward_hook(
        lambda module, args, out: passes[out.requires_grad].append(out.detach().clone())
    )
    trainer.train()
    assert len(passes[True]) == len(passes[False]) == 2 * 2 * 2 * 2  # steps, batches, sides, parts
    for first, second in zip(passes[False], passes[True], strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("grad_cache", [None, 3])
def test_joint_means(grad_cache: int | None, recipe: MakeRecipe) -> None:
    """The joint means of a step are those of the vectors that its losses see."""
    trainer = build_trainer(
        recipe("mini", "bert", ["positive"], **steps() | {
            "model.dropout": 0.3, "training.gradient_accumulation_steps": 2,
            "grad_cache": grad_cache, "training.max_steps": 1,
        })
    )  # fmt: skip
    seen: list[Tensor] = []
    loss_of = trainer.loss_of

    def look(queries: Tensor, documents: Tensor, inputs: Any) -> Tensor:
        seen.append(documents.detach())
        return loss_of(queries, documents, inputs)

    trainer.loss_of = look
    trainer.train()
    assert len(seen) == 2
    torch.testing.assert_close(trainer._step_means["document"][0], torch.cat(seen).mean(0))
