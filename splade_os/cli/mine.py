"""``splade-os mine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splade_os.cli.help_groups import Command
from splade_os.cli.options import MOST, check_output, connection_options, index_option, with_secrets
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo

_KINDS = ["cross-encoder", "dense", "sparse"]


@click.command(cls=Command)
@click.argument("pairs")
@connection_options
@index_option
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="New JSONL file.")
@click.option("--query", default="query", show_default=True, help="Column of the query.")
@click.option("--positive", default="positive", show_default=True, help="Of its document.")
@click.option("--corpus", help="The columns hold ids; the texts are in this JSONL (_id, text).")
@click.option("--mode", type=click.Choice(["idf", "encoder", "bm25"]), default="idf")
@click.option("--ranks", default="5:100", show_default=True, help="Window, FIRST:LAST.")
@click.option(
    "--count", default=8, show_default=True, type=click.IntRange(1, MOST), help="Per query."
)
@click.option("--teacher", help="Scores hits: a folder, or hub name.")
@click.option("--teacher-kind", type=click.Choice(_KINDS), default="cross-encoder")
@click.option(
    "--margin", type=float,
    help="(teacher) Drop hits that score less than this below the relevant document."
)  # fmt: skip
@click.option("--text", default="title,text", show_default=True, help="Fields of a hit's text.")
@click.option("--model", help="Where the index's model lies.  [default: as the index names it]")
def mine(
    pairs: str,
    out: Path,
    query: str,
    positive: str,
    corpus: str | None,
    mode: Any,
    ranks: str,
    count: int,
    teacher: str | None,
    teacher_kind: Any,
    margin: float | None,
    text: str,
    **connection: Any,
) -> None:
    """Add hard negatives to PAIRS: what an index finds for each query, but is not its document.

    PAIRS is JSONL or Parquet, as for train. The output holds query, positive, negatives (a list),
    and, with --teacher, its scores: train it with data.documents=[positive,negatives] (and
    data.scores=scores). The index is only read.
    """
    import orjson

    from splade_os.search.client import SearchClient
    from splade_os.training.data import load_rows
    from splade_os.training.mining import MiningReport, Window
    from splade_os.training.mining import mine as run
    from splade_os.training.recipe import DataPart, TeacherPart

    first, colon, last = ranks.partition(":")
    if not (colon and first.isdigit() and last.isdigit()):
        raise click.UsageError(f"--ranks takes FIRST:LAST, not {ranks!r}.")
    if margin is not None and teacher is None:
        raise click.UsageError("--margin goes by a --teacher.")
    if out.exists():
        raise click.UsageError(f"{out} exists already.")
    check_output(out)
    window = Window(int(first), int(last), count, margin, tuple(text.split(",")))
    rows, _ = load_rows(DataPart(train=pairs, query=query, documents=[positive], corpus=corpus))
    score = None
    if teacher is not None:
        from splade_os.training.teachers import pair_scorer

        score = pair_scorer(TeacherPart(kind=teacher_kind, model=teacher))
    report = MiningReport()
    unfinished = out.with_name(f".{out.name}.unfinished")
    with (
        SearchClient(**with_secrets(connection)) as client,
        busy(f"Mining with {len(rows):,} queries"),
        unfinished.open("wb") as file,
    ):
        for row in run(rows, client, report, window=window, mode=mode, score=score):
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    unfinished.rename(out)
    echo(
        f"{report.rows:,} rows with {count} negatives each; {report.short:,} queries had fewer. "
        f"Left out: {report.positives:,} hits that are relevant"
        + (f", {report.near:,} that the teacher holds so" if teacher else "")
        + (f"; {report.failed:,} searches failed: {report.reason}" if report.failed else "")
        + ".",
        err=True,
    )
    echo(str(out))
