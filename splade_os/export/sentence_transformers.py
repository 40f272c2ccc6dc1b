"""Any model that splade-os reads, as a sentence-transformers SparseEncoder folder.

Plain masked-LM checkpoints (with activation and pooling stated) and folders of older layouts become
one in the current layout; sentence-transformers loads it, and it says everything itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import orjson

from splade_os.encoding.document import DocumentEncoder
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import OPTIONS_FILE, SpladePart, StaticPart, read_layout
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import MissingExtraError, ModelError
from splade_os.export.copying import copy_transformer
from splade_os.export.tensors import save_file
from splade_os.identity import CheckpointKeywords, EncodingOptions

_ST = "sentence_transformers"
_TRANSFORMER = f"{_ST}.base.modules.transformer.Transformer"
_POOLING = f"{_ST}.sparse_encoder.modules.splade_pooling.SpladePooling"
_STATIC = f"{_ST}.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding"
_ROUTER = f"{_ST}.base.modules.router.Router"
QUERY = "query_0_SparseStaticEmbedding"


@dataclass(frozen=True)
class Parts:
    """Where the parts of a model belong in its folder.

    Attributes:
        body: weights, configuration and tokenizer of the transformer.
        query: table and tokenizer of an inference-free query side, or ``None``.
    """

    body: Path
    query: Path | None


def write_frame(
    root: Path,
    *,
    activation: str,
    pooling: str,
    width: int,
    lowercase: bool,
    inference_free: bool,
    prompts: tuple[str, str] = ("", ""),
    query_length: int | None = None,
    max_active_dims: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Parts:
    """Write everything of a SparseEncoder folder but weights and tokenizers.

    Args:
        root: made if missing.
        width: size of the vocabulary.
        lowercase: lower-case before the tokenizer.
        prompts: of queries and of documents.
        query_length: tokens after which a query is cut, where it is not the tokenizer's length.
        options: for ``splade_os.json``, which sentence-transformers does not read.

    Returns:
        Where the caller puts the rest.
    """
    body = root / "document_0_Transformer" if inference_free else root
    head = root / ("document_1_SpladePooling" if inference_free else "1_SpladePooling")
    for part in (body, head):
        part.mkdir(parents=True, exist_ok=True)
    _json(
        body / "sentence_bert_config.json",
        {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
            **({"do_lower_case": True} if lowercase else {}),
            **({"query_length": query_length} if query_length else {}),
        },
    )
    _json(
        head / "config.json",
        {
            "pooling_strategy": pooling,
            "activation_function": activation,
            "embedding_dimension": width,
        },
    )
    modules = [("0", "", _TRANSFORMER), ("1", head.name, _POOLING)]
    query = None
    if inference_free:
        query = root / QUERY
        query.mkdir(exist_ok=True)
        modules = [("0", "", _ROUTER)]
        _json(
            root / "router_config.json",
            {
                "types": {QUERY: _STATIC, body.name: _TRANSFORMER, head.name: _POOLING},
                "structure": {"query": [QUERY], "document": [body.name, head.name]},
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
            "prompts": {"query": prompts[0], "document": prompts[1]},
            "default_prompt_name": None,
            "similarity_fn_name": "dot",
            **({"max_active_dims": max_active_dims} if max_active_dims else {}),
        },
    )
    if options:
        _json(root / OPTIONS_FILE, dict(options))
    return Parts(body, query)


def export_sentence_transformers(
    model: str, out: str | Path, **options: Unpack[CheckpointKeywords]
) -> Path:
    """Write a SparseEncoder folder; its vectors are compared with those of the source.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        out: new folder.
        options: ``activation`` and ``pooling`` of a checkpoint that does not say them.

    Raises:
        ModelError: ``out`` exists; the model has two transformers; or vectors differ.
        MissingExtraError: torch is not installed.
    """
    target = Path(out)
    if target.exists():
        raise ModelError(f"{target} exists already.", hint="Name a new folder with --out.")
    try:
        import torch  # noqa: F401
        from transformers import AutoConfig, AutoTokenizer
    except ImportError:
        raise MissingExtraError("Exporting to sentence-transformers", "torch") from None
    found = resolve_model(model)
    layout = read_layout(found.folder)
    chosen = EncodingOptions(**options).over(layout.options)
    part = layout.document.stated(chosen)
    if isinstance(layout.query, SpladePart) and layout.query.folder != part.folder:
        raise ModelError(f"{model} has two transformers, one for each side; a folder holds one.")
    source = DocumentEncoder.load(model, device="cpu", dtype="float32", backend="torch", **options)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    query_length = None
    if isinstance(layout.query, SpladePart) and layout.query.max_length != part.max_length:
        query_length = layout.query.max_length
    kept = chosen.model_dump(exclude_none=True, exclude={"activation", "pooling"})
    try:
        parts = write_frame(
            unfinished,
            activation=str(part.activation),
            pooling=str(part.pooling),
            width=source.identity.vocabulary_size,
            lowercase=part.lowercase,
            inference_free=isinstance(layout.query, StaticPart),
            prompts=(layout.query_prompt, layout.document_prompt),
            query_length=query_length,
            max_active_dims=kept.pop("max_active_dims", None),
            options=kept,
        )
        copy_transformer(part.folder, parts.body)
        config = AutoConfig.from_pretrained(parts.body)
        tokenizer = AutoTokenizer.from_pretrained(part.folder, use_fast=True, config=config)
        tokenizer.model_max_length = part.max_length
        tokenizer.save_pretrained(parts.body)
        if parts.query is not None and isinstance(layout.query, StaticPart):
            _write_query(layout.query, parts.query, source.identity.vocabulary_size)
        _compare(source, DocumentEncoder.load(str(unfinished), device="cpu", backend="torch"))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _write_query(part: StaticPart, folder: Path, width: int) -> None:
    from transformers import AutoTokenizer

    tokens = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=False
    )
    table = IdfTable.from_file(part.weights, tokens.vocabulary())
    weights = np.pad(table.weights, (0, max(0, width - len(table.weights))))[:width]
    save_file({"weight": weights}, folder / "model.safetensors")
    _json(folder / "config.json", {"frozen": True})
    tokenizer = AutoTokenizer.from_pretrained(part.folder, use_fast=True)
    if part.max_length is not None:
        tokenizer.model_max_length = part.max_length
    tokenizer.save_pretrained(folder)


def _compare(source: DocumentEncoder, made: DocumentEncoder) -> None:
    random = np.random.default_rng(0)
    words = [t for t in source.vocabulary.tokens if t.isalpha()] or ["a"]
    texts = [" ".join(random.choice(words, n)) for n in (1, 3, 9, 27, 81, 300)]
    difference = np.abs(source.encode(texts).to_dense() - made.encode(texts).to_dense()).max()
    if difference > 1e-5:
        raise ModelError(f"The exported folder differs by {difference:.2g}: not exported.")


def _json(file: Path, content: Any) -> None:
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
