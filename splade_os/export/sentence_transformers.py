"""Any model that splade-os reads, as a sentence-transformers SparseEncoder folder.

Plain masked-LM checkpoints (with activation and pooling stated) and folders of older layouts become
one in the current layout; sentence-transformers loads it, and it says everything itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, Unpack

import numpy as np

from splade_os.encoding.document import DocumentEncoder
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import SpladePart, StaticPart, read_layout
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import MissingExtraError, ModelError
from splade_os.export.copying import copy_transformer
from splade_os.export.frame import Side, write_frame, write_json
from splade_os.export.tensors import save_file
from splade_os.identity import CheckpointKeywords, EncodingOptions


def export_sentence_transformers(
    model: str, out: str | Path, **options: Unpack[CheckpointKeywords]
) -> Path:
    """Write a SparseEncoder folder; its vectors are compared with those of the source.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        out: new folder.
        options: ``activation`` and ``pooling`` of a checkpoint that does not say them.

    Raises:
        ModelError: ``out`` exists, or vectors differ.
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
    source = _exact(model, **options)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    query = layout.query
    query_length = None
    if isinstance(query, SpladePart):
        query = query.stated(chosen)
        if query.folder == part.folder and query.max_length != part.max_length:
            query_length = query.max_length
    kept = chosen.model_dump(exclude_none=True, exclude={"activation", "pooling"})
    width = source.identity.vocabulary_size
    try:
        parts = write_frame(
            unfinished,
            document=Side.of(part),
            query=Side.of(query)
            if isinstance(query, SpladePart) and not layout.symmetric
            else None,
            own_body=layout.two_transformers,
            inference_free=isinstance(query, StaticPart),
            width=width,
            prompts=(layout.query_prompt, layout.document_prompt),
            query_length=query_length,
            max_active_dims=kept.pop("max_active_dims", None),
            options=kept,
        )
        bodies = [(part, parts.body)]
        if parts.query_body is not None and isinstance(query, SpladePart):
            bodies.append((query, parts.query_body))
        for each, folder in bodies:
            copy_transformer(each.folder, folder)
            config = AutoConfig.from_pretrained(folder)
            tokenizer = AutoTokenizer.from_pretrained(each.folder, use_fast=True, config=config)
            tokenizer.model_max_length = each.max_length
            tokenizer.save_pretrained(folder)
        folders = [*parts.tables, *([parts.query] if parts.query else [])]
        for table, folder in zip(layout.tables, folders, strict=True):
            _write_table(table, folder, width)
        _compare(source, _exact(str(unfinished)))
        if isinstance(query, SpladePart):
            theirs = _exact(model, side="query", **options)
            _compare(theirs, _exact(str(unfinished), side="query"))
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _exact(
    model: str,
    side: Literal["document", "query"] = "document",
    **options: Unpack[CheckpointKeywords],
) -> DocumentEncoder:
    return DocumentEncoder.load(
        model, device="cpu", dtype="float32", backend="torch", side=side, **options
    )


def _write_table(part: StaticPart, folder: Path, width: int) -> None:
    from transformers import AutoTokenizer

    tokens = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=False
    )
    table = IdfTable.from_file(part.weights, tokens.vocabulary())
    weights = np.pad(table.weights, (0, max(0, width - len(table.weights))))[:width]
    save_file({"weight": weights}, folder / "model.safetensors")
    write_json(folder / "config.json", {"frozen": True})
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
