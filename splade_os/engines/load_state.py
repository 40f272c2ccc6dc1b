"""What an index says of the loads into it: whoever comes later, from any machine, can know."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

LOAD_STATE = "splade_os_load"
"""Where it stands in a mapping's ``_meta``, beside the record of what encoded the index."""


class LoadState(BaseModel):
    """The loads into an index, so far.

    Attributes:
        loading: job → when it began, of the loads that write now (or were killed at it).
        settings: those that loads have changed, as they were before; ``None`` = none is changed.
        guard: the alias that loads write through (`Engine.guard`), until the last one ends.
        documents: how many it held when a load was last found whole; ``None`` = never yet.
        verified: when that was.
        replaced: what its alias stood for before it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    loading: dict[str, str] = {}
    settings: dict[str, Any] | None = None
    guard: str | None = None
    documents: int | None = None
    verified: str | None = None
    replaced: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether a load into it has come to its end, and what it wrote was found there."""
        return self.documents is not None

    @property
    def phase(self) -> str:
        """For people."""
        if self.loading:
            begun = ", ".join(sorted(set(self.loading.values())))
            return f"being loaded since {begun} (or that load was killed)"
        if self.whole:
            return f"whole: {self.documents:,} documents on {self.verified}"
        return "unfinished"
