"""What a terminal or a pipe may be given of texts that somebody else wrote.

Documents, ids, names of indices and fields, messages of servers: none of it is markup, and a
control character among it would move the cursor, set the title, or turn a line around.
"""

from __future__ import annotations

import re
from typing import Any

import click

# C0, DEL, C1, lines and paragraphs of Unicode, marks that change the direction of what follows
_CONTROL = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_ONE_LINE = re.compile(f"[{_CONTROL}]")
_LINES = re.compile(f"(?![\n\t])[{_CONTROL}]")
_IN_JSON = re.compile("(?![\n])[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str, *, lines: bool = False) -> str:
    """A text with ``\ufffd`` for each control character; ``lines``: but line breaks and tabs."""
    return (_LINES if lines else _ONE_LINE).sub("\ufffd", text)


def clean_json(text: str) -> str:
    """JSON with the control characters escaped that JSON itself would leave: nothing is lost."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: object = "", *, nl: bool = True, err: bool = False) -> None:
    """`click.echo` of anything: the one way to a terminal or a pipe, so that no command has to
    think of what a name or a message may hold. (Tables are rich's, of cells that are `clean`.)"""
    click.echo(clean(str(text), lines=True), nl=nl, err=err)


def secho(text: object, *, err: bool = False, **style: Any) -> None:
    """`echo` with a style of `click.style`."""
    click.secho(clean(str(text), lines=True), err=err, **style)


def confirm(text: str, *, abort: bool = False) -> bool:
    """`click.confirm` on stderr."""
    return click.confirm(clean(text), abort=abort, err=True)
