"""Texts → ids and weights, as frameworks have sparse vectors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import QueryEncoder, QueryMode, load_query_encoder
from splade_os.errors import SettingsError
from splade_os.vectors import SparseBatch

Sparse = tuple[list[int], list[float]]
"""Ids in the model's vocabulary, ascending, and their weights, of the same length."""


class SparseTexts:
    """Both sides of one model, each loaded when it is first used.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        device: torch device.
        query_mode: ``encoder`` (the full model) or ``idf`` (the table that the model was saved
            with; no model runs).

    Raises:
        SettingsError: there is no such mode.
    """

    def __init__(
        self, model: str = "starter", device: str | None = None, query_mode: QueryMode = "encoder"
    ) -> None:
        if query_mode not in ("encoder", "idf"):
            raise SettingsError(
                f"There is no query encoder {query_mode!r}.", hint="It is 'encoder' or 'idf'."
            )
        self.model, self.device, self.query_mode = model, device, query_mode

    @cached_property
    def document_encoder(self) -> DocumentEncoder:
        """What encodes documents."""
        return DocumentEncoder.load(self.model, device=self.device)

    @cached_property
    def query_encoder(self) -> QueryEncoder:
        """What encodes queries."""
        return load_query_encoder(self.model, self.query_mode, device=self.device)

    def documents(self, texts: Sequence[str]) -> list[Sparse]:
        """Of documents; a text without content has an empty vector."""
        return _rows(self.document_encoder.encode_content(texts))

    def queries(self, texts: Sequence[str]) -> list[Sparse]:
        """Of queries; likewise."""
        return _rows(self.query_encoder.encode_content(texts))


def _rows(batch: SparseBatch) -> list[Sparse]:
    return [(ids.tolist(), weights.tolist()) for ids, weights in batch]
