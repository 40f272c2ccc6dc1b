"""``splade-os demo``: the whole way, on this machine, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from splade_os.cli.progress import ingest_progress, summarise
from splade_os.cli.search import EXPANSION_STYLE, OWN_STYLE, matched
from splade_os.cli.steps import busy
from splade_os.cli.terminal import echo, secho

if TYPE_CHECKING:
    from splade_os.engines import Engine
    from splade_os.search.client import Mode, SearchClient

INDEX = "splade-os-demo"
SOURCE = "python:stdlib"
QUESTIONS = (
    "pick an element at random by weight",
    "measure how fast a piece of code is",
    "compare two texts line by line",
    "how many days are in a month",
)


@click.command()
@click.option("--url", help="Use this cluster (or sqlite:///FILE) instead of a local one.")
@click.option("--fresh", is_flag=True, help="Ingest again, even if the demo index is there.")
@click.option("-q", "--question", "questions", multiple=True, help="Ask this instead.")
@click.option("--serve", is_flag=True, help="Open the search page at the end, until Ctrl-C.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Of the page.")
@click.pass_context
def demo(
    ctx: click.Context,
    url: str | None,
    fresh: bool,
    questions: tuple[str, ...],
    serve: bool,
    port: int,
) -> None:
    """Ingest real text into a local cluster and search it in three modes.

    The text: the docstrings of the Python standard library, several thousand documents. The
    model: the starter, which comes with the package and runs without torch.
    """
    from splade_os.engines import connect
    from splade_os.search.client import SearchClient

    url = url or _cluster_url(ctx)
    engine = connect(url)
    info = engine.info()
    _step(f"Engine: {info.distribution} {info.version} at {url}")
    _fill(engine, fresh)
    client = SearchClient(engine=engine, index=INDEX)
    with busy("Loading the query table"):
        client.encoder("idf")
    _show(client, questions or QUESTIONS)
    _farewell(url, serve)
    if serve:
        _serve(url, port, (questions or QUESTIONS)[0])


def _cluster_url(ctx: click.Context) -> str:
    from splade_os.cli.cluster import cluster_up
    from splade_os.errors import ClusterError, MissingExtraError
    from splade_os.settings import cache_dir

    try:
        return cluster_up().url
    except (ClusterError, MissingExtraError) as error:
        file = cache_dir() / "demo.db"
        secho(f"No local cluster: {error.message}", fg="yellow", err=True)
        if error.hint:
            echo(error.hint, err=True)
        _step("Falling back to the embedded engine (SQLite), which needs neither Java nor Docker.")
        return f"sqlite:///{file}"


def _fill(engine: Engine, fresh: bool) -> None:
    from splade_os.encoding import DocumentEncoder
    from splade_os.errors import IndexFormatError, IndexNotFoundError
    from splade_os.ingest.documents.records import RecordReader
    from splade_os.ingest.pipeline import ingest_documents
    from splade_os.ingest.sources import find_source, read_source

    found = find_source(SOURCE)
    with busy("Collecting the docstrings of the Python standard library"):
        records = list(read_source(found, RecordReader()))
    with busy("Loading the starter model"):
        encoder = DocumentEncoder.load("starter", dtype="auto")
    try:
        same = (
            encoder.identity.difference(engine.index_meta(INDEX).model, encoder.left_open) is None
        )
        if same and not fresh and engine.count(INDEX) == len(records):
            _step(f"{len(records):,} documents are in the index {INDEX} already (--fresh: again).")
            return
        engine.delete_index(INDEX)
    except (IndexNotFoundError, IndexFormatError):
        pass
    _step(
        f"Encoding {len(records):,} documents on {encoder.device} and writing them to {INDEX} ..."
    )
    found.total = len(records)
    with ingest_progress(found) as on_progress:
        report = ingest_documents(
            iter(records),
            engine=engine,
            index=INDEX,
            encoder=encoder,
            dead_letters=Path("dead-letters-demo.jsonl"),
            on_progress=on_progress,
        )
    summarise(report)


def _show(client: SearchClient, questions: tuple[str, ...]) -> None:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

    console = Console()
    legend = Text("Matched terms: ")
    legend.append("in the text", style=OWN_STYLE)
    legend.append(", ").append("added by the model", style=EXPANSION_STYLE)
    titles: dict[Mode, str] = {
        "hybrid": "IDF and BM25 (default)",
        "idf": "IDF query (no model runs)",
        "bm25": "BM25",
    }
    for question in questions:
        table = Table(
            title=f"\n“{question}”", title_justify="left", title_style="bold", expand=True
        )
        columns = []
        for mode in titles:
            results = client.search(question, 3, mode, explain=True)
            table.add_column(f"{titles[mode]}, {results.took_ms:.0f} ms", ratio=1)
            columns.append(list(results))
        for rank in range(3):
            row = []
            for hits in columns:
                if rank >= len(hits):
                    row.append(Group(""))
                    continue
                hit = hits[rank]
                title = Text(f"{hit.source.get('title', hit.id)}", style="bold")
                row.append(Group(title.append(f"  {hit.score:.2f}", style="dim"), matched(hit, 6)))
            table.add_row(*row, end_section=True)
        console.print(table)
    console.print(legend)


def _serve(url: str, port: int, question: str) -> None:
    """The page, in the browser of this machine where it has one."""
    import os
    import sys
    import threading
    import webbrowser
    from urllib.parse import urlencode

    from splade_os.serve.options import ServeOptions
    from splade_os.serve.server import Service
    from splade_os.settings import load_settings

    service = Service(load_settings(url=url), ServeOptions((INDEX,), port=port))
    page = f"{service.url}/?{urlencode({'q': question})}"

    def opened() -> None:
        _step(f"The search page: {page}   (Ctrl-C ends it)")
        # without a desktop it would be a browser of texts, in this terminal
        if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()

    service.run(opened)


def _farewell(url: str, served: bool) -> None:
    flag = "" if url.endswith("localhost:9200") else f" --url {url}"
    steps = [
        ("your own question", f'splade-os search "parse dates" --index {INDEX}{flag} --explain'),
        ("your own documents", f"splade-os ingest DOCS.jsonl --index mine{flag}"),
        ("on a GPU, any model", "pip install 'splade-os[torch]'; then --model MODEL --device cuda"),
        ("what the index remembers", f"splade-os index show --index {INDEX}{flag}"),
    ]
    if not served:
        steps.insert(0, ("the search page", f"splade-os serve --index {INDEX}{flag}"))
    if url.startswith("http"):
        steps.append(("stop the local cluster", "splade-os cluster down"))
    echo("\nWhat next (in the environment: . .venv/bin/activate):")
    for why, command in steps:
        echo(f"  {why + ':':<26} {command}")


def _step(text: str) -> None:
    secho(text, fg="cyan", err=True)
