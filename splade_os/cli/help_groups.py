"""``--help`` in groups: what a command is for first, how it connects last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import click

CONNECTION = "Connection"
_REST = "Options"
_group_of: WeakKeyDictionary[click.Parameter, str] = WeakKeyDictionary()
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def add_options(
    command: Decorated, group: str, *options: Callable[[Decorated], Decorated]
) -> Decorated:
    """Give a command options, which ``--help`` shows together under the name of the group."""
    for option in reversed(options):
        command = option(command)
        # click collects the options of a function there until a command is made of it
        added: list[click.Parameter] = vars(command)["__click_params__"]
        _group_of[added[-1]] = group
    return command


class Command(click.Command):
    """Options of no group first, then the groups in their order, the connection last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {_REST: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(_group_of.get(parameter, _REST), []).append(record)
        if CONNECTION in groups:
            groups[CONNECTION] = groups.pop(CONNECTION)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


class Group(click.Group):
    """Its commands show their options in groups."""

    command_class = Command
