"""What is known about a local cluster, kept in a file beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from splade_os.errors import ClusterError
from splade_os.local.places import base_dir


class NodeState(BaseModel):
    """One node.

    Attributes:
        name: ``node-1`` ...
        pid: process, or ``None`` in Docker.
        port: of HTTP, on the loopback address.
        log: what the process printed, or ``None`` in Docker.
        data: folder of its data, or ``None`` in Docker.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    port: int
    pid: int | None = None
    log: Path | None = None
    data: Path | None = None


class ClusterState(BaseModel):
    """A cluster that was started."""

    model_config = ConfigDict(frozen=True)

    name: str
    engine: str
    version: str
    via: Literal["docker", "jvm"]
    flavor: str
    nodes: tuple[NodeState, ...]

    @property
    def url(self) -> str:
        """URL of the first node."""
        return f"http://localhost:{self.nodes[0].port}"


def cluster_dir(name: str) -> Path:
    """Folder of a cluster's state, configuration, logs and data."""
    if not name or not name.replace("-", "").isalnum():
        raise ClusterError(
            f"{name!r} is no name for a cluster.", hint="Use letters, digits and hyphens."
        )
    return base_dir() / "clusters" / name


def load_state(name: str) -> ClusterState | None:
    """The stored state, or ``None``."""
    file = cluster_dir(name) / "cluster.json"
    try:
        return ClusterState.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        file.unlink()  # of another version: the processes, if any, are found by their ports
        return None


def save_state(state: ClusterState) -> None:
    """Store a state, whole or not at all."""
    folder = cluster_dir(state.name)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / ".cluster.json"
    unfinished.write_text(state.model_dump_json(indent=2), "utf-8")
    os.replace(unfinished, folder / "cluster.json")  # noqa: PTH105


def forget_state(name: str) -> None:
    """Remove the stored state; data stays."""
    (cluster_dir(name) / "cluster.json").unlink(missing_ok=True)
