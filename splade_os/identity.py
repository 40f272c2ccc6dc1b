"""What encoded an index: stored with it, and checked before every query and ingest."""

from __future__ import annotations

from typing import Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field


class CheckpointKeywords(TypedDict, total=False):
    """What a checkpoint may leave unsaid."""

    activation: Literal["relu", "log1p_relu"] | None
    pooling: Literal["max", "sum"] | None


class EncodingKeywords(CheckpointKeywords, total=False):
    """The fields of `EncodingOptions` as keywords."""

    max_length: int | None
    max_active_dims: int | None
    active_dims_of: Literal["model", "document"] | None
    min_weight: float | None
    max_ratio: float | None
    alpha_mass: float | None
    long_texts: Literal["truncate", "chunk"] | None
    stride: int | None
    lexical_weight: float | None
    mean_weight: float | None
    average_length: float | None
    whole_text: bool | None
    mask_expansion: bool | None
    fold_idf: bool | None
    normalize: Literal["none", "nfkc"] | None
    leading_space: bool | None


class EncodingOptions(BaseModel):
    """What a user may choose; ``None`` = what the model says, else the default in brackets.

    Attributes:
        activation: ``relu`` or ``log1p_relu``, of a checkpoint that does not say it.
        pooling: ``max`` or ``sum``, of a checkpoint that does not say it.
        max_length: tokens after which a text is cut, at most the model's [the model's].
        max_active_dims: heaviest terms kept per document, those of the lexical prior included
            [of the model's own, as many as the model says].
        active_dims_of: what ``max_active_dims`` caps: ``document``, all that is stored, or
            ``model``, what the model gives [``document`` where ``max_active_dims`` is chosen here].
        min_weight: keep ``w >= min_weight`` [0].
        max_ratio: keep ``w >= max_ratio × heaviest`` [0].
        alpha_mass: keep the heaviest terms that hold this part of the whole weight [all].
        long_texts: ``truncate``, or ``chunk`` [``truncate``].
        stride: (``chunk``) tokens that neighbouring windows share [an eighth of the length].
        lexical_weight: ``c`` of the lexical prior [0].
        mean_weight: ``m`` of the lexical prior [measured when the model is loaded].
        average_length: of the lexical prior, tokens [measured when an index is made; 100].
        whole_text: the lexical prior and the document frequencies see the whole text, also what is
            behind ``max_length`` [yes].
        mask_expansion: function words, punctuation, digits alone and single letters that do not
            stand in a text get no weight (`splade_os.encoding.expansion`) [no].
        fold_idf: multiply document weights by the model's IDF table, so that a query is its bare
            tokens with weight 1 [no].
        normalize: ``nfkc``: texts and queries in this Unicode normal form (ligatures, full-width
            letters), or ``none`` [``none``].
        leading_space: count texts, and cut IDF queries, as if a space stood before them
            (`splade_os.encoding.first_words`) [where the tokenizer keeps the space in front of a
            word, and the model has no IDF table of its own].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    activation: Literal["relu", "log1p_relu"] | None = None
    pooling: Literal["max", "sum"] | None = None
    max_length: int | None = Field(default=None, ge=1)
    max_active_dims: int | None = Field(default=None, ge=1)
    active_dims_of: Literal["model", "document"] | None = None
    min_weight: float | None = Field(default=None, ge=0)
    max_ratio: float | None = Field(default=None, ge=0, lt=1)
    alpha_mass: float | None = Field(default=None, gt=0, le=1)
    long_texts: Literal["truncate", "chunk"] | None = None
    stride: int | None = Field(default=None, ge=0)
    lexical_weight: float | None = Field(default=None, ge=0)
    mean_weight: float | None = Field(default=None, ge=0)
    average_length: float | None = Field(default=None, ge=0)
    whole_text: bool | None = None
    mask_expansion: bool | None = None
    fold_idf: bool | None = None
    normalize: Literal["none", "nfkc"] | None = None
    leading_space: bool | None = None

    def over(self, other: EncodingOptions) -> EncodingOptions:
        """These options, and those of ``other`` where nothing is chosen."""
        mine = {name: value for name, value in self if value is not None}
        if self.max_active_dims is not None:
            mine["active_dims_of"] = self.active_dims_of
        return other.model_copy(update=mine)


NO_VECTORS = frozenset({"name", "revision", "query_hash", "leading_space", "whole_text"})
"""Fields of `ModelIdentity` that change no vector of a document (the last two do so by the lexical
prior alone)."""
_OF_PRIOR = frozenset({"leading_space", "whole_text"})
_BEFORE = {
    "normalize": "none",
    "active_dims_of": "model",
    "whole_text": False,
    "mask_expansion": False,
}
"""What was always so before these fields were noted."""
FIXED_AVERAGE_LENGTH = 100.0
"""Of the lexical prior, tokens, where none is measured; it was always this before."""
_HASHES = frozenset({"content_hash", "fold_idf"})
EXTERNAL = "external"
"""Name in place of a model's, where vectors came from outside and no model was named."""
OPTION_NAMES = tuple(EncodingOptions.model_fields)


def short_hash(digits: str) -> str:
    """As much of a SHA-256 as a person compares."""
    return digits[:12]


class ModelIdentity(BaseModel):
    """Everything about a document encoder that changes its vectors.

    Attributes:
        name: folder name, hub name or ``starter``: how a client finds the model again.
        content_hash: SHA-256 over weights and tokenizer of the document side; ``""`` = not noted,
            because the vectors were made elsewhere and no weights were at hand.
        query_hash: SHA-256 over what IDF queries are made of, the tokenizer and the table of the
            query side; ``""`` = not noted. Changes no document.
        revision: commit of the hub, if it came from there.
        activation: ``relu`` = log1p(relu(x)), ``log1p_relu`` = log1p(log1p(relu(x))).
        pooling: ``max`` or ``sum`` over the tokens.
        max_length: tokens after which a text is cut.
        max_active_dims: heaviest terms kept per document, ``None`` = all.
        active_dims_of: whether that is the most that is stored (``document``), or that comes from
            the model, to which the lexical prior adds (``model``; so it was always before).
        min_weight, max_ratio, alpha_mass: pruning (`splade_os.encoding.rows.prune`).
        long_texts: ``truncate``, or ``chunk``: windows, and the maximum of each term over them.
        stride: (``chunk``) tokens that neighbouring windows share.
        lexical_weight: ``c`` of the lexical prior (`splade_os.encoding.lexical`), 0 = none.
        mean_weight: ``m`` of the lexical prior, measured on fixed sentences; 0 = not measured.
        average_length: of the lexical prior, tokens; 0 = there is none, or it is not measured yet.
        whole_text: the lexical prior and the document frequencies see the whole text; else what
            the model sees of it, as always before.
        mask_expansion: what says nothing by itself fires only where it stands in a text.
        fold_idf: SHA-256 of the IDF table that is folded into the weights, ``""`` = none.
        normalize: Unicode normal form of texts and queries, ``none`` or ``nfkc``.
        leading_space: texts are counted, and IDF queries cut, as if a space stood before them.
        prompt: text put before every document.
        vocabulary_size: V.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    content_hash: str
    query_hash: str = ""
    revision: str | None = None
    activation: str
    pooling: str
    max_length: int
    max_active_dims: int | None = None
    active_dims_of: Literal["model", "document"] = "model"
    min_weight: float = 0.0
    max_ratio: float = 0.0
    alpha_mass: float | None = None
    long_texts: Literal["truncate", "chunk"] = "truncate"
    stride: int = 0
    lexical_weight: float = 0.0
    mean_weight: float = 0.0
    average_length: float = 0.0
    whole_text: bool = False
    mask_expansion: bool = False
    fold_idf: str = ""
    normalize: Literal["none", "nfkc"] = "none"
    leading_space: bool = False
    prompt: str = ""
    vocabulary_size: int

    @property
    def external(self) -> bool:
        """Whether nobody said what made the vectors."""
        return self.name == EXTERNAL and not self.content_hash

    def noted(self) -> bytes:
        """All that changes vectors, as JSON. A field that came later is left out where it says what
        was so before, so that what was written then is known again."""
        before = {name for name, value in _BEFORE.items() if getattr(self, name) == value}
        return self.model_dump_json(exclude={*(NO_VECTORS - {"whole_text"}), *before}).encode()

    def options(self, *, anew: bool = False) -> EncodingOptions:
        """What makes `DocumentEncoder.load` give the same vectors again; nothing, if they came from
        outside.

        Args:
            anew: for a new index: what nobody chose, because it could not be chosen then, is open
                again.
        """
        if self.external:
            return EncodingOptions()
        options = {name: getattr(self, name) for name in OPTION_NAMES}
        options["fold_idf"] = bool(self.fold_idf)
        if anew and not self.whole_text:
            options |= {"whole_text": None, "active_dims_of": None}
            if self.average_length == FIXED_AVERAGE_LENGTH:
                options["average_length"] = None
        return EncodingOptions(**options)

    def difference(
        self, other: ModelIdentity, ignoring: frozenset[str] = frozenset()
    ) -> str | None:
        """The first thing that makes vectors of ``other`` unlike ours, or ``None``.

        The name does not count: the same model may lie in another folder. Only where no weights
        were at hand on one side, it is all that tells models apart.

        Args:
            ignoring: fields that do not count either (`DocumentEncoder.left_open`).
        """
        same = NO_VECTORS
        if self.lexical_weight and other.lexical_weight:
            same -= _OF_PRIOR
        same |= ignoring
        for field in type(self).model_fields:
            hashed = bool(self.content_hash and other.content_hash)
            if field == "content_hash" and not hashed:
                field = "name"
            elif field in same:
                continue
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                if field in _HASHES:
                    mine, theirs = short_hash(mine), short_hash(theirs)
                return f"{field.replace('_', ' ')} {mine!r} against {theirs!r}"
        return None
