"""Documents → bulk actions, as bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from splade_os.engines.base import CONTENT_FIELD, HASH_FIELD, VECTOR_FIELD, IndexMeta
from splade_os.engines.fields.impacts import frequencies, largest, term_of
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
        impact_max: of an index of the field type ``impact``: its vectors are strings.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        field: str = VECTOR_FIELD,
        feature_naming: str = FEATURE_NAMING,
        *,
        content_field: str = CONTENT_FIELD,
        hash_field: str = HASH_FIELD,
        impact_max: float | None = None,
    ) -> None:
        self._vocabulary, self._naming, self._impact_max = vocabulary, feature_naming, impact_max
        self._largest = np.inf if impact_max is None else largest(impact_max)
        self._keys = self._ready()
        self._options = {
            field: "--vector-field",
            content_field: "--content-field",
            hash_field: "",
        }
        self._reserved = frozenset(self._options)
        opening, self._closing = (b":{", b"}}\n") if impact_max is None else (b':"', b'"}\n')
        self._opening = orjson.dumps(field) + opening
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
            impact_max=meta.impact_max,
        )

    def _ready(self) -> npt.NDArray[np.object_]:
        """``,"feature":`` of every id (`` feature|`` in a string), ready to be joined."""
        names = self._vocabulary.named(self._naming)[: len(self._vocabulary)]
        keys = np.empty(len(names), object)
        if self._impact_max is None:
            keys[:] = [b"," + orjson.dumps(name) + b":" for name in names]
        else:
            keys[:] = [b" " + orjson.dumps(term_of(name))[1:-1] + b"|" for name in names]
        return keys

    def _numbers(self, weights: Weights) -> list[bytes]:
        """Each weight as it is written; all can be stored."""
        if self._impact_max is None:
            return decimals(weights)
        return orjson.dumps(
            frequencies(weights, self._impact_max), option=orjson.OPT_SERIALIZE_NUMPY
        )[1:-1].split(b",")

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
            EncodingError: a weight is NaN or infinite, or greater than the index can store.
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
        finite = np.isfinite(weights) & (weights <= self._largest)
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
        parts[1::2] = self._numbers(weights) if len(weights) else ()
        edges = (2 * bounds).tolist()
        action = b'{"' + operation.encode() + b'":{"_id":'
        rendered: list[bytes | InputError | EncodingError] = []
        for row, (identifier, source) in enumerate(documents):
            if not self._reserved.isdisjoint(source):
                rendered.append(self._clash(identifier, source))
                continue
            if row in broken:
                rendered.append(self._broken(identifier, batch, row))
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
            rendered.append(b"".join((*head, *mark, self._opening, vector, self._closing)))
        return rendered

    def _broken(self, identifier: str, batch: SparseBatch, row: int) -> EncodingError:
        part = slice(batch.indptr[row], batch.indptr[row + 1])
        ids, weights = batch.indices[part], batch.values[part]
        if not np.isfinite(weights).all():
            return EncodingError(f"Document {identifier} has a weight that is NaN or infinite.")
        i = int(np.argmax(weights))
        return EncodingError(
            f"Document {identifier} has the weight {weights[i]:g} "
            f"({self._vocabulary.tokens[ids[i]]!r}), and its index takes {self._largest:.4g} at "
            f"most. Ingest into a new one: --field-type impact:{math.ceil(weights[i])}."
        )

    def _clash(self, identifier: str, source: Mapping[str, Any]) -> InputError:
        name = min(self._reserved.intersection(source))
        option = self._options[name]
        other = f", or ingest into a new index with {option} NAME" if option else ""
        return InputError(
            f"Document {identifier} has a field {name!r}, which splade-os writes itself in this "
            f"index. Leave it out (--drop {name}), store it by another name (--rename "
            f"{name}=NAME){other}."
        )
