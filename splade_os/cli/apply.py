"""``splade-os apply``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.ingest import DEAD_LETTERS_EXIT, INTERRUPTED_EXIT, ResumableCommand
from splade_os.cli.log_format import logging_to_stderr
from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    need_index,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.terminal import echo, secho

if TYPE_CHECKING:
    from splade_os.online.stream import ApplyReport


@click.command(cls=ResumableCommand)
@click.argument("source")
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's, or starter]")
@click.option("--device", help="torch device.  [default: the first GPU, else the CPU]")
@click.option("--text", help="Fields to encode.  [default: the index's, or title,text]")
@click.option("--id", "id_field", help="Field of the document id.  [default: _id, id]")
@click.option("--encoding", help="Of text files: cp1252, utf-16 ...  [default: utf-8]")
@click.option(
    "--patience", type=click.FloatRange(0), default=600, show_default=True,
    help="Seconds that a cluster may be away before it stops.",
)  # fmt: skip
@click.option(
    "--dead-letters", type=click.Path(dir_okay=False, path_type=Path),
    help="File for what cannot be applied.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Talk on stderr; json: an object a line, with the time.",
)  # fmt: skip
@click.option(
    "--resume", is_flag=True,
    help="Go on where this was interrupted. --resume=auto: if that can be, else begin anew.",
)  # fmt: skip
@click.option("--resume-auto", is_flag=True, hidden=True)
@click.option("--restart", is_flag=True, help="Begin anew, whatever was interrupted.")
@json_option
def apply(
    source: str,
    device: str | None,
    text: str | None,
    id_field: str | None,
    encoding: str | None,
    patience: float,
    dead_letters: Path | None,
    log_format: Any,
    resume: bool,
    resume_auto: bool,
    restart: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Apply a stream of changes to an index: documents written, changed, deleted.

    SOURCE: - (standard input), or a file of JSON lines. A line is one of

    \b
      {"op": "upsert", "id": "1", "doc": {"title": "Red shoe", "price": 10}}
      {"op": "update", "id": "1", "doc": {"price": 12}}
      {"op": "delete", "id": "1"}

    A document alone is an upsert. Lines of the bulk API and Debezium's events are read as well.
    Changes are applied in their order, and those that have been read wait a second at most for
    others. --resume takes the stream from its beginning, and applies what is new in it.

    Exit codes: 0 all applied; 1 failed (--resume goes on); 2 wrong use; 3 finished, with dead
    letters; 130 interrupted (--resume goes on). The first Ctrl-C or SIGTERM ends after the changes
    under way; the second stops at once.
    """
    from splade_os.engines.names import check_name
    from splade_os.errors import IndexNotFoundError
    from splade_os.ingest.documents.records import DEFAULT_TEXT_FIELDS, RecordReader
    from splade_os.ingest.sources import SourceOptions, find_source
    from splade_os.ingest.sources.formats import CHANGES
    from splade_os.online.index import Index
    from splade_os.online.stream import apply_changes

    if resume + resume_auto + restart > 1:
        raise click.UsageError("Either --resume, --resume=auto or --restart.")
    click.get_current_context().with_resource(logging_to_stderr(log_format))
    settings = settings_of(**flags)
    name = need_index(settings)
    check_name(name)
    found = find_source(source, SourceOptions(format=CHANGES, encoding=encoding))
    engine = open_engine(settings)
    fields = tuple(each.strip() for each in text.split(",")) if text else None
    try:
        fields = fields or engine.index_meta(name).text_fields  # and nothing is adopted on the way
    except IndexNotFoundError:
        fields = fields or DEFAULT_TEXT_FIELDS
        echo(f"There is no index {name}: it is made.", err=True)
    index = Index(
        index=name,
        engine=engine,
        model=settings.model,
        device=device,
        text_fields=fields,
        patience=patience,
    )
    echo(f"Applying the changes of {found.name} to {name} at {engine.url}.", err=True)
    report = apply_changes(
        found,
        index,
        reader=RecordReader(text_fields=fields, id_field=id_field),
        begin="restart" if restart else "auto" if resume_auto else "resume" if resume else "new",
        dead_letters=dead_letters,
        named=source,
    )
    index.close()
    if as_json:
        print_json(asdict(report))
    _summarise(report)
    if report.interrupted:
        sys.exit(INTERRUPTED_EXIT)
    if report.dead:
        sys.exit(DEAD_LETTERS_EXIT)


def _summarise(report: ApplyReport) -> None:
    told = {
        "created": report.created,
        "updated": report.updated,
        "deleted": report.deleted,
        "deleted that were not there": report.absent,
        "of documents deleted right after": report.superseded,
        "dead letters": report.dead,
    }
    parts = ", ".join(f"{count:,} {what}" for what, count in told.items() if count)
    echo(f"{report.read:,} changes of {report.index}: {parts or 'nothing to do'}.", err=True)
    for reason, count in list(report.reasons.items())[:5]:
        secho(f"  {count:,} x {reason}", fg="yellow", err=True)
    if report.dead:
        echo(f"Dead letters with their reasons: {report.dead_letters}", err=True)
    if report.interrupted:
        echo("Interrupted. The same command with --resume goes on.", err=True)
