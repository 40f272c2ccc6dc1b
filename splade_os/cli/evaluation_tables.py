"""Tables of an evaluation, for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from splade_os.cli.terminal import echo

if TYPE_CHECKING:
    from rich.table import Table

    from splade_os.evaluation.comparison import Comparison
    from splade_os.evaluation.report import Report

_WIDE = 200
_ROWS = {
    "query_active_dims": "active dimensions of a query",
    "corpus_active_dims": "active dimensions of a document",
    "query_sparsity_ratio": "sparsity ratio of queries",
    "corpus_sparsity_ratio": "sparsity ratio of the corpus",
    "avg_flops": "average FLOPS",
}


def show(report: Report) -> None:
    """One way of searching: every figure. Several: the leading ones side by side."""
    if len(report.evaluations) == 1:
        _show_every(report)
    else:
        _show_quality(report)
    _show_costs(report)
    if report.comparisons:
        _show_comparisons(report.comparisons)
    if report.curve:
        _show_curve(report)
    for agreement in report.agreements:
        echo("\n" + agreement.sentence())
    for note in report.notes:
        echo(note, err=True)
    documents = f", {report.documents:,} documents" if report.documents is not None else ""
    if report.index is not None:
        documents += f", {report.index.bytes / 1e6:,.1f} MB"
    what = ", ".join(f"{name} {value}" for name, value in report.setting.items())
    echo(f"\n{report.queries:,} queries{documents}; {what}.", err=True)


def _show_every(report: Report) -> None:
    evaluation = report.evaluations[0]
    table = table_of([report.collection, evaluation.label])
    measures = evaluation.scores.means
    for name in dict.fromkeys(["ndcg@10", "mrr@10", "map@100", *measures]):
        table.add_row(name, f"{measures[name]:.4f}")
    for name, words in _ROWS.items():
        value = evaluation.sparsity.get(name)
        if value is not None:
            digits = 4 if "ratio" in name else 1 if "dims" in name else 2
            table.add_row(words, f"{value:.{digits}f}")
    print_table(table)


def _show_quality(report: Report) -> None:
    from splade_os.evaluation.report import leading

    names = leading(report.evaluations[0])
    table = table_of([report.collection, *names])
    for e in report.evaluations:
        table.add_row(e.label, *(f"{e.scores.means[name]:.4f}" for name in names))
    print_table(table)


def _show_costs(report: Report) -> None:
    from splade_os.evaluation.report import costs

    if len(report.evaluations) == 1 and report.evaluations[0].latency is None:
        return  # its sparsity is among every figure
    columns, rows = costs(report.evaluations)
    table = table_of(["", *columns])
    for e, cells in zip(report.evaluations, rows, strict=True):
        table.add_row(e.label, *cells)
    echo()
    print_table(table)


def _show_curve(report: Report) -> None:
    from splade_os.evaluation.report import costs, leading

    names = leading(report.curve[0].evaluation)
    columns, rows = costs([p.evaluation for p in report.curve])
    sized = any(p.index for p in report.curve)
    option = report.curve[0].option.replace("_", "-")
    table = table_of([option, *names, *(["MB"] if sized else []), *columns])
    for p, cells in zip(report.curve, rows, strict=True):
        size = f"{p.index.bytes / 1e6:,.1f}" if p.index else ""
        table.add_row(
            f"{p.value:g} {p.evaluation.label}",
            *(f"{p.evaluation.scores.means[name]:.4f}" for name in names),
            *([size] if sized else []),
            *cells,
        )
    echo()
    print_table(table)


def _show_comparisons(comparisons: Sequence[Comparison]) -> None:
    first = comparisons[0]
    echo(f"\n{first.measure} against {first.a}:")
    table = table_of(["", "difference", "95 %", "p", "better", "equal", "worse"])
    for c in comparisons:
        table.add_row(
            c.b,
            f"{c.difference:+.4f}",
            f"{c.low:+.4f} … {c.high:+.4f}",
            f"{c.decisive:.4f}" + ("*" if c.decisive < 0.05 else " "),
            *(str(n) for n in (c.better, c.equal, c.worse)),
        )
    print_table(table)


def show_many(reports: Sequence[Report]) -> None:
    """Collections below each other, with their mean; a table for each way of searching."""
    from splade_os.evaluation.report import leading, mean_of

    for i, evaluation in enumerate(reports[0].evaluations):
        names = leading(evaluation)
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
        print_table(table)


def print_table(table: Table) -> None:
    """Print it to stdout."""
    from rich.console import Console

    # what goes into a file or a pipe is not broken to the width of some terminal
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def table_of(columns: Sequence[str]) -> Table:
    """An empty table without lines; the first column to the left, the others to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    return table
