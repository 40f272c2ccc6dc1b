"""An alias that always stands for a whole index: build beside it, swap, roll back."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from splade_os.engines import Engine
from splade_os.errors import (
    EngineError,
    IndexNotFoundError,
    IngestError,
    SpladeError,
    SpladeWarning,
)
from splade_os.ingest.index.load_settings import memory_file
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.statistics import save_count

_DEFAULT_PIPELINE = "search.default_pipeline"
_STAMP = "%Y%m%d%H%M%S%f"


def new_index_name(alias: str) -> str:
    """``products-20260102030405678``: to the millisecond, so that names sort by age."""
    return f"{alias}-{datetime.now(UTC).strftime(_STAMP)[:-3]}"


def generations(engine: Engine, alias: str) -> list[str]:
    """The indices that were built for an alias, oldest first."""
    pattern = re.compile(re.escape(alias) + r"-\d{17}")
    return [name for name in engine.indices(f"{alias}-*") if pattern.fullmatch(name)]


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


def swap(engine: Engine, alias: str, index: str, keep: int, least: float = 0.0) -> list[str]:
    """Point the alias to an index, and delete older generations.

    Queries that the cluster encodes itself go on: a default search pipeline is handed over to an
    index of the same model. (Without one, OpenSearch 3 would encode them by another model.)

    Args:
        keep: generations before this one that stay, for a rollback.
        least: share of the documents behind the alias that the index must have.

    Returns:
        The indices that were deleted.

    Raises:
        IngestError: it has less; the alias stays.
    """
    targets = engine.alias_targets(alias)
    _check_size(engine, targets, alias, index, least)
    for old in targets:
        _hand_over(engine, old, index)
    engine.point_alias(alias, index)
    older = [name for name in generations(engine, alias) if name < index]
    deleted = older[: max(0, len(older) - keep)]
    for name in deleted:
        engine.delete_index(name)
    return deleted


def _check_size(
    engine: Engine, targets: Sequence[str], alias: str, index: str, least: float
) -> None:
    others = [name for name in targets if name != index]
    if not others or not least:
        return
    before, now = sum(map(engine.count, others)), engine.count(index)
    if now >= before * least:
        return
    raise IngestError(
        f"{index} holds {now:,} documents, and {', '.join(others)} behind the alias {alias} "
        f"{before:,}: {now / before:.0%}, where {least:.0%} is the least. "
        "The alias stays as it is.",
        hint="If the source is right, the same command with --resume --min-documents "
        f"{int(now / before * 100) / 100} only swaps the alias.",
    )


def _hand_over(engine: Engine, old: str, index: str) -> None:
    pipeline = engine.settings(old).get(_DEFAULT_PIPELINE)
    if pipeline is None or _DEFAULT_PIPELINE in engine.settings(index):
        return
    was, now = engine.index_meta(old).model, engine.index_meta(index).model
    if was.content_hash == now.content_hash:
        engine.update_settings(index, {_DEFAULT_PIPELINE: pipeline})
        return
    warnings.warn(
        f"Queries of {old} are encoded in the cluster, by the search pipeline {pipeline}. It is "
        f"for another model than that of {index}, which has none now: splade-os deploy PACKAGE "
        f"--index {index}",
        SpladeWarning,
        stacklevel=3,
    )


def abandon(engine: Engine, checkpoint: Checkpoint, of_alias: bool) -> None:
    """Give up the ingest of a checkpoint: what it wrote is counted; the unfinished index of an
    alias is deleted."""
    if checkpoint.job is None:
        return
    with suppress(IndexNotFoundError):
        target = checkpoint.job.target
        ours = of_alias and checkpoint.index in generations(engine, target)
        if ours and checkpoint.index not in engine.alias_targets(target):
            engine.delete_index(checkpoint.index)
            memory_file(engine, checkpoint.index).unlink(missing_ok=True)
        else:
            progress = checkpoint.load(checkpoint.job.model.vocabulary_size)
            save_count(engine, checkpoint.index, progress.count(checkpoint.run))


def roll_back(engine: Engine, alias: str) -> tuple[str, str]:
    """Point the alias to the generation before the one that it stands for.

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
    older = [name for name in generations(engine, alias) if name < now]
    if not older:
        raise SpladeError(
            f"No index of the alias {alias} is older than {now}: there is nothing to go back to.",
            hint="How many are kept: splade-os ingest --alias NAME --keep-old N.",
        )
    engine.point_alias(alias, older[-1])
    return now, older[-1]
