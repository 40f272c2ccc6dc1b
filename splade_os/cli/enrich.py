"""``splade-os enrich``."""

from __future__ import annotations

from typing import Any

import click

from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    need_index,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo


@click.command(cls=Command)
@connection_options
@index_option
@click.option("--model", help="Folder, hub name or 'starter'.  [default: the index's]")
@click.option("--device", help="torch device.  [default: the first GPU, else the CPU]")
@json_option
def enrich(as_json: bool, device: str | None, **flags: Any) -> None:
    """Give the documents of an index the vectors that they lack.

    For an index that was adopted (`splade-os index adopt`), and as the nightly repair of one that
    others write to: what has no vector, or that of another text, is encoded and written as a
    partial update, on condition that the document has not changed meanwhile. Stopped at any time,
    the same command goes on.
    """
    from splade_os.online.index import Index

    settings = settings_of(**flags)
    name = need_index(settings)
    engine = open_engine(settings)
    engine.index_meta(name)  # nothing is made, and nothing adopted, on the way
    index = Index(index=name, engine=engine, model=settings.model, device=device)
    try:
        with busy(f"Encoding the documents of {name} that lack their vector"):
            counts = index.enrich()
    finally:
        index.close()
    if as_json:
        print_json({"index": name, **counts})
    else:
        told = ", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in counts.items())
        echo(f"{name}: {told or 'no documents'}.", err=True)
    if counts.get("failed"):
        raise click.exceptions.Exit(3)
