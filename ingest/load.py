"""One load of a source: begun or gone on with, into an index, or into a new one behind an alias."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine
from splade_os.engines.names import check_name
from splade_os.errors import IndexNotFoundError, IngestError, SettingsError
from splade_os.ingest.documents.encoded_rows import require_same_encoding
from splade_os.ingest.documents.records import RecordReader
from splade_os.ingest.index.aliases import (
    abandon,
    check_alias,
    hide,
    new_index_name,
    swap,
    wait_for_shards,
)
from splade_os.ingest.index.handed_over import with_settings_of_old
from splade_os.ingest.log import log
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.pipeline import ingest_documents
from splade_os.ingest.report import IngestReport
from splade_os.ingest.runner import PipelineRunner, RunnerFactory
from splade_os.ingest.sources import (
    Selection,
    Source,
    encoding_of_source,
    find_source,
    read_source,
    require_whole,
)
from splade_os.ingest.state.checkpoint import Checkpoint, Job, safe_name
from splade_os.urls import shown

Begin = Literal["new", "resume", "auto", "restart"]


@dataclass(frozen=True)
class AliasOptions:
    """When an alias moves to the index that was built for it.

    Attributes:
        keep_old: generations before it that stay, for a rollback.
        min_documents: share of the documents behind the alias that it must have, 0 to 1.
        wait_for_active_shards: copies that each of its shards must have, the primary included, or
            ``all``; they are waited for as long as ``IngestOptions.patience``.
        take_settings: the new index has the settings of the one that the alias stands for, but for
            those that ``IngestOptions.layout`` says.
    """

    keep_old: int = 1
    min_documents: float = 0.9
    wait_for_active_shards: int | Literal["all"] = 1
    take_settings: bool = True


def load_source(
    source: str | Source,
    *,
    engine: Engine,
    target: str,
    encoder: DocumentEncoder,
    alias: AliasOptions | None = None,
    reader: RecordReader | None = None,
    selection: Selection | None = None,
    options: IngestOptions | None = None,
    begin: Begin = "new",
    dead_letters: str | Path | None = None,
    field_type: str | None = None,
    check: Callable[[str], Sequence[str]] | None = None,
    on_progress: Callable[[IngestReport], None] | None = None,
    named: str | None = None,
    make_runner: RunnerFactory = PipelineRunner,
) -> IngestReport:
    """Read a source into an index; a load that was interrupted can go on.

    With ``alias`` the target is one: a new index is built beside the one that it stands for,
    verified and checked, and only then the alias moves, in one step. It stays where it is if
    records became dead letters (unless ``options.max_errors`` allows as many), if the new index
    is empty or much smaller, or if ``check`` finds anything.

    Args:
        source: as `splade_os.ingest.sources.find_source` takes it, or what that has found.
        engine, target, encoder: what encodes, and where to.
        alias: the target is an alias, which moves under these conditions.
        reader, selection: how records are made, and of what; default of everything. (Rows that were
            encoded before say themselves how they are read.)
        begin: ``new`` refuses where a load was interrupted, ``resume`` goes on with it, ``auto``
            does so if that can be, ``restart`` forgets it.
        dead_letters: file for what cannot be indexed; default one in the working folder.
        check: index → what is wrong with it, e.g. `splade_os.search.canaries.lost_canaries`.
        named: how the user named the source, by which an interrupted load is known again.
        make_runner: of what runs the chain; default threads of this process.

    Raises:
        IngestError: it was interrupted before; it was stopped; or the alias stays where it is
            (then ``begin="resume"`` has nothing to do but try again).
        SpladeError: see `ingest_documents`, which has the other arguments.
    """
    reader, selection = reader or RecordReader(), selection or Selection()
    options = options or IngestOptions()
    check_name(target)
    found = find_source(source) if isinstance(source, str) else source
    encoding = encoding_of_source(found)
    if encoding is not None:
        reader = require_same_encoding(reader, encoding, encoder)
    named = named or (source if isinstance(source, str) else found.name)
    if options.sync:
        require_whole(found, "--sync")
    if alias is not None:
        if selection.of > 1:
            raise SettingsError(
                "An alias stands for a whole index, and a shard is a part of one.",
                hint="Load all shards into one index (--index), then let the alias stand for it.",
            )
        check_alias(engine, target)
    job = Job(
        url=engine.url,
        target=target,
        alias=alias is not None,
        source=shown(named),
        selection=asdict(selection),
        fingerprint=found.fingerprint(),
        reader=asdict(reader),
        model=encoder.identity,
        count_terms=options.count_terms,
        sync=options.sync,
    )
    with job.checkpoint() as checkpoint:
        if not goes_on(checkpoint, job, begin, found, engine):
            abandon(engine, checkpoint)
            index = target if alias is None else new_index_name(target)
            letters = Path(dead_letters or dead_letters_file(target)).absolute()
            checkpoint.begin(job, index, letters)
        index = checkpoint.index
        if alias is not None and alias.take_settings:
            layout = with_settings_of_old(engine, target, options.layout)
            options = replace(options, layout=layout)
        before = checkpoint.load(encoder.identity.vocabulary_size).positions
        # what is no file is known by its fingerprint: a revision, a number of documents
        in_bytes = before.mark and found.unit == "bytes"
        same = (lambda items: before.check(items, found.name)) if in_bytes else None

        def publish(report: IngestReport) -> IngestReport:
            assert alias is not None
            _check_dead(report, options)
            wait_for_shards(engine, index, alias.wait_for_active_shards, options.patience)
            deleted = swap(engine, target, index, alias.keep_old, alias.min_documents)
            return replace(report, live=True, deleted_indices=tuple(deleted))

        report = ingest_documents(
            read_source(found, reader, selection, done=before.mark, check=same),
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=str(checkpoint.dead_letters),
            text_fields=reader.stored_text_fields,
            options=options,
            checkpoint=checkpoint,
            on_progress=on_progress,
            field_type=field_type,
            begun=None if alias is None else lambda: hide(engine, target, index),
            check=None if check is None else lambda: check(index),
            publish=None if alias is None else publish,
            target=target,
            make_runner=make_runner,
        )
    return report if alias is None else replace(report, alias=target)


def dead_letters_file(index: str) -> Path:
    """A file of its own for every ingest, also for shards that start at the same time."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(f"dead-letters-{safe_name(index)}-{stamp}-{os.getpid()}.jsonl")


def _check_dead(report: IngestReport, options: IngestOptions) -> None:
    if report.dead <= (options.max_errors or 0):
        return
    raise IngestError(
        f"{report.dead:,} of {report.read:,} records became dead letters, so the alias stays as it "
        f"is. The first: {report.first_dead}",
        hint=f"They stand in {report.dead_letters}. If the index may be seen without them, the "
        f"same command with --resume --max-errors {report.dead} only swaps the alias.",
    )


def goes_on(checkpoint: Checkpoint, job: Job, begin: Begin, source: Source, engine: Engine) -> bool:
    """Whether a job goes on where it was interrupted.

    Raises:
        IngestError: it cannot, or nobody has said that it shall.
    """
    if checkpoint.job is None or begin == "restart":
        if begin in ("resume", "auto"):
            _tell_elsewhere(job, engine)
        return False
    if begin == "new":
        if _has_nothing(checkpoint, engine):
            return False
        raise IngestError(
            f"This ingest was interrupted: {checkpoint.describe()}.",
            hint="Go on with --resume, or begin anew with --restart.",
        )
    changed = checkpoint.job.difference(job)
    if not source.repeatable:
        changed = f"{source.name} cannot be read from the middle: its order may be another one"
    if begin == "auto" and changed:
        told = f"Beginning anew what was {checkpoint.describe()}: {changed}."
        log(logging.WARNING, "restart", told)
        return False
    if changed:
        raise IngestError(
            f"The ingest of {job.source} into {job.target} cannot go on: {changed}.",
            hint="Begin anew with --restart (--skip-unchanged encodes nothing twice).",
        )
    told = f"Going on with the ingest {checkpoint.describe()}."
    log(logging.WARNING, "resume", told)
    return True


def _has_nothing(checkpoint: Checkpoint, engine: Engine) -> bool:
    """Whether what is interrupted has indexed nothing: it can be begun anew without a word."""
    if checkpoint.indexed:
        return False
    try:
        engine.refresh(checkpoint.index)
        return not engine.count(checkpoint.index)
    except IndexNotFoundError:
        return True


def _tell_elsewhere(job: Job, engine: Engine) -> None:
    """The checkpoint of a load that this machine does not have, but the index knows of."""
    try:
        state = engine.load_state(job.target)
    except IndexNotFoundError:
        return
    if state is not None and job.name in state.loading:
        log(
            logging.WARNING,
            "restart",
            f"{job.target} says that this load was begun {state.loading[job.name]} and has not "
            "ended, but its checkpoint is not on this machine: it begins at the first record. "
            "(--skip-unchanged encodes nothing twice.)",
        )
