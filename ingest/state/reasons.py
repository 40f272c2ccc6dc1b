"""Why records became dead letters: the first reason, and how many there are of each kind."""

from __future__ import annotations

import re
from typing import Any

from splade_os.ingest.documents.json_form import from_json, to_json

_MOST = 20  # kinds; more are counted together
_LONGEST = 300  # characters of a reason
_OTHERS = "other reasons"
_VALUES = re.compile(r"Preview of field's value: .*|\d+(?:[.,]\d+)*", re.S)


class Reasons:
    """Counts reasons by kind: those that differ only in numbers, in the record's id or in the
    value that an engine quotes are one kind, told by the first of them.

    Attributes:
        first: where the first dead letter stood, and why.
    """

    def __init__(self) -> None:
        self.first: str | None = None
        self._kinds: dict[str, tuple[str, int]] = {}  # kind → first reason of it, count

    def add(self, where: str, reason: str, identifier: str | None) -> None:
        """Another dead letter."""
        # half a surrogate pair, of a file's name or a value, could not be shown
        where, reason = (x.encode("utf-8", "backslashreplace").decode() for x in (where, reason))
        reason = reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}..."
        if self.first is None:
            self.first = f"{where}: {reason}"
        kind = reason
        if identifier:
            kind = re.sub(rf"(?<!\w){re.escape(identifier)}(?!\w)", "ID", kind)
        kind = _VALUES.sub("N", kind)
        if kind not in self._kinds and len(self._kinds) >= _MOST:
            kind = reason = _OTHERS
        told, count = self._kinds.get(kind, (reason, 0))
        self._kinds[kind] = told, count + 1

    def merge(self, other: Reasons) -> None:
        """Add those that another process has counted."""
        self.first = self.first or other.first
        for kind, (told, count) in other._kinds.items():
            if kind not in self._kinds and len(self._kinds) >= _MOST:
                kind = told = _OTHERS
            mine, before = self._kinds.get(kind, (told, 0))
            self._kinds[kind] = mine, before + count

    def counts(self) -> dict[str, int]:
        """Reason → dead letters of its kind, the most frequent first."""
        return dict(sorted(self._kinds.values(), key=lambda kind: -kind[1]))

    def packed(self) -> bytes:
        """For the checkpoint."""
        return to_json([self.first, self._kinds])

    @classmethod
    def unpacked(cls, packed: Any) -> Reasons:
        """The inverse of `packed`; empty where an older version has left none."""
        reasons = cls()
        if packed:
            reasons.first, kinds = from_json(packed)
            reasons._kinds = {kind: (told, count) for kind, (told, count) in kinds.items()}
        return reasons
