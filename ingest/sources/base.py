"""What a source is. Third parties add some through entry points (`splade_os.sources`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from splade_os.engines import Engine
from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item


@dataclass(frozen=True)
class SourceOptions:
    """What a source may need beside its name.

    Attributes:
        format: of a file whose name and content do not tell, e.g. ``csv`` for standard input.
        engine: the cluster that is written to (the source ``index:NAME`` reads from it).
        encoding: of text files that are not UTF-8 (a name that Python knows, e.g. ``cp1252``).
            A byte order mark at the beginning of a file has the last word.
        delimiter: one character, between the cells of tables; default by the format.
    """

    format: str | None = None
    engine: Engine | None = None
    encoding: str | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None:
            try:
                "a".encode(self.encoding).decode(self.encoding)
            except (LookupError, ValueError) as error:
                raise InputError(
                    f"There is no text encoding {self.encoding!r}: {error}",
                    hint="For example utf-8, utf-16, cp1252 (Windows), latin-1, shift_jis.",
                ) from None
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n\ufeff'
        ):
            raise InputError(
                f"The delimiter {self.delimiter!r} is not one character that can stand between "
                "cells.",
                hint="For example ';' or '|'; a tab is written '\\t'.",
            )


@dataclass(frozen=True)
class Skipped:
    """Something that stands in a source and is not read.

    Attributes:
        name: path.
        reason: why not.
        harmless: it is known to hold no documents (a licence, a checksum, a marker).
    """

    name: str
    reason: str
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def damaged(where: str, reason: str, raw: bytes = b"") -> Item:
    """An item that stands for something that cannot be read; it becomes a dead letter."""

    def decode(raw: bytes) -> Any:
        raise ValueError(reason)

    return Item(where, raw, decode=decode)


class Source(Protocol):
    """Where items come from.

    A source may also have an attribute ``skipped``, a sequence of `Skipped` (see
    `splade_os.ingest.sources.skipped_of`).

    Attributes:
        name: for people.
        total: its size in ``unit``, for an estimate; ``None`` = unknown.
        unit: of ``total`` and ``done``.
        done: how far it has been read, in that unit.
        repeatable: whether reading it again gives the same items in the same order, so that
            an interrupted ingest can go on where it was.
    """

    total: int | None
    done: int

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> Literal["bytes", "documents"]: ...

    @property
    def repeatable(self) -> bool: ...

    def fingerprint(self) -> str:
        """Changes with the content (as far as can be told at once)."""

    def items(self, skip: int = 0) -> Iterator[Item]:
        """All items but the first ``skip``, in order; memory does not grow with them.

        Raises:
            InputError: it breaks off; the items before were yielded.
        """
