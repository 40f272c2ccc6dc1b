"""Options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from splade_os.cli.help_groups import CONNECTION, add_options
from splade_os.cli.terminal import clean_json, echo

if TYPE_CHECKING:
    from pathlib import Path

    from splade_os.engines import Engine
    from splade_os.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

MOST = 2**31 - 1
"""Of any whole number of the command line: what C code behind it can take."""
_SHOWN = 10  # names of indices in a message
_SECRET = "TEXT|@FILE"
_FILE = click.Path(exists=True, dir_okay=False)
_CONNECTION = (
    click.option(
        "--url",
        multiple=True,
        callback=lambda ctx, option, urls: ",".join(urls) or None,
        help="Cluster, or sqlite:///FILE; several nodes of a cluster with commas between, or the "
        "flag repeated.  [default: http://localhost:9200]",
    ),
    click.option("--cloud-id", help="Of Elastic Cloud, instead of --url."),
    click.option("--username", help="For basic authentication; asks for the password."),
    click.option(
        "--password",
        metavar=_SECRET,
        help="Better in SPLADE_OS_PASSWORD: a flag shows in the process list.",
    ),
    click.option(
        "--api-key", metavar=_SECRET, help="Of Elasticsearch. Better in SPLADE_OS_API_KEY."
    ),
    click.option("--bearer-token", metavar=_SECRET, help="Better in SPLADE_OS_BEARER_TOKEN."),
    click.option("--aws-region", help="Sign requests (SigV4) with the AWS credentials at hand."),
    click.option(
        "--aws-service", type=click.Choice(["es", "aoss"]), help="[default: by the host name]"
    ),
    click.option("--ca-certs", type=click.Path(exists=True), help="CA bundle."),
    click.option(
        "--insecure", "verify_certs", flag_value=False, default=None, help="Skip the check of TLS."
    ),
    click.option(
        "--allow-http",
        is_flag=True,
        default=None,
        help="Send credentials without TLS to another machine.",
    ),
    click.option("--fingerprint", help="SHA-256 of the server's certificate, or of its CA's."),
    click.option("--client-cert", type=_FILE, help="Certificate that introduces this client."),
    click.option("--client-key", type=_FILE, help="Its key; asks for the password if encrypted."),
    click.option(
        "--client-key-password",
        metavar=_SECRET,
        help="Better in SPLADE_OS_CLIENT_KEY_PASSWORD.",
    ),
    click.option("--timeout", type=float, help="Seconds per request.  [default: 60]"),
    click.option(
        "--compress/--no-compress",
        default=None,
        help="gzip both ways: fewer bytes, more work at both ends.  [default: no]",
    ),
    click.option(
        "--statistics-index",
        help="Index that keeps the term statistics.  [default: splade-os-statistics]",
    ),
)


def connection_options(command: Command) -> Command:
    """--url, --username ... as keyword arguments for `settings_of`."""
    return add_options(command, CONNECTION, *_CONNECTION)


index_option = click.option("--index", help="Name or alias of the index.")
field_type_option = click.option(
    "--field-type",
    metavar="rank_features|sparse_vector|impact[:MAX]",
    help="How a new index stores vectors; MAX: the weight that is stored as 255.  [default: the "
    "first that the engine has]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


_given: list[Settings] = []  # those of this command, for what is said when it fails


def settings_of(**flags: Any) -> Settings:
    """Settings with the given flags on top."""
    from splade_os.settings import load_settings

    settings = load_settings(**flags)
    _given[:] = [settings]
    return settings


def open_engine(settings: Settings) -> Engine:
    """The engine behind the URL of the settings."""
    return engine_opener(settings)()


def engine_opener(settings: Settings) -> Callable[[], Engine]:
    """What opens the engine, here or in another process, with what a person was asked for."""
    from splade_os.engines import connect

    return partial(connect, settings.url, **{**settings.connection(), **_asked(settings)})


def with_secrets(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags, and what only a person at the terminal knows."""
    settings = settings_of(**flags)
    asked = _asked(settings)
    if not asked:
        return flags
    # who typed the password saw for which server
    server = {} if settings.cloud_id else {"url": settings.url}
    return {**flags, **settings.connection(), **server, "cloud_id": settings.cloud_id, **asked}


def _asked(settings: Settings) -> dict[str, Any]:
    """Secrets that are missing, asked for on a terminal; elsewhere the engine says what lacks."""
    terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
    if not terminal or settings.url.startswith("sqlite:"):
        return {}
    from pydantic import SecretStr

    from splade_os.engines.connection.tls import needs_password

    def ask(what: str) -> SecretStr:
        return SecretStr(
            click.prompt(what, hide_input=True, default="", show_default=False, err=True)
        )

    asked = {}
    if settings.username is not None and settings.password is None:
        unchecked = "" if settings.verify_certs else ", TLS not checked"
        asked["password"] = ask(f"Password of {settings.username} at {settings.url}{unchecked}")
    key = settings.client_key or settings.client_cert
    if key is not None and settings.client_key_password is None and needs_password(key):
        asked["client_key_password"] = ask(f"Password of the key {key}")
    return asked


def need_index(settings: Settings) -> str:
    """The index of the settings."""
    if settings.index is None:
        raise click.UsageError(
            f"Which index? Give --index NAME, or set SPLADE_OS_INDEX. {indices_there()}".strip()
        )
    return settings.index


def indices_there(wanted: str = "") -> str:
    """The indices and aliases that there are where this command looks, for a message; those whose
    name is like the wanted one first. Empty where that cannot be found out at once."""
    import difflib

    from splade_os.engines import connect
    from splade_os.errors import SpladeError

    if not _given:
        return ""
    (settings,) = _given
    quick = {**settings.connection(), "timeout": min(settings.timeout, 5.0)}
    try:
        engine = connect(settings.url, **quick)
        listed = engine.overview()
        engine.close()
    except SpladeError:
        return ""
    names = sorted({name for each in listed for name in (each.name, *each.aliases)})
    if not names:
        return f"There are no indices of splade-os at {engine.url} yet."
    near = difflib.get_close_matches(wanted, names, n=3)
    names = [*near, *(name for name in names if name not in near)]
    more = f" and {len(names) - _SHOWN:,} more (splade-os index list)" * (len(names) > _SHOWN)
    return f"There are: {', '.join(names[:_SHOWN])}{more}."


def check_output(file: Path) -> None:
    """A file can be written there: said before a model is loaded, not after."""
    if str(file) == "-":
        if sys.stdout is None:
            raise click.UsageError("Standard output is closed: give -o FILE.")
        return
    if not file.parent.is_dir():
        raise click.UsageError(f"There is no folder {file.parent} for {file.name}: make it first.")
    if file.is_dir():
        raise click.UsageError(f"{file} is a folder: name a file in it.")


def print_json(value: Any) -> None:
    """One JSON object, indented, on stdout."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    echo(clean_json(text))
