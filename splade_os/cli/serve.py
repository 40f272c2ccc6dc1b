"""``splade-os serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from splade_os.cli.help_groups import Command, add_options
from splade_os.cli.log_format import logging_to_stderr
from splade_os.cli.options import MOST, connection_options, need_index, settings_of, with_secrets
from splade_os.cli.terminal import echo

_LIMITS = (
    click.option(
        "--max-concurrent",
        type=click.IntRange(1, 10_000),
        default=64,
        show_default=True,
        help="Requests that are worked on at once; more get 429.",
    ),
    click.option("--max-k", type=click.IntRange(1, 10_000), default=1000, show_default=True),
    click.option(
        "--max-texts",
        type=click.IntRange(1, 10_000),
        default=100,
        show_default=True,
        help="Texts, or documents, of one request.",
    ),
    click.option(
        "--max-body", type=click.IntRange(1, MOST), default=1 << 20, help="Bytes.  [default: 1 MiB]"
    ),
    click.option(
        "--request-timeout",
        type=click.FloatRange(0.1, 3600),
        default=30.0,
        show_default=True,
        help="Seconds for one request.",
    ),
)


def _limits(command: Any) -> Any:
    return add_options(command, "Limits", *_LIMITS)


@click.command(cls=Command)
@connection_options
@click.option("--index", help="Name or alias; several with commas, the first is the default.")
@click.option("--model", help="Where the model lies.  [default: as the index names it]")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; another than this machine alone needs a token.",
)
@click.option(
    "--token",
    metavar="TEXT|@FILE",
    envvar="SPLADE_OS_SERVE_TOKEN",
    help="That clients bring. Better in SPLADE_OS_SERVE_TOKEN, or as @FILE.",
)
@click.option("--allow-writes", is_flag=True, help="Let /v1/documents change the index.")
@click.option(
    "--judgements",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the judgements of the page, as `evaluate` reads them.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line for each request, on stderr.",
)
@_limits
def serve(log_format: Any, **flags: Any) -> None:
    """Serve a search page and an HTTP API for an index."""
    import gc

    from splade_os.serve.options import ServeOptions
    from splade_os.serve.server import Service
    from splade_os.settings import load_settings

    names = ("host", "port", "allow_writes", "judgements", "max_concurrent", "max_k", "max_texts")
    own = {name: flags.pop(name) for name in (*names, "max_body")}
    own["timeout"] = flags.pop("request_timeout")
    own["token"] = _token(flags.pop("token"))
    indices = need_index(settings_of(**flags)).split(",")
    settings = load_settings(**with_secrets(flags))
    options = ServeOptions(tuple(name.strip() for name in indices if name.strip()), **own)
    # requests leave few cycles behind, and vocabularies are many objects to look through: 6 % of
    # the time of a search
    gc.set_threshold(50_000, 20, 100)
    with logging_to_stderr(log_format, "splade_os.serve", every_line=True):
        service = Service(settings, options)
        service.run(
            lambda: echo(f"Serving {', '.join(options.indices)} at {service.url}", err=True)
        )


def _token(given: str | None) -> str | None:
    if given is None or not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).expanduser().read_text("utf-8").strip()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "it holds no text"
        raise click.UsageError(f"The file of --token cannot be read: {reason}.") from None
