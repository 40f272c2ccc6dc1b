"""Reads what a model folder says about itself.

That is a sentence-transformers SparseEncoder, or a plain masked-LM checkpoint, which does not
say how it was trained: activation and pooling must then be given.

All layouts since the first pre-releases of 5.0 are understood. Modules are recognised by the
last part of their type string, because module paths moved with every era::

    pre-release     sentence_transformers.sparse_encoder.models.IDF.IDF
    5.0 - 5.3       sentence_transformers.sparse_encoder.models.MLMTransformer
    5.4 -           sentence_transformers.base.modules.transformer.Transformer

No code of the folder is ever run: a type outside ``sentence_transformers`` is refused.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from splade_os.encoding.adapters import base_folder
from splade_os.encoding.downloaded import AGAIN, missing
from splade_os.encoding.module_config import (
    count,
    read_json,
    read_object,
    read_optional,
    read_prompts,
    read_static_length,
    read_text_settings,
    refuse_unknown,
    unsupported,
    warn_unknown,
)
from splade_os.encoding.parts import ModelLayout, SpladePart, StaticPart, UnitLength, VectorStep
from splade_os.encoding.refused_families import autoencoder, causal_model
from splade_os.encoding.weights import PICKLED, SAFETENSORS, is_adapter, weights_folder
from splade_os.errors import ModelError, SpladeWarning
from splade_os.identity import EncodingOptions

__all__ = ["OPTIONS_FILE", "ModelLayout", "SpladePart", "StaticPart", "UnitLength", "read_layout"]

_ALIASES = {"IDF": "SparseStaticEmbedding", "Asym": "Router", "MLMTransformer": "Transformer"}
ACTIVATIONS = ("relu", "log1p_relu")
POOLINGS = ("max", "sum")
OPTIONS_FILE = "splade_os.json"
"""Encoding options that belong to a model; sentence-transformers does not read it."""
TABLES = ("idf.json", "query_token_weights.txt")
"""Where OpenSearch's ``doc-v*`` models keep the weights of query tokens."""
_MODULE = {"idx", "name", "path", "type", "kwargs"}
_MODEL = {
    "__version__", "default_prompt_name", "max_active_dims", "model_type", "prompts",
    "similarity_fn_name",
}  # fmt: skip
_POOLING = {
    "activation_function", "chunk_size", "embedding_dimension", "pooling_strategy",
    "word_embedding_dimension",
}  # fmt: skip

Chain = Sequence[tuple[str, Path]]
"""Kinds of modules and their folders, in the order in which they run."""


def read_layout(folder: str | Path) -> ModelLayout:
    """Read a model folder.

    Raises:
        ModelError: naming the file that is missing, damaged or not understood.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ModelError(f"{root} is not a folder.", hint="Name a model folder or a hub name.")
    modules_file = root / "modules.json"
    if not modules_file.is_file():
        return _read_checkpoint(root)
    modules = read_json(modules_file)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise ModelError(f"{modules_file} is not a list of modules.", hint=AGAIN)
    chain = []
    for module in modules:
        warn_unknown(module, modules_file, _MODULE)
        name = _kind(module.get("type"), modules_file)
        chain.append((name, _inside(root, module.get("path", ""), modules_file)))
    document: SpladePart | StaticPart
    query: SpladePart | StaticPart
    if chain and chain[0][0] == "Router":
        query, document = _read_router(chain[0][1], chain[1:])
    else:
        document, query = _read_splade(chain, modules_file)
    if not isinstance(document, SpladePart):
        raise ModelError(f"{root}: the document side is no masked-LM transformer with pooling.")
    file = root / "config_sentence_transformers.json"
    config = read_optional(file)
    _check_model(config, file)
    query_prompt, document_prompt = read_prompts(config, file)
    return ModelLayout(
        folder=root,
        document=document,
        query=query,
        document_prompt=document_prompt,
        query_prompt=query_prompt,
        options=_read_options(root, config, file),
    )


def _check_model(config: Mapping[str, Any], file: Path) -> None:
    warn_unknown(config, file, _MODEL)
    kind = config.get("model_type", "SparseEncoder")
    if kind not in ("SparseEncoder", "SentenceTransformer"):  # the second before 5.0
        raise ModelError(f"{file}: model_type is {kind!r}: this is no SparseEncoder.")
    similarity = config.get("similarity_fn_name")
    if similarity not in (None, "dot"):
        warnings.warn(
            f"{file}: similarity_fn_name is {similarity!r}. A search engine's score is the dot "
            "product of the same vectors, so that hits may come in another order.",
            SpladeWarning,
            stacklevel=2,
        )


def _read_options(root: Path, config: Mapping[str, Any], file: Path) -> EncodingOptions:
    own = {key: config[key] for key in ("max_active_dims",) if key in config}
    options = EncodingOptions()
    for source, values in ((file, own), (root / OPTIONS_FILE, read_optional(root / OPTIONS_FILE))):
        try:
            options = EncodingOptions(**values).over(options)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"]))
            raise ModelError(f"{source}: {name}: {wrong['msg']}.") from None
    return options


def _inside(root: Path, path: Any, where: Path) -> Path:
    """A folder below ``root``."""
    if not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelError(f"{where} names {path!r}, no folder inside of the model's.")
    return root / path


def _read_checkpoint(root: Path) -> ModelLayout:
    """A plain ``*ForMaskedLM`` checkpoint, with an inference-free query side if there is a
    table beside it, as in OpenSearch's ``doc-v*`` models."""
    if not root.joinpath("config.json").is_file() and not is_adapter(root):
        raise ModelError(
            f"{root} has no modules.json and no config.json: no model lies there.",
            hint="Name the folder with the model's own files.",
        )
    architectures = read_object(base_folder(root, weights=False) / "config.json").get(
        "architectures"
    )
    names = architectures if isinstance(architectures, list) and architectures else ["none"]
    if not any(str(name).endswith("ForMaskedLM") for name in names):
        if str(names[0]).endswith("ForCausalLM"):
            raise causal_model(root, str(names[0]))
        raise ModelError(
            f"{root} has no modules.json, and its config.json names no *ForMaskedLM "
            f"architecture but {names[0]}: no SPLADE model that can be told from its files.",
            hint="If it is one under a name of its own, save it with transformers as "
            "…ForMaskedLM, or as a SparseEncoder with sentence-transformers.",
        )
    document, symmetric = _read_transformer(root, activation=None, pooling=None)
    tables = [root / name for name in TABLES if (root / name).is_file()]
    query: SpladePart | StaticPart = symmetric
    if tables:
        query = StaticPart(root, tables[0], document.max_length, document.lowercase)
    return ModelLayout(root, document, query, "", "", _read_options(root, {}, root))


def _kind(type_string: Any, where: Path) -> str:
    """The last part of a module's type; names of today for those of earlier days."""
    if not isinstance(type_string, str) or not type_string.startswith("sentence_transformers."):
        raise ModelError(
            f"{where} names a module of type {type_string!r}, which would run code of the model "
            "folder. splade-os never does that.",
        )
    name = type_string.rsplit(".", 1)[-1]
    return name if name == "MLMTransformer" else _ALIASES.get(name, name)


def _read_router(
    folder: Path, behind: Chain
) -> tuple[SpladePart | StaticPart, SpladePart | StaticPart]:
    """Query and document side.

    Args:
        behind: modules that both routes end in.
    """
    file = folder / "router_config.json"
    if not file.is_file():
        file = folder / "config.json"  # Asym, before it was called Router
    config = read_object(file)
    refuse_unknown(config, file, {"types", "structure", "parameters"})
    types, structure = config.get("types"), config.get("structure")
    parameters = config.get("parameters") or {}
    if not (
        isinstance(types, dict) and isinstance(structure, dict) and isinstance(parameters, dict)
    ):
        raise ModelError(f"{file} has no types and structure of a Router.")
    refuse_unknown(parameters, file, {"default_route", "allow_empty_key", "route_mappings"})
    sides: list[tuple[SpladePart | StaticPart, SpladePart | StaticPart]] = []
    for task in ("query", "document"):
        ids = structure.get(_route(task, parameters.get("route_mappings"), file))
        if not isinstance(ids, list) or not ids or not all(str(module) in types for module in ids):
            raise ModelError(f"{file} has no complete route {task!r}.")
        chain = [
            (_kind(types[str(module)], file), _inside(folder, str(module), file)) for module in ids
        ]
        chain += behind
        if chain[0][0] == "SparseStaticEmbedding":
            static = _read_table(chain, file)
            sides.append((static, static))
        else:
            sides.append(_read_splade(chain, file))
    return sides[0][1], sides[1][0]


def _route(task: str, mappings: Any, file: Path) -> str:
    """The route that a Router takes for a task with texts."""
    if not mappings:
        return task
    try:
        routes = {ast.literal_eval(key): str(route) for key, route in mappings.items()}
    except (AttributeError, TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
        raise ModelError(f"{file}: route_mappings {mappings!r} is not understood.") from None
    asked = ((task, "text"), (task, None), (None, "text"), (None, None))
    return next((routes[key] for key in asked if key in routes), task)


def _read_table(chain: Chain, where: Path) -> StaticPart:
    """An inference-free side."""
    if len(chain) > 1:
        described = " + ".join(kind for kind, _ in chain)
        raise ModelError(
            f"{where} describes {described}: splade-os puts nothing behind the table of an "
            "inference-free side, which neither an engine nor an index could do with it.",
            hint="Normalize there divides all scores of a query by one number and changes no "
            "order: take it out of the route in a copy of the folder.",
        )
    return _read_static(chain[0][1])


def _read_splade(chain: Chain, where: Path) -> tuple[SpladePart, SpladePart]:
    kinds = [kind for kind, _ in chain]
    if "SparseAutoEncoder" in kinds:
        raise autoencoder(where)
    head, behind = [_ALIASES.get(kind, kind) for kind in kinds[:2]], chain[2:]
    if head != ["Transformer", "SpladePooling"] or {k for k, _ in behind} - set(_STEPS):
        raise ModelError(
            f"{where} describes {' + '.join(kinds) or 'nothing'}; splade-os runs "
            "Transformer + SpladePooling, with SparseStaticEmbedding or Normalize behind them or "
            "without, alone or in a Router, whose query side may be a SparseStaticEmbedding.",
        )
    folder, pooling_file = chain[0][1], chain[1][1] / "config.json"
    pooling = read_object(pooling_file)
    refuse_unknown(pooling, pooling_file, _POOLING)
    return _read_transformer(
        folder,
        activation=_one_of(pooling, "activation_function", "relu", ACTIVATIONS, pooling_file),
        pooling=_one_of(pooling, "pooling_strategy", "max", POOLINGS, pooling_file),
        fill_mask=kinds[0] == "MLMTransformer",
        steps=tuple(_STEPS[kind](place) for kind, place in behind),
    )


def _read_normalize(folder: Path) -> UnitLength:
    file = folder / "config.json"
    config = read_optional(file)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise unsupported(file, key, config[key])
    refuse_unknown(config, file, {"module_input_name", "module_output_name"})
    return UnitLength()


def _read_transformer(
    folder: Path,
    activation: str | None,
    pooling: str | None,
    *,
    fill_mask: bool = True,
    steps: tuple[VectorStep, ...] = (),
) -> tuple[SpladePart, SpladePart]:
    """Document and query side that one transformer makes; the same object where both cut texts at
    the same length."""
    file = base_folder(folder, weights=False) / "config.json"
    config = read_object(file)
    positions = count(config, "max_position_embeddings", file)
    text = read_text_settings(folder, fill_mask=fill_mask, limit=positions)
    lengths = folder / "tokenizer_config.json"
    if text.guessed and not lengths.is_file():
        warnings.warn(
            f"{lengths} is missing, and nothing else says where the model cuts texts: all of its "
            f"{positions or 512} positions are taken.",
            SpladeWarning,
            stacklevel=2,
        )
    document = SpladePart(
        folder=folder,
        family=str(config.get("model_type", "unknown")),
        max_length=text.document_length or positions or 512,
        lowercase=text.lowercase,
        activation=activation,
        pooling=pooling,
        steps=steps,
    )
    if text.query_length == text.document_length:
        return document, document
    return document, replace(document, max_length=text.query_length or positions or 512)


def _read_static(folder: Path) -> StaticPart:
    file = folder / "config.json"
    config = read_optional(file)
    if "model_type" not in config:  # not that of a transformer in the same folder
        refuse_unknown(config, file, {"frozen", "path"})
    name = config.get("path")
    weights = folder / SAFETENSORS
    if name is not None and not isinstance(name, str):
        raise ModelError(f"{file}: path is {name!r}, no name of a file.")
    if name and name.endswith(".json"):  # any other is not read by sentence-transformers either
        # a JSON table; the path may also be the model's own name on the hub, whose root has it
        candidates = [folder / name, folder.parent / name, folder.parent / "idf.json"]
        weights = next((file for file in candidates if file.is_file()), candidates[0])
    elif not weights.is_file() and (folder / PICKLED).is_file():
        weights = weights_folder(folder) / SAFETENSORS
    if not weights.is_file():
        raise missing(weights, "the weights of the query side")
    return StaticPart(folder, weights, read_static_length(folder), lowercase=False)


_STEPS: dict[str, Callable[[Path], VectorStep]] = {
    "SparseStaticEmbedding": _read_static,
    "Normalize": _read_normalize,
}
"""What may stand behind the pooling."""


def _one_of(
    config: Mapping[str, Any], key: str, default: str, allowed: Sequence[str], file: Path
) -> str:
    value = config.get(key, default)
    if value not in allowed:
        raise ModelError(f"{file}: {key} {value!r} is not one of {', '.join(allowed)}.")
    return str(value)
