"""What became of the inputs of each loader, for the table at the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Tally:
    """What became of the inputs of one loader; ``read``: those that it took, where this is
    counted."""

    loader: str
    inputs: int = 0
    read: int | None = None
    uncaught: int = 0


tallies: list[Tally] = []
