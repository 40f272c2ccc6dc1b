"""Damaged and foreign model folders: one clear error each, and never a pickle or remote code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from splade_os.encoding import DocumentEncoder, load_query_encoder, read_layout
from splade_os.errors import EncodingError, ModelError, SpladeWarning
from tests import tiny_models
from tests.tiny_models import change


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny / "bert", tmp_path / "model"))


def load(folder: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(folder), device="cpu")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        load(tmp_path / "nowhere")


def test_plain_checkpoint_is_not_guessed(tmp_path: Path) -> None:
    folder = tiny_models.masked_lm("bert", tmp_path / "plain")
    with pytest.raises(ModelError, match="which activation and pooling"):
        load(folder)


def test_no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load(model)


def test_no_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "other.safetensors")
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load(model)


@pytest.mark.parametrize("size", [0, 7, 300, 5000])
def test_truncated_weights(model: Path, size: int) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged or cut short.*\n.*hf do"):
        load(model)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_pointer_of_git_lfs(model: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (model / name).write_text(pointer)
    with pytest.raises(ModelError, match=f"{name} is a pointer of git LFS.*\n.*git lfs pull"):
        load(model)


def shard(model: Path) -> dict[str, str]:
    """Two files and an index, as transformers saves a large model; tensor → file."""
    file = model / "model.safetensors"
    tensors, places = load_file(file), {}
    for i, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2])):
        name = f"model-{i + 1:05d}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names}, model / name, metadata={"format": "pt"})
        places |= dict.fromkeys(names, name)
    file.unlink()
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    return places


def test_shards(tiny: Path, model: Path) -> None:
    shard(model)
    texts = ["learned sparse retrieval", "cat"]
    expected = load(tiny / "bert").encode(texts).to_dense()
    assert (load(model).encode(texts).to_dense() == expected).all()


def test_shard_that_is_missing(model: Path) -> None:
    places = shard(model)
    (model / next(iter(places.values()))).unlink()
    with pytest.raises(ModelError, match=r"model-0000.-of-00002\.safetensors is missing"):
        load(model)


def test_shard_that_is_cut_short(model: Path) -> None:
    file = model / next(iter(shard(model).values()))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelError, match=f"{file.name} is damaged or cut short"):
        load(model)


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}', '{"weight_map": {}}',
              '{"weight_map": {"a": "../model.safetensors"}}', "{"],
)  # fmt: skip
def test_damaged_index(model: Path, index: str) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        load(model)


def test_weights_without_head(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = {k: v for k, v in load_file(file).items() if "transform" not in k}
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="random weights"):
        load(model)


def test_nan_weights(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    tensors["bert.embeddings.LayerNorm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"LayerNorm\.weight holds NaN"):
        load(model)


def test_remote_code(model: Path) -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": "custom_code.MyTransformer"}]
    (model / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="would run code"):
        load(model)


def test_unknown_activation(model: Path) -> None:
    change(model / "1_SpladePooling" / "config.json", activation_function="gelu")
    with pytest.raises(ModelError, match="activation_function 'gelu'"):
        read_layout(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_position_embeddings", "many", r"max_position_embeddings is 'many'"),
        ("max_position_embeddings", -4, r"max_position_embeddings is -4"),
        ("num_attention_heads", -1, r"config\.json"),
        ("num_attention_heads", 7, r"config\.json|cannot be loaded"),
        ("hidden_size", "wide", r"config\.json|cannot be loaded"),
        ("hidden_act", "no-such-function", r"config\.json|cannot be loaded"),
        ("model_type", "no-such-family", r"config\.json|cannot be loaded"),
    ],
)
def test_damaged_configuration(model: Path, key: str, value: object, message: str) -> None:
    """Shown when the model is loaded, not in the middle of a corpus."""
    change(model / "config.json", **{key: value})
    with pytest.raises(ModelError, match=message):
        load(model)


def test_damaged_length(model: Path) -> None:
    change(model / "sentence_bert_config.json", max_seq_length="long")
    with pytest.raises(ModelError, match=r"sentence_bert_config\.json: max_seq_length is 'long'"):
        load(model)


def test_damaged_json(model: Path) -> None:
    (model / "modules.json").write_text('[{"idx": 0,')
    with pytest.raises(ModelError, match=r"modules\.json cannot be read"):
        load(model)


def test_tokenizer_larger_than_the_head(model: Path) -> None:
    """It runs, as in sentence-transformers, until a text holds a token that the head lacks."""
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    for i in range(50):
        vocabulary[f"extra{i}"] = len(vocabulary)
    file.write_text(json.dumps(content))
    encoder = load(model)
    assert len(encoder.encode(["the search engine"]).row(0)[0])
    with pytest.raises(EncodingError, match=r"Text 1 of the batch holds the token 'extra7'"):
        encoder.encode(["the search engine", "an extra7 word"])


def test_query_table_of_another_model(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny / "router", tmp_path / "router"))
    file = folder / "query_0_SparseStaticEmbedding" / "model.safetensors"
    save_file({"weight": torch.rand(10)}, file)
    with pytest.raises(ModelError, match="do not belong together"):
        load_query_encoder(str(folder))


def test_a_token_added_behind_a_table(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny / "router", tmp_path / "router"))
    file = folder / "query_0_SparseStaticEmbedding" / "model.safetensors"
    weights = load_file(file)["weight"]
    save_file({"weight": weights[:-1].contiguous()}, file)
    with pytest.warns(SpladeWarning, match=r"no weight for the last 1 of [\d,]+ tokens \("):
        table = load_query_encoder(str(folder)).table  # type: ignore[attr-defined]
    np.testing.assert_array_equal(table.weights, [*weights[:-1].tolist(), 0])


def test_symmetric_model_has_no_table(tiny: Path) -> None:
    with pytest.raises(ModelError, match="no IDF table"):
        load_query_encoder(str(tiny / "bert"), "idf")


@pytest.mark.parametrize("bad", ["\ud800", 7])
def test_text_that_is_none(tiny: Path, bad: object) -> None:
    with pytest.raises(EncodingError, match="Text 1 of the batch"):
        load(tiny / "bert").encode(["fine", bad])  # type: ignore[list-item]


def test_a_megabyte_in_one_text(tiny: Path) -> None:
    """Cut, or read in windows; beside it nothing changes."""
    long = "river " * 170_000 + "moon"
    cut = load(tiny / "bert")
    (ids, weights), (other, _) = cut.encode([long, "cat"])
    assert len(ids) and len(other)
    assert weights.max() == cut.encode([long[:600]]).values.max()
    whole = DocumentEncoder.load(str(tiny / "bert"), device="cpu", long_texts="chunk")
    chunked = whole.encode([long, "cat"])
    assert set(ids) <= set(chunked.row(0)[0])
    assert list(chunked.row(1)[0]) == list(other)


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "\x00\x07", "\u200b" * 50, "\u0301" * 5000, "🙃" * 5000]
)
def test_texts_of_nothing_much(tiny: Path, text: str) -> None:
    encoded = load(tiny / "bert").encode([text, "cat"])
    assert len(encoded) == 2
    assert len(encoded.row(1)[0])
