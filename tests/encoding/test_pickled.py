"""``pytorch_model.bin``: the same vectors as from safetensors, and nothing of it ever runs."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sentence_transformers import SparseEncoder

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.encoding.resolve import content_hash
from splade_os.encoding.weights import weights_folder
from splade_os.errors import ModelError, SpladeError
from tests.tiny_models import TEXTS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def whole(state: dict[str, Any], folder: Path) -> None:
    torch.save(state, folder / "pytorch_model.bin")


def before_zip(state: dict[str, Any], folder: Path) -> None:
    """torch's format until 1.6, which cannot be mapped."""
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def tied(state: dict[str, Any], folder: Path) -> None:
    """The decoder shares the memory of the embeddings, and tensors are views of others."""
    embeddings = next(t for name, t in state.items() if "word_embeddings" in name)
    wide = torch.cat([embeddings, embeddings], 1)
    shared = {**state, "cls.predictions.decoder.weight": embeddings}
    name = next(name for name, t in state.items() if t is embeddings)
    whole({**shared, name: wide[:, : embeddings.shape[1]]}, folder)


def old_names(state: dict[str, Any], folder: Path) -> None:
    """gamma and beta, as the first BERT models have it; and a buffer that nobody asks for."""
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in state.items()
    }
    whole({**renamed, "bert.embeddings.position_ids": torch.arange(64)[None]}, folder)


def half(state: dict[str, Any], folder: Path) -> None:
    whole({name: tensor.half() for name, tensor in state.items()}, folder)


def parameters(state: dict[str, Any], folder: Path) -> None:
    whole({name: torch.nn.Parameter(tensor) for name, tensor in state.items()}, folder)


def shards(state: dict[str, Any], folder: Path) -> None:
    names, places = sorted(state), {}
    for i in range(3):
        file = f"pytorch_model-{i + 1:05d}-of-00003.bin"
        torch.save({name: state[name] for name in names[i::3]}, folder / file)
        places |= dict.fromkeys(names[i::3], file)
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_bytes(orjson.dumps(index))


FORMS: list[Callable[[dict[str, Any], Path], None]] = [
    whole, before_zip, tied, old_names, half, parameters, shards,
]  # fmt: skip


@pytest.fixture(params=["bert", "router"])
def model(request: pytest.FixtureRequest, tiny: Path, tmp_path: Path) -> Iterator[Path]:
    yield Path(shutil.copytree(tiny / request.param, tmp_path / "model"))


def pickle_weights(model: Path, form: Callable[[dict[str, Any], Path], None]) -> Path:
    """The folder of the transformer, whose weights are no safetensors any more."""
    body = model / "document_0_Transformer" if (model / "router_config.json").exists() else model
    file = body / "model.safetensors"
    form(load_file(file), body)
    file.unlink()
    return body


@pytest.mark.parametrize("form", FORMS)
def test_equals_sentence_transformers(tiny: Path, model: Path, form: Any, cache: Path) -> None:
    if form in (tied, old_names) and (model / "router_config.json").exists():
        pytest.skip("the names are BERT's")
    expected = DocumentEncoder.load(str(model), device="cpu").encode(TEXTS).to_dense()
    body = pickle_weights(model, form)
    kwargs = {"torch_dtype": torch.float32}
    oracle = SparseEncoder(str(model), device="cpu", model_kwargs=kwargs)
    theirs = oracle.encode_document(TEXTS).to_dense().numpy()
    ours = DocumentEncoder.load(str(model), device="cpu")
    np.testing.assert_allclose(ours.encode(TEXTS).to_dense(), theirs, atol=2e-5)
    if form is not half:
        np.testing.assert_allclose(ours.encode(TEXTS).to_dense(), expected, atol=1e-6)
    assert not list(body.glob("*.safetensors"))  # the folder stays as it is
    made = {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")}
    assert made and not list(cache.rglob(".unfinished*"))
    again = DocumentEncoder.load(str(model), device="cpu")
    assert again.identity == ours.identity
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")} == made
    mode = "idf" if (model / "router_config.json").exists() else "encoder"
    queries = load_query_encoder(str(model), mode, device="cpu")  # type: ignore[arg-type]
    np.testing.assert_allclose(
        queries.encode(TEXTS).to_dense(),
        oracle.encode_query(TEXTS).to_dense().numpy(),
        atol=2e-5,
    )


def test_hashed_as_what_it_is_converted_to(tiny: Path, tmp_path: Path) -> None:
    """A folder with the converted file is the same model."""
    model = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    pickle_weights(model, whole)
    before = content_hash(model)
    shutil.copyfile(weights_folder(model) / "model.safetensors", model / "model.safetensors")
    assert content_hash(model) == before


def test_safetensors_come_first(tiny: Path, tmp_path: Path, cache: Path) -> None:
    model = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    (model / "pytorch_model.bin").write_bytes(b"never looked at")
    assert DocumentEncoder.load(str(model), device="cpu").identity.content_hash == content_hash(
        tiny / "bert"
    )
    assert not cache.exists()


class Touch:
    """What runs when a pickle is trusted."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("form", ["torch", "torch before zip", "pickle", "in a table"])
def test_nothing_of_it_runs(tiny: Path, tmp_path: Path, form: str) -> None:
    model = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    body = pickle_weights(model, whole)
    file, proof = body / "pytorch_model.bin", tmp_path / "it ran"
    evil: Any = Touch(proof)
    if form == "in a table":
        evil = {**torch.load(file, weights_only=True), "bert.x": evil}
    if form == "pickle":
        file.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, file, _use_new_zipfile_serialization=form != "torch before zip")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin .*nothing of it was run"):
        DocumentEncoder.load(str(model), device="cpu")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "holds a list, no table"),
        ({}, "no table of tensors"),
        ({"state_dict": {"a": torch.zeros(1)}}, "state_dict is a dict"),
        ({"epoch": 3}, "epoch is a int"),
        ({"a": torch.eye(3).to_sparse()}, "a is a Tensor that safetensors cannot hold"),
        ({3: torch.zeros(1)}, "3 is a Tensor"),
    ],
)
def test_what_is_no_table_of_tensors(
    tiny: Path, tmp_path: Path, content: Any, message: str
) -> None:
    model = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    (model / "model.safetensors").unlink()
    torch.save(content, model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=message):
        DocumentEncoder.load(str(model), device="cpu")


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, or with bytes that are others: tensors, or an error of ours that names the file."""
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / "pytorch_model.bin"
    new = data.draw(st.booleans())
    state = {"a": torch.arange(6.0), "b": torch.ones(2, 2)}
    torch.save(state, file, _use_new_zipfile_serialization=new)
    content = bytearray(file.read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        assert list(weights_folder(folder).glob("*.safetensors"))
    except SpladeError as error:
        assert str(file) in str(error)


def test_a_shard_that_is_missing(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    pickle_weights(model, shards)
    (model / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(ModelError, match=r"pytorch_model-00002-of-00003\.bin is missing"):
        DocumentEncoder.load(str(model), device="cpu")
