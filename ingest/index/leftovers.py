"""An ingest that has indexed nothing leaves nothing behind: a typo costs no cleaning up."""

from __future__ import annotations

from contextlib import suppress

from splade_os.engines import Engine
from splade_os.errors import IndexNotFoundError, IngestError, SpladeError
from splade_os.ingest.index.same_index import require_same_index
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.ingest.state.results import ErrorLimitError


def note_new_index(engine: Engine, index: str, checkpoint: Checkpoint) -> None:
    """Remember, before anything is made, whether the index is there."""
    if not checkpoint.fresh:
        return
    try:
        engine.index_meta(index)
    except IndexNotFoundError:
        checkpoint.set_made_index()


def leave_nothing(
    engine: Engine, index: str, checkpoint: Checkpoint, letters: DeadLetters, error: BaseException
) -> None:
    """After an ingest that ended with an error before anything was indexed: delete the index
    that it made, its dead letters and its checkpoint.

    What an earlier process has begun stays, and so do the dead letters of an ingest that stopped
    at as many as the user allows: with --resume it goes on after them.
    """
    if checkpoint.resumed:
        return
    with suppress(SpladeError):  # what ended the ingest stays the error
        remove_empty_index(engine, index, checkpoint)
    if not isinstance(error, ErrorLimitError):
        with suppress(IngestError):
            letters.forget()
        checkpoint.finish()


def remove_empty_index(engine: Engine, index: str, checkpoint: Checkpoint) -> bool:
    """Delete an index that the ingest made and that holds nothing. (One that several shards
    load stays: another one may be about to write.)

    Returns:
        Whether it was deleted.
    """
    if not checkpoint.made_index or (checkpoint.job and checkpoint.job.selection.get("of", 1) > 1):
        return False
    with suppress(IndexNotFoundError, IngestError):
        require_same_index(engine, index, checkpoint)
        engine.refresh(index)
        if engine.count(index):
            return False
        engine.delete_index(index)
        checkpoint.set_uuid(None)
        return True
    return False
