"""Writes a `SpladeModel` as a folder that sentence-transformers, splade-os and engines read.

Symmetric models: the transformer in the root, ``1_SpladePooling``. Others: a Router.
Beside them ``idf.json`` and ``query_token_weights.txt`` (what OpenSearch's tools read), and
``splade_os.json``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from splade_os.encoding.tokenization import TextTokenizer
from splade_os.export.frame import Side, StepKind, write_frame, write_json
from splade_os.export.idf import write_table
from splade_os.export.tensors import save_file
from splade_os.training.model import SideFiles, SpladeModel, TransformerSide
from splade_os.training.steps import OwnTerms, UnitLength

_KINDS: dict[type, StepKind] = {OwnTerms: "SparseStaticEmbedding", UnitLength: "Normalize"}


def save_model(model: SpladeModel, folder: str | Path) -> Path:
    """Write the model (current layout, float32; LoRA merged into the weights).

    Args:
        model: may go on training afterwards.
        folder: made if missing; files of the same names are replaced.
    """
    root = Path(folder)
    document, query = _side(model.document, model.document_files), None
    if isinstance(model.query, TransformerSide):
        query = _side(model.query, model.query_files)
    own_body = len(model.sides) > 1
    length = model.query_files.max_length
    shared = not own_body and not model.inference_free
    parts = write_frame(
        root,
        document=document,
        query=query,
        own_body=own_body,
        inference_free=model.inference_free,
        width=model.vocabulary_size,
        prompts=(model.query_files.prompt, model.document_files.prompt),
        query_length=length if shared and length != model.document_files.max_length else None,
        max_active_dims=model.max_active_dims,
        options=model.options,
    )
    _save_transformer(model.document, parts.body)
    _copy_tokenizer(model.document_files, parts.body)
    if parts.query_body is not None:
        _save_transformer(model.sides[1], parts.query_body)
        _copy_tokenizer(model.query_files, parts.query_body)
    tables = [module for module in model.modules() if isinstance(module, OwnTerms)]
    for table, folder in zip(tables, parts.tables, strict=True):
        save_file({"weight": table.weight.detach().cpu()}, folder / "model.safetensors")
        write_json(folder / "config.json", {"frozen": not table.weight.requires_grad})
        _copy_tokenizer(model.document_files, folder)
    if parts.query is not None:
        _save_query(model, parts.query)
    return root


def _side(side: TransformerSide, files: SideFiles) -> Side:
    return Side(side.activation, side.pooling, files.lowercase, tuple(_KINDS[type(step)]
                for step in side.steps))  # fmt: skip


def _save_transformer(side: TransformerSide, folder: Path) -> None:
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
    assert model.table is not None
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        table = model.table.table(model.document.decoder.weight).float().cpu().contiguous()
    save_file({"weight": table}, folder / "model.safetensors")
    trainable = any(p.requires_grad for p in model.table.parameters())
    write_json(folder / "config.json", {"frozen": not trainable})
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
