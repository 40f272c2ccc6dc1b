"""From a recipe's ``model`` part to a `SpladeModel`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splade_os.encoding.architecture import require_decoder
from splade_os.encoding.hub import download, is_hub_name
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import SpladePart, StaticPart, read_layout
from splade_os.encoding.lexical import mean_weight
from splade_os.encoding.module_config import read_optional
from splade_os.encoding.resolve import STARTER, resolve_model
from splade_os.encoding.stepped import table_of, with_steps
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer.check import check_tokenizer
from splade_os.encoding.tokenizer.files import CONFIG, SETTINGS, SOURCES, TokenizerFiles
from splade_os.encoding.transformer import SpladeTransformer
from splade_os.errors import MissingExtraError, ModelError, SettingsError
from splade_os.training.model import SideFiles, SpladeModel, TransformerSide
from splade_os.training.pretrained import load_pretrained
from splade_os.training.query_table import LinearTable, QueryTable, StaticTable
from splade_os.training.recipe import LexicalPart, ModelPart
from splade_os.training.steps import OwnTerms, Step, UnitLength
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
    document, files = start.document, start.files
    for side in {document, start.query or document}:
        if part.dropout is not None:
            _set_dropout(side, part.dropout)
    if part.lora is not None:
        transformers = {id(side.mlm): side for side in (document, start.query or document)}
        for side in transformers.values():
            _add_lora(side, part)
    vocabulary = TextTokenizer(
        files.folder, max_length=None, lowercase=files.lowercase, special_tokens=False
    ).vocabulary(document.vocabulary_size)
    query: QueryTable | TransformerSide | None = start.query
    if part.query.kind != "encoder":
        weights = torch.from_numpy(
            _start_table(part, start.table, vocabulary, start.query_files, corpus_idf).astype(
                np.float32
            )
        )
        if part.query.kind == "idf":
            query = StaticTable(weights, vocabulary.special_ids, part.query.trainable)
        else:
            query = LinearTable(weights, document.decoder.weight, vocabulary.special_ids)
    return SpladeModel(
        document,
        query,
        files,
        start.query_files,
        start.options,
        part.max_active_dims or start.max_active_dims,
        part.cut_in_training,
    )


@dataclass(frozen=True)
class _Start:
    """What a base gives.

    Attributes:
        query: its query side, where that is a transformer with something of its own.
        table: its query side, where that is a table.
    """

    document: TransformerSide
    files: SideFiles
    query_files: SideFiles
    query: TransformerSide | None = None
    table: Weights | None = None
    options: dict[str, Any] = field(default_factory=dict)
    max_active_dims: int | None = None


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
        options["mean_weight"] = mean_weight(with_steps(running, source), tokenizer, dims)
    side = _side(running, source, part)
    files = SideFiles(
        _stage(source.folder, length), length, source.lowercase, layout.document_prompt
    )
    theirs, query, table = layout.query, None, None
    if isinstance(theirs, StaticPart):
        tokenizer = TextTokenizer(
            theirs.folder, max_length=None, lowercase=theirs.lowercase, special_tokens=False
        )
        table = IdfTable.from_file(theirs.weights, tokenizer.vocabulary()).weights
    elif part.query.kind == "encoder" and layout.two_transformers:
        query = _side(SpladeTransformer(theirs, device, torch.float32), theirs, part)
        if query.vocabulary_size != side.vocabulary_size:
            raise ModelError(
                f"{part.base}: queries have {query.vocabulary_size:,} dimensions, documents "
                f"{side.vocabulary_size:,}.",
                hint="Download or save the model again.",
            )
    elif part.query.kind == "encoder" and not layout.symmetric:
        query = side.sharing(
            part.activation or str(theirs.activation),
            part.pooling or str(theirs.pooling),
            _steps(theirs, side.vocabulary_size),
        )
    wanted = SpladePart if part.query.kind == "encoder" else StaticPart
    own = theirs if isinstance(theirs, wanted) else source
    if isinstance(own, StaticPart):
        query_length = part.query_max_length or own.max_length or length
    else:
        longest = own.max_length if own.folder != source.folder else source.max_length
        usual = min(own.max_length, part.max_length or own.max_length)
        query_length = min(part.query_max_length or usual, longest)
    query_files = SideFiles(
        _stage(own.folder, query_length), query_length, own.lowercase, layout.query_prompt
    )
    return _Start(side, files, query_files, query, table, options, dims)


def _side(running: SpladeTransformer, source: SpladePart, part: ModelPart) -> TransformerSide:
    assert source.activation is not None and source.pooling is not None  # the layout says both
    return TransformerSide(
        _with_decoder(running),
        part.activation or source.activation,
        part.pooling or source.pooling,
        _steps(source, running.vocabulary_size),
    )


def _steps(source: SpladePart, size: int) -> list[Step]:
    """What stands behind the pooling; a table learns unless its folder says that it is frozen."""
    steps: list[Step] = []
    for step in source.steps:
        if isinstance(step, StaticPart):
            frozen = read_optional(step.folder / "config.json").get("frozen", False)
            weights = torch.from_numpy(table_of(source, step, size).copy())
            steps.append(OwnTerms(weights, trainable=not frozen))
        else:
            steps.append(UnitLength())
    return steps


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
    side = TransformerSide(mlm, part.activation or "relu", part.pooling or "max")
    positions = side.architecture.max_length or 512
    known = [n for n in (tokenizer.model_max_length, positions) if n < _NO_LIMIT]
    length = min(part.max_length or min(known), positions)
    folder = _temporary()
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    files = SideFiles(folder, length)
    query_length = min(part.query_max_length or length, length)
    query_files = SideFiles(_stage(folder, query_length), query_length)
    return _Start(side, files, query_files)


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


def _set_dropout(document: TransformerSide, probability: float) -> None:
    for module in document.mlm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = probability


def _add_lora(document: TransformerSide, part: ModelPart) -> None:
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
