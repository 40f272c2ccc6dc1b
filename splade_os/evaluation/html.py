"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources

from splade_os import __version__
from splade_os.errors import MissingExtraError
from splade_os.evaluation.comparison import Comparison
from splade_os.evaluation.plots import curve, differences, overview
from splade_os.evaluation.report import CurvePoint, Evaluation, Report, costs, leading

Rows = tuple[list[str], list[tuple[str, list[str]]]]
"""Names of the columns, and label and cells of each row."""
_SHOWN = 5  # queries per side of a comparison


def render(report: Report, by: str) -> str:
    """The page.

    Args:
        report: what was measured.
        by: the measure that is plotted and compared.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise MissingExtraError("The HTML report", "eval") from None
    source = resources.files(__package__).joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    page: str = environment.from_string(source).render(
        report=report,
        by=by,
        version=__version__,
        when=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        timed=any(e.latency for e in report.evaluations),
        overview=overview(report, by),
        differences=differences(report.comparisons) if report.comparisons else "",
        curve=curve(report.curve, by) if report.curve else "",
        quality=_quality(report),
        cost=_cost(report.evaluations),
        pruning=_pruning(report.curve, by),
        luck=_luck(report.comparisons),
        every=_every(report),
        queries=[(c, *_extremes(c, report.texts)) for c in report.comparisons],
    )
    return page


def _quality(report: Report) -> Rows:
    names = leading(report.evaluations[0])
    return names, [
        (e.label, [f"{e.scores.means[name]:.4f}" for name in names]) for e in report.evaluations
    ]


def _cost(evaluations: Sequence[Evaluation]) -> Rows:
    columns, rows = costs(evaluations)
    return columns, [(e.label, cells) for e, cells in zip(evaluations, rows, strict=True)]


def _every(report: Report) -> Rows:
    labels = [e.label for e in report.evaluations]
    return labels, [
        (name, [f"{e.scores.means[name]:.4f}" for e in report.evaluations])
        for name in report.evaluations[0].scores.means
    ]


def _luck(comparisons: Sequence[Comparison]) -> Rows:
    return ["difference", "95 %", "p", "better", "equal", "worse"], [
        (
            c.b,
            [f"{c.difference:+.4f}", f"{c.low:+.4f} … {c.high:+.4f}", f"{c.decisive:.4f}",
             str(c.better), str(c.equal), str(c.worse)],
        )
        for c in comparisons
    ]  # fmt: skip


def _pruning(points: Sequence[CurvePoint], by: str) -> Rows:
    if not points:
        return [], []
    columns, rows = costs([p.evaluation for p in points])
    return [by, "MB", *columns], [
        (
            f"{p.value:g} {p.evaluation.label}",
            [f"{p.evaluation.scores.means[by]:.4f}",
             f"{p.index.bytes / 1e6:,.1f}" if p.index else "", *cells],
        )
        for p, cells in zip(points, rows, strict=True)
    ]  # fmt: skip


def _extremes(
    c: Comparison, texts: Mapping[str, str]
) -> tuple[list[tuple[str, float, str]], list[tuple[str, float, str]]]:
    """(gains, losses) of single queries: id, difference, text; the largest first."""
    pairs = list(c.differences.items())
    gains = [(q, v, texts.get(q, "")) for q, v in pairs[:_SHOWN] if v > 0]
    losses = [(q, v, texts.get(q, "")) for q, v in reversed(pairs[-_SHOWN:]) if v < 0]
    return gains, losses
