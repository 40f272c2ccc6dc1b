"""What an ingest shows while it runs, and at its end: on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from splade_os.cli.terminal import clean, echo, secho

if TYPE_CHECKING:
    from rich.console import Console

    from splade_os.ingest.report import IngestReport
    from splade_os.ingest.sources import Source

_EVERY = 10.0  # seconds between two lines where there is no terminal
_FIRST = 2.0
_REASONS = 5  # kinds of them that are shown


@contextmanager
def ingest_progress(source: Source) -> Iterator[Callable[[IngestReport], None]]:
    """Rates, queues and the time that is left: a bar on a terminal, elsewhere a line after two
    seconds and then every ten."""
    from rich.console import Console

    console = Console(stderr=True)
    begin: IngestReport | None = None

    def parts(report: IngestReport) -> ProgressParts:
        nonlocal begin
        begin = begin or report
        return progress_parts(report, begin, _fraction(source, report))

    if not console.is_terminal:
        due = time.monotonic() + _FIRST

        def plain(report: IngestReport) -> None:
            nonlocal due
            text = ", ".join(filter(None, parts(report)))
            if time.monotonic() >= due:
                due = time.monotonic() + _EVERY
                echo(text, err=True)

        yield plain
        return
    with progress_bar(console, known=bool(source.total)) as draw:
        yield lambda report: draw(parts(report), _fraction(source, report))


@contextmanager
def progress_bar(
    console: Console, *, known: bool
) -> Iterator[Callable[[ProgressParts, float], None]]:
    """A bar, and below it what is left, the counts and the rates: lines that wrap, since a
    narrow terminal would hide the end of a line, where dead letters may stand.

    Args:
        known: whether the end of the source is known.
    """
    from rich.console import RenderableType
    from rich.progress import BarColumn, Progress, SpinnerColumn, TimeElapsedColumn
    from rich.text import Text

    below: list[str] = []

    class Bar(Progress):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield from super().get_renderables()
            yield from map(Text, below)

    columns = (SpinnerColumn(), BarColumn(20), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0 if known else None)

        def draw(parts: ProgressParts, done: float) -> None:
            below[:] = filter(None, parts)
            bar.update(task, completed=done)

        yield draw


class ProgressParts(NamedTuple):
    """What is told of a running ingest, the most important first.

    Attributes:
        left: how much is through, and the time that is left; empty where it is not known.
        counts: of documents, dead letters and retries.
        rates: and what waits where.
    """

    left: str
    counts: str
    rates: str


def _fraction(source: Source, report: IngestReport) -> float:
    """How much of the source is through: what is read, less what is still under way."""
    if not source.total or not report.read:
        return 0.0
    return min(1.0, source.done / source.total * report.settled / report.read)


def progress_parts(report: IngestReport, begin: IngestReport, done: float) -> ProgressParts:
    """The parts of a report; rates are those since ``begin``.

    Args:
        done: how much of the source is through, 0 to 1; 0 where it is not known.
    """
    seconds = max(report.seconds, 1e-9)
    settled = report.settled - begin.settled
    left = []
    if done:
        left.append(f"{done:.0%}")
        first = _share(begin, report) * done
        if done > first and settled:
            left.append(f"about {_duration(seconds * (1 - done) / (done - first))} to go")
    counts = [f"{report.indexed:,} indexed", f"{settled / seconds:,.0f} docs/s"]
    for name in ("dead", "retries", "unchanged"):
        count = getattr(report, name)
        if count:
            counts.append(f"{count:,} {'dead letters' if name == 'dead' else name}")
    waiting = " ".join(f"{name} {count}" for name, count in report.queues.items())
    rates = [
        f"{report.encoded:,} encoded",
        f"{report.tokens / seconds:,.0f} tokens/s",
        f"{(report.bytes - begin.bytes) / seconds / 1e6:.1f} MB/s",
        f"queues: {waiting} ({report.requests} requests)",
    ]
    return ProgressParts(*(", ".join(part) for part in (left, counts, rates)))


def _share(begin: IngestReport, report: IngestReport) -> float:
    """The part of what is through that an earlier run did."""
    return begin.settled / report.settled if report.settled else 0.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def summarise(report: IngestReport) -> None:
    """The last lines of an ingest."""
    rate = report.indexed / report.seconds if report.seconds else 0
    extra = "".join(
        f", {getattr(report, name):,} {name}"
        for name in ("unchanged", "duplicates", "deleted")
        if getattr(report, name)
    )
    echo(
        f"{report.indexed:,} of {report.read:,} records indexed in {report.seconds:,.1f} s "
        f"({rate:,.0f} docs/s): {report.created:,} new, {report.updated:,} overwritten{extra}.",
        err=True,
    )
    if report.empty:
        echo(
            f"{report.empty:,} have no content that the model knows, and so no vector: only BM25 "
            "finds them.",
            err=True,
        )
    if report.conflicts:
        secho(
            f"{report.conflicts:,} records have the id of another record with other content: the "
            "last one of each id is kept. Is the id field the right one (--id)?",
            fg="yellow",
            err=True,
        )
    if report.cut:
        echo(
            f"{report.cut:,} are longer than the model takes: {report.lost_share:.1%} of all "
            "tokens were cut off. To keep them: --long-texts chunk, into a new index.",
            err=True,
        )
    if report.dead:
        for reason, count in list(report.reasons.items())[:_REASONS]:
            secho(f"  {count:,} x {clean(reason)}", fg="yellow", err=True)
        secho(
            f"{report.dead:,} dead letters with their reasons: {report.dead_letters}\n"
            f"When they are mended: splade-os retry {report.dead_letters}",
            fg="yellow",
            err=True,
        )
    if report.statistics_lag:
        echo(f"IDF queries: {report.statistics_lag}.", err=True)
    if report.removed:
        secho(
            f"Nothing was indexed: the index {report.index}, which this ingest had made, is "
            "deleted again.",
            fg="yellow",
            err=True,
        )
    elif report.interrupted:
        secho(
            "Interrupted. What was under way is finished and saved; the same command with "
            "--resume goes on.",
            fg="yellow",
            err=True,
        )
    elif report.verified:
        secho(
            f"Verified: {report.index} holds {report.count_after:,}; {report.checked:,} were read "
            "back.",
            fg="green",
            err=True,
        )
    elif report.lost_canaries and not report.faults:
        secho(
            f"NOT verified: canaries do not find what they must in {report.index}.\n"
            + "\n".join(f"  {fault}" for fault in report.lost_canaries)
            + "\nIf they are wrong, mend them: --resume asks again, without loading anew. Else "
            "--restart.",
            fg="red",
            err=True,
        )
    else:
        faults = report.faults or (
            f"{report.expected:,} documents were expected; something else deletes from it, or "
            "documents were lost",
        )
        secho(
            f"NOT verified: {report.index} holds {report.count_after:,} documents.\n"
            + "\n".join(f"  {fault}" for fault in faults[:10])
            + "\nRun the same command again.",
            fg="red",
            err=True,
        )
