"""``splade-os ingest``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.ingest_options import (
    reading_options,
    running_options,
    split_reading,
    split_running,
)
from splade_os.cli.log_format import logging_to_stderr
from splade_os.cli.options import (
    MOST,
    connection_options,
    field_type_option,
    index_option,
    json_option,
    need_index,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.progress import ingest_progress, summarise
from splade_os.cli.report_file import LatestReport, report_fields, report_file
from splade_os.cli.steps import busy

if TYPE_CHECKING:
    from splade_os.encoding import DocumentEncoder
    from splade_os.engines import Engine
    from splade_os.identity import EncodingOptions
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.report import IngestReport
    from splade_os.ingest.sources import Selection, Source
    from splade_os.ingest.state.checkpoint import Checkpoint, Job
    from splade_os.search.canaries import Canary

DEAD_LETTERS_EXIT = 3
INTERRUPTED_EXIT = 130


class _Ingest(click.Command):
    """``--resume`` takes an optional value, and no source that follows it for one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for i, arg in enumerate(args):
            if arg == "--":
                break
            if arg == "--resume=auto":
                args[i] = "--resume-auto"
            elif arg == "--resume" and args[i + 1 : i + 2] == ["auto"]:
                args[i : i + 2] = ["--resume-auto"]
        return super().parse_args(ctx, args)


@click.command(cls=_Ingest)
@click.argument("source")
@connection_options
@index_option
@click.option(
    "--alias",
    help="Build a new index NAME-<time> beside the one that the alias NAME stands for, verify it, "
    "and swap the alias.",
)
@click.option(
    "--keep-old", type=click.IntRange(0, MOST), default=1, show_default=True,
    help="(--alias) Indices that stay for `splade-os index rollback`.",
)  # fmt: skip
@click.option(
    "--min-documents", type=click.FloatRange(0, 1), default=0.9, show_default=True,
    help="(--alias) Share of the documents of the index before that the new one has at least.",
)  # fmt: skip
@click.option(
    "--canary", "canaries", multiple=True, metavar="TEXT=ID|@FILE",
    help="A query that must find this document, or the alias is not swapped. (A file: one a line.)",
)  # fmt: skip
@click.option(
    "--canary-k", type=click.IntRange(1, 10_000), default=10, show_default=True,
    help="Among so many hits.",
)  # fmt: skip
@click.option(
    "--canary-mode", type=click.Choice(["idf", "encoder", "bm25", "hybrid"]), default="idf",
    show_default=True, help="How canaries search.",
)  # fmt: skip
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's, or starter]")
@reading_options
@field_type_option
@encoding_options
@running_options
@click.option(
    "--resume", is_flag=True,
    help="Go on where this ingest was interrupted. --resume=auto: if that can be, else begin anew.",
)  # fmt: skip
@click.option("--resume-auto", is_flag=True, hidden=True)
@click.option("--restart", is_flag=True, help="Begin anew, whatever was interrupted.")
@click.option("--dry-run", is_flag=True, help="Encode one batch and tell; touch nothing.")
@json_option
def ingest(
    source: str,
    alias: str | None,
    keep_old: int,
    min_documents: float,
    canaries: tuple[str, ...],
    canary_k: int,
    canary_mode: Any,
    resume: bool,
    resume_auto: bool,
    restart: bool,
    dry_run: bool,
    field_type: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Encode the documents of SOURCE and write them into an index.

    SOURCE: a file (.jsonl .json .csv .tsv .parquet .trec, also .gz .zst .bz2 .xz), a folder, a
    'glob*', a URL, - (standard input), a pipe, hf:org/name[:config]/split, irds:ID, index:NAME,
    python:stdlib.

    Exit codes: 0 all indexed; 1 failed (--resume goes on); 2 wrong use; 3 finished, with dead
    letters or with other records of one id; 130 interrupted (--resume goes on). The first Ctrl-C
    finishes what is under way and saves; the second stops at once.
    """
    from splade_os.engines.names import check_name
    from splade_os.ingest.index.aliases import abandon, check_alias, new_index_name
    from splade_os.ingest.sources import find_source, require_whole
    from splade_os.ingest.state.checkpoint import Checkpoint, Job
    from splade_os.search.canaries import read_canaries
    from splade_os.urls import shown

    if resume + resume_auto + restart > 1:
        raise click.UsageError("Either --resume, --resume=auto or --restart.")
    wanted = read_canaries(canaries)
    reader, selection, opening, flags = split_reading(flags)
    running, chosen, flags = split_options(flags)
    options, how, flags = split_running(flags, selection)
    latest = telling(how)
    settings = settings_of(**flags)
    target = alias or need_index(settings)
    check_name(target)
    engine = open_engine(settings)
    found = find_source(source, replace(opening, engine=engine))
    if options.sync:
        require_whole(found, "--sync")
    if alias:
        check_alias(engine, alias)
    if reader.vectors:
        running.update(backend="none", device=None, dtype=None)
    encoder = load_encoder(
        engine,
        target,
        settings.model,
        running,
        chosen,
        vectors=reader.vectors,
        anew=alias is not None,
    )
    if dry_run:
        _dry_run(engine, found, reader, selection, encoder, field_type, options, as_json)
        return
    with busy(f"Looking at {found.name}"):
        job = Job(
            url=engine.url,
            target=target,
            source=shown(source),
            selection=asdict(selection),
            fingerprint=found.fingerprint(),
            reader=asdict(reader),
            model=encoder.identity,
            sync=options.sync,
        )
    checkpoint = Checkpoint(job.file())
    try:
        going_on = checkpoint.begun and not restart
        if going_on and not (resume or resume_auto):
            going_on = not _nothing_to_go_on_with(checkpoint, engine)
        if going_on and resume_auto:
            going_on = _may_go_on(checkpoint, job, found)
        if not going_on:
            abandon(engine, checkpoint, alias is not None)
            index = new_index_name(alias) if alias else target
            letters = how["dead_letters"] or dead_letters_file(target)
            checkpoint.begin(job, index, letters.absolute())
        else:
            _go_on(checkpoint, job, resume or resume_auto, found)
        report = run_ingest(
            found,
            reader,
            selection,
            encoder,
            engine,
            checkpoint,
            options,
            how,
            latest,
            field_type,
            check=lambda: _lost(wanted, engine, checkpoint, settings.model, canary_k, canary_mode),
            publish=_swapping(engine, alias, keep_old, min_documents) if alias else None,
            target=target,
        )
    finally:
        checkpoint.close()
    if alias and report.lost_canaries:
        now = ", ".join(engine.alias_targets(alias)) or "nothing"
        click.echo(f"The alias {alias} still stands for {now}.", err=True)
    if alias and report.removed:
        now = ", ".join(engine.alias_targets(alias)) or "nothing"
        click.echo(f"Nothing was indexed: the alias {alias} still stands for {now}.", err=True)
        finish(report, as_json, needs_documents=True)
        return
    finish(report, as_json)


def _swapping(
    engine: Engine, alias: str, keep: int, least: float
) -> Callable[[IngestReport], None]:
    """What makes a new index live, once it is known to be whole."""
    from splade_os.ingest.index.aliases import swap

    def publish(report: IngestReport) -> None:
        deleted = swap(engine, alias, report.index, keep, least)
        gone = f"; deleted {', '.join(deleted)}" if deleted else ""
        click.secho(f"The alias {alias} stands for {report.index} now{gone}.", fg="green", err=True)

    return publish


def load_encoder(
    engine: Engine,
    index: str,
    model: str | None,
    running: dict[str, Any],
    chosen: EncodingOptions,
    *,
    vectors: bool = False,
    anew: bool = False,
) -> DocumentEncoder:
    """The encoder that the user names, else the one that the index names.

    Args:
        vectors: documents bring their vectors: where neither names a model, none is assumed.
        anew: for a new index in the place of this one.
    """
    from splade_os.encoding import DocumentEncoder
    from splade_os.encoding.external import ExternalVectors
    from splade_os.encoding.resolve import resolve_recorded
    from splade_os.errors import IndexNotFoundError, ModelMismatchError
    from splade_os.settings import DEFAULT_MODEL

    try:
        of_index = engine.index_meta(index).model
        if of_index.external and model is None:
            if vectors:
                return ExternalVectors()
            raise ModelMismatchError(
                f"The vectors of the index {index} came from outside, and no model was named that "
                "made them: no text can be encoded for it.",
                hint="Bring vectors (--vectors), or ingest into a new index.",
            )
        if vectors and model is None:
            click.echo(
                f"The vectors are taken for those of {of_index.name}, the model of {index}.",
                err=True,
            )
        model = model or resolve_recorded(of_index, index, weights=not vectors).name
        chosen = chosen.over(of_index.options(anew=anew))
    except IndexNotFoundError:
        if vectors and model is None:
            return ExternalVectors()
        model = model or DEFAULT_MODEL
    with busy(f"Loading the model {model}"):
        return DocumentEncoder.load(model, **running, **chosen.model_dump())


def run_ingest(
    source: Source,
    reader: RecordReader,
    selection: Selection,
    encoder: DocumentEncoder,
    engine: Engine,
    checkpoint: Checkpoint,
    options: IngestOptions,
    how: dict[str, Any],
    latest: LatestReport,
    field_type: str | None = None,
    check: Callable[[], list[str]] | None = None,
    publish: Callable[[IngestReport], None] | None = None,
    target: str | None = None,
) -> IngestReport:
    """Ingest what the checkpoint has begun, with progress on stderr.

    Args:
        how: what `split_running` gives beside the options.
        latest: gets the report so far, and the last one.
        target: what dead letters name, if it is not the index: the alias.
    """
    from splade_os.ingest.metrics import metrics_server
    from splade_os.ingest.pipeline import ingest_documents
    from splade_os.ingest.sources import read_source

    click.echo(f"Ingesting {source.name} into {checkpoint.index} at {engine.url}.", err=True)
    click.echo(f"Encoding with {encoder.identity.name}: {encoder.how}.", err=True)
    with ExitStack() as stack:
        updates = []
        if how["log_format"] == "text":  # else progress is logged
            updates.append(stack.enter_context(ingest_progress(source)))
        if how["metrics_port"] is not None:
            server = metrics_server(how["metrics_port"], checkpoint.index, how["metrics_host"])
            updates.append(stack.enter_context(server))

        def update(report: IngestReport) -> None:
            latest.report = report
            for each in updates:
                each(report)

        report = ingest_documents(
            read_source(source, reader, selection, done=checkpoint.done),
            engine=engine,
            index=checkpoint.index,
            encoder=encoder,
            dead_letters=Path(str(checkpoint.dead_letters)),
            text_fields=reader.stored_text_fields,
            options=options,
            checkpoint=checkpoint,
            on_progress=update,
            field_type=field_type,
            check=check,
            publish=publish,
            target=target,
        )
        update(report)
    return report


def _lost(
    canaries: list[Canary],
    engine: Engine,
    checkpoint: Checkpoint,
    model: str | None,
    k: int,
    mode: Any,
) -> list[str]:
    from splade_os.search.canaries import lost_canaries
    from splade_os.search.client import SearchClient

    if not canaries:
        return []
    with busy(f"Asking {len(canaries):,} canaries"):
        client = SearchClient(engine=engine, index=checkpoint.index, model=model)
        return lost_canaries(client, canaries, k, mode)


def telling(how: dict[str, Any]) -> LatestReport:
    """From now on: log to stderr, and write the report at the end of the command."""
    context = click.get_current_context()
    latest = context.with_resource(report_file(how["report"]))
    context.with_resource(logging_to_stderr(how["log_format"]))
    return latest


def finish(report: IngestReport, as_json: bool, *, needs_documents: bool = False) -> None:
    """Say how it ended, and exit with the code for it.

    Args:
        needs_documents: an ingest that indexed nothing has failed.
    """
    if as_json:
        print_json(report_fields(report))
    summarise(report)
    if report.interrupted:
        sys.exit(INTERRUPTED_EXIT)
    if not report.verified:
        sys.exit(1)
    if report.dead or report.conflicts:
        sys.exit(DEAD_LETTERS_EXIT)
    if needs_documents and report.removed:
        sys.exit(1)


def dead_letters_file(index: str) -> Path:
    """A file of its own for every ingest, also for shards that start at the same time."""
    from splade_os.ingest.state.checkpoint import safe_name

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(f"dead-letters-{safe_name(index)}-{stamp}-{os.getpid()}.jsonl")


def _nothing_to_go_on_with(checkpoint: Checkpoint, engine: Engine) -> bool:
    """Whether what is interrupted has indexed nothing: it can be begun anew without a word."""
    from splade_os.errors import IndexNotFoundError

    if checkpoint.indexed:
        return False
    try:
        engine.refresh(checkpoint.index)
        return not engine.count(checkpoint.index)
    except IndexNotFoundError:
        return True


def _may_go_on(checkpoint: Checkpoint, job: Job, source: Source) -> bool:
    """Whether --resume=auto goes on; if not, why not is told."""
    assert checkpoint.job is not None
    changed = checkpoint.job.difference(job)
    if not source.repeatable:
        changed = f"the order of {source.name} may be another one"
    if changed:
        click.echo(f"Beginning anew what was {checkpoint.describe()}: {changed}.", err=True)
    return changed is None


def _go_on(checkpoint: Checkpoint, job: Job, resume: bool, source: Source) -> None:
    from splade_os.errors import IngestError

    if not resume:
        raise IngestError(
            f"This ingest was interrupted: {checkpoint.describe()}.",
            hint="Go on with --resume, or begin anew with --restart.",
        )
    if not source.repeatable:
        raise IngestError(
            f"{source.name} cannot be read from the middle: its order may be another one.",
            hint="Begin anew with --restart --skip-unchanged.",
        )
    checkpoint.check(job)
    click.echo(f"Going on with the ingest {checkpoint.describe()}.", err=True)


def _dry_run(
    engine: Engine,
    source: Source,
    reader: RecordReader,
    selection: Selection,
    encoder: DocumentEncoder,
    field_type: str | None,
    options: IngestOptions,
    as_json: bool,
) -> None:
    from splade_os.ingest.dry_run import dry_run
    from splade_os.ingest.index.target import new_meta
    from splade_os.ingest.sources import read_source

    meta = new_meta(
        engine,
        encoder.identity,
        reader.stored_text_fields,
        field_type,
        options.vector_field,
        options.content_field,
    )
    records = read_source(source, reader, selection)
    told = dry_run(records, source, encoder, meta)
    if as_json:
        print_json({**asdict(told), "meta": meta.model_dump(mode="json")})
        return
    click.echo(meta.model_dump_json(indent=2))
    click.echo(told.action or "No document could be encoded.")
    for reason in told.reasons:
        click.secho(f"dead letter: {reason}", fg="yellow")
    click.echo(
        f"{told.read:,} records read, {told.dead:,} of them dead letters; on average "
        f"{told.terms:.0f} terms and {told.bytes:,.0f} bytes; {told.rate:,.0f} docs/s encoded."
    )
    if told.cut:
        click.echo(
            f"{told.cut:,} of them are longer than the model takes: {told.lost_share:.1%} of all "
            "tokens are cut off (--long-texts chunk keeps them)."
        )
    if told.empty:
        click.echo(f"{told.empty:,} of them have no content: only BM25 finds them.")
    if told.documents is not None and told.total_bytes is not None and told.seconds is not None:
        click.echo(
            f"The whole source: about {told.documents:,} documents, "
            f"{told.total_bytes / 1e9:,.2f} GB of bulk requests, {told.seconds / 60:,.0f} min."
        )
    click.echo("Nothing was written.")
