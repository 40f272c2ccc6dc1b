"""``splade-os mcp``."""

from __future__ import annotations

from typing import Any

import click

from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    connection_options,
    index_option,
    need_index,
    settings_of,
    with_secrets,
)


@click.command(cls=Command)
@connection_options
@index_option
@click.option("--model", help="Where the index's model lies.  [default: as the index names it]")
def mcp(**flags: Any) -> None:
    """Serve an index to an assistant by the Model Context Protocol, over standard input and output.

    The tools search, explain and index_show read the index; none writes.
    """
    from splade_os.integrations.mcp import mcp_server
    from splade_os.search.client import SearchClient

    need_index(settings_of(**flags))
    with SearchClient(**with_secrets(flags)) as client:
        _ = client.meta  # said now, not to the assistant
        mcp_server(client).run()
