"""Writes a `SpladeModel` as a folder that sentence-transformers, splade-os and engines read.

Symmetric models: the transformer in the root, ``1_SpladePooling``. Inference-free ones: a Router.
Beside them ``idf.json`` and ``query_token_weights.txt`` (what OpenSearch's tools read), and
``splade_os.json``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import save_file

from splade_os.encoding.layout import OPTIONS_FILE
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.export.idf import write_table
from splade_os.training.model import SideFiles, SpladeModel

_ST = "sentence_transformers"
_TRANSFORMER = f"{_ST}.base.modules.transformer.Transformer"
_POOLING = f"{_ST}.sparse_encoder.modules.splade_pooling.SpladePooling"
_STATIC = f"{_ST}.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding"
_ROUTER = f"{_ST}.base.modules.router.Router"


def save_model(model: SpladeModel, folder: str | Path) -> Path:
    """Write the model (current layout, float32; LoRA merged into the weights).

    Args:
        model: may go on training afterwards.
        folder: made if missing; files of the same names are replaced.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    symmetric = model.query is None
    body = root if symmetric else root / "document_0_Transformer"
    pooling = root / ("1_SpladePooling" if symmetric else "document_1_SpladePooling")
    for part in (body, pooling):
        part.mkdir(exist_ok=True)
    _save_transformer(model, body)
    _json(
        body / "sentence_bert_config.json",
        {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
            **({"do_lower_case": True} if model.document_files.lowercase else {}),
        },
    )
    _copy_tokenizer(model.document_files, body)
    _json(
        pooling / "config.json",
        {
            "pooling_strategy": model.document.pooling,
            "activation_function": model.document.activation,
            "embedding_dimension": model.vocabulary_size,
        },
    )
    if symmetric:
        modules = [("0", "", _TRANSFORMER), ("1", pooling.name, _POOLING)]
    else:
        modules = [("0", "", _ROUTER)]
        _save_query(model, root / "query_0_SparseStaticEmbedding")
        _json(
            root / "router_config.json",
            {
                "types": {
                    "query_0_SparseStaticEmbedding": _STATIC,
                    body.name: _TRANSFORMER,
                    pooling.name: _POOLING,
                },
                "structure": {
                    "query": ["query_0_SparseStaticEmbedding"],
                    "document": [body.name, pooling.name],
                },
                "parameters": {
                    "default_route": "document",
                    "allow_empty_key": True,
                    "route_mappings": {},
                },
            },
        )
    _json(
        root / "modules.json",
        [
            {"idx": i, "name": name, "path": path, "type": kind}
            for i, (name, path, kind) in enumerate(modules)
        ],
    )
    _json(
        root / "config_sentence_transformers.json",
        {
            "model_type": "SparseEncoder",
            "prompts": {
                "query": model.query_files.prompt,
                "document": model.document_files.prompt,
            },
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
            **({"max_active_dims": model.max_active_dims} if model.max_active_dims else {}),
        },
    )
    if model.options:
        _json(root / OPTIONS_FILE, model.options)
    return root


def _save_transformer(model: SpladeModel, folder: Path) -> None:
    side = model.document
    try:
        mlm = side.whole()
        state = {name: tensor.detach().cpu().float() for name, tensor in _merged(mlm).items()}
        mlm.config.architectures = [type(mlm).__name__]
        mlm.config.save_pretrained(folder)
        tied = _tied(mlm)
    finally:
        side.detach_decoder()
    own = {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}
    save_file(own, folder / "model.safetensors", metadata={"format": "pt"})


def _merged(mlm: Any) -> dict[str, torch.Tensor]:
    """State of the model with LoRA's products added to the weights that they adapt."""
    state: dict[str, torch.Tensor] = {}
    layers = {name: module for name, module in mlm.named_modules() if hasattr(module, "lora_A")}
    for name, tensor in mlm.state_dict().items():
        if ".lora_" in name:
            continue
        owner = name.split(".base_layer.")[0]
        if owner in layers and name.endswith(".base_layer.weight"):
            layer = layers[owner]
            tensor = tensor + sum(
                layer.get_delta_weight(adapter).to(tensor.dtype)
                for adapter in layer.active_adapters
            )
        state[name.replace(".base_layer.", ".")] = tensor
    return state


def _tied(mlm: Any) -> set[str]:
    """Names that are another name's tensor: transformers ties them again when it loads."""
    first: dict[int, str] = {}
    double = set()
    names = [name for name, _ in mlm.named_parameters(remove_duplicate=False)]
    tensors = dict(mlm.named_parameters(remove_duplicate=False))
    # an input embedding and BERT's own bias are what checkpoints hold; the decoder's are copies
    for name in sorted(names, key=lambda n: ("decoder" in n or "projector.weight" in n, n)):
        key = id(tensors[name])
        if key in first:
            double.add(name.replace(".base_layer.", "."))
        first.setdefault(key, name)
    return double


def _save_query(model: SpladeModel, folder: Path) -> None:
    assert model.query is not None
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        table = model.query.table(model.document.decoder.weight).float().cpu().contiguous()
    save_file({"weight": table}, folder / "model.safetensors")
    trainable = any(p.requires_grad for p in model.query.parameters())
    _json(folder / "config.json", {"frozen": not trainable})
    _copy_tokenizer(model.query_files, folder)
    tokenizer = TextTokenizer(
        model.query_files.folder,
        max_length=None,
        lowercase=model.query_files.lowercase,
        special_tokens=False,
    )
    write_table(table.numpy(), tokenizer.vocabulary(model.vocabulary_size), folder.parent)


def _copy_tokenizer(files: SideFiles, folder: Path) -> None:
    for file in files.folder.iterdir():
        shutil.copy(file, folder / file.name)


def _json(file: Path, content: Any) -> None:
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
