"""``--help`` shows every option once, in its group, and how to connect last."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from splade_os.cli import cli
from splade_os.cli.options import connection_options


def _commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


def _connecting() -> set[str]:
    @click.command()
    @connection_options
    def nothing() -> None:
        pass

    return {option.opts[0] for option in nothing.params}


_ALL = dict(_commands(cli))
_CONNECT = {n: c for n, c in _ALL.items() if any("--ca-certs" in p.opts for p in c.params)}


def _sections(command: click.Command) -> dict[str, list[str]]:
    """Title → first names of the options there, as a reader sees them."""
    context = click.Context(command, info_name="x", max_content_width=100)
    sections: dict[str, list[str]] = {}
    title = ""
    for line in command.get_help(context).splitlines():
        if found := re.fullmatch(r"([A-Z][a-zA-Z0-9 ]+):", line):
            title = found[1]
            sections[title] = []
        elif title and (option := re.match(r"  (?:-\w, )?(--[a-z0-9-]+)", line)):
            sections[title].append(option[1])
    return sections


@pytest.mark.parametrize("name", _CONNECT)
def test_how_to_connect_comes_last(name: str) -> None:
    sections = _sections(_CONNECT[name])
    assert list(sections)[-1] == "Connection"
    assert set(sections["Connection"]) == _connecting()


@pytest.mark.parametrize("name", _ALL)
def test_every_option_is_shown_once(name: str) -> None:
    command = _ALL[name]
    shown = [option for options in _sections(command).values() for option in options]
    wanted = [
        next(name for name in p.opts if name.startswith("--"))
        for p in command.get_params(click.Context(command))
        if isinstance(p, click.Option) and not p.hidden
    ]
    assert sorted(shown) == sorted(wanted)


def test_the_options_of_ingest_stand_in_groups() -> None:
    sections = _sections(_ALL["ingest"])
    titles = "Options,Reading the source,New index,Encoding,Running,Beyond one machine,Connection"
    assert list(sections) == titles.split(",")
    told = _ALL["ingest"].get_help(click.Context(_ALL["ingest"]))
    assert "SOURCE" not in told[told.index("Options:") : told.index("Reading the source:")]
