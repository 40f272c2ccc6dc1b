"""Tables of an evaluation, for a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from splade_os.evaluation.agreement import Agreement
    from splade_os.evaluation.comparison import Comparison
    from splade_os.evaluation.report import Evaluation, Report

_WIDE = 200
_ROWS = {
    "query_active_dims": "active dimensions of a query",
    "corpus_active_dims": "active dimensions of a document",
    "query_sparsity_ratio": "sparsity ratio of queries",
    "corpus_sparsity_ratio": "sparsity ratio of the corpus",
    "avg_flops": "average FLOPS",
}
_COSTS = {
    "query dims": "query_active_dims",
    "doc dims": "corpus_active_dims",
    "FLOPS": "avg_flops",
    "p50 ms": "engine_p50_ms",
    "p95 ms": "engine_p95_ms",
    "p99 ms": "engine_p99_ms",
    "whole ms": "whole_p50_ms",
}
_LEADING = ("ndcg@10", "mrr@10", "map@100", "recall@10")


def show(report: Report) -> None:
    """One way of searching: every figure. Several: the leading ones side by side."""
    if len(report.evaluations) == 1:
        _show_every(report)
    else:
        _show_quality(report)
    _show_costs(report)
    if report.comparisons:
        _show_comparisons(report.comparisons)
    for agreement in report.agreements:
        click.echo("\n" + agreement_line(agreement))
    for note in report.notes:
        click.echo(note, err=True)
    documents = f", {report.documents:,} documents" if report.documents is not None else ""
    if report.index is not None:
        documents += f", {report.index.bytes / 1e6:,.1f} MB"
    what = ", ".join(f"{name} {value}" for name, value in report.setting.items())
    click.echo(f"\n{report.queries:,} queries{documents}; {what}.", err=True)


def _show_every(report: Report) -> None:
    evaluation = report.evaluations[0]
    table = table_of([report.collection, evaluation.label])
    measures = evaluation.scores.means
    for name in dict.fromkeys([*(n for n in _LEADING[:3] if n in measures), *measures]):
        table.add_row(name, f"{measures[name]:.4f}")
    for name, words in _ROWS.items():
        value = evaluation.sparsity.get(name)
        if value is not None:
            digits = 4 if "ratio" in name else 1 if "dims" in name else 2
            table.add_row(words, f"{value:.{digits}f}")
    _print(table)


def _show_quality(report: Report) -> None:
    names = [*_LEADING, *_more(report.evaluations[0])]
    table = table_of([report.collection, *names])
    for e in report.evaluations:
        table.add_row(e.label, *(f"{e.scores.means[name]:.4f}" for name in names))
    _print(table)


def _show_costs(report: Report) -> None:
    rows = [(e, e.sparsity | (e.latency.to_dict() if e.latency else {}))
            for e in report.evaluations]  # fmt: skip
    if len(rows) == 1 and rows[0][0].latency is None:
        return  # its sparsity is among every figure
    columns = {words: name for words, name in _COSTS.items() if any(name in r for _, r in rows)}
    table = table_of(["", *columns])
    for e, row in rows:
        table.add_row(
            e.label,
            *(f"{row[n]:.{2 if n == 'avg_flops' else 1}f}" if n in row else ""
              for n in columns.values()),
        )  # fmt: skip
    click.echo()
    _print(table)


def _more(evaluation: Evaluation) -> list[str]:
    """The measures that the user named."""
    return [name for name in evaluation.scores.means if name[0].isupper()]


def _show_comparisons(comparisons: Sequence[Comparison]) -> None:
    first = comparisons[0]
    click.echo(f"\n{first.measure} against {first.a}:")
    table = table_of(["", "difference", "95 %", "p", "better", "equal", "worse"])
    for c in comparisons:
        p = c.p if c.p_corrected is None else c.p_corrected
        table.add_row(
            c.b,
            f"{c.difference:+.4f}",
            f"{c.low:+.4f} … {c.high:+.4f}",
            f"{p:.4f}" + ("*" if p < 0.05 else " "),
            *(str(n) for n in (c.better, c.equal, c.worse)),
        )
    _print(table)


def agreement_line(a: Agreement) -> str:
    """One sentence: does the engine do what it must, and what does its storage change?"""
    return (
        f"{a.label}: the engine's hits are those of the exact product for {a.same_hits:,} of "
        f"{a.queries:,} queries, its scores within {a.score_difference:.0e}"
        f"{'' if a.ok else ', NOT as it must be'}. {a.measure}: {a.engine:.4f} by the engine, "
        f"{a.stored:.4f} with the weights that it stores, {a.encoded:.4f} with the model's."
    )


def show_many(reports: Sequence[Report]) -> None:
    """Collections below each other, with their mean; a table for each way of searching."""
    from splade_os.evaluation.report import mean_of

    for i, evaluation in enumerate(reports[0].evaluations):
        names = [*_LEADING, *_more(evaluation)]
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
        _print(table)


def _print(table: Table) -> None:
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
