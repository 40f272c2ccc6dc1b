"""Files of a folder → the tokenizer that runs, and in what it differs from its tokenizer.json."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from tokenizers import AddedToken, BertWordPieceTokenizer, Tokenizer, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordPiece

from splade_os.encoding.tokenizer.added import NAMES, SpecialTokens, described
from splade_os.encoding.tokenizer.classes import RULES, Json, Pieces, Rule, Settings
from splade_os.encoding.tokenizer.files import CONFIG, TokenizerFiles
from splade_os.errors import ModelError

_NO_WORDS = {
    "type": "WordPiece",
    "vocab": {},
    "unk_token": "",
    "continuing_subword_prefix": "",
    "max_input_chars_per_word": 1,
}


@dataclass
class BuiltTokenizer:
    """A tokenizer that gives the ids of transformers.

    Attributes:
        tokenizer: without truncation and padding.
        class_name: transformers' class whose tokenizer it is.
        changes: what differs from the files as they lie, JSON; empty where ``tokenizer.json`` (or
            ``vocab.txt``, read as that of BERT) says it all.
        truncation_side: at which end long texts are cut.
        pad_token: of padding, if there is one.
    """

    tokenizer: Tokenizer
    class_name: str
    changes: Json = field(default_factory=dict)
    truncation_side: str = "right"
    pad_token: str | None = None


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Around calls of ``tokenizers``, which raises bare Exceptions and Rust's panics.

    Raises:
        ModelError: ``what`` is damaged.
    """
    try:
        yield
    except BaseException as error:  # a panic is no Exception
        if not is_of_tokenizers(error):
            raise
        raise ModelError(
            f"{what} cannot be read: {error}", hint="Download or save the model again."
        ) from None


def is_of_tokenizers(error: BaseException) -> bool:
    """Whether an error is one that ``tokenizers`` raises for what it was given: its own kinds are
    a bare Exception, and a panic."""
    kinds = (TypeError, ValueError, OverflowError, OSError)
    return (
        type(error) is Exception
        or isinstance(error, kinds)
        or type(error).__name__ == "PanicException"
    )


def build(files: TokenizerFiles) -> BuiltTokenizer:
    """The tokenizer of a folder whose class has a rule, or is its ``tokenizer.json``.

    Raises:
        ModelError: files are missing, damaged, or do not belong together.
    """
    rule = RULES.get(files.class_name)
    content, source = _content(files, rule)
    own = _own_added(content, source)
    special = SpecialTokens(files, rule, own if files.has("tokenizer.json") else [])
    changes: Json = {}
    if rule is None:
        tokenizer = _parse(content, source)
        _add(tokenizer, special, source)
    else:
        tokenizer = _by_rule(files, rule, special, content, changes, source)
    added = _added(tokenizer)
    if not _same_added(own, added):
        changes["added_tokens"] = added
    built = BuiltTokenizer(tokenizer, files.class_name, changes)
    built.pad_token = special.contents().get("pad_token")
    _apply_settings(files, content, built)
    return built


def _own_added(content: Json, source: Path) -> list[Json]:
    own = content.get("added_tokens") or []
    if isinstance(own, list) and all(
        isinstance(token, dict)
        and isinstance(token.get("id"), int)
        and isinstance(token.get("content"), str)
        for token in own
    ):
        return own
    raise ModelError(
        f"{source}: added_tokens is not a list of tokens.",
        hint="Download or save the model again.",
    )


def _parse(content: Json, source: Path) -> Tokenizer:
    with reading(source):
        return Tokenizer.from_str(orjson.dumps(content).decode())


def _add(tokenizer: Tokenizer, special: SpecialTokens, source: Path) -> None:
    tokens = special.in_order(token["content"] for token in _added(tokenizer))
    with reading(source):
        tokenizer.add_tokens(tokens)


def _apply_settings(files: TokenizerFiles, content: Json, built: BuiltTokenizer) -> None:
    """Settings that every class knows."""
    settings = Settings(files.config, str(files.folder / CONFIG))
    cut = content.get("truncation")
    otherwise = str(cut.get("direction", "Right")).lower() if isinstance(cut, dict) else "right"
    side = files.config.get("truncation_side", otherwise)
    if side not in ("left", "right"):
        raise settings.wrong("truncation_side", "left or right")
    if side == "left":
        built.truncation_side = built.changes["truncation_side"] = side
    if settings.flag("split_special_tokens", False):
        built.tokenizer.encode_special_tokens = True
        built.changes["split_special_tokens"] = True
    built.tokenizer.no_truncation()
    built.tokenizer.no_padding()


def _content(files: TokenizerFiles, rule: Rule | None) -> tuple[Json, Path]:
    """A ``tokenizer.json``, or what one of a bare vocabulary would be."""
    folder = files.folder
    if files.has("tokenizer.json"):
        content = files.read("tokenizer.json")
        model = content.get("model")
        if not isinstance(model, dict):
            raise ModelError(
                f"{folder / 'tokenizer.json'} has no model.",
                hint="Download or save the model again.",
            )
        return content, folder / "tokenizer.json"
    kind = rule.model if rule else None
    if files.has("vocab.txt") and kind == "WordPiece":
        return _word_pieces(files), folder / "vocab.txt"
    if files.has("vocab.json", "merges.txt") and kind == "BPE":
        file = folder / "vocab.json"
        with reading(file):
            vocabulary, merges = BPE.read_file(str(file), str(folder / "merges.txt"))
        return {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}, file
    there = ", ".join(file.name for file in files.sources)
    raise ModelError(
        f"{folder} has no tokenizer.json and no vocab.txt"
        + (f", but {there}, of which a {files.class_name} is not made." if there else "."),
        hint="Download or save the model again; transformers writes a tokenizer.json.",
    )


def _word_pieces(files: TokenizerFiles) -> Json:
    """``vocab.txt``, where it is BERT's as the tokenizer that it was before the configuration was
    read: what an index recorded of such a folder goes on being true."""
    file = files.folder / "vocab.txt"
    with reading(file):
        vocabulary = WordPiece.read_file(str(file))
        unknown = SpecialTokens(files, RULES[files.class_name], []).contents()["unk_token"]
        if unknown not in vocabulary:
            raise ModelError(
                f"{file} has no {unknown}, so it is no vocabulary of a {files.class_name}.",
                hint="Download or save the model again.",
            )
        if not {"[CLS]", "[SEP]"} <= vocabulary.keys():
            plain = Tokenizer(WordPiece(vocabulary))
        else:
            lowercase = bool(files.config.get("do_lower_case", True))
            plain = BertWordPieceTokenizer(vocabulary, lowercase=lowercase)._tokenizer
            names = [files.config.get(name) for name in NAMES]
            plain.add_special_tokens([name for name in names if isinstance(name, str)])
    content: Json = orjson.loads(plain.to_str())
    return content


def _by_rule(
    files: TokenizerFiles,
    rule: Rule,
    special: SpecialTokens,
    content: Json,
    changes: Json,
    source: Path,
) -> Tokenizer:
    """As the class builds it; ``changes`` gets what is not in the file."""
    model = content["model"]
    _require_model(files, rule, model, source)
    names = special.contents()
    made = dict(content)
    if rule.pieces is not None:
        settings = Settings(files.config, str(files.folder / CONFIG))
        _check_vocabulary(model, source)
        wanted = rule.pieces(settings, names, model, content.get("normalizer"))
        changes.update(_differences(content, wanted, model, source))
        made.update({k: v for k, v in changes.items() if k != "model"})
        made["model"] = {**model, **changes.get("model", {})}
        made["added_tokens"] = []
    after = _affixes(content.get("post_processor"), source) if rule.affixes else None
    if rule.affixes:
        made["post_processor"] = None
    if rule.model == "Unigram" and rule.pieces is not None:
        tokenizer = _unigram(made, source)
    else:
        tokenizer = _parse(made, source)
    _add(tokenizer, special, source)
    if rule.affixes:
        before, behind = (names[name] for name in rule.affixes)
        first, last = (_id_of(tokenizer, name, source) for name in (before, behind))
        if after == ([first], [last]):
            tokenizer.post_processor = _stub(source, post_processor=content["post_processor"])[0]
        else:
            changes["special_tokens"] = [before, behind]
            tokenizer.post_processor = processors.BertProcessing((behind, last), (before, first))
    return tokenizer


def _id_of(tokenizer: Tokenizer, token: str, source: Path) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ModelError(
            f"{source} has no token {token!r}, which {CONFIG} puts around every text.",
            hint="Download or save the model again.",
        )
    return number


def _unigram(made: Json, source: Path) -> Tokenizer:
    """With scores as Python reads them, as transformers has them: `tokenizers` rounds the last bit
    of some another way, and of two ways to cut a text that weigh the same, another one wins."""
    model = made["model"]
    tokenizer = _parse({**made, "model": _NO_WORDS}, source)
    with reading(source):
        tokenizer.model = Unigram(
            [(token, score) for token, score in model["vocab"]], model["unk_id"], False
        )
    return tokenizer


def _require_model(files: TokenizerFiles, rule: Rule, model: Json, source: Path) -> None:
    kind = model.get("type")
    if kind is None:  # of old files, by what they hold
        kind = "BPE" if "merges" in model else rule.model
    if kind != rule.model:
        raise ModelError(
            f"{source} holds a {kind} model, but {files.folder / CONFIG} names {files.class_name}, "
            f"which is made of a {rule.model} model.",
            hint="Where tokenizer.json is right, write tokenizer_class: PreTrainedTokenizerFast "
            "into tokenizer_config.json.",
        )


def _check_vocabulary(model: Json, source: Path) -> None:
    """So that a rule can look tokens up."""
    vocabulary = model.get("vocab")
    good = isinstance(vocabulary, dict)
    if model.get("type") == "Unigram" or isinstance(vocabulary, list):
        good = isinstance(vocabulary, list) and all(
            isinstance(entry, list | tuple) and len(entry) == 2 for entry in vocabulary
        )
    if not good:
        raise ModelError(
            f"{source}: the vocabulary of its model is damaged.",
            hint="Download or save the model again.",
        )


def _differences(content: Json, wanted: Pieces, model: Json, source: Path) -> Json:
    """The parts of ``wanted`` that the file does not have, with other spelling left aside."""
    changes: Json = {}
    has = _plain_parts(content.get("normalizer"), content.get("pre_tokenizer"), source)
    new = _plain_parts(wanted.normalizer, wanted.pre_tokenizer, source)
    for name, part in (("normalizer", wanted.normalizer), ("pre_tokenizer", wanted.pre_tokenizer)):
        if has[name] != new[name]:
            changes[name] = part
    defaults = {"continuing_subword_prefix": "", "end_of_word_suffix": "", "ignore_merges": False}
    options = {
        key: value
        for key, value in wanted.model.items()
        if not _same_option(model.get(key, defaults.get(key)), value)
        and not (key == "max_input_chars_per_word" and key not in model)
        and not (key == "type" and key not in model)
    }
    if model.get("type", "BPE") == "BPE" and _has_every_byte(wanted, model):
        options.pop("unk_token", None)  # no character is unknown
        options.pop("fuse_unk", None)
    if options:
        changes["model"] = options
    return changes


def _same_option(has: Any, wanted: Any) -> bool:
    """``null``, ``false`` and an empty prefix are one and the same; the id 0 is not."""
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return bool(has == wanted)
    return (has or None) == (wanted or None)


def _has_every_byte(wanted: Pieces, model: Json) -> bool:
    part = wanted.pre_tokenizer or {}
    if part.get("type") != "ByteLevel":
        return False
    return all(byte in model["vocab"] for byte in pre_tokenizers.ByteLevel.alphabet())


def _stub(source: Path, **parts: Any) -> tuple[Any, Json]:
    """Parts of a tokenizer.json with a model of nothing: the post-processor, and all as
    ``tokenizers`` spells them."""
    empty: Json = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": []}
    names = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    content = {**empty, **dict.fromkeys(names), **parts, "model": _NO_WORDS}
    tokenizer = _parse(content, source)
    spelt: Json = orjson.loads(tokenizer.to_str())
    return tokenizer.post_processor, spelt


def _plain_parts(normalizer: Any, pre_tokenizer: Any, source: Path) -> Json:
    """Both parts, spelt in one way, without what changes no id."""
    spelt = _stub(source, normalizer=normalizer, pre_tokenizer=pre_tokenizer)[1]
    return {name: _plain(spelt[name]) for name in ("normalizer", "pre_tokenizer")}


def _plain(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "Sequence":
        parts = part.get("normalizers") or part.get("pretokenizers") or []
        plain = [_plain(each) for each in parts]
        return plain[0] if len(plain) == 1 else plain
    if kind == "ByteLevel":
        return {**part, "trim_offsets": None}
    if kind == "BertNormalizer" and part.get("strip_accents") is None:
        return {**part, "strip_accents": part.get("lowercase")}
    return part


def _affixes(part: Any, source: Path) -> tuple[list[int], list[int]] | None:
    """Ids before and after a text; ``None`` = not known."""
    return ([], []) if part is None else _affixes_of(_stub(source, post_processor=part)[1])


def _affixes_of(spelt: Json) -> tuple[list[int], list[int]] | None:
    part = spelt.get("post_processor", spelt)
    kind = part.get("type")
    if kind == "ByteLevel":
        return [], []
    if kind in ("BertProcessing", "RobertaProcessing"):
        return [part["cls"][1]], [part["sep"][1]]
    if kind == "TemplateProcessing":
        before: list[int] = []
        after: list[int] = []
        side = before
        for piece in part["single"]:
            if "Sequence" in piece:
                side = after
                continue
            token = part["special_tokens"].get(piece["SpecialToken"]["id"])
            if token is None:
                return None
            side += token["ids"]
        return before, after
    if kind == "Sequence":
        all_parts = [_affixes_of(each) for each in part["processors"]]
        known = [each for each in all_parts if each is not None]
        with_ids = [each for each in known if each != ([], [])]
        if len(known) == len(all_parts) and len(with_ids) <= 1:
            return with_ids[0] if with_ids else ([], [])
    return None


def _added(tokenizer: Tokenizer) -> list[Json]:
    tokens: dict[int, AddedToken] = tokenizer.get_added_tokens_decoder()
    return [{"id": i, **described(token)} for i, token in sorted(tokens.items())]


def _same_added(own: list[Json], made: list[Json]) -> bool:
    defaults = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    stated = [{**defaults, "special": False, **token} for token in own]
    return sorted(stated, key=lambda token: token["id"]) == made
