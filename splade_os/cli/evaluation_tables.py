"""Tables of an evaluation, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from splade_os.evaluation.report import Report

_ROWS = {
    "query_active_dims": "active dimensions of a query",
    "corpus_active_dims": "active dimensions of a document",
    "query_sparsity_ratio": "sparsity ratio of queries",
    "corpus_sparsity_ratio": "sparsity ratio of the corpus",
    "avg_flops": "average FLOPS",
}
_ACROSS = ("ndcg@10", "mrr@10", "map@100", "recall@10")


def show_one(report: Report) -> None:
    """Measures below each other, ways of searching side by side."""
    from rich.console import Console

    table = table_of([report.collection, *(e.label for e in report.evaluations)])
    measures = report.evaluations[0].scores.means
    leading = [name for name in ("ndcg@10", "mrr@10", "map@100") if name in measures]
    for name in dict.fromkeys([*leading, *measures]):
        table.add_row(name, *(f"{e.scores.means[name]:.4f}" for e in report.evaluations))
    for name, words in _ROWS.items():
        values = [e.sparsity.get(name) for e in report.evaluations]
        if any(value is not None for value in values):
            digits = 4 if "ratio" in name else 1 if "dims" in name else 2
            table.add_row(words, *("" if v is None else f"{v:.{digits}f}" for v in values))
    Console().print(table)
    documents = f", {report.documents:,} documents" if report.documents is not None else ""
    what = ", ".join(f"{name} {value}" for name, value in report.setting.items())
    click.echo(f"{report.queries:,} queries{documents}; {what}.", err=True)


def show_many(reports: Sequence[Report]) -> None:
    """Collections below each other, with their mean; a table for each way of searching."""
    from rich.console import Console

    from splade_os.evaluation.report import mean_of

    for i, evaluation in enumerate(reports[0].evaluations):
        more = [m for m in evaluation.scores.means if m[0].isupper()]  # ir-measures' own
        names = [*_ACROSS, *more]
        table = table_of([evaluation.label, *names, "query dims", "doc dims", "FLOPS"])
        rows = [(report.collection, report.evaluations[i]) for report in reports]
        mean = mean_of([e for _, e in rows], "mean")
        for name, e in [*rows, ("mean", mean)]:
            sparse = e.sparsity
            table.add_row(
                name,
                *(f"{e.scores.means[m]:.4f}" for m in names),
                f"{sparse['query_active_dims']:.1f}",
                f"{sparse['corpus_active_dims']:.1f}",
                f"{sparse['avg_flops']:.2f}",
                style="bold" if name == "mean" else None,
            )
        Console().print(table)


def table_of(columns: Sequence[str]) -> Table:
    """An empty table without lines; the first column to the left, the others to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table
