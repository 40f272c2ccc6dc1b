"""From a recipe's ``model`` part to a `SpladeModel`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splade_os.encoding.architecture import require_decoder
from splade_os.encoding.hub import download, is_hub_name
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import SpladePart, StaticPart, read_layout
from splade_os.encoding.lexical import mean_weight
from splade_os.encoding.resolve import STARTER, resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer.check import check_tokenizer
from splade_os.encoding.tokenizer.files import CONFIG, SETTINGS, SOURCES, TokenizerFiles
from splade_os.encoding.transformer import SpladeTransformer
from splade_os.errors import MissingExtraError, ModelError, SettingsError
from splade_os.training.model import DocumentSide, SideFiles, SpladeModel
from splade_os.training.pretrained import load_pretrained
from splade_os.training.query_table import LinearTable, StaticTable
from splade_os.training.recipe import LexicalPart, ModelPart
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

_NO_LIMIT = 1_000_000

CorpusIdf = Callable[[TextTokenizer, Vocabulary], Weights]
"""IDF over the training documents, computed when a recipe asks for it."""


def load_model(part: ModelPart, corpus_idf: CorpusIdf | None = None) -> SpladeModel:
    """Build the model that a recipe describes.

    Args:
        part: the recipe's ``model``.
        corpus_idf: gives the table of ``query.table: corpus``.

    Raises:
        ModelError: the base cannot be found, or has no masked-LM head.
        SettingsError: the recipe asks for what the base does not have.
    """
    start = _splade(part) if _is_splade(part.base) else _checkpoint(part)
    document, files, query_files, table, options, max_active_dims = start
    if part.dropout is not None:
        _set_dropout(document, part.dropout)
    if part.lora is not None:
        _add_lora(document, part)
    vocabulary = TextTokenizer(
        files.folder, max_length=None, lowercase=files.lowercase, special_tokens=False
    ).vocabulary(document.vocabulary_size)
    query = None
    if part.query.kind != "encoder":
        weights = torch.from_numpy(
            _start_table(part, table, vocabulary, query_files, corpus_idf).astype(np.float32)
        )
        if part.query.kind == "idf":
            query = StaticTable(weights, vocabulary.special_ids, part.query.trainable)
        else:
            query = LinearTable(weights, document.decoder.weight, vocabulary.special_ids)
    return SpladeModel(
        document,
        query,
        files,
        query_files,
        options,
        part.max_active_dims or max_active_dims,
        part.cut_in_training,
    )


_Start = tuple[DocumentSide, SideFiles, SideFiles, Weights | None, dict[str, Any], int | None]


def _is_splade(base: str) -> bool:
    path = Path(base).expanduser()
    if path.is_dir():
        return (path / "modules.json").is_file()
    if base == STARTER:
        return True
    if base.count("/") and not is_hub_name(base):
        return False  # a folder that is missing: whoever loads it says so
    return (download(base) / "modules.json").is_file()  # also of a cache without network


def _splade(part: ModelPart) -> _Start:
    """A SparseEncoder folder, trained further."""
    found = resolve_model(part.base)
    layout = read_layout(found.folder)
    source = layout.document
    if source.steps:
        raise ModelError(f"{part.base}: Normalize behind the pooling cannot be trained.")
    device = torch.device("cpu")
    running = SpladeTransformer(source, device, torch.float32)
    for folder in {source.folder, layout.query.folder}:
        check_tokenizer(folder)
    options = layout.options.model_dump(exclude_none=True)
    dims = options.pop("max_active_dims", None)
    length = min(part.max_length or source.max_length, source.max_length)
    if part.lexical_prior == "none":
        for name in ("lexical_weight", "mean_weight", "average_length"):
            options.pop(name, None)
    elif isinstance(part.lexical_prior, LexicalPart):
        options["lexical_weight"] = part.lexical_prior.weight
        options["average_length"] = part.lexical_prior.average_length
        options.pop("mean_weight", None)
    if options.get("lexical_weight") and not options.get("mean_weight"):
        tokenizer = TextTokenizer(
            source.folder, max_length=length, lowercase=source.lowercase, special_tokens=True
        )
        # measured once at the start and kept: what the prior weighs must not move in training
        options["mean_weight"] = mean_weight(running, tokenizer, dims)
    mlm = _with_decoder(running)
    files = SideFiles(
        _stage(source.folder, length), length, source.lowercase, layout.document_prompt
    )
    table, query_files = None, files
    query_length = part.query_max_length or length
    if isinstance(layout.query, StaticPart):
        tokenizer = TextTokenizer(
            layout.query.folder,
            max_length=None,
            lowercase=layout.query.lowercase,
            special_tokens=False,
        )
        table = IdfTable.from_file(layout.query.weights, tokenizer.vocabulary()).weights
        if part.query.kind != "encoder":
            query_length = part.query_max_length or layout.query.max_length or length
            query_files = SideFiles(
                _stage(layout.query.folder, query_length),
                query_length,
                layout.query.lowercase,
                layout.query_prompt,
            )
    elif isinstance(layout.query, SpladePart) and layout.query.folder != source.folder:
        raise ModelError(
            f"{part.base} has two transformers, one for each side; one of them would be lost.",
            hint="Train one that is symmetric or inference-free.",
        )
    if query_files is files:
        query_files = SideFiles(
            _stage(source.folder, query_length), query_length, source.lowercase, layout.query_prompt
        )
    assert source.activation is not None and source.pooling is not None  # the layout says both
    side = DocumentSide(mlm, part.activation or source.activation, part.pooling or source.pooling)
    return side, files, query_files, table, options, dims


def _with_decoder(running: SpladeTransformer) -> Any:
    """The transformers model of the encoder, with its decoder back in place."""
    model = running.model
    require_decoder(running.architecture, running.part.family, "Training")
    decoder = torch.nn.Linear(
        running.weight.shape[1], running.weight.shape[0], bias=running.bias is not None
    )
    embeddings = model.get_input_embeddings().weight
    tied = embeddings.data_ptr() == running.weight.data_ptr()
    decoder.weight = embeddings if tied else torch.nn.Parameter(running.weight.clone())
    if running.bias is not None:
        decoder.bias = torch.nn.Parameter(running.bias.clone())
    model.set_output_embeddings(decoder)
    return model


def _checkpoint(part: ModelPart) -> _Start:
    """A plain masked-LM checkpoint."""
    try:
        from transformers import AutoModelForMaskedLM
    except ImportError:
        raise MissingExtraError("Training", "train") from None
    if isinstance(part.lexical_prior, LexicalPart):
        raise SettingsError(
            f"model.lexical_prior: {part.base} is no SPLADE model yet, its mean weight means "
            "nothing.",
            hint="Train it without the prior first.",
        )
    mlm, tokenizer, missing = load_pretrained(AutoModelForMaskedLM, part.base, "The base model")
    if missing:
        raise ModelError(
            f"{part.base} lacks {len(missing)} tensors of a masked-LM model, first {missing[0]}: "
            "it would start with random weights there.",
            hint="Take a checkpoint with its masked-LM head (…ForMaskedLM).",
        )
    side = DocumentSide(mlm, part.activation or "relu", part.pooling or "max")
    positions = side.architecture.max_length or 512
    known = [n for n in (tokenizer.model_max_length, positions) if n < _NO_LIMIT]
    length = min(part.max_length or min(known), positions)
    folder = _temporary()
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    files = SideFiles(folder, length)
    query_length = min(part.query_max_length or length, length)
    query_files = SideFiles(_stage(folder, query_length), query_length)
    return side, files, query_files, None, {}, None


def _start_table(
    part: ModelPart,
    own: Weights | None,
    vocabulary: Vocabulary,
    files: SideFiles,
    corpus_idf: CorpusIdf | None,
) -> Weights:
    table = part.query.table
    size = len(vocabulary)
    if table == "ones":
        weights = np.ones(size, np.float32)
        weights[list(vocabulary.special_ids)] = 0
        return weights
    if table == "model":
        if own is None:
            raise SettingsError(
                f"model.query.table: {part.base} has no table of its own.",
                hint="Take corpus, ones, or a file idf.json.",
            )
        return np.pad(own, (0, max(0, size - len(own))))[:size]
    if table == "corpus":
        if corpus_idf is None:
            raise SettingsError("model.query.table: there is no corpus to count.")
        tokenizer = TextTokenizer(
            files.folder, max_length=None, lowercase=files.lowercase, special_tokens=False
        )
        return corpus_idf(tokenizer, vocabulary)
    file = Path(table)
    try:
        there = file.is_file()
    except OSError:  # a folder that may not be entered: `from_file` says so
        there = True
    if not there:
        raise SettingsError(
            f"model.query.table: there is no file {table}.",
            hint="Take corpus, ones, model, or a file idf.json.",
        )
    return IdfTable.from_file(file, vocabulary).weights


def _set_dropout(document: DocumentSide, probability: float) -> None:
    for module in document.mlm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = probability


def _add_lora(document: DocumentSide, part: ModelPart) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtraError("LoRA", "lora") from None
    assert part.lora is not None
    for parameter in document.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(
        r=part.lora.r,
        lora_alpha=part.lora.alpha,
        lora_dropout=part.lora.dropout,
        target_modules=part.lora.target_modules,
    )
    try:
        inject_adapter_in_model(config, document.mlm)
    except ValueError as error:
        raise SettingsError(f"model.lora.target_modules: {error}") from None


def _temporary() -> Path:
    holder = tempfile.TemporaryDirectory(prefix="splade-os-tokenizer-")
    _HOLDERS.append(holder)
    return Path(holder.name)


_HOLDERS: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


def _stage(source: Path, length: int) -> Path:
    """Tokenizer files of a side, with its own maximum length, in a folder of their own."""
    folder = _temporary()
    files = TokenizerFiles(source)
    for name in (*SOURCES, *SETTINGS):
        if files.has(name):
            (folder / name).write_bytes((source / name).read_bytes())
    # without config.json beside it, the class must be stated
    config = {**files.config, "tokenizer_class": files.stated_class, "model_max_length": length}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, "utf-8")
    return folder
