"""The few requests that tell whether a node is there."""

from __future__ import annotations

import http.client
import json
import socket
import urllib.request
from typing import Any


def ask(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """The JSON object behind a URL, or ``None`` where nothing (sensible) answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            value = json.load(answer)
    except (OSError, ValueError, http.client.HTTPException):  # or something that is no HTTP
        return None
    return value if isinstance(value, dict) else None


def is_taken(port: int) -> bool:
    """Whether something listens at a port of the loopback address."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def version_at(url: str) -> str | None:
    """What answers at a URL, like ``opensearch 3.8.0``; ``None`` = no search engine.

    Elasticsearch's distribution in the Maven registry answers nothing at ``/``: its nodes
    tell their version.
    """
    root = ask(f"{url}/")
    if root and "version" in root:
        version = root["version"]
        return f"{version.get('distribution', 'elasticsearch')} {version.get('number')}"
    nodes = ask(f"{url}/_nodes/_local?filter_path=nodes.*.version")
    for node in (nodes or {}).get("nodes", {}).values():
        return f"elasticsearch {node.get('version')}"
    return None


def who_listens(port: int) -> str:
    """What answers at a port, for an error message."""
    return version_at(f"http://127.0.0.1:{port}") or "another program"
