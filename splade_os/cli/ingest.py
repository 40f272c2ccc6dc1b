"""``splade-os ingest``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.options import (
    connection_options,
    field_type_option,
    index_option,
    json_option,
    need_index,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.steps import busy

if TYPE_CHECKING:
    from splade_os.ingest.pipeline import IngestReport
    from splade_os.ingest.sources import Reading, Source

DEAD_LETTERS_EXIT = 3


@click.command()
@click.argument("source")
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's, or starter]")
@click.option("--text", default="title,text", show_default=True, help="Fields to encode.")
@click.option("--id", "id_field", help="Field of the document id.  [default: _id, id, or a hash]")
@field_type_option
@encoding_options
@click.option("--dead-letters", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def ingest(
    source: str,
    text: str,
    id_field: str | None,
    field_type: str | None,
    dead_letters: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Encode the documents of SOURCE and write them into an index.

    SOURCE is a .jsonl or .jsonl.gz file, a BEIR folder, python:stdlib, or - for standard
    input. The index is made if it is missing. Exit codes: 0 all indexed, 1 failed, 2 wrong
    use, 3 finished with dead letters.
    """
    from splade_os.encoding import DocumentEncoder
    from splade_os.errors import IndexNotFoundError
    from splade_os.ingest.pipeline import ingest_documents
    from splade_os.ingest.records import RecordReader
    from splade_os.ingest.sources import Reading, find_source, read_source
    from splade_os.settings import DEFAULT_MODEL

    running, options, flags = split_options(flags)
    settings = settings_of(**flags)
    name = need_index(settings)
    fields = tuple(field.strip() for field in text.split(",") if field.strip())
    if not fields:
        raise click.UsageError("--text names no field.")
    found = find_source(source)
    engine = open_engine(settings)
    model = settings.model
    try:  # an index that is there says what encoded it
        of_index = engine.index_meta(name).model
        model = model or of_index.name
        options = options.over(of_index.options())
    except IndexNotFoundError:
        model = model or DEFAULT_MODEL
    with busy(f"Loading the model {model}"):
        encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    click.echo(f"Ingesting {found.name} into {name} at {engine.url}.", err=True)
    click.echo(f"Encoding with {model}: {encoder.how}.", err=True)
    reading = Reading()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    with ingest_progress(found, reading) as on_progress:
        report = ingest_documents(
            read_source(found, RecordReader(fields, id_field), reading),
            engine=engine,
            index=name,
            encoder=encoder,
            dead_letters=dead_letters or Path(f"dead-letters-{name}-{stamp}.jsonl"),
            text_fields=fields,
            field_type=field_type,
            on_progress=on_progress,
        )
    if as_json:
        print_json({**asdict(report), "indexed": report.indexed, "verified": report.verified})
    summarise(report)
    if not report.verified:
        sys.exit(1)
    if report.dead:
        sys.exit(DEAD_LETTERS_EXIT)


@contextmanager
def ingest_progress(source: Source, reading: Reading) -> Iterator[Callable[[IngestReport], None]]:
    """Rate and ETA on stderr: a bar on a terminal, a line every two seconds elsewhere."""
    import time

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)

    def line(report: IngestReport) -> str:
        rate = report.encoded / report.seconds if report.seconds else 0
        dead = f", {report.dead:,} dead letters" if report.dead else ""
        return f"{report.encoded:,} encoded, {report.indexed:,} indexed, {rate:,.0f} docs/s{dead}"

    def fraction(report: IngestReport) -> float:
        """How much of the source is through: what is read, less what waits to be encoded."""
        if not source.total or not report.read:
            return 0.0
        return reading.done / source.total * (report.encoded + report.dead) / report.read

    if not console.is_terminal:
        last = time.monotonic()

        def plain(report: IngestReport) -> None:
            nonlocal last
            if time.monotonic() - last >= 2:
                last = time.monotonic()
                eta = ""
                done = fraction(report)
                if done:
                    eta = (
                        f", {done:.0%}, about {report.seconds / done - report.seconds:.0f} s to go"
                    )
                click.echo(line(report) + eta, err=True)

        yield plain
        return
    with Progress(
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0 if source.total else None)

        def draw(report: IngestReport) -> None:
            bar.update(task, completed=fraction(report), description=line(report))

        yield draw


def summarise(report: IngestReport) -> None:
    """The last lines of an ingest, on stderr."""
    rate = report.indexed / report.seconds if report.seconds else 0
    click.echo(
        f"{report.indexed:,} of {report.read:,} records indexed in {report.seconds:,.1f} s "
        f"({rate:,.0f} docs/s): {report.created:,} new, {report.updated:,} overwritten.",
        err=True,
    )
    if report.empty:
        click.echo(f"{report.empty:,} have no term at all: only BM25 finds them.", err=True)
    if report.dead:
        click.secho(
            f"{report.dead:,} dead letters with their reasons: {report.dead_letters}",
            fg="yellow",
            err=True,
        )
    if report.verified:
        click.secho(f"Verified: {report.index} holds {report.count_after:,}.", fg="green", err=True)
    else:
        click.secho(
            f"NOT verified: {report.index} holds {report.count_after:,} documents, "
            f"{report.count_before + report.created:,} were expected. Something else writes to it, "
            "or documents were lost; run the same command again.",
            fg="red",
            err=True,
        )
