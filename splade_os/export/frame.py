"""Everything of a sentence-transformers SparseEncoder folder but weights and tokenizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from splade_os.encoding.layout import OPTIONS_FILE, SpladePart, StaticPart

_ST = "sentence_transformers"
_TRANSFORMER = f"{_ST}.base.modules.transformer.Transformer"
_POOLING = f"{_ST}.sparse_encoder.modules.splade_pooling.SpladePooling"
_STATIC = f"{_ST}.sparse_encoder.modules.sparse_static_embedding.SparseStaticEmbedding"
_ROUTER = f"{_ST}.base.modules.router.Router"
StepKind = Literal["SparseStaticEmbedding", "Normalize"]
_STEPS: dict[StepKind, str] = {
    "SparseStaticEmbedding": _STATIC,
    "Normalize": f"{_ST}.base.modules.normalize.Normalize",
}
QUERY = "query_0_SparseStaticEmbedding"


@dataclass(frozen=True)
class Side:
    """A transformer with its head, as a folder of sentence-transformers describes it.

    Attributes:
        activation, pooling: of the head.
        lowercase: lower-case before the tokenizer.
        steps: what stands behind the pooling.
    """

    activation: str
    pooling: str
    lowercase: bool = False
    steps: tuple[StepKind, ...] = ()

    @classmethod
    def of(cls, part: SpladePart) -> Side:
        """Of a part that says its activation and pooling."""
        kinds: list[StepKind] = [
            "SparseStaticEmbedding" if isinstance(step, StaticPart) else "Normalize"
            for step in part.steps
        ]
        return cls(str(part.activation), str(part.pooling), part.lowercase, tuple(kinds))


@dataclass(frozen=True)
class Parts:
    """Where the parts of a model belong in its folder.

    Attributes:
        body: weights, configuration and tokenizer of the transformer.
        query_body: those of the query side's own transformer, or ``None``.
        query: table and tokenizer of an inference-free query side, or ``None``.
        tables: folders of the tables behind the pooling, those of the document side first.
    """

    body: Path
    query_body: Path | None
    query: Path | None
    tables: tuple[Path, ...]


def write_frame(
    root: Path,
    *,
    document: Side,
    query: Side | None = None,
    own_body: bool = False,
    inference_free: bool = False,
    width: int,
    prompts: tuple[str, str] = ("", ""),
    query_length: int | None = None,
    max_active_dims: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Parts:
    """Write everything of a SparseEncoder folder but weights and tokenizers.

    Args:
        root: made if missing.
        document: the document side.
        query: the query side, where it is a transformer and not just the document side.
        own_body: the transformer of ``query`` is one of its own.
        inference_free: the query side is a table.
        width: size of the vocabulary.
        prompts: of queries and of documents.
        query_length: tokens after which the document side's transformer cuts a query, where it is
            not the tokenizer's length.
        options: for ``splade_os.json``, which sentence-transformers does not read.

    Returns:
        Where the caller puts the rest.
    """
    routed = inference_free or query is not None
    body = root / "document_0_Transformer" if routed else root
    _write_transformer(body, document.lowercase, query_length)
    chains = {"document": [(body, _TRANSFORMER)]}
    chains["document"] += _write_head(root, document, width, "document_" if routed else "")
    table = query_body = None
    if inference_free:
        table = root / QUERY
        table.mkdir(exist_ok=True)
        chains["query"] = [(table, _STATIC)]
    elif query is not None:
        if own_body:
            query_body = root / "query_0_Transformer"
            _write_transformer(query_body, query.lowercase, None)
        chains["query"] = [(query_body or body, _TRANSFORMER)]
        chains["query"] += _write_head(root, query, width, "query_")
    modules = [("" if folder == root else folder.name, kind) for folder, kind in chains["document"]]
    if routed:
        modules = [("", _ROUTER)]
        structure = {side: [f.name for f, _ in chains[side]] for side in ("query", "document")}
        types = {f.name: kind for side in structure for f, kind in chains[side]}
        parameters = {"default_route": "document", "allow_empty_key": True, "route_mappings": {}}
        write_json(
            root / "router_config.json",
            {"types": types, "structure": structure, "parameters": parameters},
        )
    write_json(
        root / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": kind}
         for i, (path, kind) in enumerate(modules)],
    )  # fmt: skip
    write_json(
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
        write_json(root / OPTIONS_FILE, dict(options))
    behind = [
        folder
        for side in ("document", "query")
        for folder, kind in chains.get(side, [])[1:]
        if kind == _STATIC
    ]
    return Parts(body, query_body, table, tuple(behind))


def _write_transformer(folder: Path, lowercase: bool, query_length: int | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "fill-mask",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
            "module_output_name": "token_embeddings",
            **({"do_lower_case": True} if lowercase else {}),
            **({"query_length": query_length} if query_length else {}),
        },
    )


def _write_head(root: Path, side: Side, width: int, prefix: str) -> list[tuple[Path, str]]:
    """Folders and types of the pooling and of what stands behind it."""
    chain = [(root / f"{prefix}1_SpladePooling", _POOLING)]
    for i, kind in enumerate(side.steps, 2):
        chain.append((root / f"{prefix}{i}_{kind}", _STEPS[kind]))
    for folder, type_name in chain:
        folder.mkdir(exist_ok=True)
        if type_name == _STEPS["Normalize"]:
            write_json(folder / "config.json", {"module_input_name": "sentence_embedding"})
    write_json(
        chain[0][0] / "config.json",
        {
            "pooling_strategy": side.pooling,
            "activation_function": side.activation,
            "embedding_dimension": width,
        },
    )
    return chain


def write_json(file: Path, content: Any) -> None:
    """Indented, as sentence-transformers writes its files."""
    file.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
