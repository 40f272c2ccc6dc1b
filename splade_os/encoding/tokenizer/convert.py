"""What only transformers can read: converted once into the cache, or else run by it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer

from splade_os.encoding.tokenizer.build import BuiltTokenizer, reading
from splade_os.encoding.tokenizer.classes import RULES, SLOW, Json
from splade_os.encoding.tokenizer.files import (
    CONFIG,
    GENERIC,
    SENTENCEPIECE,
    SETTINGS,
    SOURCES,
    TokenizerFiles,
)
from splade_os.errors import MissingExtraError, ModelError
from splade_os.settings import cache_dir

_FORMAT = "1"  # of what lies in the cache
_RESULT = "splade_os.json"
# keys of tokenizer_config.json that change no id
_HARMLESS = frozenset(
    {
        "auto_map",
        "backend",
        "chat_template",
        "clean_up_tokenization_spaces",
        "is_local",
        "local_files_only",
        "max_length",
        "model_input_names",
        "model_max_length",
        "name_or_path",
        "pad_to_multiple_of",
        "pad_token_type_id",
        "padding_side",
        "processor_class",
        "special_tokens_map_file",
        "stride",
        "tokenizer_class",
        "tokenizer_file",
        "transformers_version",
        "truncation_strategy",
    }
)
_DICTIONARIES = {"ipadic": "ipadic", "unidic": "unidic", "unidic_lite": "unidic-lite"}


class SlowTokenizer:
    """A tokenizer in Python, run by transformers; no ``tokenizer.json`` can hold it.

    Attributes:
        tokenizer: of transformers.
        class_name: its class.
        changes: what decides its ids beside the vocabulary.
        truncation_side: at which end long texts are cut.
        pad_token: of padding, if there is one.
    """

    def __init__(self, tokenizer: Any, files: TokenizerFiles) -> None:
        self.tokenizer = tokenizer
        self.class_name = files.class_name
        self.changes: Json = {**_settings(files), **_dictionary(files)}
        self.truncation_side: str = tokenizer.truncation_side
        self.pad_token: str | None = tokenizer.pad_token

    def encode(
        self, texts: Sequence[str], max_length: int | None, special_tokens: bool, lowercase: bool
    ) -> list[list[int]]:
        """Token ids of each text."""
        if not texts:
            return []
        given = [text.lower() for text in texts] if lowercase else list(texts)
        ids: list[list[int]] = self.tokenizer(
            given,
            add_special_tokens=special_tokens,
            truncation=max_length is not None,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return ids


def needs_transformers(files: TokenizerFiles) -> bool:
    """Whether neither a rule nor ``tokenizer.json`` alone is the tokenizer."""
    name = files.class_name
    if name != GENERIC and name not in RULES:
        return True
    if files.has("tokenizer.json"):
        return False
    kind = RULES[name].model if name in RULES else None
    if (files.has("vocab.txt") and kind == "WordPiece") or (
        files.has("vocab.json", "merges.txt") and kind == "BPE"
    ):
        return False
    return any(files.has(each) for each in SENTENCEPIECE)


def through_transformers(files: TokenizerFiles) -> BuiltTokenizer | SlowTokenizer:
    """The tokenizer as transformers makes it. What ``tokenizers`` can hold is kept in the cache,
    and read from there the next time, without transformers.

    Raises:
        ModelError: transformers does not know the class, or cannot read the files.
        MissingExtraError: packages are missing.
    """
    folder = cache_dir() / "tokenizers" / _key(files)
    if not (folder / _RESULT).is_file():
        made = make(files)
        if not hasattr(made, "backend_tokenizer"):
            return SlowTokenizer(made, files)
        _keep(made, folder)
    return _cached(files, folder)


def make(files: TokenizerFiles) -> Any:
    """The tokenizer of transformers; no code of the folder runs.

    Raises:
        ModelError, MissingExtraError: see `through_transformers`.
    """
    name = files.class_name
    options = files.config.get("mecab_kwargs")
    if isinstance(options, dict) and options.get("mecab_option"):
        raise ModelError(
            f"{files.folder / CONFIG}: mecab_option is {options['mecab_option']!r}: options of "
            "MeCab can read and write files of this machine, so a model does not choose them.",
            hint="Leave it out, if the model was trained without.",
        )
    if find_spec("transformers") is None:
        extra = "japanese" if name in SLOW else "torch"
        raise MissingExtraError(f"The tokenizer of {files.folder} ({name})", extra)
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    kind = tokenizer_class_from_name(name)
    if kind is None:
        raise unknown_class(files)
    if "model_type" in files.read("config.json"):
        kind = AutoTokenizer
    try:
        return kind.from_pretrained(
            str(files.folder), trust_remote_code=False, local_files_only=True
        )
    except ImportError as error:
        raise _missing(files, error) from None
    except Exception as error:  # whatever transformers, sentencepiece or MeCab met in the files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ModelError(
            f"transformers cannot make the tokenizer of {files.folder} ({name}): "
            f"{type(error).__name__}: {reason}",
            hint="Download or save the model again.",
        ) from error


def unknown_class(files: TokenizerFiles) -> ModelError:
    """The error of a ``tokenizer_class`` that nobody knows."""
    return ModelError(
        f"{files.folder} names the tokenizer class {files.class_name}, which neither splade-os nor "
        "transformers knows: its token ids would be a guess.",
        hint="Where tokenizer.json is the whole tokenizer, write tokenizer_class: "
        "PreTrainedTokenizerFast into tokenizer_config.json. Code of a model folder is never run.",
    )


def _missing(files: TokenizerFiles, error: ImportError) -> ModelError | MissingExtraError:
    what = f"The tokenizer of {files.folder} ({files.class_name})"
    reason = str(error).strip().splitlines()
    named = " ".join(reason).lower()
    if "fugashi" in named or "ipadic" in named or "unidic_lite" in named:
        return MissingExtraError(what, "japanese")
    if "sentencepiece" in named or "protobuf" in named:
        return MissingExtraError(what, "sentencepiece")
    return ModelError(
        f"{what} needs packages that are not installed: {' '.join(reason[:2])}",
        hint="Install what is named.",
    )


def _keep(made: Any, folder: Path) -> None:
    """Write a tokenizer into the cache, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        (unfinished / "tokenizer.json").write_text(made.backend_tokenizer.to_str(), "utf-8")
        facts = {"truncation_side": made.truncation_side, "pad_token": made.pad_token}
        (unfinished / _RESULT).write_bytes(orjson.dumps(facts))
        shutil.rmtree(folder, ignore_errors=True)
        try:
            unfinished.rename(folder)
        except OSError:
            if not (folder / _RESULT).is_file():  # else another process was first
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _cached(files: TokenizerFiles, folder: Path) -> BuiltTokenizer:
    file = folder / "tokenizer.json"
    facts = orjson.loads((folder / _RESULT).read_bytes())
    with reading(file):
        tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    built = BuiltTokenizer(tokenizer, files.class_name)
    built.truncation_side, built.pad_token = facts["truncation_side"], facts["pad_token"]
    if not files.has("tokenizer.json") or not _same(files.folder / "tokenizer.json", tokenizer):
        built.changes = _settings(files)
    elif built.truncation_side == "left":
        built.changes["truncation_side"] = "left"
    return built


def _same(file: Path, made: Any) -> bool:
    """Whether a tokenizer.json is what transformers makes of it."""
    with reading(file):
        own = orjson.loads(Tokenizer.from_file(str(file)).to_str())
    theirs = orjson.loads(made.to_str())
    leave = {"truncation", "padding", "decoder", "version"}
    return all(own[key] == theirs[key] for key in own.keys() - leave)


def _settings(files: TokenizerFiles) -> Json:
    kept = {key: value for key, value in files.config.items() if key not in _HARMLESS}
    return {"class": files.class_name, "config": kept}


def _dictionary(files: TokenizerFiles) -> Json:
    """The dictionary that cuts words, with its version: another one gives other ids."""
    if files.config.get("word_tokenizer_type") != "mecab":
        return {}
    options = files.config.get("mecab_kwargs") or {}
    name = options.get("mecab_dic", "unidic_lite") if isinstance(options, dict) else None
    package = _DICTIONARIES.get(str(name))
    return {"dictionary": f"{package} {metadata.version(package)}"} if package else {}


def _key(files: TokenizerFiles) -> str:
    """SHA-256 over everything that decides what transformers makes."""
    whole = hashlib.sha256(f"{_FORMAT} {files.class_name}\n".encode())
    model = files.read("config.json")
    whole.update(orjson.dumps([model.get("model_type"), model.get("tokenizer_class")]))
    for name in (*SOURCES, *SETTINGS):
        file = files.folder / name
        if file.is_file():
            with file.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            whole.update(f"{name} {digest}\n".encode())
    return whole.hexdigest()
