"""``splade-os deploy``, ``undeploy`` and ``list``: query encoders inside a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from splade_os.cli.help_groups import Command
from splade_os.cli.options import (
    connection_options,
    json_option,
    open_engine,
    print_json,
    settings_of,
)
from splade_os.cli.terminal import confirm, echo

if TYPE_CHECKING:
    from splade_os.engines.rest.cluster import ClusterEngine
    from splade_os.export.opensearch_deploy import SettingChange


@click.command(cls=Command)
@click.argument("package", type=click.Path(exists=True, file_okay=False, path_type=Path))
@connection_options
@click.option("--name", help="Of the query encoder.  [default: the package's]")
@click.option("--index", "indices", multiple=True, help="Gets the search pipeline as its default.")
@click.option("--pipeline", help="Search pipeline to make or change.  [default: --name]")
@click.option("--no-pipeline", is_flag=True, help="Make none: every query must name the model.")
@click.option("--two-phase", is_flag=True, help="With the two-phase processor in the pipeline.")
@click.option("--replace", is_flag=True, help="Remove older versions of it.")
@click.option("--yes", is_flag=True, help="Change cluster settings without asking.")
@json_option
def deploy(
    package: Path,
    name: str | None,
    indices: tuple[str, ...],
    pipeline: str | None,
    no_pipeline: bool,
    two_phase: bool,
    replace: bool,
    yes: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Let an OpenSearch cluster encode queries itself, with the PACKAGE of an export.

    Needs the plugins ML Commons and neural-search. Prints the model id. A search pipeline
    gives queries of the field the model, so that they need only their text; deploying again
    switches it to the new version, without a gap. What fails leaves nothing behind.
    """
    from splade_os.export.opensearch_deploy import deploy_package
    from splade_os.export.opensearch_package import QueryEncoderPackage

    if no_pipeline and (pipeline or indices or two_phase):
        raise click.UsageError("--no-pipeline goes with no --pipeline, --index or --two-phase.")
    opened = QueryEncoderPackage.read(package)
    engine = _opensearch(flags)

    def allow(changes: Sequence[SettingChange]) -> bool:
        echo(f"{engine.url} needs other cluster settings:", err=True)
        for change in changes:
            back = "; set back afterwards" if change.temporary else ""
            echo(
                f"  {change.name}: {change.current} -> {change.wanted} ({change.why}{back})",
                err=True,
            )
        return yes or confirm("Change them?")

    deployed = deploy_package(
        opened,
        engine,
        name=name,
        pipeline=None if no_pipeline else pipeline or name or opened.manifest.name,
        indices=indices,
        two_phase=two_phase,
        replace=replace,
        allow=allow,
        report=lambda step: echo(f"{step} ...", err=True),
    )
    new = "Deployed" if deployed.fresh else "Deployed already:"
    echo(f"{new} {deployed.name}, version {deployed.version}.", err=True)
    for used in deployed.pipelines:
        echo(f"Search pipeline: {used}", err=True)
    for old in deployed.older:
        echo(f"An older version is kept: {old}. Remove it: splade-os undeploy {old}", err=True)
    if as_json:
        print_json(asdict(deployed))
    else:
        echo(deployed.model_id)


@click.command(cls=Command)
@click.argument("name")
@connection_options
@click.option("--force", is_flag=True, help="Also where an index uses it by default.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def undeploy(name: str, force: bool, yes: bool, **flags: Any) -> None:
    """Remove the query encoder NAME from a cluster, or one older version of it by its id."""
    from splade_os.export.opensearch_deployed import undeploy_encoder

    engine = _opensearch(flags)
    if not yes:
        confirm(f"Remove the query encoder {name} from {engine.url}?", abort=True)
    for what in undeploy_encoder(engine, name, force=force):
        echo(f"Removed: {what}", err=True)


@click.command("list", cls=Command)
@connection_options
@json_option
def list_(as_json: bool, **flags: Any) -> None:
    """Show the query encoders that splade-os deployed in a cluster."""
    from rich.console import Console
    from rich.table import Table

    from splade_os.export.opensearch_deployed import deployed_encoders

    engine = _opensearch(flags)
    found = deployed_encoders(engine)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        echo(f"No query encoder of splade-os is deployed at {engine.url}.", err=True)
        return
    table = Table("name", "version", box=None)
    table.add_column("model id", no_wrap=True, min_width=20)  # to be copied
    for column in ("model", "idf", "pipelines", "older"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            one.name,
            str(one.version),
            one.model_id or "not deployed",
            one.facts.get("model", ""),
            f"{one.facts.get('idf', '')} ({one.facts.get('documents', '0')})",
            ", ".join(one.pipelines) or "none",
            ", ".join(one.older),
        )
    Console().print(table)


def _opensearch(flags: dict[str, Any]) -> ClusterEngine:
    """The engine, where it is one that could encode queries."""
    from splade_os.engines.rest.cluster import ClusterEngine
    from splade_os.errors import DeploymentError

    engine = open_engine(settings_of(**flags))
    if not isinstance(engine, ClusterEngine) or engine.info().distribution != "opensearch":
        raise DeploymentError(
            f"{engine.url} encodes no queries itself: only OpenSearch does.",
            hint="Let the client encode them (mode idf), or ingest with --fold-idf.",
        )
    return engine
