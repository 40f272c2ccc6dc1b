"""An evaluation as JSON, as a page, as TREC runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splade_os.cli.terminal import echo
from splade_os.errors import InputError

if TYPE_CHECKING:
    from splade_os.evaluation.report import Report


def to_json(reports: Sequence[Report]) -> dict[str, Any]:
    """One report, or several with their mean."""
    from splade_os.evaluation.report import mean_of

    if len(reports) == 1:
        return reports[0].to_dict()
    modes = range(len(reports[0].evaluations))
    means = [mean_of([r.evaluations[i] for r in reports], "NanoBEIR_mean") for i in modes]
    labels = [e.label for e in reports[0].evaluations]
    return {
        "collections": [report.to_dict() for report in reports],
        "mean": {
            label: {
                "measures": dict(mean.scores.means),
                "sparsity": mean.sparsity,
                "card": mean.card("NanoBEIR_mean"),
            }
            for label, mean in zip(labels, means, strict=True)
        },
    }


def write_html(file: Path, report: Report, by: str) -> None:
    """Write the page of a report."""
    from splade_os.evaluation.html import render

    page = render(report, by)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page, "utf-8")
    except OSError as error:
        raise InputError(f"The report {file} cannot be written: {error}") from None
    echo(f"Report written: {file}", err=True)


def write_runs(folder: Path, reports: Sequence[Report]) -> None:
    """Write a TREC run for each way of each collection."""
    from splade_os.evaluation.trec import write_run

    for report in reports:
        for evaluation in report.evaluations:
            name = "-".join([report.collection, *evaluation.label.split()])
            file = folder / f"{name}.trec"
            write_run(file, evaluation.run, name)
            echo(f"Run written: {file}", err=True)
