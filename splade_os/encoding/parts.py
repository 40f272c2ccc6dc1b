"""The parts of a model, as `splade_os.encoding.layout` finds them in its folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from splade_os.errors import ModelError, SettingsError
from splade_os.identity import EncodingOptions


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
class UnitLength:
    """Every vector divided by its Euclidean length: ``Normalize`` of sentence-transformers."""


VectorStep = StaticPart | UnitLength
"""What becomes of a vector behind the pooling. A table: it keeps the tokens of the text itself, the
special ones included, each times its weight in the table."""


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
        steps: what becomes of a vector then, in this order.
    """

    folder: Path
    family: str
    max_length: int
    lowercase: bool
    activation: str | None
    pooling: str | None
    steps: tuple[VectorStep, ...] = ()

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

    @property
    def two_transformers(self) -> bool:
        """Whether the query side is a transformer of its own."""
        return isinstance(self.query, SpladePart) and self.query.folder != self.document.folder

    @property
    def symmetric(self) -> bool:
        """Whether both sides do the same with a text, but for where they cut it."""
        length = self.document.max_length
        query = self.query
        return isinstance(query, SpladePart) and replace(query, max_length=length) == self.document

    @property
    def tables(self) -> tuple[StaticPart, ...]:
        """Every table of the folder: behind the document side, behind the query side, and the
        inference-free query side itself."""
        found: list[VectorStep] = list(self.document.steps)
        if isinstance(self.query, StaticPart):
            found.append(self.query)
        elif not self.symmetric:
            found += self.query.steps
        return tuple(part for part in found if isinstance(part, StaticPart))

    @property
    def query_side(self) -> str:
        """What the query side is, for people."""
        if isinstance(self.query, StaticPart):
            return f"inference-free, table {self.query.weights.name}"
        says = "another transformer" if self.two_transformers else "the same transformer"
        if self.query.steps != self.document.steps:
            own = any(isinstance(step, StaticPart) for step in self.query.steps)
            says += ", the terms of the query alone" if own else ", and vectors of another length"
        return says
