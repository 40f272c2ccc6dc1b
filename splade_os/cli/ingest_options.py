"""Options of the commands that read sources and write into an index."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from splade_os.cli.help_groups import add_options
from splade_os.cli.options import MOST

if TYPE_CHECKING:
    from splade_os.engines import Engine, IndexLayout
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.sources import Selection, SourceOptions

_MOST = 10**15  # records of a source
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
Command = TypeVar("Command", bound=Callable[..., Any])

_READING = (
    click.option(
        "--text",
        default="title,text",
        show_default=True,
        help="Fields to encode, or paths to them: meta.title,tags.",
    ),
    click.option(
        "--join",
        default=" ",
        help="What stands between two texts; \\n and \\t are known.  [default: a space]",
    ),
    click.option(
        "--id",
        "id_field",
        help="Field of the document id.  [default: _id, id, or a hash of the record]",
    ),
    click.option("--keep", help="Fields to store.  [default: all]"),
    click.option("--drop", help="Fields not to store."),
    click.option(
        "--rename", multiple=True, metavar="OLD=NEW", help="Store a field by another name."
    ),
    click.option("--vectors", is_flag=True, help="Documents bring vectors (`encode`, Anserini)."),
    click.option("--format", "form", help="Of a file whose suffix does not tell: jsonl, csv ..."),
    click.option("--encoding", help="Of text files: cp1252, utf-16 ...  [default: utf-8]"),
    click.option(
        "--delimiter", metavar="CHAR", help="Between the cells of CSV and TSV; '\\t' is a tab."
    ),
    click.option(
        "--offset", type=click.IntRange(0, _MOST), default=0, help="Records to leave out."
    ),
    click.option("--limit", type=click.IntRange(1, _MOST), help="Records to read at most."),
    click.option("--shard", metavar="I/N", help="Every Nth record only, beginning with the Ith."),
)
_RUNNING = (
    click.option(
        "--max-bytes",
        type=click.IntRange(1, MOST),
        default=8_000_000,
        show_default=True,
        help="Of a bulk request.",
    ),
    click.option(
        "--max-documents",
        type=click.IntRange(1, MOST),
        default=5_000,
        show_default=True,
        help="Of a bulk request.",
    ),
    click.option(
        "--concurrency",
        type=click.IntRange(1, 64),
        default=4,
        show_default=True,
        help="Bulk requests under way, at most; adapts to the cluster.",
    ),
    click.option(
        "--patience",
        type=click.FloatRange(0),
        default=600,
        show_default=True,
        help="Seconds that a cluster may be away before the ingest stops.",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["continue", "abort"]),
        default="continue",
        show_default=True,
        help="After a document that cannot be indexed.",
    ),
    click.option(
        "--max-errors", type=click.IntRange(0, MOST), help="Dead letters, before it stops."
    ),
    click.option("--skip-unchanged", is_flag=True, help="Leave alone what the index has already."),
    click.option("--sync", is_flag=True, help="Delete what the source has no more."),
    click.option(
        "--load-settings",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="No refresh and no replicas while loading; auto: where the index is empty.",
    ),
    click.option(
        "--no-statistics",
        "count_terms",
        flag_value=False,
        default=True,
        help="Do not count terms for IDF queries.",
    ),
    click.option(
        "--dead-letters",
        type=click.Path(dir_okay=False, path_type=Path),
        help="File for what cannot be indexed.",
    ),
    click.option(
        "--report",
        "report",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write the report to this file as JSON, however it ends.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Talk on stderr; json: an object a line, with the time, instead of the bar.",
    ),
    click.option(
        "--metrics-port", type=click.IntRange(0, 65_535), help="Serve Prometheus metrics."
    ),
    click.option(
        "--metrics-host",
        default="127.0.0.1",
        show_default=True,
        help="Where; 0.0.0.0 is for other machines too.",
    ),
)


def field_name_options(command: Command) -> Command:
    """--vector-field and --content-field, of a new index."""
    return add_options(
        command,
        "New index",
        click.option("--vector-field", help="Of a new index: the field of the vectors."),
        click.option("--content-field", help="Of a new index: the field of the text for BM25."),
    )


_LAYOUT = (
    click.option(
        "--like",
        metavar="INDEX",
        help="Of a new index: mapping, analysers and settings of this one.  [default: with the "
        "source index:OLD, OLD]",
    ),
    click.option(
        "--mapping",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Of a new index: its mapping (JSON).",
    ),
    click.option(
        "--settings",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="Of a new index: its settings (JSON).",
    ),
    click.option("--shards", type=click.IntRange(1, 1024), help="Of a new index: their number."),
    click.option(
        "--own-mapping",
        is_flag=True,
        help="A new index has mapping and settings of splade-os, whatever --alias stands for or "
        "SOURCE is.",
    ),
)

LAYOUT = ("like", "mapping", "settings", "shards", "own_mapping")
"""Their names."""


def layout_options(command: Command) -> Command:
    """What a new index is made with: for `layout_of`."""
    return add_options(command, "New index", *_LAYOUT)


def layout_of(chosen: dict[str, Any], engine: Engine, source: str) -> IndexLayout | None:
    """The layout of a new index. One that is filled from another index is like that one.

    Args:
        chosen: the flags of `LAYOUT`.
    """
    from splade_os.ingest.index.layout import chosen_layout
    from splade_os.urls import is_cluster

    chosen = dict(chosen)
    own = chosen.pop("own_mapping")
    if own and (chosen["like"] or chosen["mapping"]):
        raise click.UsageError("--own-mapping goes with neither --like nor --mapping.")
    prefix, _, old = source.partition(":")
    if prefix == "index" and not own and chosen["like"] is None and is_cluster(engine.url):
        if len(engine.indices(old)) == 1:
            chosen["like"] = old
        elif chosen["mapping"] is None:
            raise click.UsageError(
                f"{old} stands for several indices: whose mapping shall a new index have? "
                "--like INDEX, --mapping FILE or --own-mapping."
            )
    return chosen_layout(engine, **chosen)


def reading_options(command: Command) -> Command:
    """How records are made of a source: for `split_reading`."""
    return add_options(command, "Reading the source", *_READING)


def running_options(command: Command) -> Command:
    """How an ingest runs: for `split_running`."""
    return add_options(field_name_options(command), "Running", *_RUNNING)


def split_reading(
    flags: dict[str, Any],
) -> tuple[RecordReader, Selection, SourceOptions, dict[str, Any]]:
    """Reader, selection and how files are read, and the flags that are none of these."""
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.sources import Selection, SourceOptions

    fields = _names(flags.pop("text"))
    if not fields:
        raise click.UsageError("--text names no field.")
    keep = flags.pop("keep")
    rename = dict(_pair(text) for text in flags.pop("rename"))
    reader = RecordReader(
        text_fields=fields,
        id_field=flags.pop("id_field"),
        join=_unescaped(flags.pop("join")),
        keep=None if keep is None else _names(keep),
        drop=_names(flags.pop("drop") or ""),
        rename=rename,
        vectors=flags.pop("vectors"),
    )
    shard, of = _shard(flags.pop("shard"))
    selection = Selection(flags.pop("offset"), flags.pop("limit"), shard, of)
    delimiter = flags.pop("delimiter")
    opening = SourceOptions(
        format=flags.pop("form"),
        encoding=flags.pop("encoding"),
        delimiter="\t" if delimiter in ("\\t", "tab") else delimiter,
    )
    return reader, selection, opening, flags


def split_running(
    flags: dict[str, Any], selection: Selection
) -> tuple[IngestOptions, dict[str, Any], dict[str, Any]]:
    """Options, what only the command line has, and the flags that are neither."""
    from dataclasses import fields

    from splade_os.ingest.options import IngestOptions

    if flags["sync"] and not selection.everything:
        raise click.UsageError("--sync needs the whole source: no --limit, --offset or --shard.")
    names = {field.name for field in fields(IngestOptions)}
    options = IngestOptions(**{n: flags.pop(n) for n in list(flags) if n in names})
    how = {
        name: flags.pop(name)
        for name in ("dead_letters", "metrics_port", "metrics_host", "report", "log_format")
    }
    return options, how, flags


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise click.UsageError(f"--rename {text}: write OLD=NEW.")
    return old, new


def _unescaped(text: str) -> str:
    """With ``\\n``, ``\\t``, ``\\r`` and ``\\\\`` as the characters that they stand for; any other
    character, of any language, is itself."""
    return re.sub(r"\\([ntr\\])", lambda found: _ESCAPES[found[1]], text)


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 1, 1
    shard, _, of = text.partition("/")
    # few digits: Python reads no number of more than 4,300
    digits = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (shard, of))
    if not (digits and 1 <= int(shard) <= int(of)):
        raise click.UsageError(f"--shard {text}: write I/N, from 1/N to N/N.")
    return int(shard), int(of)
