"""What encoded an index: stored with it, and checked before every query and ingest."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ModelIdentity(BaseModel):
    """Everything about a document encoder that changes its vectors.

    Attributes:
        name: folder name, hub name or ``starter``: how a client finds the model again.
        content_hash: SHA-256 over weights, tokenizer and configuration of the folder.
        revision: commit of the hub, if it came from there.
        activation: ``relu`` = log1p(relu(x)), ``log1p_relu`` = log1p(log1p(relu(x))).
        pooling: ``max`` or ``sum`` over the tokens.
        max_length: tokens after which a text is cut.
        max_active_dims: heaviest terms kept per document, ``None`` = all.
        prompt: text put before every document.
        vocabulary_size: V.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    content_hash: str
    revision: str | None = None
    activation: str
    pooling: str
    max_length: int
    max_active_dims: int | None = None
    prompt: str = ""
    vocabulary_size: int

    def difference(self, other: ModelIdentity) -> str | None:
        """The first thing that makes vectors of ``other`` unlike ours, or ``None``.

        The name does not count: the same model may lie in another folder.
        """
        for field in type(self).model_fields:
            if field in {"name", "revision"}:
                continue
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                return f"{field.replace('_', ' ')} {mine!r} against {theirs!r}"
        return None
