"""Documents → bulk actions, as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from splade_os.engines.base import CONTENT_FIELD, HASH_FIELD, VECTOR_FIELD, IndexMeta
from splade_os.errors import EncodingError, InputError, SpladeError
from splade_os.features import MIN_WEIGHT, decimals
from splade_os.vectors import Ids, SparseBatch, Weights
from splade_os.vocabulary import FEATURE_NAMING, Vocabulary


class DocumentRenderer:
    """Documents → the two lines of a bulk action, as bytes, built once.

    Weights are written as the shortest decimal that is stored as the same number
    (`splade_os.features`): about half the bytes, not one bit of difference in the index.

    Args:
        vocabulary: of the vectors.
        field: that holds them.
        feature_naming: rule from token to feature name, as the index records it.
        content_field, hash_field: the other fields that are not the document's (`IndexMeta`).
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        field: str = VECTOR_FIELD,
        feature_naming: str = FEATURE_NAMING,
        *,
        content_field: str = CONTENT_FIELD,
        hash_field: str = HASH_FIELD,
    ) -> None:
        self._vocabulary, self._naming = vocabulary, feature_naming
        self._keys = self._ready()
        self._options = {
            field: "--vector-field",
            content_field: "--content-field",
            hash_field: "",
        }
        self._reserved = frozenset(self._options)
        self._opening = orjson.dumps(field) + b":{"
        self._mark = orjson.dumps(hash_field) + b':"'

    @classmethod
    def for_index(cls, vocabulary: Vocabulary, meta: IndexMeta) -> DocumentRenderer:
        """That of an index."""
        return cls(
            vocabulary,
            meta.field,
            meta.feature_naming,
            content_field=meta.content_field,
            hash_field=meta.hash_field,
        )

    def _ready(self) -> npt.NDArray[np.object_]:
        """``,"feature":`` of every id, ready to be joined."""
        names = self._vocabulary.named(self._naming)[: len(self._vocabulary)]
        keys = np.empty(len(names), object)
        keys[:] = [b"," + orjson.dumps(name) + b":" for name in names]
        return keys

    def render(
        self, identifier: str, source: Mapping[str, Any], ids: Ids, weights: Weights
    ) -> bytes:
        """Action and document of one ``index`` operation, each with its newline.

        Args:
            identifier: document id.
            source: stored fields.
            ids, weights: the vector; weights too small to be stored are left out.

        Raises:
            InputError: the document has a field that splade-os writes itself, or is no valid
                JSON.
            EncodingError: a weight is NaN or infinite.
        """
        batch = SparseBatch.from_rows([(ids, weights)], len(self._keys))
        (lines,) = self.render_many([(identifier, source)], batch, operation="index")
        if isinstance(lines, SpladeError):
            raise lines
        return lines

    def render_many(
        self,
        documents: Sequence[tuple[str, Mapping[str, Any]]],
        batch: SparseBatch,
        *,
        operation: Literal["index", "create"] = "index",
        marks: Sequence[str] | None = None,
    ) -> list[bytes | InputError | EncodingError]:
        """`render` of many documents; in place of one that cannot be written stands its error.

        Args:
            documents: id and stored fields of each.
            batch: their vectors, in the same order.
            operation: ``create`` fails where the document exists.
            marks: what the hash field of each holds, letters, digits and ``-_``.
        """
        if len(self._vocabulary) > len(self._keys):  # one that takes every token
            self._keys = self._ready()
        ids, weights, bounds = batch.indices, batch.values, batch.indptr
        finite = np.isfinite(weights)
        stored = finite & (weights >= MIN_WEIGHT)
        broken: frozenset[int] = frozenset()
        if not stored.all():
            rows = np.repeat(np.arange(len(batch)), batch.active_dims())
            broken = frozenset(rows[~finite].tolist())
            ids, weights = ids[stored], weights[stored]
            bounds = np.concatenate(([0], np.cumsum(stored)))[bounds]
        # all keys and all numbers of the batch at once: the time goes into one big join
        parts: list[bytes] = [b""] * (2 * len(ids))
        parts[::2] = self._keys[ids].tolist()
        parts[1::2] = decimals(weights)
        edges = (2 * bounds).tolist()
        action = b'{"' + operation.encode() + b'":{"_id":'
        rendered: list[bytes | InputError | EncodingError] = []
        for row, (identifier, source) in enumerate(documents):
            if not self._reserved.isdisjoint(source):
                rendered.append(self._clash(identifier, source))
                continue
            if row in broken:
                rendered.append(EncodingError(_NOT_FINITE.format(identifier)))
                continue
            try:
                document = orjson.dumps(source)
                name = orjson.dumps(identifier)
            except (TypeError, orjson.JSONEncodeError) as error:
                rendered.append(
                    InputError(f"Document {identifier} cannot be written as JSON: {error}")
                )
                continue
            comma = b"," if len(document) > 2 else b""  # {} has no field to follow
            vector = b"".join(parts[edges[row] : edges[row + 1]])[1:]
            head = (action, name, b"}}\n", document[:-1], comma)
            mark = (self._mark, marks[row].encode(), b'",') if marks is not None else ()
            rendered.append(b"".join((*head, *mark, self._opening, vector, b"}}\n")))
        return rendered

    def _clash(self, identifier: str, source: Mapping[str, Any]) -> InputError:
        name = min(self._reserved.intersection(source))
        option = self._options[name]
        other = f", or ingest into a new index with {option} NAME" if option else ""
        return InputError(
            f"Document {identifier} has a field {name!r}, which splade-os writes itself in this "
            f"index. Leave it out (--drop {name}), store it by another name (--rename "
            f"{name}=NAME){other}."
        )


_NOT_FINITE = "Document {} has a weight that is NaN or infinite."
