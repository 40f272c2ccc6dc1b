"""What the card of a trained model says is what was done, and what will happen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from datasets import Dataset
from sentence_transformers import SparseEncoder

from splade_os import DocumentEncoder
from splade_os.encoding.resolve import content_hash
from splade_os.identity import EncodingOptions
from splade_os.training import train
from splade_os.training.data import Rows
from splade_os.training.provenance import describe_data, describe_differences, hub_revisions
from splade_os.training.recipe import DataPart, Recipe

MakeRecipe = Callable[..., Recipe]
TEXTS = ["the cat and the dog", "a red house by the river, by the river"]


def test_base_and_data_of_a_local_run(recipe: MakeRecipe, bases: Path, pairs_file: Path) -> None:
    """The base's hash is that of what training began with, whatever lies there now."""
    copy = bases / "copy"
    shutil.copytree(bases / "distilbert", copy)
    short = content_hash(copy)[:12]
    done = train(recipe("nq-inference-free", "copy", ["positive"]))
    shutil.rmtree(copy)
    _, front, body = (done.folder / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["base_model"] == str(copy)
    assert f"| base model | `{copy}`, content hash `{short}` |" in body
    assert f"- `{pairs_file}`\n- 52 rows trained on, 8 more held out\n" in body
    assert "splade_os.json" not in body  # its vectors are those of sentence-transformers


def test_base_that_is_a_splade_model(recipe: MakeRecipe, tiny: Path) -> None:
    base = tiny / "router"
    done = train(recipe("nq-inference-free", "bert", ["positive"], model__base=str(base)))
    short = content_hash(base / "document_0_Transformer")[:12]
    assert f"`{base}`, content hash `{short}`" in (done.folder / "README.md").read_text()


def test_data_of_the_hub(tmp_path: Path) -> None:
    """The commit is that of the cache of `datasets`, through shuffling and cutting."""
    commit = "0123456789" * 4
    table = Dataset.from_dict({"query": ["a", "b", "c"], "answer": ["d", "e", "f"]})
    folder = tmp_path / "org___name" / "pair" / "0.0.0" / commit
    table.save_to_disk(tmp_path / "saved")
    folder.mkdir(parents=True)
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.rename(folder / "name-train.arrow")
    cached = Dataset.from_file(str(folder / "name-train.arrow")).shuffle(seed=1).select(range(2))
    part = DataPart(train=["org/name", "x.jsonl"], subset="pair", documents=["answer"], held_out=1)
    rows = Rows(part, cached, None, None)
    assert hub_revisions(part, rows) == {"org/name": commit}
    assert describe_data(part, rows).splitlines() == [
        f"- `org/name` (pair train), revision `{commit}`",
        "- `x.jsonl`",
        "- 2 rows trained on, 1 more held out",
    ]


def test_lexical_prior_is_said(recipe: MakeRecipe, tiny: Path) -> None:
    """And the consequence is the one that the card names."""
    prior = {"model.base": str(tiny / "router"), "model.lexical_prior": {"weight": 2.0}}
    done = train(recipe("nq-inference-free", "bert", ["positive"], **prior))
    text = (done.folder / "README.md").read_text()
    assert "The lexical prior** is missing" in text and "C = 2, m = 0." in text
    peer = SparseEncoder(str(done.folder), device="cpu").encode_document(TEXTS).to_dense().numpy()
    ours = DocumentEncoder.load(str(done.folder), device="cpu")
    bare = DocumentEncoder.load(str(done.folder), device="cpu", lexical_weight=0.0)
    np.testing.assert_allclose(bare.encode(TEXTS).to_dense(), peer, atol=1e-5)
    with_prior = ours.encode(TEXTS).to_dense()
    assert (with_prior >= peer - 1e-5).all() and with_prior.sum() > peer.sum() + 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ""),
        ({"max_active_dims": 8}, ""),  # sentence-transformers has it too
        ({"lexical_weight": 0.0}, ""),
        ({"max_ratio": 0.3}, "Nothing is pruned** (max_ratio)"),
        ({"fold_idf": True}, "The IDF is not folded in"),
        ({"long_texts": "chunk"}, "Long texts are cut"),
        ({"max_length": 16}, "not cut after 16 tokens"),
    ],
)
def test_differences(options: dict[str, object], said: str, tiny: Path, tmp_path: Path) -> None:
    """Said if and only if the vectors differ from those of sentence-transformers."""
    text = describe_differences(EncodingOptions(**options))  # type: ignore[arg-type]
    assert said in text and bool(said) == bool(text)
    folder = tmp_path / "model"
    shutil.copytree(tiny / "router", folder)
    own = {name: value for name, value in options.items() if name != "max_active_dims"}
    (folder / "splade_os.json").write_text(json.dumps(own))
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"max_active_dims": options.get("max_active_dims")}))
    texts = [*TEXTS, "the old house of the small bird " * 20]
    peer = SparseEncoder(str(folder), device="cpu").encode_document(texts).to_dense().numpy()
    ours = DocumentEncoder.load(str(folder), device="cpu").encode(texts).to_dense()
    assert (np.abs(ours - peer).max() < 1e-5) == (not said)
