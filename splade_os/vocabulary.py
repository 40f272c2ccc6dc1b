"""Token ↔ vocabulary id ↔ feature name.

A feature name is the token itself, but for what an engine cannot take. OpenSearch indexes a
name with a dot and never finds it again through ``rank_feature`` (it splits the field path at
the last dot); Elasticsearch 8.8+ refuses the document. The escape is injective over every
possible string and is recorded in the index (`FEATURE_NAMING`). The escape character is none
of any published vocabulary, so every token without a dot keeps its name, which engine-side
tokenizers produce as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from splade_os.errors import ModelError

FEATURE_NAMING = "token-esc1"
"""Name of the rule below, stored in every index; a new rule gets a new name."""
TOKEN_IDS = "token-id"
"""The other rule: a feature is the token's id in digits (OpenSearch's ``sparse_vector``)."""

ESCAPE = "\u241b"  # SYMBOL FOR ESCAPE
REPLACEMENTS = ((ESCAPE, ESCAPE + "0"), (".", ESCAPE + "1"))
"""The rule as replacements of text, one after the other: for tokenizers that run elsewhere."""
_ENCODE = str.maketrans(dict(REPLACEMENTS))
_EMPTY = ESCAPE + "2"
MAX_TERM_BYTES = 32_766
"""Lucene's limit for one term."""


def feature_name(token: str) -> str:
    """The feature name of a token: ``"."`` and the escape character are escaped."""
    return token.translate(_ENCODE) if token else _EMPTY


def token_of(feature: str) -> str:
    """The token of a feature name; inverse of `feature_name`."""
    if feature == _EMPTY:
        return ""
    return feature.replace(ESCAPE + "1", ".").replace(ESCAPE + "0", ESCAPE)


class Vocabulary:
    """The tokens of a model, by id.

    Args:
        tokens: token of each id, ``V`` in all.
        special_ids: ids of special and unknown tokens ([CLS], [SEP], [PAD], [UNK] ...).

    Raises:
        ModelError: a token is too long for a Lucene term, or occurs twice.
    """

    def __init__(self, tokens: Sequence[str], special_ids: Iterable[int] = ()) -> None:
        self.tokens = list(tokens)
        self.special_ids = frozenset(special_ids)
        self.features = [feature_name(token) for token in self.tokens]
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ModelError("The vocabulary holds a token twice.")
        for i, feature in enumerate(self.features):
            if len(feature) > MAX_TERM_BYTES // 4 and len(feature.encode()) > MAX_TERM_BYTES:
                raise ModelError(f"Token {i} is longer than a Lucene term may be.")

    def __len__(self) -> int:
        return len(self.tokens)

    def named(self, feature_naming: str) -> list[str]:
        """The feature name of every id by a rule that an index records."""
        if feature_naming == FEATURE_NAMING:
            return self.features
        if feature_naming == TOKEN_IDS:
            return [str(i) for i in range(len(self.tokens))]
        raise ValueError(f"there is no rule {feature_naming!r} for feature names")

    @property
    def ids(self) -> Mapping[str, int]:
        """Token → id."""
        return self._ids

    def id(self, token: str) -> int | None:
        """The id of a token, or ``None``."""
        return self._ids.get(token)

    def id_of_feature(self, feature: str) -> int | None:
        """The id behind a feature name, or ``None``."""
        return self._ids.get(token_of(feature))
