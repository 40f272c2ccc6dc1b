"""``splade-os encode``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from splade_os.cli.encoding import encoding_options, split_options
from splade_os.cli.ingest_options import reading_options, split_reading
from splade_os.cli.options import check_output
from splade_os.cli.ray_options import ray_options, split_ray
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo


@click.command()
@click.argument("source")
@click.option("--model", default="starter", show_default=True, help="Folder or hub name.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True,
    help="vectors.jsonl ({id, vector: {token: weight}}), vectors.npz (CSR), or vectors.parquet/ (a "
    "folder, for `ingest`: vectors and documents); - = JSONL on stdout."
)  # fmt: skip
@reading_options
@encoding_options
@ray_options
def encode(source: str, model: str, out: Path, **flags: Any) -> None:
    """Encode the documents of SOURCE (as for ingest) and write their vectors.

    What cannot be encoded is named on standard error, and the exit code is 3.
    """
    from splade_os.encoding import DocumentEncoder
    from splade_os.ingest.documents.parquet_folder import write_parquet
    from splade_os.ingest.documents.vector_files import write_jsonl, write_npz
    from splade_os.ingest.index.average_length import measure
    from splade_os.ingest.sources import find_source, read_source

    reader, selection, opening, flags = split_reading(flags)
    if reader.vectors:
        raise click.UsageError("--vectors: documents that bring vectors are encoded already.")
    cluster, flags = split_ray(flags)
    running, options, _ = split_options(flags)
    parquet = out.suffix == ".parquet"
    if cluster is not None and not parquet:
        raise click.UsageError("--on ray writes Parquet: -o NAME.parquet")
    if not parquet:
        check_output(out)
    found = find_source(source, opening)
    with busy(f"Loading the model {model}"):
        encoder = DocumentEncoder.load(model, **running, **options.model_dump())
    echo(f"Encoding with {model}: {encoder.how}.", err=True)
    records = read_source(found, reader, selection)
    skipped = 0

    def skip(where: str, reason: str) -> None:
        nonlocal skipped
        skipped += 1
        echo(f"Skipped {where}: {reason}", err=True)

    write = write_npz if out.suffix == ".npz" else write_jsonl
    if parquet:  # as a new index that takes them would have it
        records = measure(encoder, records)
        write = partial(write_parquet, text_fields=reader.stored_text_fields)
    try:
        with busy(f"Encoding {found.name}"):
            if cluster is None:
                count = write(out, records, encoder, skip)
            else:
                from splade_os.distributed.encode import encode_on_ray

                count = encode_on_ray(
                    found,
                    out,
                    spec=source,
                    encoder=encoder,
                    model=model,
                    running=running,
                    skip=skip,
                    reader=reader,
                    cluster=cluster,
                    selection=selection,
                    opening=opening,
                )
    except OSError as error:  # a disk that is full does not say of which file
        error.filename = error.filename or str(out)
        raise
    echo(f"{count:,} vectors written to {out}; {skipped:,} skipped.", err=True)
    if skipped:
        sys.exit(3)
