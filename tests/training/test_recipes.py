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
from splade_os.ingest.records import Record
from splade_os.training import train
from splade_os.training.recipe import Recipe, describe, load_recipe, recipe_names
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


def test_recipes_are_those_of_the_cards() -> None:
    """The table of the cards, field by field."""
    found = {name: load_recipe(name) for name in recipe_names()}
    for name, batch, accumulation, rate, epochs, precision, lambdas in (
        ("gooaq", 16, 1, 2e-5, 1, "bf16", (5e-5, 3e-5)),
        ("quora", 12, 1, 2e-5, 1, "bf16", (5e-5, 3e-5)),
        ("mini", 16, 8, 6e-5, 6, "fp16", (5e-3, 3e-3)),
        ("nq-inference-free", 16, 1, 2e-5, 1, "fp16", (0, 3e-3)),
    ):
        recipe, training = found[name], found[name].training
        assert training["per_device_train_batch_size"] == batch
        assert training["gradient_accumulation_steps"] == accumulation
        assert training["learning_rate"] == rate and training["num_train_epochs"] == epochs
        assert training[precision] is True and recipe.data.sampler == "no-duplicates"
        assert tuple(recipe.regularisers[s].weight for s in ("query", "document")) == lambdas
        assert [loss.kind for loss in recipe.losses] == ["infonce"]
    assert found["nq-inference-free"].model.query.learning_rate == 1e-3
    assert {"starter", "inference-free-kd", "symmetric-kd"} <= set(found)


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
