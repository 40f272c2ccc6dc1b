"""Options of what can be spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from splade_os.cli.help_groups import add_options
from splade_os.cli.options import MOST

if TYPE_CHECKING:
    from splade_os.distributed.cluster import RayOptions

Command = TypeVar("Command", bound=Callable[..., Any])
_NAMES = ("workers", "writers", "cpus_per_worker", "gpus_per_worker")


def ray_options(command: Command) -> Command:
    """--on and what goes with it: for `split_ray`."""
    return add_options(
        command,
        "Beyond one machine",
        click.option(
            "--on",
            "cluster",
            metavar="ray[:auto]|ray://HOST:PORT",
            help="Spread the work over a Ray cluster: one of this machine, the one that it is part "
            "of, or another one.",
        ),
        click.option("--workers", type=click.IntRange(1, MOST), help="Actors that encode.  [1]"),
        click.option("--writers", type=click.IntRange(1, MOST), help="Actors that send.  [2]"),
        click.option("--cpus-per-worker", type=click.FloatRange(0, min_open=True), help="[1]"),
        click.option(
            "--gpus-per-worker", type=click.FloatRange(0), help="0.25: four share a GPU.  [0]"
        ),
    )


def split_ray(flags: dict[str, Any]) -> tuple[RayOptions | None, dict[str, Any]]:
    """Where and how widely a job runs, ``None`` = in this process; and the other flags."""
    cluster = flags.pop("cluster")
    chosen = {name: flags.pop(name) for name in _NAMES}
    chosen = {name.removesuffix("_per_worker"): x for name, x in chosen.items() if x is not None}
    if cluster is None:
        if chosen:
            raise click.UsageError("--workers, --writers and what each has need --on ray.")
        return None, flags
    from splade_os.distributed.cluster import LOCAL, RayOptions

    address = {"ray": LOCAL, "ray:auto": "auto"}.get(cluster, cluster)
    return RayOptions(address, **chosen), flags
