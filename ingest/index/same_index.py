"""An ingest writes to one index from its beginning to its end, not to another one of its name."""

from __future__ import annotations

from splade_os.engines import Engine
from splade_os.errors import IndexNotFoundError, IngestError
from splade_os.ingest.state.checkpoint import Checkpoint


def note_index(engine: Engine, index: str, checkpoint: Checkpoint) -> None:
    """Remember which index it is that the ingest writes to."""
    if checkpoint.uuid is None:
        checkpoint.set_uuid(_uuid(engine, index))


def require_same_index(engine: Engine, index: str, checkpoint: Checkpoint) -> None:
    """Whether it is still the index that the ingest began to write to.

    Raises:
        IngestError: it was deleted, or made anew; or the alias of that name has moved.
    """
    if checkpoint.uuid is None and not checkpoint.indexed:
        return
    try:
        if _uuid(engine, index) == checkpoint.uuid or checkpoint.uuid is None:
            return  # (a checkpoint of before has none)
        became = "is another one now: it was deleted and made anew, or its alias has moved"
    except IndexNotFoundError:
        became = "was deleted"
    raise IngestError(
        f"The index {index}, into which this ingest was writing, {became}. What it has written "
        "is not there.",
        hint="Load everything again: the same command with --restart.",
    )


def _uuid(engine: Engine, index: str) -> str:
    """Of the index behind a name; of an alias of several, all."""
    return ",".join(sorted(uuid for _, uuid in engine.identity(index)))
