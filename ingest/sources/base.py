"""What a source is. Third parties add some through entry points (`splade_os.sources`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from splade_os.engines import Engine
from splade_os.ingest.documents.records import Item


@dataclass(frozen=True)
class SourceOptions:
    """What a source may need beside its name.

    Attributes:
        format: of a file whose suffix does not tell, e.g. ``jsonl`` for standard input.
        engine: the cluster that is written to (the source ``index:NAME`` reads from it).
    """

    format: str | None = None
    engine: Engine | None = None


class Source(Protocol):
    """Where items come from.

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
