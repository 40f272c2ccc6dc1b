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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from splade_os.errors import ModelError, SettingsError
from splade_os.identity import EncodingOptions

_ALIASES = {"IDF": "SparseStaticEmbedding", "Asym": "Router", "MLMTransformer": "Transformer"}
ACTIVATIONS = ("relu", "log1p_relu")
POOLINGS = ("max", "sum")
OPTIONS_FILE = "splade_os.json"
"""Encoding options that belong to a model; sentence-transformers does not read it."""
TABLES = ("idf.json", "query_token_weights.txt")
"""Where OpenSearch's ``doc-v*`` models keep the weights of query tokens."""
_NO_LIMIT = 1_000_000  # tokenizers without a limit say 1e30


@dataclass(frozen=True)
class SpladePart:
    """A masked-LM transformer with SPLADE pooling.

    Attributes:
        folder: holds config.json, weights and tokenizer.
        family: ``model_type`` of its config, e.g. ``bert``.
        max_length: tokens, special ones included, after which a text is cut.
        lowercase: put a lower-casing step before the tokenizer.
        activation: ``relu`` or ``log1p_relu``; ``None`` = the folder does not say.
        pooling: ``max`` or ``sum``; ``None`` = the folder does not say.
    """

    folder: Path
    family: str
    max_length: int
    lowercase: bool
    activation: str | None
    pooling: str | None

    def stated(self, options: EncodingOptions) -> SpladePart:
        """This part with activation and pooling, as the folder or else the options state them.

        Raises:
            ModelError: neither does.
            SettingsError: both do, and they differ.
        """
        for name in ("activation", "pooling"):
            known, given = getattr(self, name), getattr(options, name)
            if known and given and known != given:
                raise SettingsError(
                    f"{self.folder} says that its {name} is {known}, not {given}.",
                    hint=f"Leave --{name} out.",
                )
        activation = self.activation or options.activation
        pooling = self.pooling or options.pooling
        if activation is None or pooling is None:
            raise ModelError(
                f"{self.folder} is a plain masked-LM checkpoint: nothing in it says which "
                "activation and pooling it was trained with.",
                hint="Name both, as its model card says: --activation relu (SPLADE, OpenSearch "
                "doc-v1 and v2) or log1p_relu (OpenSearch doc-v3), and --pooling max.",
            )
        return replace(self, activation=activation, pooling=pooling)


@dataclass(frozen=True)
class StaticPart:
    """An inference-free query side: one weight per token.

    Attributes:
        folder: holds the tokenizer.
        weights: ``model.safetensors`` with a tensor ``weight`` ``(V,)``, a JSON object
            token → weight, or lines of token, tab and weight.
        max_length: tokens after which a query is cut, or ``None``.
        lowercase: put a lower-casing step before the tokenizer.
    """

    folder: Path
    weights: Path
    max_length: int | None
    lowercase: bool


@dataclass(frozen=True)
class ModelLayout:
    """A model folder, understood.

    Attributes:
        folder: the root.
        document: the document side.
        query: the query side; the same object as ``document`` in a symmetric model.
        document_prompt, query_prompt: text put before every text.
        options: what the folder says about encoding: ``max_active_dims`` of
            sentence-transformers, and all of ``splade_os.json``.
    """

    folder: Path
    document: SpladePart
    query: SpladePart | StaticPart
    document_prompt: str
    query_prompt: str
    options: EncodingOptions

    @property
    def inference_free(self) -> bool:
        """Whether queries need no transformer."""
        return isinstance(self.query, StaticPart)


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
    modules = _read_json(modules_file)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise ModelError(f"{modules_file} is not a list of modules.")
    chain = [
        (_kind(str(m.get("type", "")), modules_file), root / str(m.get("path", "")))
        for m in modules
    ]
    if len(chain) == 1 and chain[0][0] == "Router":
        query, document = _read_router(chain[0][1])
    else:
        document = query = _read_splade(chain, modules_file)
    if not isinstance(document, SpladePart):
        raise ModelError(f"{root}: the document side is no masked-LM transformer with pooling.")
    config = _read_optional(root / "config_sentence_transformers.json")
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name") or "", "")
    return ModelLayout(
        folder=root,
        document=document,
        query=query,
        document_prompt=_first(prompts, ("document", "passage", "corpus"), default),
        query_prompt=_first(prompts, ("query",), default),
        options=_read_options(root, config),
    )


def _read_options(root: Path, config: Mapping[str, Any]) -> EncodingOptions:
    file = root / OPTIONS_FILE
    own = _read_optional(file)
    try:
        return EncodingOptions(**{"max_active_dims": config.get("max_active_dims"), **own})
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ModelError(f"{file}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}.") from None


def _read_checkpoint(root: Path) -> ModelLayout:
    """A plain ``*ForMaskedLM`` checkpoint, with an inference-free query side if there is a
    table beside it, as in OpenSearch's ``doc-v*`` models."""
    architectures = _read_optional(root / "config.json").get("architectures") or ["none"]
    if not str(architectures[0]).endswith("ForMaskedLM"):
        raise ModelError(
            f"{root} has no modules.json, and its config.json names no *ForMaskedLM "
            f"architecture but {architectures[0]}: no SPLADE model.",
        )
    document = _read_transformer(root, activation=None, pooling=None)
    tables = [root / name for name in TABLES if (root / name).is_file()]
    query: SpladePart | StaticPart = document
    if tables:
        query = StaticPart(root, tables[0], document.max_length, document.lowercase)
    return ModelLayout(root, document, query, "", "", _read_options(root, {}))


def _kind(type_string: str, where: Path) -> str:
    if not type_string.startswith("sentence_transformers."):
        raise ModelError(
            f"{where} names a module of type {type_string!r}, which would run code of the model "
            "folder. splade-os never does that.",
        )
    name = type_string.rsplit(".", 1)[-1]
    return _ALIASES.get(name, name)


def _read_router(folder: Path) -> tuple[SpladePart | StaticPart, SpladePart | StaticPart]:
    file = folder / "router_config.json"
    if not file.is_file():
        file = folder / "config.json"  # Asym, before it was called Router
    config = _read_json(file)
    types, structure = config.get("types"), config.get("structure")
    if not isinstance(types, dict) or not isinstance(structure, dict):
        raise ModelError(f"{file} has no types and structure of a Router.")
    sides: list[SpladePart | StaticPart] = []
    for route in ("query", "document"):
        ids = structure.get(route)
        if not ids or not all(module in types for module in ids):
            raise ModelError(f"{file} has no complete route {route!r}.")
        chain = [(_kind(types[module], file), folder / module) for module in ids]
        if len(chain) == 1 and chain[0][0] == "SparseStaticEmbedding":
            sides.append(_read_static(chain[0][1]))
        else:
            sides.append(_read_splade(chain, file))
    return sides[0], sides[1]


def _read_splade(chain: Sequence[tuple[str, Path]], where: Path) -> SpladePart:
    kinds = [kind for kind, _ in chain]
    if kinds != ["Transformer", "SpladePooling"]:
        raise ModelError(
            f"{where} describes {' + '.join(kinds) or 'nothing'}; splade-os runs "
            "Transformer + SpladePooling, alone or behind a Router with a "
            "SparseStaticEmbedding query side.",
        )
    folder, pooling_file = chain[0][1], chain[1][1] / "config.json"
    pooling = _read_json(pooling_file)
    return _read_transformer(
        folder,
        activation=_one_of(pooling, "activation_function", "relu", ACTIVATIONS, pooling_file),
        pooling=_one_of(pooling, "pooling_strategy", "max", POOLINGS, pooling_file),
    )


def _read_transformer(folder: Path, activation: str | None, pooling: str | None) -> SpladePart:
    file = folder / "config.json"
    config = _read_json(file)
    positions = _count(config, "max_position_embeddings", file)
    length, lowercase = _length(folder, limit=positions)
    return SpladePart(
        folder=folder,
        family=str(config.get("model_type", "unknown")),
        max_length=length or positions or 512,
        lowercase=lowercase,
        activation=activation,
        pooling=pooling,
    )


def _read_static(folder: Path) -> StaticPart:
    config = _read_optional(folder / "config.json")
    if config.get("path"):
        # a JSON table; the path may also be the model's own name on the hub, whose root has it
        name = str(config["path"])
        candidates = [folder / name, folder.parent / name, folder.parent / "idf.json"]
    else:
        candidates = [folder / "model.safetensors"]
    for file in candidates:
        if file.is_file():
            length, lowercase = _length(folder, limit=None)
            return StaticPart(folder, file, length, lowercase)
    raise ModelError(f"{candidates[0]} is missing: the weights of the query side.")


def _length(folder: Path, limit: int | None) -> tuple[int | None, bool]:
    """Maximum length (sentence_bert_config, else tokenizer_config; never above the positions
    that the model has) and whether to lower-case first."""
    file = folder / "sentence_bert_config.json"
    sbert = _read_optional(file)
    length = _count(sbert, "max_seq_length", file)
    if length is None:
        file = folder / "tokenizer_config.json"
        length = _count(_read_optional(file), "model_max_length", file)
    known = [n for n in (length, limit) if n is not None and n < _NO_LIMIT]
    return (min(known) if known else None), bool(sbert.get("do_lower_case"))


def _count(config: Mapping[str, Any], key: str, file: Path) -> int | None:
    """A number of at least 1, or ``None``."""
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise ModelError(
            f"{file}: {key} is {value!r}, not a number of at least 1.",
            hint="Download or save the model again.",
        )
    return int(min(value, _NO_LIMIT))


def _one_of(
    config: Mapping[str, Any], key: str, default: str, allowed: Sequence[str], file: Path
) -> str:
    value = str(config.get(key, default))
    if value not in allowed:
        raise ModelError(f"{file}: {key} {value!r} is not one of {', '.join(allowed)}.")
    return value


def _first(prompts: Mapping[str, str], names: Sequence[str], default: str) -> str:
    return next((prompts[name] for name in names if name in prompts), default)


def _read_json(file: Path) -> Any:
    try:
        return orjson.loads(file.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{file} is missing.") from None
    except (orjson.JSONDecodeError, OSError) as error:
        raise ModelError(
            f"{file} cannot be read: {error}", hint="Download or save the model again."
        ) from None


def _read_optional(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    content = _read_json(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a JSON object.")
    return content
