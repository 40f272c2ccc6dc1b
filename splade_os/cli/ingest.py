"""``splade-os ingest``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click

from splade_os.cli.document_encoder import load_encoder
from splade_os.cli.dry_run import show_dry_run
from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.help_groups import Command
from splade_os.cli.ingest_options import (
    LAYOUT,
    layout_of,
    layout_options,
    reading_options,
    running_options,
    split_reading,
    split_running,
)
from splade_os.cli.log_format import logging_to_stderr
from splade_os.cli.options import (
    MOST,
    connection_options,
    engine_opener,
    field_type_option,
    index_option,
    json_option,
    need_index,
    print_json,
    settings_of,
)
from splade_os.cli.progress import ingest_progress, summarise
from splade_os.cli.ray_options import ray_options, split_ray
from splade_os.cli.report_file import LatestReport, report_fields, report_file
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo, secho

if TYPE_CHECKING:
    from splade_os.encoding import DocumentEncoder
    from splade_os.engines import Engine
    from splade_os.ingest.report import IngestReport
    from splade_os.ingest.sources import Source
    from splade_os.search.canaries import Canary

DEAD_LETTERS_EXIT = 3
INTERRUPTED_EXIT = 130


class ResumableCommand(Command):
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


@click.command(cls=ResumableCommand)
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
    "--wait-for-active-shards", "active_shards", metavar="N|all", default="1", show_default=True,
    callback=lambda ctx, option, text: _copies(text),
    help="(--alias) Copies of each shard, its primary included, that are there before the swap; "
    "waits as long as --patience.",
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
    "--canary-mode", type=click.Choice(["hybrid", "idf", "encoder", "bm25"]), default="hybrid",
    show_default=True, help="How canaries search.",
)  # fmt: skip
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's, or starter]")
@reading_options
@field_type_option
@layout_options
@encoding_options
@running_options
@ray_options
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
    active_shards: int | Literal["all"],
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
    from splade_os.ingest.documents.encoded_rows import encoder_of, require_same_encoding
    from splade_os.ingest.load import AliasOptions, load_source
    from splade_os.ingest.sources import encoding_of_source, find_source
    from splade_os.search.canaries import read_canaries
    from splade_os.urls import shown

    if resume + resume_auto + restart > 1:
        raise click.UsageError("Either --resume, --resume=auto or --restart.")
    wanted = read_canaries(canaries)
    cluster, flags = split_ray(flags)
    reader, selection, opening, flags = split_reading(flags)
    running, chosen, flags = split_options(flags)
    options, how, flags = split_running(flags, selection)
    latest = telling(how)
    layout = {name: flags.pop(name) for name in LAYOUT}
    settings = settings_of(**flags)
    target = alias or need_index(settings)
    check_name(target)
    opener = engine_opener(settings)
    engine = opener()
    with busy(f"Looking for {shown(source)}"):
        found = find_source(source, replace(opening, engine=engine))
    if alias or not _is_there(engine, target):
        options = replace(options, layout=layout_of(layout, engine, source))
    elif any(layout.values()):
        echo(f"{target} is there: its mapping and settings stay as they are.", err=True)
    own = bool(layout["own_mapping"] or layout["like"])
    moving = AliasOptions(keep_old, min_documents, active_shards, take_settings=not own)
    encoding = encoding_of_source(found)
    if reader.vectors:
        running.update(backend="none", device=None, dtype=None)
    if encoding is not None:
        encoder = encoder_of(encoding, settings.model)
        reader = require_same_encoding(reader, encoding, encoder)
    else:
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
        show_dry_run(engine, found, reader, selection, encoder, field_type, options, as_json)
        return
    load: Callable[..., IngestReport] = partial(load_source, named=source)
    if cluster is not None:
        from splade_os.distributed.load import load_on_ray

        load = partial(
            load_on_ray,
            spec=source,
            connect=opener,
            model=settings.model or encoder.identity.name,
            running=running,
            cluster=cluster,
            opening=opening,
        )
    with showing(found, encoder, engine, target, how, latest) as update:
        report = load(
            found,
            engine=engine,
            target=target,
            encoder=encoder,
            alias=moving if alias else None,
            reader=reader,
            selection=selection,
            options=options,
            begin=(
                "restart" if restart else "auto" if resume_auto else "resume" if resume else "new"
            ),
            dead_letters=how["dead_letters"],
            field_type=field_type,
            check=lambda index: _lost(wanted, engine, index, settings.model, canary_k, canary_mode),
            on_progress=update,
        )
        update(report)
    if alias:
        _tell_alias(engine, alias, report)
    finish(report, as_json, needs_documents=alias is not None)


def _copies(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdigit() and len(text) < 5 and int(text) > 0):
        raise click.BadParameter(f"{text!r} is neither a number of copies from 1 on nor 'all'.")
    return int(text)


def _is_there(engine: Engine, index: str) -> bool:
    from splade_os.errors import IndexNotFoundError

    try:
        engine.properties(index)
    except IndexNotFoundError:
        return False
    return True


def _tell_alias(engine: Engine, alias: str, report: IngestReport) -> None:
    if report.live:
        deleted = report.deleted_indices
        gone = f"; deleted {', '.join(deleted)}" if deleted else ""
        secho(f"The alias {alias} stands for {report.index} now{gone}.", fg="green", err=True)
        return
    now = ", ".join(engine.alias_targets(alias)) or "nothing"
    nothing = "Nothing was indexed: the" if report.removed else "The"
    echo(f"{nothing} alias {alias} still stands for {now}.", err=True)


@contextmanager
def showing(
    source: Source,
    encoder: DocumentEncoder,
    engine: Engine,
    target: str,
    how: dict[str, Any],
    latest: LatestReport,
) -> Iterator[Callable[[IngestReport], None]]:
    """Within it progress is shown: what is yielded takes the report so far.

    Args:
        how: what `split_running` gives beside the options.
        latest: gets the report so far, and the last one.
    """
    from splade_os.ingest.metrics import metrics_server

    echo(f"Ingesting {source.name} into {target} at {engine.url}.", err=True)
    echo(f"Encoding with {encoder.identity.name}: {encoder.how}.", err=True)
    with ExitStack() as stack:
        updates = []
        if how["log_format"] == "text":  # else progress is logged
            updates.append(stack.enter_context(ingest_progress(source)))
        if how["metrics_port"] is not None:
            server = metrics_server(how["metrics_port"], target, how["metrics_host"])
            updates.append(stack.enter_context(server))

        def update(report: IngestReport) -> None:
            latest.report = report
            for each in updates:
                each(report)

        yield update


def _lost(
    canaries: list[Canary],
    engine: Engine,
    index: str,
    model: str | None,
    k: int,
    mode: Any,
) -> list[str]:
    from splade_os.search.canaries import lost_canaries
    from splade_os.search.client import SearchClient

    if not canaries:
        return []
    with busy(f"Asking {len(canaries):,} canaries"):
        client = SearchClient(engine=engine, index=index, model=model)
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
