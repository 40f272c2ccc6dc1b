"""``splade-os idf``."""

from __future__ import annotations

from pathlib import Path

import click

from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo


@click.command()
@click.argument("source")
@click.option("--model", default="starter", show_default=True, help="Whose tokenizer counts.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), required=True,
    help="Folder for idf.json and query_token_weights.txt."
)  # fmt: skip
@click.option("--text", default="title,text", show_default=True, help="Fields to count.")
@click.option(
    "--unseen", type=click.Choice(["one", "highest"]), default="one", show_default=True,
    help="Weight of tokens that SOURCE does not have: 1, as in OpenSearch's own table, or that of "
    "a token in no document."
)  # fmt: skip
def idf(source: str, model: str, out: Path, text: str, unseen: str) -> None:
    """Build the query table of an inference-free model from the documents of SOURCE (as for
    ingest).

    The formula is that of OpenSearch's own table: ln(1 + (N - df + 0.5) / (df + 0.5)). An index
    made by splade-os counts its own documents and needs no such file; a training run
    (--set model.query.table=FOLDER/idf.json), or another system, may.
    """
    from splade_os.export.idf import count_table, write_table
    from splade_os.urls import shown

    with busy(f"Counting {shown(source)}"):
        counted = count_table(source, model, tuple(text.split(",")), unseen)
    out.mkdir(parents=True, exist_ok=True)
    files = write_table(counted.table.weights, counted.vocabulary, out)
    skipped = f"; {counted.skipped:,} skipped" if counted.skipped else ""
    echo(
        f"{counted.documents:,} documents, {counted.seen:,} of {len(counted.vocabulary):,} tokens "
        f"seen{skipped}.",
        err=True,
    )
    for file in files:
        echo(str(file))
