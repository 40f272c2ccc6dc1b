"""Clusters in Docker, through the compose files of ``docker/``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from splade_os.errors import ClusterError
from splade_os.local.progress import Report, watched

_TIMEOUT = 600


def answers() -> bool:
    """Whether a Docker engine with compose is there."""
    try:
        run = subprocess.run(
            ["docker", "info", "--format", "{{.ServerVersion}}"],
            capture_output=True,
            timeout=10,
            check=False,
        )
        compose = subprocess.run(
            ["docker", "compose", "version"], capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0 and compose.returncode == 0


@dataclass(frozen=True)
class Cluster:
    """What a compose file is told: name of the project, image, nodes, first port, heap."""

    name: str
    engine: str
    version: str
    nodes: int
    port: int
    heap: str = "1g"


@contextmanager
def compose_file(cluster: Cluster) -> Iterator[Path]:
    """The compose file for one or three nodes.

    Raises:
        ClusterError: there is none for three nodes of Elasticsearch.
    """
    if cluster.engine == "elasticsearch":
        if cluster.nodes != 1:
            raise ClusterError(
                "Docker has no compose file for three nodes of Elasticsearch here.",
                hint="Use --via jvm.",
            )
        name = "compose.elasticsearch.yml"
    else:
        name = "compose.yml" if cluster.nodes == 1 else "compose.3-nodes.yml"
    with as_file(files("splade_os.docker").joinpath(name)) as path:
        yield path


def compose(cluster: Cluster, arguments: Sequence[str], report: Report) -> str:
    """Run ``docker compose`` for a cluster; returns what it printed.

    Raises:
        ClusterError: with the last lines of what Docker said.
    """
    environment = os.environ | {
        "SPLADE_OS_PORT": str(cluster.port),
        "SPLADE_OS_HEAP": cluster.heap,
        "SPLADE_OS_VERSION": cluster.version,
    }
    with compose_file(cluster) as file:
        project = f"splade-os-{cluster.name}"
        command = ["docker", "compose", "-p", project, "-f", str(file), *arguments]
        try:
            done = watched(
                lambda: subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    env=environment,
                    timeout=_TIMEOUT,
                    check=False,
                ),
                lambda: report(f"docker compose {arguments[0]}", 0, None),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClusterError(
                f"docker compose {arguments[0]} failed: {error}", hint="Try --via jvm."
            ) from error
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise ClusterError(
            f"docker compose {arguments[0]} failed.", hint=f"It said:\n{last}\nTry --via jvm."
        )
    return done.stdout
