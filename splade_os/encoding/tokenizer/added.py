"""Added and special tokens, in the order in which transformers adds them: it decides their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import AddedToken

from splade_os.encoding.tokenizer.classes import Rule
from splade_os.encoding.tokenizer.files import CONFIG, TokenizerFiles
from splade_os.errors import ModelError

NAMES = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
Token = str | AddedToken


class SpecialTokens:
    """What a folder says about special and added tokens.

    Attributes:
        by_id: added tokens by the id that the folder states; ids come from the order alone.
        named: special tokens by their name in the configuration.
        extra: further special tokens.

    Raises:
        ModelError: an entry is no token.
    """

    def __init__(self, files: TokenizerFiles, rule: Rule | None, own: Iterable[Any]) -> None:
        """
        Args:
            rule: of the tokenizer's class, if it has one.
            own: ``added_tokens`` of ``tokenizer.json``.
        """
        self._where = str(files.folder / CONFIG)
        settings: dict[str, Any] = dict(files.config)
        stated = "added_tokens_decoder" in settings
        decoder = settings.pop("added_tokens_decoder", None)
        if not stated:
            settings.update(files.read("special_tokens_map.json"))
        extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens")
        self.named = self._named(settings, extra)
        extras = extra if isinstance(extra, list) else list(rule.extra) if rule else []
        self.extra = [self._token(token, "extra_special_tokens", special=True) for token in extras]
        if stated:
            self.by_id = self._decoder(decoder)
        else:
            self.by_id = self._legacy(files.read("added_tokens.json"), own)
        known = {token.content: token for token in self.by_id.values()}
        self.named = {
            name: known.get(str_of(token), token) if name in NAMES else token
            for name, token in self.named.items()
        }
        if rule is not None:
            self._add_defaults(rule)

    def _named(self, settings: Mapping[str, Any], extra: Any) -> dict[str, Token]:
        named: dict[str, Token] = {}
        others = [name for name in settings if name.endswith("_token") and name not in NAMES]
        for name in (*NAMES, *others):
            value = settings.get(name)
            if isinstance(value, str | dict):
                named[name] = self._token(value, name, special=isinstance(value, dict))
            elif value is not None and name in NAMES:
                raise self._wrong(name, value)
        if isinstance(extra, dict):
            for name, value in extra.items():
                named[name] = self._token(value, name, special=True)
        elif extra is not None and not isinstance(extra, list):
            raise self._wrong("extra_special_tokens", extra)
        return named

    def _decoder(self, decoder: Any) -> dict[int, AddedToken]:
        if not isinstance(decoder, dict):
            raise self._wrong("added_tokens_decoder", decoder)
        tokens = {}
        for number, entry in decoder.items():
            token = self._token(entry, f"added_tokens_decoder[{number}]", special=False)
            if not number.isdigit() or isinstance(token, str):
                raise self._wrong(f"added_tokens_decoder[{number}]", entry)
            tokens[int(number)] = token
        return tokens

    def _legacy(self, added: Mapping[str, Any], own: Iterable[Any]) -> dict[int, AddedToken]:
        """Of ``added_tokens.json`` (content → id), and over it of ``tokenizer.json``."""
        special = {str_of(token) for token in (*self.named.values(), *self.extra)}
        tokens = {}
        for content, number in added.items():
            if isinstance(number, bool) or not isinstance(number, int):
                raise self._wrong(f"added_tokens.json: {content}", number)
            is_special = content in special
            tokens[number] = AddedToken(content, normalized=not is_special, special=is_special)
        for entry in own:
            token = self._token(entry, "added_tokens of tokenizer.json", special=False)
            if isinstance(token, str) or not isinstance(entry.get("id"), int):
                raise self._wrong("added_tokens of tokenizer.json", entry)
            tokens[entry["id"]] = token
        return tokens

    def _add_defaults(self, rule: Rule) -> None:
        for name, content in rule.tokens.items():
            self.named.setdefault(name, content)
        for name, flags in rule.flags.items():
            token = self.named[name]
            if isinstance(token, str):
                self.named[name] = AddedToken(token, **flags)
        ordered = [name for name in NAMES if name in self.named]
        others = [name for name in self.named if name not in NAMES]
        self.named = {name: self.named[name] for name in ordered + others}

    def _token(self, value: Any, name: str, *, special: bool) -> Token:
        if isinstance(value, str):
            return value
        content = value.get("content") if isinstance(value, dict) else None
        if not isinstance(content, str):
            raise self._wrong(name, value)
        flags = {flag: value[flag] for flag in _FLAGS if flag in value}
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise self._wrong(name, value)
        return AddedToken(content, **{"special": special, **flags})

    def _wrong(self, name: str, value: Any) -> ModelError:
        return ModelError(
            f"{self._where}: {name} is {value!r:.80}, no token.",
            hint="Download or save the model again.",
        )

    def in_order(self, present: Iterable[str]) -> list[AddedToken]:
        """The tokens to add to a tokenizer that has those of ``present`` already."""
        tokens: list[Token] = [token for _, token in sorted(self.by_id.items())]
        known = {*present, *map(str_of, tokens)}
        for token in (*self.named.values(), *self.extra):
            if str_of(token) not in known:
                known.add(str_of(token))
                tokens.append(token)
        names = set(map(str_of, self.named.values()))
        return [self._special(token, names) for token in tokens]

    def _special(self, token: Token, names: set[str]) -> AddedToken:
        if isinstance(token, str):
            return AddedToken(token, special=True)
        if not token.special and token.content in names:
            token.special = True
        return token

    def contents(self) -> dict[str, str]:
        """Text of each named token."""
        return {name: str_of(token) for name, token in self.named.items()}


def str_of(token: Token) -> str:
    """The text of a token."""
    return token if isinstance(token, str) else token.content


def described(token: AddedToken) -> dict[str, Any]:
    """A token as ``tokenizer.json`` holds it, without its id."""
    return {"content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}}
