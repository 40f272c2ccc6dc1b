"""What training is made of: saved weights, gradient caching, regularisers, teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder

from splade_os import DocumentEncoder
from splade_os.training import train
from splade_os.training.loading import load_model
from splade_os.training.model import TextEncoder
from splade_os.training.recipe import DistillationPart, Recipe, TeacherPart
from splade_os.training.regularisers import df_weights, steer
from splade_os.training.run import build_trainer
from splade_os.training.saving import save_model
from splade_os.training.teachers import Ensemble, min_max
from tests.training.conftest import make_rows

MakeRecipe = Callable[..., Recipe]
TEXTS = [row["positive"] for row in make_rows(6)]
QUIET: dict[str, Any] = {
    "evaluation": [],
    "data.held_out": 0,
    "training.save_strategy": "no",
}


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("bert", {"model.lora": {"r": 4}}),
        ("distilbert", {"model.lora": {"r": 2}, "model.query": {"kind": "li-lsr"}}),
        ("bert", {"model.activation": "log1p_relu", "model.max_active_dims": 7,
                  "model.cut_in_training": True}),
        ("bert", {"model.pooling": "sum"}),
    ],
    ids=["lora", "lora, li-lsr", "double log, cut", "sum"],
)  # fmt: skip
def test_saved_is_what_was_trained(
    base: str, changes: dict[str, Any], recipe: MakeRecipe, tmp_path: Path
) -> None:
    """sentence-transformers gives, from the folder, what the model in memory gives."""
    rate = {"training.learning_rate": 1e-2}
    trainer = build_trainer(recipe("gooaq", base, ["positive"], **changes, **QUIET, **rate))
    trainer.train()
    model = trainer.model.eval()
    encoder = TextEncoder.of(model)
    with torch.no_grad():
        documents = model.encode_documents(encoder.documents(TEXTS)).numpy()
        queries = model.encode_queries(encoder.queries(TEXTS)).numpy()
    save_model(model, tmp_path / "saved")
    peer = SparseEncoder(str(tmp_path / "saved"), device="cpu")
    assert (documents > 0).any(1).all() and (queries > 0).any()
    theirs = peer.encode_document(TEXTS).to_dense().numpy()
    np.testing.assert_allclose(theirs, documents, atol=2e-5)
    np.testing.assert_allclose(peer.encode_query(TEXTS).to_dense().numpy(), queries, atol=2e-5)
    if "model.lora" in changes:  # adapters did learn
        before = load_model(recipe("gooaq", base, ["positive"]).model).eval()
        with torch.no_grad():
            start = before.encode_documents(TextEncoder.of(before).documents(TEXTS)).numpy()
        assert np.abs(start - documents).max() > 1e-3


def test_gradient_checkpointing_is_exact(recipe: MakeRecipe) -> None:
    """The same weights after three steps; dropout draws the same numbers again."""
    found = []
    for on in (False, True):
        trainer = build_trainer(
            recipe("gooaq", "bert", ["positive"], **QUIET, **{
                "training.gradient_checkpointing": on, "training.max_steps": 3,
                "training.optim": "sgd", "training.learning_rate": 0.1, "training.bf16": False,
            })
        )  # fmt: skip
        trainer.train()
        layers = trainer.model.document.mlm.bert.encoder.layer
        assert all(layer.gradient_checkpointing is on for layer in layers)
        found.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, rtol=1e-4, atol=1e-6)


def test_df_weights() -> None:
    """The formula of arXiv 2505.15070, in double precision."""
    x = np.array([1e-4, 0.01, 0.05, 0.1, 0.2, 0.5, 0.99])
    expected = 1 / (1 + (x ** (np.log(2) / np.log(0.1)) - 1) ** 10.0)
    np.testing.assert_allclose(df_weights(torch.tensor(x)).numpy(), expected, rtol=1e-4)
    assert expected[3] == pytest.approx(0.5) and expected[0] < 1e-3 < 0.99 < expected[-1]


@pytest.mark.parametrize(("start", "target"), [(1e-4, 50), (10.0, 200), (0.1, 120)])
def test_controller(start: float, target: float) -> None:
    """A model whose length falls with λ, with a delay: it settles at the target."""
    weight, dims, seen = start, 300.0, []
    for _ in range(1500):
        wanted = 300 / (1 + (weight / 0.05) ** 0.5)
        dims += 0.05 * (wanted - dims)
        weight = steer(weight, dims, target)
        seen.append(dims)
    assert np.allclose(seen[-200:], target, rtol=0.05)


@pytest.fixture
def teachers(bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A cross-encoder and a dense model of random weights, and a cache of their own."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, BertForSequenceClassification

    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bases / "bert")
    config = AutoConfig.from_pretrained(bases / "bert")
    dense = tmp_path / "dense"
    AutoModel.from_config(config).save_pretrained(dense)
    config.num_labels = 1
    cross = tmp_path / "cross"
    BertForSequenceClassification(config).save_pretrained(cross)
    for folder in (dense, cross):
        tokenizer.save_pretrained(folder)
    return {"dense": dense, "cross-encoder": cross}


def test_teachers(teachers: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are those of sentence-transformers; a second time nothing runs."""
    queries, documents = [t.split()[0] for t in TEXTS], TEXTS + TEXTS[::-1]
    cpu = torch.device("cpu")
    part = TeacherPart(kind="dense", model=str(teachers["dense"]), max_length=32)
    peer = SentenceTransformer(str(teachers["dense"]), device="cpu")  # mean pooling
    q, d = (peer.encode(x, normalize_embeddings=True) for x in (queries, documents))
    whole = Ensemble(
        DistillationPart(teachers=[part], ensemble="mean", score_scale=1, in_batch=True), cpu
    )
    np.testing.assert_allclose(whole(queries, documents).values.numpy(), q @ d.T, atol=2e-3)

    cross = TeacherPart(kind="cross-encoder", model=str(teachers["cross-encoder"]), max_length=64)
    both = Ensemble(DistillationPart(teachers=[part, cross], score_scale=30), cpu)
    scores = both(queries, documents).values.numpy()
    reranker = CrossEncoder(str(teachers["cross-encoder"]), device="cpu")
    pairs = [(query, documents[c * 6 + i]) for i, query in enumerate(queries) for c in (0, 1)]
    logits = reranker.predict(pairs, activation_fn=torch.nn.Identity()).reshape(6, 2)
    own = np.stack([(q @ d.T)[np.arange(6), c * 6 + np.arange(6)] for c in (0, 1)], 1)
    expected = (min_max(torch.tensor(own)) + min_max(torch.tensor(logits))) / 2 * 30
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-3)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    rounded = cross.model_copy(update={"precision": "bfloat16"})
    near = Ensemble(DistillationPart(teachers=[rounded], ensemble="mean", score_scale=1), cpu)
    error = np.abs(near(queries, documents).values.numpy() - logits)
    assert 0 < error.max() < 0.05 * np.abs(logits).max()

    again = Ensemble(DistillationPart(teachers=[part, cross], score_scale=30), cpu)
    for teacher in again._teachers:
        monkeypatch.setattr(type(teacher._model), "forward", refuse)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(again(queries, documents).values.numpy(), scores)


@pytest.mark.parametrize("name", ["bert", "router"])
def test_sparse_teacher(
    name: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are those of sentence-transformers' SparseEncoder, the second time from the cache."""
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    queries, documents = [row["query"] for row in make_rows(6)], TEXTS + TEXTS[::-1]
    peer = SparseEncoder(str(tiny / name), device="cpu")
    q = peer.encode_query(queries).to_dense().numpy()
    d = peer.encode_document(documents).to_dense().numpy()
    part = TeacherPart(kind="sparse", model=str(tiny / name), max_length=256)
    options: dict[str, Any] = {"teachers": [part], "ensemble": "mean", "score_scale": 1}
    for _ in range(2):
        whole = Ensemble(DistillationPart(**options, in_batch=True), torch.device("cpu"))
        np.testing.assert_allclose(whole(queries, documents).values.numpy(), q @ d.T, rtol=1e-4)
        pairs = Ensemble(DistillationPart(**options), torch.device("cpu"))(queries, documents)
        own = [(q * d[c * 6 :][:6]).sum(1) for c in (0, 1)]
        np.testing.assert_allclose(pairs.values.numpy(), np.stack(own, 1), rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "base"), [("inference-free-kd", "distilbert"), ("symmetric-kd", "bert")]
)
def test_distillation_recipes(
    name: str, base: str, teachers: dict[str, Path], recipe: MakeRecipe
) -> None:
    """They run with a cross-encoder, and sentence-transformers loads what they leave."""
    cross = {"kind": "cross-encoder", "model": str(teachers["cross-encoder"]), "max_length": 64}
    done = train(
        recipe(name, base, ["positive", "negatives"], **QUIET, **{
            "data.negatives": 2, "distillation.teachers": [cross], "grad_cache": 3,
            "model.query_max_length": None, "training.learning_rate": 1e-3,
            "training.metric_for_best_model": None,
        })
    )  # fmt: skip
    assert done.steps == 4 and any(entry.get("grad_norm", 0) > 0 for entry in done.log)
    assert all(np.isfinite(entry["kl"]) for entry in done.log if "kl" in entry)
    encoded = SparseEncoder(str(done.folder), device="cpu").encode_document(TEXTS).to_dense()
    ours = DocumentEncoder.load(str(done.folder), backend="torch").encode(TEXTS).to_dense()
    np.testing.assert_allclose(ours, encoded.numpy(), atol=1e-5)


def test_distillation_learns(teachers: dict[str, Path], recipe: MakeRecipe) -> None:
    """The student comes nearer to its teacher."""
    parts = [{"kind": "dense", "model": str(teachers["dense"])}]
    done = train(
        recipe("starter", "bert", ["positive", "negative_1"], **QUIET, **{
            "data.corpus": None, "data.leave_out": {}, "data.negatives": None,
            "model.lexical_prior": "none", "model.query_max_length": None,
            "losses": [{"kind": "kl", "temperature": 1.0}], "regularisers": {},
            "stop_if_below_start": None, "grad_cache": None,
            "stop_on_collapse": False,  # a teacher of random weights finds all alike
            "distillation.teachers": parts, "distillation.score_scale": 5.0,
            "training.max_steps": 40, "training.learning_rate": 3e-3,
            "training.metric_for_best_model": None, "training.bf16": False,
        })
    )  # fmt: skip
    losses = [entry["loss"] for entry in done.log if "loss" in entry]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
