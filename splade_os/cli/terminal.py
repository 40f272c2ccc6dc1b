"""The one way to a terminal or a pipe: no control character of somebody else's text gets there."""

from __future__ import annotations

from typing import Any

import click

from splade_os.control_characters import clean as clean
from splade_os.control_characters import clean_json as clean_json


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
