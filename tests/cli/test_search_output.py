"""What `splade-os search` prints of a hit: never without its rank, score, id and matched terms."""

from __future__ import annotations

import io
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splade_os.cli.search import _table
from splade_os.search.results import Hit, Results, Term

LONG = "mountain coat thread vector river winter engine " * 20
IDS = st.one_of(
    st.from_regex(r"[a-z0-9-]{1,60}", fullmatch=True), st.just("https://example.org/a/" + "x" * 90)
)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def hits(ids: list[str], text: str = LONG) -> Results:
    terms = (Term("river", 1.0, 2.0, 2.0, False), Term("mountain", 1.0, 1.5, 1.5, True))
    made = (
        Hit(each, 12.34567 / rank, rank, {"name": text, "price": 3}, terms)
        for rank, each in enumerate(ids, 1)
    )
    return Results(tuple(made), "idf", {})


@settings(max_examples=20)
@given(ids=st.lists(IDS, min_size=1, max_size=12), width=st.sampled_from([40, 80, 120, 200]))
def test_on_a_terminal(ids: list[str], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        shown = _printed(patch, hits(ids), terminal=True)
    lines = shown.splitlines()
    for rank, each in enumerate(ids, 1):
        (line,) = [line for line in lines if re.match(rf"\s*{rank}  ", line)]
        assert each in line and f"{12.34567 / rank:.4g}" in line
        assert len(line) <= max(width, len(each) + 20)
    assert shown.count("river 2.0") == shown.count("mountain 1.5") == len(ids)


@settings(max_examples=20)
@given(ids=st.lists(IDS, min_size=1, max_size=12), text=st.text(max_size=50))
def test_in_a_pipe_a_line_is_a_hit(ids: list[str], text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "40")
        shown = _printed(patch, hits(ids, text), terminal=False)
    lines = shown.split("\n")[:-1]
    assert len(lines) == len(ids)
    for rank, (each, line) in enumerate(zip(ids, lines, strict=True), 1):
        cells = line.split("\t")
        assert cells[:3] == [str(rank), repr(12.34567 / rank), each] and len(cells) == 5
        assert cells[4] == "river 2.0  mountain 1.5"


def _printed(patch: pytest.MonkeyPatch, results: Results, *, terminal: bool) -> str:
    out = _Terminal() if terminal else io.StringIO()
    patch.setattr(sys, "stdout", out)
    _table(results, explain=True, fields=("name",))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
