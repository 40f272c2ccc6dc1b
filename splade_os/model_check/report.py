"""What `splade_os.model_check.check.check_model` finds out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "fails", "refused", "skipped", "info"]
"""``fails``: what is promised of every model does not hold. ``refused``: something that a model
may lack, and why. ``skipped``: not tried, and why."""


@dataclass(frozen=True)
class CheckRow:
    """One thing that was tried.

    Attributes:
        name: of what was tried.
        detail: what was found, for people.
        hint: what to do about it.
    """

    name: str
    status: Status
    detail: str
    hint: str | None = None


@dataclass(frozen=True)
class ModelReport:
    """All that was tried with one model, in order.

    Attributes:
        model: as it was named.
        folder: where it lies; ``None`` where it was not found.
        revision: commit of the hub.
    """

    model: str
    folder: str | None
    revision: str | None
    rows: tuple[CheckRow, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(row.status != "fails" for row in self.rows)

    def row(self, name: str) -> CheckRow | None:
        """What was found of one thing, or ``None`` if it was not come to."""
        return next((row for row in self.rows if row.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        rows = [asdict(row) for row in self.rows]
        return {
            "model": self.model,
            "folder": self.folder,
            "revision": self.revision,
            "ok": self.ok,
            "checks": rows,
        }
