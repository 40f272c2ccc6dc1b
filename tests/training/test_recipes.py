"""The seeds' recipes run, and their folders load in sentence-transformers with equal output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from sentence_transformers import SparseEncoder

from splade_os import (
    EXACT,
    DocumentEncoder,
    IdfTable,
    SearchClient,
    ingest_documents,
    load_query_encoder,
)
from splade_os.cli.train import train as command
from splade_os.encoding.layout import read_layout
from splade_os.engines import Engine
from splade_os.errors import InputError, ModelError, SettingsError
from splade_os.export.onnx import export_onnx
from splade_os.features import truncate
from splade_os.ingest.documents.records import Record
from splade_os.training import train
from splade_os.training.arguments import training_arguments
from splade_os.training.recipe import Recipe
from splade_os.training.recipe_file import describe, load_recipe, recipe_names
from tests.training.conftest import make_rows

MakeRecipe = Callable[..., Recipe]
SEEDS = [
    ("gooaq", "bert", ["positive"]),
    ("quora", "distilbert", ["positive", "negative_1"]),
    ("mini", "bert", ["positive", "negative_1", "negative_2"]),
    ("nq-inference-free", "distilbert", ["positive"]),
]


@pytest.mark.parametrize("engine_url", ["opensearch"], indirect=True)
@pytest.mark.parametrize(("name", "base", "documents"), SEEDS)
def test_seed(
    name: str, base: str, documents: list[str], recipe: MakeRecipe, engine: Engine, index: str
) -> None:
    """Trained, loaded by sentence-transformers, exported, ingested, searched."""
    done = train(recipe(name, base, documents, training__gradient_accumulation_steps=2))
    assert done.steps == 4
    assert 0 < done.metrics["eval_dev_ndcg@10"] <= 1
    peer = SparseEncoder(str(done.folder), device="cpu")
    texts = [row["positive"] for row in make_rows(5)]
    queries = [row["query"] for row in make_rows(5)]
    ours = DocumentEncoder.load(str(done.folder), backend="torch").encode(texts).to_dense()
    theirs = peer.encode_document(texts).to_dense().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert (theirs > 0).any(1).all()
    mode: Any = "idf" if name.endswith("free") else "encoder"
    encoded = load_query_encoder(str(done.folder), mode).encode(queries).to_dense()
    np.testing.assert_allclose(encoded, peer.encode_query(queries).to_dense().numpy(), atol=1e-5)
    # training has moved the weights
    assert any(entry.get("grad_norm", 0) > 0 for entry in done.log)
    exported = done.folder.with_name("onnx")
    assert export_onnx(str(done.folder), exported)[0].max_difference < 1e-4
    records = [Record(i, "test", f"d{i}", text, {"text": text}) for i, text in enumerate(texts, 1)]
    encoder = DocumentEncoder.load(str(exported), device="cpu", backend="onnx")
    ingest_documents(
        records, engine=engine, index=index, encoder=encoder, dead_letters=Path("never.jsonl")
    )
    client = SearchClient(engine=engine, index=index, model=str(done.folder), idf="model")
    stored = np.where(theirs > 0, truncate(theirs), 0)
    for query, vector in zip(queries, encoded, strict=True):
        expected = stored @ vector
        found = {hit.id: hit.score for hit in client.search(query, 10, mode, query_pruning=EXACT)}
        assert set(found) == {f"d{i}" for i, score in enumerate(expected, 1) if score > 0}
        for identifier, score in found.items():
            assert score == pytest.approx(expected[int(identifier[1:]) - 1], rel=1e-2)
    client.close()


NANO = [
    "climatefever", "dbpedia", "fever", "fiqa2018", "hotpotqa", "msmarco", "nfcorpus", "nq",
    "quoraretrieval", "scidocs", "arguana", "scifact", "touche2020",
]  # fmt: skip
# What the cards print: model description, size of the data, loss, and hyperparameters. What a card
# does not list was at the default of TrainingArguments.
CARDS: dict[str, dict[str, Any]] = {
    "gooaq": {
        "base": "Luyu/co-condenser-marco", "max_length": 256, "activation": "relu",
        "train": "sentence-transformers/gooaq", "columns": ["question", "answer"],
        "train_rows": 3_011_496, "eval_rows": 1000, "rows": 3_012_496,
        "query_regularizer_weight": 5e-5, "document_regularizer_weight": 3e-5,
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1,
        "learning_rate": 2e-5, "num_train_epochs": 1, "lr_scheduler_type": "linear",
        "warmup_steps": 0, "bf16": True, "seed": 42,
        "eval_strategy": "steps", "eval_steps": 8000, "load_best_model_at_end": True, "nano": NANO,
    },
    "quora": {
        "base": "distilbert/distilbert-base-uncased", "max_length": 256, "activation": "relu",
        "train": "sentence-transformers/quora-duplicates",
        "columns": ["anchor", "positive", "negative"],
        "train_rows": 99_000, "eval_rows": 1000, "rows": 100_000,
        "query_regularizer_weight": 5e-5, "document_regularizer_weight": 3e-5,
        "per_device_train_batch_size": 12, "gradient_accumulation_steps": 1,
        "learning_rate": 2e-5, "num_train_epochs": 1, "lr_scheduler_type": "linear",
        "warmup_steps": 0, "bf16": True, "seed": 42,
        "eval_strategy": "steps", "eval_steps": 1650, "load_best_model_at_end": True,
        "nano": ["msmarco", "nq", "nfcorpus", "quoraretrieval"],
    },
    "mini": {
        "base": "prajjwal1/bert-mini", "max_length": 512, "activation": "relu",
        "columns": ["query", "positive", "negative_1", "negative_2"],
        "query_regularizer_weight": 5e-3, "document_regularizer_weight": 3e-3,
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 8,
        "learning_rate": 6e-5, "num_train_epochs": 6, "lr_scheduler_type": "cosine",
        "warmup_steps": 0.025, "optim": "adamw_torch_fused", "fp16": True, "seed": 42,
        "eval_strategy": "epoch", "load_best_model_at_end": True,
    },
    "nq-inference-free": {
        "base": "distilbert/distilbert-base-uncased", "max_length": 512, "activation": "relu",
        "train": "sentence-transformers/natural-questions", "columns": ["query", "answer"],
        "train_rows": 99_000, "eval_rows": 1000, "rows": 100_000,
        "query_regularizer_weight": 0, "document_regularizer_weight": 3e-3,
        "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1,
        "learning_rate": 2e-5, "num_train_epochs": 1, "lr_scheduler_type": "linear",
        "warmup_steps": 0.1, "fp16": True, "seed": 42,
        "eval_strategy": "steps", "eval_steps": 1000, "load_best_model_at_end": False,
        "nano": ["msmarco", "nfcorpus", "nq"],
        "table": "ones", "table_learning_rate": 1e-3, "frozen": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_recipe_is_that_of_its_card(name: str) -> None:
    """Every figure that the card prints, with what TrainingArguments makes of the rest."""
    recipe, card = load_recipe(name), dict(CARDS[name])
    data, arguments = recipe.data, training_arguments(recipe)
    found: dict[str, Any] = {
        "base": recipe.model.base,
        "max_length": recipe.model.max_length,
        "activation": recipe.model.activation or "relu",
        "train": data.train,
        "columns": [data.query, *data.documents],
        "eval_rows": data.held_out,
        "query_regularizer_weight": recipe.regularisers["query"].weight,
        "document_regularizer_weight": recipe.regularisers["document"].weight,
        "fp16": recipe.training.get("fp16", False),  # a CPU takes float32 instead
        "bf16": recipe.training.get("bf16", False),
        "nano": [name for part in recipe.evaluation for name in part.sets],
        "table": recipe.model.query.table,
        "table_learning_rate": recipe.model.query.learning_rate,
        "frozen": not recipe.model.query.trainable,
    }
    if "rows" in card:
        rows = card.pop("rows")
        assert data.limit in (rows, None)
        found["train_rows"] = rows - data.held_out
    for key, printed in card.items():
        have = found[key] if key in found else getattr(arguments, key)
        assert have == printed, (key, have, printed)
    assert arguments.save_strategy == arguments.eval_strategy
    if "eval_steps" in card:
        assert arguments.save_steps == arguments.eval_steps
    assert data.sampler == "no-duplicates"  # batch_sampler: no_duplicates
    # SpladeLoss of SparseMultipleNegativesRankingLoss(scale=1.0) and FlopsLoss, per batch
    (loss,) = recipe.losses
    assert (loss.kind, loss.scale, loss.weight, loss.in_batch) == ("infonce", 1.0, 1.0, True)
    for part in recipe.regularisers.values():
        assert (part.kind, part.threshold, part.warmup) == ("flops", None, pytest.approx(1 / 3))
        assert part.over == "micro-batch" and part.convention == "sentence-transformers"
    assert recipe.model.query.kind == ("idf" if "table" in card else "encoder")


def test_recipes_without_a_card() -> None:
    assert {"starter", "inference-free-kd", "symmetric-kd"} <= set(recipe_names()) - set(CARDS)


@pytest.mark.parametrize("name", recipe_names())
def test_show(name: str) -> None:
    """What --show prints is a recipe again, the same one."""
    printed = CliRunner().invoke(command, [name, "--show"]).output
    assert Recipe(**yaml.safe_load(printed)) == load_recipe(name)
    assert printed == describe(load_recipe(name))


def test_query_table(recipe: MakeRecipe) -> None:
    """Learned, within (0, 64], written for engines with every token."""
    done = train(recipe("nq-inference-free", "distilbert", ["positive"]))
    layout = read_layout(done.folder)
    encoder = load_query_encoder(str(done.folder))
    table: IdfTable = encoder.table  # type: ignore[attr-defined]
    vocabulary = encoder.vocabulary
    special = list(vocabulary.special_ids)
    words = np.delete(table.weights, special)
    assert layout.inference_free and (words > 0).all() and (words <= 64).all()
    assert (table.weights[special] == 0).all()
    assert len(np.unique(words)) > 1  # it began with ones
    written = json.loads((done.folder / "idf.json").read_text())
    assert list(written) == vocabulary.tokens
    np.testing.assert_array_equal(
        np.array([written[t] for t in vocabulary.tokens], np.float32)[
            np.delete(np.arange(len(vocabulary)), special)
        ],
        words,
    )
    lines = (done.folder / "query_token_weights.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == vocabulary.tokens


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"training.learning_rat": 1}, SettingsError, "training.learning_rat"),
        ({"losses.0.kind": "hinge"}, SettingsError, "losses.0.kind"),
        ({"data.documents": ["answer"]}, InputError, "answer"),
        ({"data.negatives": 3}, InputError, "data.negatives"),
        ({"model.base": "/nowhere"}, ModelError, "/nowhere"),
        ({"losses": [{"kind": "kl"}]}, SettingsError, "teacher"),
        ({"data.train": "/nowhere.jsonl"}, InputError, "/nowhere.jsonl"),
        ({"data.held_out": 60}, SettingsError, "held_out"),
        ({"nonsense": 1}, SettingsError, "nonsense"),
    ],
)
def test_wrong_recipe(
    change: dict[str, Any], error: type[Exception], message: str, recipe: MakeRecipe
) -> None:
    with pytest.raises(error, match=message.replace(".", r"\.")):
        train(recipe("gooaq", "bert", ["positive"], **change))


def test_output_is_never_overwritten(recipe: MakeRecipe, tmp_path: Path) -> None:
    made = recipe("gooaq", "bert", ["positive"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not empty"):
        train(made)
