"""Plots of an evaluation, as SVG that stands in a page."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from splade_os.errors import MissingExtraError
from splade_os.evaluation.comparison import Comparison, confidence_interval
from splade_os.evaluation.report import CurvePoint, Evaluation, Report

# Okabe and Ito's colours, which the colour-blind can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_PANELS = 3  # side by side
_INK, _FAINT = "#222222", "#999999"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "splade-os",  # the same report is the same file
}


def overview(report: Report, measure: str) -> str:
    """Quality with its 95 % interval, and latency, way by way."""
    rows = list(report.evaluations)
    timed = [e for e in rows if e.latency is not None]

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(
            1, 2 if timed else 1, figsize=(9, 1.1 + 0.42 * len(rows)), sharey=True, squeeze=False
        )
        quality = axes[0][0]
        for y, e in enumerate(rows):
            low, high = confidence_interval(e.scores.per_query[measure].values())
            mean = e.scores.means[measure]
            colour = COLOURS[y % len(COLOURS)]
            quality.plot([low, high], [y, y], color=colour, linewidth=2, alpha=0.5)
            quality.plot(mean, y, "o", color=colour)
            quality.annotate(f"{mean:.3f}", (mean, y), (0, 6), textcoords="offset points",
                             ha="center", fontsize=9)  # fmt: skip
        quality.set(xlabel=f"{measure}, with 95 % interval over the queries",
                    yticks=range(len(rows)), yticklabels=[e.label for e in rows])  # fmt: skip
        quality.set_ylim(len(rows) - 0.5, -0.7)
        quality.grid(axis="x")
        if timed:
            _latency(axes[0][1], rows)
        return figure

    return _svg(draw)


def _latency(axis: Any, rows: Sequence[Evaluation]) -> None:
    for y, e in enumerate(rows):
        if e.latency is None:
            axis.annotate("not timed", (0, y), color=_FAINT, va="center", fontsize=9)
            continue
        p50, p95, p99 = np.percentile(e.latency.engine, (50, 95, 99))
        colour = COLOURS[y % len(COLOURS)]
        axis.plot([p50, p95], [y, y], color=colour, linewidth=2, alpha=0.5)
        axis.plot([p95, p99], [y, y], color=colour, linewidth=1, alpha=0.5, linestyle=":")
        axis.plot(p50, y, "o", color=colour)
        axis.plot([p95, p99], [y, y], "|", color=colour)
        axis.annotate(f"{p50:.1f}", (p50, y), (0, 6), textcoords="offset points", ha="center",
                      fontsize=9)  # fmt: skip
    axis.set(xlabel="engine, ms: median, 95 %, 99 % of the queries")
    axis.set_xlim(left=0)
    axis.grid(axis="x")


def differences(comparisons: Sequence[Comparison]) -> str:
    """Gain or loss of every query, sorted; a panel for each comparison."""

    columns = min(len(comparisons), _PANELS)
    lines = -(-len(comparisons) // columns)

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(
            lines, columns, figsize=(9, 2.7 * lines), sharey=True, squeeze=False
        )
        for axis in axes.flat[len(comparisons) :]:
            axis.set_visible(False)
        for i, (axis, c) in enumerate(zip(axes.flat, comparisons, strict=False)):
            values = np.array(list(c.differences.values()))
            axis.fill_between(
                range(len(values)),
                values,
                step="mid",
                color=COLOURS[(i + 1) % len(COLOURS)],
                alpha=0.8,
            )
            axis.axhline(0, color=_INK, linewidth=0.8)
            axis.set_title(c.b, fontsize=10)
            axis.set(xlabel=f"{c.better} better, {c.worse} worse")
            axis.grid(axis="y")
        for line in axes:
            line[0].set(ylabel=f"{comparisons[0].measure} − {comparisons[0].a}'s")  # noqa: RUF001
        return figure

    return _svg(draw)


def curve(points: Sequence[CurvePoint], measure: str) -> str:
    """Quality, index size and latency against the active dimensions of a document."""
    labels = list(dict.fromkeys(p.evaluation.label for p in points))
    sized = any(p.index is not None for p in points)

    def series(label: str) -> list[CurvePoint]:
        mine = [p for p in points if p.evaluation.label == label]
        return sorted(mine, key=lambda p: p.active_dims)

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(1, 3 if sized else 1, figsize=(9, 3.2), squeeze=False)
        quality = axes[0][0]
        for i, label in enumerate(labels):
            mine = series(label)
            x = [p.active_dims for p in mine]
            quality.plot(x, [p.evaluation.scores.means[measure] for p in mine], "o-",
                         color=COLOURS[i % len(COLOURS)], label=label)  # fmt: skip
            if i == 0:
                for p in mine:
                    at = (p.active_dims, p.evaluation.scores.means[measure])
                    quality.annotate(f"{p.value:g}", at, (0, 7), textcoords="offset points",
                                     ha="center", fontsize=8, color=_FAINT)  # fmt: skip
            if sized:
                times = [float(np.percentile(p.evaluation.latency.engine, 95)) if
                         p.evaluation.latency else np.nan for p in mine]  # fmt: skip
                axes[0][2].plot(x, times, "o-", color=COLOURS[i % len(COLOURS)], label=label)
        quality.set(ylabel=measure)
        if sized:
            mine = series(labels[0])
            sizes = [p.index.bytes / 1e6 if p.index else np.nan for p in mine]
            axes[0][1].plot([p.active_dims for p in mine], sizes, "s-", color=_INK)
            axes[0][1].set(ylabel="index, MB")
            axes[0][2].set(ylabel="engine, 95 % ms")
        for axis in axes[0]:
            axis.set(xlabel="active dimensions of a document")
            axis.grid()
        for axis in axes[0][1:]:
            axis.set_ylim(bottom=0)
        figure.legend(*quality.get_legend_handles_labels(), frameon=False, fontsize=9,
                      loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(labels))  # fmt: skip
        return figure

    return _svg(draw)


def _svg(draw: Callable[[Any], Any]) -> str:
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        raise MissingExtraError("The plots of a report", "eval") from None
    with pyplot.rc_context(_STYLE):
        figure = draw(pyplot)
        figure.tight_layout()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
    return file.getvalue().partition("<svg")[1] + file.getvalue().partition("<svg")[2]
