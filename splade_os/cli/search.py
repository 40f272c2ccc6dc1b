"""``splade-os search``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.options import (
    connection_options,
    index_option,
    json_option,
    need_index,
    print_json,
    settings_of,
)

if TYPE_CHECKING:
    from rich.text import Text

    from splade_os.search.results import Hit

OWN_STYLE, EXPANSION_STYLE = "green", "magenta"


@click.command()
@click.argument("text")
@connection_options
@index_option
@click.option("--model", help="Where the index's model lies.  [default: as the index names it]")
@click.option("--mode", type=click.Choice(["idf", "encoder", "bm25"]), default="idf")
@click.option("-k", "--size", "k", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--explain", is_flag=True, help="Show which terms matched, and their shares.")
@json_option
def search(text: str, mode: Any, k: int, explain: bool, as_json: bool, **flags: Any) -> None:
    """Search an index for TEXT, in plain words."""
    from rich.console import Console
    from rich.table import Table

    from splade_os.search.client import SearchClient

    settings = settings_of(**flags)
    need_index(settings)
    with SearchClient(**flags) as client:
        results = client.search(text, k, mode, explain=explain)
    if as_json:
        print_json(results.to_dict())
        return
    if results.reason:
        click.echo(results.reason, err=True)
        return
    table = Table(box=None, pad_edge=False)
    for name, justify in (("rank", "right"), ("score", "right"), ("id", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("document", no_wrap=True, overflow="ellipsis", ratio=1)
    if explain:
        table.add_column("matched", ratio=1)
    for hit in results:
        cells: list[Any] = [str(hit.rank), f"{hit.score:.3f}", hit.id, headline(hit)]
        table.add_row(*cells, *([matched(hit)] if explain else []))
    Console().print(table)
    click.echo(f"{len(results)} hits by {mode} in {results.took_ms:.0f} ms.", err=True)


def headline(hit: Hit) -> str:
    """One line that tells what a document is."""
    source = hit.source
    text = " ".join(str(source[f]) for f in ("title", "text") if source.get(f))
    return " ".join(text.split())[:200] or hit.id


def matched(hit: Hit, most: int = 8) -> Text:
    """The terms that matched, with their shares; expansion terms in another colour."""
    from rich.text import Text

    parts = Text()
    for word in hit.matched_words[:most]:
        parts.append(f"{word} ", style=OWN_STYLE)
    for term in hit.terms[:most]:
        style = EXPANSION_STYLE if term.expansion else OWN_STYLE
        parts.append(f"{term.token} {term.share:.1f}  ", style=style)
    return parts
