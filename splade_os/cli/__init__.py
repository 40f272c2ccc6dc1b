"""The command line. Each command lives in its own file and is imported when it is called."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

import click

from splade_os import __version__
from splade_os.cli.failures import run

# command → (file, one line for the list)
_COMMANDS = {
    "apply": ("apply", "Apply a stream of changes to an index: writes, updates, deletions."),
    "cluster": ("cluster", "Start, show and stop a local development cluster."),
    "compare": ("compare", "Compare two runs: measures, significance, single queries."),
    "deploy": ("deploy", "Let an OpenSearch cluster encode queries itself."),
    "demo": ("demo", "Ingest real text into a local cluster and search it in three modes."),
    "doctor": ("doctor", "Look at all that is needed here: server, rights, index, model."),
    "encode": ("encode", "Encode documents and write their vectors to a file."),
    "enrich": ("enrich", "Give the documents of an index the vectors that they lack."),
    "evaluate": ("evaluate", "Measure how well queries find what they should."),
    "explain": ("explain", "Show the vector of a text as bars."),
    "export": ("export", "Write a model in another form, e.g. for ONNX Runtime."),
    "idf": ("idf", "Build a query table from documents."),
    "index": ("index", "Create, adopt, list, show and delete indices; undo loads and swaps."),
    "ingest": ("ingest", "Encode documents and write them into an index."),
    "list": ("deploy", "Show the query encoders deployed in a cluster."),
    "mcp": ("mcp", "Serve an index to assistants: a read-only MCP server."),
    "mine": ("mine", "Find hard negatives for training in an index."),
    "model": ("model", "Show what is understood of a model."),
    "retry": ("retry", "Ingest the dead letters of an earlier ingest again."),
    "search": ("search", "Search an index in plain words."),
    "serve": ("serve", "Serve a search page and an HTTP API for an index."),
    "train": ("train", "Fine-tune a model as a recipe says."),
    "undeploy": ("deploy", "Remove a query encoder from a cluster."),
}


class _LazyGroup(click.Group):
    """Lists commands without importing them, so that --help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"splade_os.cli.{_COMMANDS[cmd_name][0]}")
        name = cmd_name if hasattr(module, cmd_name) else f"{cmd_name}_"  # list is taken
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        meant = f"Did you mean {near[0]!r}?" if near else "splade-os --help lists them."
        raise click.UsageError(f"No such command {name!r}. {meant}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(_COMMANDS.items())])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="splade-os")
def cli() -> None:
    """Learned sparse retrieval (SPLADE) on OpenSearch, from the client side.

    Results go to standard output, talk to standard error. Settings come from flags, from
    SPLADE_OS_* variables, .env and splade-os.toml, in this order.
    """


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong use, 3 done with dead letters,
    130 interrupted."""
    sys.exit(run(cli))
