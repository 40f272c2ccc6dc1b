"""What ``splade-os ingest --dry-run`` tells."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from splade_os.cli.options import print_json
from splade_os.cli.terminal import echo, secho

if TYPE_CHECKING:
    from splade_os.encoding import DocumentEncoder
    from splade_os.engines import Engine
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.options import IngestOptions
    from splade_os.ingest.sources import Selection, Source


def show_dry_run(
    engine: Engine,
    source: Source,
    reader: RecordReader,
    selection: Selection,
    encoder: DocumentEncoder,
    field_type: str | None,
    options: IngestOptions,
    as_json: bool,
) -> None:
    """Encode one batch, and say what would be written."""
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
    echo(meta.model_dump_json(indent=2))
    echo(told.action or "No document could be encoded.")
    for reason in told.reasons:
        secho(f"dead letter: {reason}", fg="yellow")
    echo(
        f"{told.read:,} records read, {told.dead:,} of them dead letters; on average "
        f"{told.terms:.0f} terms and {told.bytes:,.0f} bytes; {told.rate:,.0f} docs/s encoded."
    )
    if told.cut:
        echo(
            f"{told.cut:,} of them are longer than the model takes: {told.lost_share:.1%} of all "
            "tokens are cut off (--long-texts chunk keeps them)."
        )
    if told.empty:
        echo(f"{told.empty:,} of them have no content: only BM25 finds them.")
    if told.documents is not None and told.total_bytes is not None and told.seconds is not None:
        echo(
            f"The whole source: about {told.documents:,} documents, "
            f"{told.total_bytes / 1e9:,.2f} GB of bulk requests, {told.seconds / 60:,.0f} min."
        )
    echo("Nothing was written.")
