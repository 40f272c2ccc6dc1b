"""What an ingest shows can be read on a narrow terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from splade_os.cli.progress import progress_bar, progress_parts, summarise
from splade_os.ingest.report import IngestReport

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_everything_can_be_read(width: int, known: bool) -> None:
    """Retries, dead letters and the time that is left, at any width, and no line is cut."""
    report = IngestReport(
        index="products",
        read=9_876_543,
        encoded=8_765_432,
        created=7_654_321,
        dead=1_234,
        retries=567,
        unchanged=89_012,
        tokens=123_456_789,
        bytes=9_876_543_210,
        seconds=4_000.0,
        queues={"tokenize": 12, "encode": 34, "render": 56, "send": 78},
        requests=4,
    )
    out = io.StringIO()
    console = Console(file=out, width=width, height=30, force_terminal=True)
    parts = progress_parts(report, IngestReport(index="products"), 0.41 if known else 0.0)
    with progress_bar(console, known=known) as draw:
        draw(parts, 0.41 if known else 0.0)
    shown = _CONTROL.sub("", out.getvalue()).replace("\r", "\n")
    words = " ".join(shown.split())
    assert all(len(line) <= width for line in shown.split("\n"))
    assert "…" not in shown
    for text in ("1,234 dead letters", "567 retries", "7,654,321 indexed", "89,012 unchanged"):
        assert text in words, shown
    assert "send 78 (4 requests)" in words
    assert not known or re.search(r"41%, about 1 h \d\d min to go", words), shown
    assert "━" in shown
    # the most important stands first
    assert words.rindex("dead letters") < words.rindex("tokens/s") < words.rindex("queues")


def test_statistics_that_are_not_up_to_date_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = "the term statistics of products could not be written: forbidden"
    summarise(IngestReport(index="products", read=1, created=1, count_after=1, statistics_lag=told))
    shown = capsys.readouterr().err
    assert f"IDF queries: {told}." in shown and "Verified" in shown
