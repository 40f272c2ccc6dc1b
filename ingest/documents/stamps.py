"""The mark that each document carries: what was encoded, what is stored, and who wrote it.

``<hash of text><hash of document>-<run>-<position>``, and ``u`` if it was there before. By the
hashes an ingest knows unchanged documents; by run and position it knows its own writes again:
after an answer that was lost, a kill, or an id that occurs twice.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from splade_os.errors import InputError
from splade_os.identity import ModelIdentity
from splade_os.ingest.documents.records import Record

_BYTES = 9  # 72 bits, 12 characters: compared only with the same document's own
_WIDTH = 12


@dataclass(frozen=True, slots=True)
class DocumentStamp:
    """The parts of a mark; ``update``: it replaces a document that was there before."""

    text: str
    document: str
    run: str
    position: int
    update: bool = False

    def __str__(self) -> str:
        end = "u" if self.update else ""
        return f"{self.text}{self.document}-{self.run}-{self.position}{end}"

    def same_document(self, other: DocumentStamp) -> bool:
        """Whether text, model and stored fields are the same."""
        return self.text == other.text and self.document == other.document


class Stamper:
    """Makes the marks of one run.

    Args:
        model: what encodes; the same text encoded otherwise has another hash.
        run: name of the run, letters and digits.
    """

    def __init__(self, model: ModelIdentity, run: str) -> None:
        self.run = run
        self._key = blake2b(model.noted(), digest_size=16).digest()

    def of(self, record: Record) -> DocumentStamp:
        """The mark of a record.

        Raises:
            InputError: the record cannot be written as JSON.
        """
        if not (record.id.isascii() or _is_unicode(record.id)):
            raise InputError(f"The id {record.id!r} holds half a surrogate pair.")
        if record.encoded is not None:
            hashes = record.encoded.hashes
            return DocumentStamp(hashes[:_WIDTH], hashes[_WIDTH:], self.run, record.position)
        if record.vector is not None and record.item is not None and record.item.raw:
            # a pre-encoded line: it is the same document if it is the same line
            line = _short(record.item.raw, self._key)
            return DocumentStamp(line, line, self.run, record.position)
        try:
            encoded = record.text.encode()
            if record.vector is not None:
                encoded += b"\0" + orjson.dumps(record.vector)
            stored = orjson.dumps(record.source, option=orjson.OPT_SORT_KEYS)
        except (TypeError, UnicodeEncodeError, orjson.JSONEncodeError) as error:
            large = _large_number(record.source)
            told = f"the field {large}" if large else str(error)
            raise InputError(f"Document {record.id} cannot be written as JSON: {told}") from None
        return DocumentStamp(
            _short(encoded, self._key), _short(stored, self._key), self.run, record.position
        )


def stored_stamp(document: Mapping[str, Any], field: str) -> DocumentStamp | None:
    """The mark in a field of a document, as the engine returns it; ``None`` if it has none of
    ours."""
    parts = str(document.get(field, "")).rsplit("-", 2)
    if len(parts) != 3 or len(parts[0]) != 2 * _WIDTH:
        return None
    hashes, run, position = parts
    number = position.removesuffix("u")
    if not number.isdigit():
        return None
    return DocumentStamp(hashes[:_WIDTH], hashes[_WIDTH:], run, int(number), number != position)


def _large_number(value: Any, path: str = "") -> str | None:
    """Where in a document a whole number of more than 64 bits stands, if one does."""
    inner: Iterator[tuple[str, Any]]
    if isinstance(value, Mapping):
        inner = ((f"{path}.{name}" if path else str(name), x) for name, x in value.items())
    elif isinstance(value, list | tuple):
        inner = ((path, x) for x in value)
    else:
        large = isinstance(value, int) and not -(1 << 63) <= value < 1 << 64
        return (
            f"{path!r} holds a whole number of more than 64 bits (as a text, it can be)"
            if large
            else None
        )
    with suppress(RecursionError):
        return next((found for name, x in inner if (found := _large_number(x, name))), None)
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(data: bytes, key: bytes) -> str:
    return urlsafe_b64encode(blake2b(data, digest_size=_BYTES, key=key).digest()).decode()
