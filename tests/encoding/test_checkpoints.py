"""Plain masked-LM checkpoints: nothing is guessed, and what the user states is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.encoding.onnx_backend import OnnxBackend
from splade_os.errors import ModelError, SettingsError
from splade_os.export.onnx import export_onnx
from tests import tiny_models

TEXTS = ["how do i read a table", "the museum opens at nine"]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tiny_models.masked_lm("bert", tmp_path / "plain")


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_equals_sentence_transformers(plain: Path, tmp_path: Path, activation: str) -> None:
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    theirs = SparseEncoder(str(plain), device="cpu")
    assert isinstance(theirs[1], SpladePooling)
    theirs[1].activation_function = activation
    expected = theirs.encode(TEXTS).to_dense().numpy()
    ours = DocumentEncoder.load(str(plain), device="cpu", activation=activation, pooling="max")
    np.testing.assert_allclose(ours.encode(TEXTS).to_dense(), expected, atol=1e-5)
    # what an index remembers is enough to make the same encoder again
    options = ours.identity.options().model_dump()
    again = DocumentEncoder.load(str(plain), device="cpu", **options)
    assert again.identity == ours.identity


@pytest.mark.parametrize("stated", [{}, {"activation": "relu"}, {"pooling": "max"}])
def test_nothing_is_guessed(plain: Path, stated: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="which activation and pooling"):
        DocumentEncoder.load(str(plain), device="cpu", **stated)


def test_contradiction(tiny: Path) -> None:
    with pytest.raises(SettingsError, match="its activation is relu, not log1p_relu"):
        DocumentEncoder.load(str(tiny / "bert"), device="cpu", activation="log1p_relu")


def test_not_a_masked_lm(plain: Path) -> None:
    tiny_models.change(plain / "config.json", architectures=["BertModel"])
    with pytest.raises(ModelError, match="BertModel: no SPLADE model"):
        DocumentEncoder.load(str(plain), activation="relu", pooling="max")


@pytest.mark.parametrize("form", ["idf.json", "query_token_weights.txt"])
def test_opensearch_doc_model(plain: Path, form: str) -> None:
    """The layout of OpenSearch's doc-v* models: a checkpoint with a table beside it."""
    weights = {"river": 4.5, "moon": 2.25, "the": 0.125, "no-such-token": 1.0}
    if form == "idf.json":
        (plain / form).write_text(json.dumps(weights))
    else:
        (plain / form).write_text("".join(f"{t}\t{w}\n" for t, w in weights.items()))
    encoder = load_query_encoder(str(plain))
    ids, found = encoder.encode(["The river, the moon and the old moon"]).row(0)
    named = {encoder.vocabulary.tokens[i]: float(w) for i, w in zip(ids, found, strict=True)}
    known = set(encoder.vocabulary.tokens)
    assert named == {t: w for t, w in weights.items() if t in known}
    assert len(named) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("query_token_weights.txt", "the\t1.0\nnine 2\n", r"weights\.txt:2 is not a token"),
        ("idf.json", '{"the": "heavy"}', "weight of token 'the' is str"),
        ("idf.json", "[1, 2]", "not a JSON object"),
    ],
)
def test_damaged_table(plain: Path, name: str, content: str, message: str) -> None:
    (plain / name).write_text(content)
    with pytest.raises(ModelError, match=message):
        load_query_encoder(str(plain))


def test_export_remembers_what_was_stated(plain: Path, tmp_path: Path) -> None:
    export_onnx(str(plain), tmp_path / "out", activation="log1p_relu", pooling="max")
    shutil.rmtree(plain)
    loaded = DocumentEncoder.load(str(tmp_path / "out"), device="cpu")
    assert isinstance(loaded._backend, OnnxBackend)
    assert loaded.identity.activation == "log1p_relu"
    assert len(loaded.encode(TEXTS)) == 2
