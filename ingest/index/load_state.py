"""Changes of what an index says of the loads into it, beside other processes that do the same."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from splade_os.engines import Engine, LoadState
from splade_os.errors import AuthorizationError, IngestError, SpladeWarning

_TRIES = 10


def now() -> str:
    """The time, as it stands in the state of an index."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def change(engine: Engine, index: str, how: Callable[[LoadState], LoadState]) -> LoadState:
    """Change the state of an index, and look whether the change has stayed: no engine has a
    conditional write of a mapping.

    Args:
        how: state → state; applied to its own result it changes nothing.

    Raises:
        IngestError: others change it all the time.
    """
    for tries in range(_TRIES):
        time.sleep(random.uniform(0, 0.05 * tries))
        state = engine.load_state(index) or LoadState()
        wanted = how(state)
        if wanted == state:
            return state
        try:
            engine.save_load_state(index, wanted)
        except AuthorizationError as error:
            warnings.warn(
                f"{error.message} So {index} cannot say how far its loads are.",
                SpladeWarning,
                stacklevel=3,
            )
            return wanted
    raise IngestError(
        f"What {index} says of its loads cannot be changed: another process changes it back.",
        hint="Run it again when less is loaded into the index at the same time.",
    )


def note_whole(engine: Engine, index: str, documents: int, replaced: Sequence[str] = ()) -> None:
    """A load into the index came to its end, and what it wrote was found there.

    Args:
        replaced: what its alias stands for until now: there a rollback goes to.
    """
    found: dict[str, Any] = {"documents": documents, "verified": now()}
    if replaced:
        found["replaced"] = tuple(replaced)
    change(engine, index, lambda state: state.model_copy(update=found))
