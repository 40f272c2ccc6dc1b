"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from splade_os.engines import Engine
    from splade_os.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

_CONNECTION = (
    click.option("--url", help="Cluster, or sqlite:///FILE.  [default: http://localhost:9200]"),
    click.option("--username", help="For basic authentication."),
    click.option(
        "--password",
        help="Better in SPLADE_OS_PASSWORD: a flag shows in the process list.",
    ),
    click.option("--api-key", help="Of Elasticsearch. Better in SPLADE_OS_API_KEY."),
    click.option("--ca-certs", type=click.Path(exists=True, dir_okay=False), help="CA bundle."),
    click.option(
        "--insecure", "verify_certs", flag_value=False, default=None, help="Skip the check of TLS."
    ),
    click.option("--timeout", type=float, help="Seconds per request.  [default: 60]"),
)


def connection_options(command: Command) -> Command:
    """--url, --username ... as keyword arguments for `settings_of`."""
    for option in reversed(_CONNECTION):
        command = option(command)
    return command


index_option = click.option("--index", help="Name or alias of the index.")
field_type_option = click.option(
    "--field-type",
    type=click.Choice(["rank_features", "sparse_vector"]),
    help="How a new index stores vectors.  [default: the first that the engine has]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def settings_of(**flags: Any) -> Settings:
    """Settings with the given flags on top."""
    from splade_os.settings import load_settings

    return load_settings(**flags)


def open_engine(settings: Settings) -> Engine:
    """The engine behind the URL of the settings."""
    from splade_os.engines import connect

    return connect(settings.url, **settings.connection())


def need_index(settings: Settings) -> str:
    """The index of the settings."""
    if settings.index is None:
        raise click.UsageError("Which index? Give --index NAME, or set SPLADE_OS_INDEX.")
    return settings.index


def print_json(value: Any) -> None:
    """One JSON object, indented, on stdout."""
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str))
