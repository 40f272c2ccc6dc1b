"""Texts of others on a terminal: nothing of them is markup, no control character gets through."""

from __future__ import annotations

import json
import logging
import re

import pytest
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from splade_os.cli.log_format import _Text
from splade_os.cli.search import _summary, _table
from splade_os.cli.terminal import clean, clean_json, confirm, echo, secho
from splade_os.errors import EngineError
from splade_os.search.results import Hit, Results

HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("[]/\\\x1b\x9b\u202e"))


@settings(max_examples=50)
@example("[/x]")
@example("list[i] and x[bold]y")
@example("\x1b[31mred\x1b]0;title\x07 \x9b2J \u202eright to left")
@given(TEXTS)
def test_a_hit_is_shown_as_it_is(text: str) -> None:
    from rich.console import Console

    hit = Hit(text or "x", 1.0, 1, {"title": text}, matched_words=(text,))
    results = Results((hit,), "raw", {text: 1.0}, reason=text, weights_from=text)
    capture = CliRunner()
    with capture.isolation() as (out, err, *_):
        _table(results, explain=True)
        _summary(results, explain=True)
        Console().print()
        shown = out.getvalue().decode() + err.getvalue().decode()
    assert not HOSTILE.search(shown), ascii(shown)
    narrow = clean(" ".join(text.split()))[:8].strip()
    assert narrow in re.sub(r"\s+", " ", shown) or len(narrow) != len(narrow.encode())


@settings(max_examples=100)
@given(TEXTS)
def test_json_loses_nothing(text: str) -> None:
    escaped = clean_json(json.dumps([text], ensure_ascii=False, indent=2))
    assert json.loads(escaped) == [text] and not HOSTILE.search(escaped)


def test_a_message_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    import click

    from splade_os.cli.failures import run

    @click.command()
    def fails() -> None:
        raise EngineError("index \x1b[31mred\nsecond line \u202e", hint="\x9b2J")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["x"])
        assert run(fails) == 1
    said = capsys.readouterr().err
    assert r"index \x1b[31mred\nsecond line " in said and not HOSTILE.search(said)


def test_a_stored_field_of_a_hits_own_name() -> None:
    source = {"id": "stored", "score": "9", "rank": 7, "stored_id": "too", "title": "t"}
    (row,) = Results((Hit("1", 2.5, 1, source),), "raw", {}).to_pandas().to_dict("records")
    assert (row["id"], row["score"], row["rank"]) == ("1", 2.5, 1)
    assert sorted(map(str, source.values())) == sorted(
        str(value) for name, value in row.items() if name.startswith("stored_") or name == "title"
    )


@settings(max_examples=50)
@given(TEXTS)
def test_the_one_way_out(text: str) -> None:
    """Talk, questions and log lines: whatever a name in them holds."""
    runner = CliRunner()
    with runner.isolation(input="y\n") as (out, err, *_):
        echo(text)
        secho(text, err=True, fg="red")
        assert confirm(f"Delete {text}?")
        record = logging.LogRecord("x", logging.WARNING, "", 0, text.replace("%", "%%"), (), None)
        _Text().emit(record)
        said = out.getvalue().decode() + err.getvalue().decode()
    assert not HOSTILE.search(said.replace("\r\n", "\n")), ascii(said)
