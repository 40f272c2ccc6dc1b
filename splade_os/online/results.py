"""What became of documents that were written one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from splade_os.errors import SpladeError

WriteOutcome = Literal["created", "updated", "deleted", "unchanged", "not_found", "failed"]


@dataclass(frozen=True)
class DocumentResult:
    """What became of one document.

    Attributes:
        id: of the document.
        result: ``created``, ``updated``, ``deleted``; ``unchanged``: it was so already;
            ``not_found``: there was nothing to change or delete; ``failed``.
        reason: why it failed.
    """

    id: str
    result: WriteOutcome
    reason: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the index holds now what was asked for. (To delete what is not there is done.)"""
        return self.result not in ("failed", "not_found")


class DocumentError(SpladeError):
    """Some documents were not written; the others were.

    Attributes:
        results: of all documents, in their order.
    """

    def __init__(self, what: str, results: Sequence[DocumentResult]) -> None:
        failed = [each for each in results if not each.ok]
        first = failed[0]
        reason = first.reason or "there is no such document"
        super().__init__(
            f"{len(failed):,} of {len(results):,} documents could not be {what}: {first.id}: "
            f"{reason}",
            hint="error.results says it of each; on_error='return' returns them instead.",
        )
        self.results = tuple(results)
