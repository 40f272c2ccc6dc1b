"""An alias that always stands for a whole index: build beside it, swap, roll back."""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from splade_os.engines import Engine
from splade_os.errors import (
    AuthorizationError,
    EngineError,
    IndexNotFoundError,
    IngestError,
    SpladeError,
    SpladeWarning,
)
from splade_os.ingest.index.handed_over import hand_over, tell_differences
from splade_os.ingest.index.load_state import note_whole
from splade_os.ingest.index.same_index import require_same_index
from splade_os.ingest.log import log
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.statistics import save_count

_POLL = 0.5  # seconds
_STAMP = "%Y%m%d%H%M%S%f"


def new_index_name(alias: str) -> str:
    """``products-20260102030405678``: to the millisecond, so that names sort by age."""
    return f"{alias}-{datetime.now(UTC).strftime(_STAMP)[:-3]}"


def built_for(engine: Engine, alias: str) -> list[str]:
    """The indices that were built for an alias, whole or not, oldest first."""
    pattern = re.compile(re.escape(alias) + r"-\d{17}")
    return [name for name in engine.indices(f"{alias}-*") if pattern.fullmatch(name)]


def generations(engine: Engine, alias: str) -> list[str]:
    """Those that say that they are whole. Others were refused or killed, or another process is
    loading them now."""
    return [name for name in built_for(engine, alias) if _is_whole(engine, name)]


def _is_there(engine: Engine, index: str) -> bool:
    try:
        return bool(engine.identity(index))
    except IndexNotFoundError:
        return False


def _is_whole(engine: Engine, index: str) -> bool:
    with suppress(IndexNotFoundError):  # another process has just deleted it
        state = engine.load_state(index)
        if state is not None:
            return state.whole
        # made before indices said so: a load that was killed has left it without refreshes
        return engine.settings(index).get("refresh_interval") != "-1"
    return False


def hide(engine: Engine, alias: str, index: str) -> None:
    """Take a new index out of its alias, into which a template of the cluster may have put it:
    nobody shall see it before it is whole."""
    targets = engine.alias_targets(alias)
    if index in targets:
        state = engine.load_state(index)
        if state is None or not state.whole:
            engine.remove_alias(alias, index)


def check_alias(engine: Engine, alias: str) -> None:
    """Whether the name can be an alias.

    Raises:
        EngineError: an index has it.
    """
    if alias in engine.indices(f"{alias}*"):
        raise EngineError(
            f"{alias} is an index, so it cannot be an alias.",
            hint="Take another name for the alias, or delete that index first.",
        )


def wait_for_shards(
    engine: Engine, index: str, wanted: int | Literal["all"], seconds: float
) -> None:
    """Wait until every shard of an index has as many active copies: an alias that moves before
    answers with parts of the index, or by one node alone.

    Args:
        wanted: copies of each shard, its primary included; ``all``: with all its replicas.
        seconds: after which it is given up.

    Raises:
        IngestError: they are not there, or the index does not have so many.
    """
    until = time.monotonic() + seconds
    told = False
    while True:
        try:
            active = engine.active_copies(index)
        except AuthorizationError as error:
            _warn(f"Whether all shards of {index} are there cannot be known: {error.message}")
            return
        if not active:
            return
        # an operator may change the number while this waits
        copies = 1 + int(engine.settings(index).get("number_of_replicas", 0))
        need = copies if wanted == "all" else wanted
        if need > copies:
            raise IngestError(
                f"A shard of {index} has {copies} copies (its replicas and itself), so there will "
                f"never be {need}. The alias stays as it is.",
                hint=f"The same command with --resume --wait-for-active-shards {copies} only swaps "
                "the alias.",
            )
        lacking = sum(count < need for count in active)
        if not lacking:
            return
        state = f"{lacking} of the {len(active)} shards of {index} have fewer than {need} active "
        if time.monotonic() >= until:
            raise IngestError(
                f"After {seconds:,.0f} s {state}copies. The alias stays as it is.",
                hint="GET _cluster/allocation/explain says why. When they are there (or with a "
                "smaller --wait-for-active-shards), the same command with --resume only swaps the "
                "alias.",
            )
        if not told:
            log(logging.INFO, "shards", f"Waiting at most {seconds:,.0f} s: {state}copies.")
            told = True
        time.sleep(_POLL)


def swap(engine: Engine, alias: str, index: str, keep: int, least: float = 0.0) -> list[str]:
    """Point the alias to an index, and delete older generations.

    Args:
        keep: generations before this one that stay, for a rollback.
        least: share of the documents behind the alias that the index must have.

    Returns:
        The indices that were deleted.

    Raises:
        IngestError: it has less; the alias stays.
    """
    before = [name for name in engine.alias_targets(alias) if name != index]
    documents = _check_size(engine, before, alias, index, least)
    tell_differences(engine, alias, index)
    for old in before:
        hand_over(engine, old, index)
    note_whole(engine, index, documents, replaced=before)
    engine.point_alias(alias, index)
    return _delete_older(engine, alias, index, keep)


def _delete_older(engine: Engine, alias: str, index: str, keep: int) -> list[str]:
    """All generations but the newest ``keep`` before ``index``; the newest of them is the one that
    people saw. What may be under way is left alone, and said."""
    state = engine.load_state(index)
    replaced = state.replaced if state else ()
    whole = generations(engine, alias)
    older = sorted((name for name in whole if name < index), key=lambda n: (n in replaced, n))
    deleted = []
    for name in older[: max(0, len(older) - keep)]:
        if (found := engine.load_state(name)) is not None and found.loading:
            _warn(f"{name} stays: it is {found.phase}.")
            continue
        engine.delete_index(name)
        deleted.append(name)
    unfinished = [n for n in built_for(engine, alias) if n < index and n not in whole]
    if unfinished:
        _warn(
            f"Built for {alias} and not whole: {', '.join(unfinished)}. If nobody is loading them: "
            f"splade-os index delete --index {unfinished[0]}"
        )
    return deleted


def _warn(message: str) -> None:
    warnings.warn(message, SpladeWarning, stacklevel=4)


def _check_size(engine: Engine, others: Sequence[str], alias: str, index: str, least: float) -> int:
    before, now = sum(map(engine.count, others)), engine.count(index)
    if now and now >= before * least:
        return now
    if not now:
        raise IngestError(f"{index} is empty. The alias {alias} stays as it is.")
    raise IngestError(
        f"{index} holds {now:,} documents, and {', '.join(others)} behind the alias {alias} "
        f"{before:,}: {now / before:.0%}, where {least:.0%} is the least. "
        "The alias stays as it is.",
        hint="If the source is right, the same command with --resume --min-documents "
        f"{int(now / before * 100) / 100} only swaps the alias.",
    )


def abandon(engine: Engine, checkpoint: Checkpoint) -> None:
    """Give up the ingest of a checkpoint: what it wrote is counted; the unfinished index of an
    alias is deleted."""
    if checkpoint.job is None:
        return
    with suppress(IndexNotFoundError):
        target = checkpoint.job.target
        ours = checkpoint.index != target and checkpoint.index in built_for(engine, target)
        if ours and checkpoint.index not in engine.alias_targets(target):
            engine.delete_index(checkpoint.index)
        elif checkpoint.indexed:
            with suppress(IngestError):
                require_same_index(engine, checkpoint.index, checkpoint)
                progress = checkpoint.load(checkpoint.job.model.vocabulary_size)
                save_count(engine, checkpoint.index, progress.count(checkpoint.run))


def roll_back(engine: Engine, alias: str) -> tuple[str, str]:
    """Point the alias to what the index that it stands for has replaced, or to the generation
    before it.

    Returns:
        The names of the index that it stood for, and of the one it stands for now.

    Raises:
        SpladeError: there is no such alias, or no generation before it.
    """
    targets = engine.alias_targets(alias)
    if len(targets) != 1:
        raise EngineError(
            f"{alias} is no alias of one index, but of {len(targets)}."
            if targets
            else f"There is no alias {alias} at {engine.url}."
        )
    (now,) = targets
    state = engine.load_state(now)
    older = [name for name in generations(engine, alias) if name < now]
    # what it has replaced may be none of ours: the first load of an alias was before us
    older += [n for n in (state.replaced if state else ()) if _is_there(engine, n)]
    if not older:
        raise SpladeError(
            f"No index of the alias {alias} is older than {now}: there is nothing to go back to.",
            hint="How many are kept: splade-os ingest --alias NAME --keep-old N.",
        )
    engine.point_alias(alias, older[-1])
    return now, older[-1]
