"""What the configuration files of sentence-transformers' modules say, checked key by key.

A key is handled, or known to change no vector, or refused: the format grows, and what is not
understood may change the input of a model. What sentence-transformers itself leaves unread is a
warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from splade_os.encoding.downloaded import AGAIN, missing, refuse_pointer
from splade_os.errors import ModelError, SpladeWarning

NO_LIMIT = 1_000_000  # tokenizers without a limit say 1e30
_TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
_OLD_NAMES = {
    "model_args": "model_kwargs",
    "tokenizer_args": "processor_kwargs",
    "config_args": "config_kwargs",
}
# where files come from, and how fast they are read: no vector depends on it
_PLACES = {"cache_dir", "local_files_only", "revision", "token", "trust_remote_code"}
_MODEL_KWARGS = _PLACES | {
    "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype",
    "use_safetensors",
}  # fmt: skip
_PROCESSOR_KWARGS = _PLACES | {"model_max_length", "use_fast"}
_CONFIG_KWARGS = _PLACES | {"output_attentions", "use_cache"}
_CALL_KWARGS = {
    "max_length", "pad_to_multiple_of", "padding", "return_attention_mask", "return_tensors",
    "return_token_type_ids", "verbose",
}  # fmt: skip
_OTHER_INPUTS = {"audio", "chat_template", "image", "video"}
_TRANSFORMER = {
    "config_kwargs", "do_lower_case", "document_length", "max_seq_length", "modality_config",
    "model_kwargs", "module_output_name", "processing_kwargs", "processor_kwargs", "query_length",
    "transformer_task", "unpad_inputs",
}  # fmt: skip


@dataclass(frozen=True)
class TextSettings:
    """How texts become the input of a transformer.

    Attributes:
        document_length, query_length: tokens after which a text is cut; ``None`` = not said.
        lowercase: put a lower-casing step before the tokenizer.
        guessed: no file says a length: they are the positions of the model.
    """

    document_length: int | None
    query_length: int | None
    lowercase: bool
    guessed: bool


def read_text_settings(folder: Path, *, fill_mask: bool, limit: int | None) -> TextSettings:
    """What a transformer's folder says about its input.

    Args:
        fill_mask: the module runs the masked-LM head unless its file says otherwise.
        limit: tokens that the model has positions for.

    Raises:
        ModelError: naming the key that is wrong, or not supported.
    """
    file, config = folder / _TRANSFORMER_FILES[0], {}
    for name in _TRANSFORMER_FILES:
        config = read_optional(folder / name)
        if config:
            file = folder / name
            break
    config = {_OLD_NAMES.get(key, key): value for key, value in config.items()}
    refuse_unknown(config, file, _TRANSFORMER)
    _check_task(config, file, fill_mask)
    own = {key: _object(config, key, file) for key in ("model_kwargs", "config_kwargs")}
    refuse_unknown(own["model_kwargs"], file, _MODEL_KWARGS, "model_kwargs.")
    refuse_unknown(own["config_kwargs"], file, _CONFIG_KWARGS, "config_kwargs.")
    processor = _object(config, "processor_kwargs", file)
    refuse_unknown(processor, file, _PROCESSOR_KWARGS, "processor_kwargs.", right="padding_side")
    length = count(processor, "model_max_length", file) or count(config, "max_seq_length", file)
    if length is None:
        tokenizer = folder / "tokenizer_config.json"
        length = count(read_optional(tokenizer), "model_max_length", tokenizer)
    lengths = [count(config, f"{side}_length", file) or length for side in ("document", "query")]
    calls = _object(config, "processing_kwargs", file)
    warn_unknown(calls, file, {"common", "text", *_OTHER_INPUTS}, "processing_kwargs.")
    for name in ("text", "common"):  # sentence-transformers lets the second one win
        call = _object(calls, name, file)
        where = f"processing_kwargs.{name}."
        if call.get("truncation") in (True, "longest_first", "only_first"):
            call = {key: value for key, value in call.items() if key != "truncation"}
        refuse_unknown(
            call, file, _CALL_KWARGS, where, right="padding_side", true="add_special_tokens"
        )
        if "max_length" in call:
            lengths = [count(call, "max_length", file) or length] * 2
    document, query = (_smallest(each, limit) for each in lengths)
    guessed = lengths == [None, None]
    return TextSettings(document, query, bool(config.get("do_lower_case")), guessed)


def read_static_length(folder: Path) -> int | None:
    """Tokens after which a query is cut that only a table is looked up for."""
    file = folder / "tokenizer_config.json"
    return _smallest(count(read_optional(file), "model_max_length", file), None)


def _check_task(config: Mapping[str, Any], file: Path, fill_mask: bool) -> None:
    """Only the logits of the masked-LM head can be pooled."""
    task = config.get("transformer_task", "fill-mask" if fill_mask else "feature-extraction")
    if task != "fill-mask" and not file.is_file():
        raise missing(file, "it says that the masked-LM head is run")
    if task != "fill-mask":
        raise ModelError(
            f"{file}: transformer_task is {task!r}. What is pooled then are no logits over the "
            "vocabulary: this is no SPLADE model."
        )
    if config.get("module_output_name", "token_embeddings") != "token_embeddings":
        raise unsupported(file, "module_output_name", config["module_output_name"])
    modalities = config.get("modality_config")
    if modalities is None:
        return
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if not isinstance(text, dict) or "message" in modalities:
        raise unsupported(file, "modality_config", modalities)
    output = text.get("method_output_name", "logits")
    if text.get("method", "forward") != "forward" or output not in ("logits", ["logits"]):
        raise unsupported(file, "modality_config.text", text)


def read_prompts(config: Mapping[str, Any], file: Path) -> tuple[str, str]:
    """Prompts of queries and of documents, as ``encode_query`` and ``encode_document`` of
    sentence-transformers apply them: those called ``query`` and ``document``, and no others.

    Raises:
        ModelError: they are no texts.
    """
    prompts = _object(config, "prompts", file)
    for name, text in prompts.items():
        if text is not None and not isinstance(text, str):
            raise ModelError(f"{file}: the prompt {name} is {text!r}, no text.")
    default = config.get("default_prompt_name")
    if default is not None and not isinstance(default, str):
        raise ModelError(f"{file}: default_prompt_name is {default!r}, no name of a prompt.")
    query, document = prompts.get("query") or "", prompts.get("document") or ""
    unused = [n for n in ("passage", "corpus") if prompts.get(n) and not document]
    if default not in (None, "query", "document") and prompts.get(default):
        unused += [default] if default not in unused and not (query and document) else []
    if unused:
        warnings.warn(
            f"{file}: the prompt {unused[0]} is put before no text: sentence-transformers' "
            "encode_query and encode_document take those called query and document only, and so "
            "does splade-os. Rename it if the model was trained with it.",
            SpladeWarning,
            stacklevel=2,
        )
    return query, document


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ModelError: the file is missing, damaged, or something else.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise ModelError(f"{file} is not a JSON object.", hint=AGAIN)
    return content


def read_optional(file: Path) -> dict[str, Any]:
    """As `read_object`; empty where there is no such file."""
    return read_object(file) if file.is_file() else {}


def read_json(file: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ModelError: it is missing or damaged.
    """
    try:
        refuse_pointer(file)
        return orjson.loads(file.read_bytes())
    except FileNotFoundError:
        raise missing(file) from None
    except (orjson.JSONDecodeError, OSError) as error:
        raise ModelError(f"{file} cannot be read: {error}", hint=AGAIN) from None


def count(config: Mapping[str, Any], key: str, file: Path) -> int | None:
    """A number of at least 1, or ``None``.

    Raises:
        ModelError: it is something else.
    """
    value = config.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
        raise ModelError(
            f"{file}: {key} is {value!r}, not a number of at least 1.",
            hint="Download or save the model again.",
        )
    return int(min(value, NO_LIMIT))


def refuse_unknown(
    config: Mapping[str, Any],
    file: Path,
    known: Collection[str],
    where: str = "",
    *,
    right: str = "",
    true: str = "",
) -> None:
    """Refuse keys that may change vectors.

    Args:
        where: what stands before the keys in a message.
        right: a key that may say ``right``; true: one that may say ``true``.

    Raises:
        ModelError: naming the first.
    """
    harmless = {right: "right", true: True}
    for key, value in config.items():
        if key not in known and value not in (None, {}, []) and harmless.get(key, ...) != value:
            raise unsupported(file, where + key, value)


def warn_unknown(
    config: Mapping[str, Any], file: Path, known: Collection[str], where: str = ""
) -> None:
    """Say once which keys sentence-transformers itself does not read."""
    for key in config:
        if key not in known:
            warnings.warn(
                f"{file}: {where}{key} is not known to splade-os and has no effect. If the model "
                "was trained with it, vectors may be others.",
                SpladeWarning,
                stacklevel=2,
            )


def unsupported(file: Path, key: str, value: Any) -> ModelError:
    """The error for what is not understood."""
    return ModelError(
        f"{file}: {key} is {value!r}, which splade-os does not support and which may change "
        "vectors.",
        hint="If it changes nothing for this model, take it out of a copy of the folder.",
    )


def _object(config: Mapping[str, Any], key: str, file: Path) -> dict[str, Any]:
    value = config.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ModelError(f"{file}: {key} is {value!r}, no JSON object.")
    return value


def _smallest(length: int | None, limit: int | None) -> int | None:
    known = [n for n in (length, limit) if n is not None and n < NO_LIMIT]
    return min(known) if known else None
