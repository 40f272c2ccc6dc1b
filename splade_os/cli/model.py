"""``splade-os model``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.encoding import stating_options
from splade_os.cli.options import json_option, print_json
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo

if TYPE_CHECKING:
    from splade_os.model_check.report import ModelReport


@click.group()
def model() -> None:
    """Look at models."""


@model.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what is understood of the model NAME (starter, a folder, or a hub name)."""
    from splade_os.encoding.layout import read_layout
    from splade_os.encoding.onnx_backend import GRAPHS, graph_file
    from splade_os.encoding.resolve import model_hash, resolve_model
    from splade_os.encoding.tokenization import TextTokenizer
    from splade_os.encoding.weights import hashed_files

    found = resolve_model(name)
    layout = read_layout(found.folder)
    part = layout.document
    tokenizer = TextTokenizer(
        part.folder, max_length=None, lowercase=part.lowercase, special_tokens=False
    )
    weights = sum(file.stat().st_size for file in hashed_files(part.folder))
    facts: dict[str, Any] = {
        "folder": str(found.folder),
        "revision": found.revision,
        "family": part.family,
        "weights": f"{weights / 1e6:.1f} MB",
        "vocabulary": f"{len(tokenizer.vocabulary()):,} tokens",
        "activation": part.activation,
        "pooling": part.pooling,
        "max_length": part.max_length,
        "query_side": layout.query_side,
        "document_prompt": layout.document_prompt,
        "query_prompt": layout.query_prompt,
        **layout.options.model_dump(exclude_none=True),
        "onnx": ", ".join(p for p in GRAPHS if graph_file(part.folder, p)) or None,
        "licence": _licence(found.folder / "README.md"),
        "content_hash": model_hash(part),
    }
    if as_json:
        print_json(facts)
        return
    if part.activation is None:
        facts["activation"] = facts["pooling"] = "not stated: say --activation and --pooling"
    for label, value in facts.items():
        if value not in (None, ""):
            echo(f"{label.replace('_', ' '):<18} {value}")


STYLES = {"ok": "green", "fails": "bold red", "refused": "yellow", "skipped": "dim", "info": ""}


@model.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="Leave out exports and training.")
@stating_options
@json_option
def check(
    name: str, quick: bool, activation: str | None, pooling: str | None, as_json: bool
) -> None:
    """Try out everything with the model NAME (starter, a folder, or a hub name).

    Tokenizer and vectors against transformers and sentence-transformers, precisions, exports,
    training. Exit code 1 where something fails; what a model may lack is "refused", and why.
    """
    from splade_os.model_check.check import check_model

    with busy(f"Checking {name}"):
        report = check_model(name, quick=quick, activation=activation, pooling=pooling)
    if as_json:
        print_json(report.to_dict())
    else:
        _print_report(report)
    if not report.ok:
        raise click.exceptions.Exit(1)


def _print_report(report: ModelReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, title=report.model, title_justify="left")
    for column in ("check", "result"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for row in report.rows:
        found = Text(row.detail)
        if row.hint:
            found.append(f" {row.hint}", style="italic")
        table.add_row(row.name, Text(row.status, style=STYLES[row.status]), found)
    Console().print(table)


def _licence(card: Any) -> str | None:
    """The licence of a model card's front matter."""
    if not card.is_file():
        return None
    for line in card.read_text("utf-8", "replace").splitlines()[:60]:
        if line.startswith("license:"):
            return str(line.removeprefix("license:").strip())
    return None
