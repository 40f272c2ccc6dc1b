"""Query sides that are transformers with something of their own: trained, saved, exported.

sentence-transformers is the oracle of every folder that is written; the gradient of one step is
compared with its modules' own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder

from splade_os.encoding import DocumentEncoder, load_query_encoder, read_layout
from splade_os.export.onnx import export_onnx
from splade_os.export.sentence_transformers import export_sentence_transformers
from splade_os.training import train
from splade_os.training.loading import load_model
from splade_os.training.model import TextEncoder
from splade_os.training.recipe import ModelPart, Recipe
from splade_os.training.run import build_trainer
from tests.encoding import folders
from tests.encoding.test_folders import equal, expected, sides
from tests.tiny_models import TEXTS, change
from tests.training.test_resume import weights

MakeRecipe = Callable[..., Recipe]
BASES = {
    "two transformers": folders.two_transformers,
    "lexical": folders.lexical,
    "lexical of its own": folders.lexical_of_its_own,
    "normalised": folders.normalised,
    "normalised lexical": folders.normalised_lexical,
    "query_length": folders.bert(folders.SBERT, query_length=9),
}
QUICK = {"regularisers": {}, "training.learning_rate": 3e-3}


@pytest.fixture
def base(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> Path:
    return BASES[request.param](tiny, tmp_path / "base")


def changed(before: Path, after: Path) -> list[bool]:
    """Whether documents, and queries, of two models differ."""
    pairs = zip(sides(before), sides(after), strict=True)
    return [bool(np.abs(a - b).max() > 1e-3) for a, b in pairs]


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_untrained_it_is_the_base(base: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    """What training begins with is what it was given, on both sides, with its lengths."""
    made = recipe("gooaq", str(base), ["positive"], **QUICK)
    trainer = build_trainer(made)
    trainer.save_model(str(tmp_path / "saved"))
    equal(sides(tmp_path / "saved"), expected(base))
    equal(sides(tmp_path / "saved"), expected(tmp_path / "saved"))


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_trained(base: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    """Both sides learn, and every folder made of it says the same to sentence-transformers."""
    folder = train(recipe("gooaq", str(base), ["positive"], **QUICK)).folder
    assert changed(base, folder) == [True, True]
    found, before = read_layout(folder), read_layout(base)
    assert found.two_transformers == before.two_transformers
    assert found.query.max_length == before.query.max_length
    equal(sides(folder), expected(folder))
    equal(sides(folder), expected(export_sentence_transformers(str(folder), tmp_path / "st")))
    export_onnx(str(folder), tmp_path / "onnx")
    documents, queries = expected(folder)
    graph = DocumentEncoder.load(str(tmp_path / "onnx"), device="cpu", backend="onnx")
    np.testing.assert_allclose(graph.encode(TEXTS).to_dense(), documents, atol=1e-4)
    theirs = load_query_encoder(str(tmp_path / "onnx"), "encoder", device="cpu")
    np.testing.assert_allclose(theirs.encode(TEXTS).to_dense(), queries, atol=1e-4)


@pytest.mark.parametrize("base", BASES, indirect=True)
def test_gradient(base: Path) -> None:
    """Of a sum of products of both sides, against the modules of sentence-transformers."""
    model = load_model(ModelPart(base=str(base), dropout=0)).train()
    encoder = TextEncoder.of(model)
    texts = ["the small cat of the river", "a red house", "query of the search engine"]
    queries = model.query or model.document
    first = model.document(**encoder.documents(texts))
    (first * queries(**encoder.queries(texts))).sum().backward()
    oracle = SparseEncoder(str(base), device="cpu", model_kwargs={"dtype": torch.float32})
    for module in oracle.train().modules():  # its pooling has no gradient otherwise
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    peer = []
    for task in ("document", "query"):
        features = oracle.preprocess(texts, task=task)
        peer.append(oracle(features, task=task)["sentence_embedding"])
    (peer[0] * peer[1]).sum().backward()
    mine = {norm(p.grad) for p in model.parameters() if p.grad is not None}
    for name, parameter in oracle.named_parameters():
        if parameter.grad is not None and parameter.grad.norm() > 1e-3:
            found = norm(parameter.grad)
            assert any(abs(found - each) <= 2e-3 * found for each in mine), name


def norm(gradient: torch.Tensor) -> float:
    return float(gradient.double().norm())


@pytest.mark.parametrize("base", ["lexical of its own"], indirect=True)
def test_resumed(base: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    """From a checkpoint it ends where it would have ended, to the bit."""
    changes = {**QUICK, "training.load_best_model_at_end": False}
    whole = recipe("gooaq", str(base), ["positive"], **changes, output=str(tmp_path / "a"))
    straight = weights(train(whole).folder)
    kept = tmp_path / "a.checkpoints" / "checkpoint-2"
    shutil.copytree(kept, tmp_path / "b.checkpoints" / kept.name)
    again = train(whole.model_copy(update={"output": str(tmp_path / "b")}), resume=True)
    assert again.steps == 4
    resumed = weights(again.folder)
    assert straight.keys() == resumed.keys() and len({k.split("/")[0] for k in resumed}) == 3
    assert all((straight[name] == resumed[name]).all() for name in resumed)


@pytest.mark.parametrize("base", ["lexical of its own"], indirect=True)
def test_low_rank_adapters(base: Path, recipe: MakeRecipe) -> None:
    """They adapt both transformers."""
    made = recipe("gooaq", str(base), ["positive"], **QUICK, **{"model.lora": {"r": 2}})
    assert changed(base, train(made).folder) == [True, True]


def test_a_frozen_table_stays(tiny: Path, recipe: MakeRecipe, tmp_path: Path) -> None:
    base = folders.lexical(tiny, tmp_path / "base")
    change(base / "query_2_SparseStaticEmbedding" / "config.json", frozen=True)
    folder = train(recipe("gooaq", str(base), ["positive"], **QUICK)).folder
    tables = [read_layout(each).tables[0].weights.read_bytes()[-100:] for each in (base, folder)]
    assert tables[0] == tables[1]
    config = folder / "query_2_SparseStaticEmbedding" / "config.json"
    assert json.loads(config.read_text()) == {"frozen": True}


def test_queries_are_cut_as_they_were_trained(bases: Path, recipe: MakeRecipe) -> None:
    changes = {**QUICK, "model.query_max_length": 5}
    folder = train(recipe("gooaq", "bert", ["positive"], **changes)).folder
    assert read_layout(folder).query.max_length == 5 < read_layout(folder).document.max_length
    equal(sides(folder), expected(folder))
