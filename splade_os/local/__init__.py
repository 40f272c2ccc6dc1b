"""Clusters for development: Docker, or a JVM with artifacts from the Maven registry."""

from splade_os.local.cluster import down, logs, status, up
from splade_os.local.state import ClusterState, NodeState

__all__ = ["ClusterState", "NodeState", "down", "logs", "status", "up"]
