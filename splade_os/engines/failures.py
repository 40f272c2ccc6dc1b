"""Errors of opensearch-py → errors of splade-os, with the engine's own reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opensearchpy.exceptions import ConnectionError as TransportConnectionError
from opensearchpy.exceptions import (
    ConnectionTimeout,
    SerializationError,
    SSLError,
    TransportError,
)

from splade_os.errors import (
    AuthenticationError,
    EngineError,
    EngineUnavailableError,
    IndexExistsError,
    IndexNotFoundError,
    SpladeError,
)


@contextmanager
def translated(url: str, index: str | None) -> Iterator[None]:
    """Within it, every failure of a request is raised as one of ours."""
    try:
        yield
    except (TransportError, SerializationError) as error:
        raise _translate(error, url, index) from error


def _translate(error: Any, url: str, index: str | None) -> SpladeError:
    if isinstance(error, SSLError):
        return EngineUnavailableError(
            f"No trusted TLS connection to {url}: {_last(error)}",
            hint="Name the CA bundle with --ca-certs, or skip the check with --insecure.",
        )
    if isinstance(error, ConnectionTimeout):
        return EngineUnavailableError(
            f"{url} did not answer in time.",
            hint="Look at the cluster's load, or wait longer with --timeout SECONDS.",
        )
    if isinstance(error, TransportConnectionError):
        return EngineUnavailableError(
            f"Nothing answers at {url}: {_last(error)}",
            hint="Start a local one: splade-os cluster up. Or name another with --url.",
        )
    if isinstance(error, SerializationError):
        return EngineError(f"{url} answered something that is no JSON: is it a search engine?")
    status, reason = error.status_code, _reason(error)
    if status in (401, 403) and "cluster_block" not in reason:
        return AuthenticationError(
            f"{url} refused the credentials ({status}): {reason}",
            hint="Set SPLADE_OS_USERNAME and SPLADE_OS_PASSWORD.",
            status=status,
        )
    if status == 404 and "index_not_found" in reason:
        return IndexNotFoundError(
            f"There is no index {index} at {url}.",
            hint="Make it with: splade-os ingest SOURCE --index NAME.",
            status=status,
        )
    if "resource_already_exists" in reason:
        return IndexExistsError(
            f"The index {index} exists already.",
            hint=f"Delete it with: splade-os index delete --index {index}. Or take another name.",
            status=status,
        )
    hint = None
    if status == 413:
        hint = "The request is larger than the engine or a proxy allows; send smaller ones."
    elif "cluster_block" in reason:
        hint = "The index is blocked for writing, mostly because the disk is full: free some."
    return EngineError(f"{url} refused the request ({status}): {reason}", hint=hint, status=status)


def _reason(error: Any) -> str:
    """The engine's root cause, in one line; never the request, which may hold secrets."""
    info = error.info
    if isinstance(info, dict) and isinstance(info.get("error"), dict):
        detail = info["error"]
        causes = detail.get("root_cause") or [detail]
        text = f"{causes[0].get('type')}: {causes[0].get('reason')}"
        failed = detail.get("failed_shards") or []
        if failed:
            text += f" ({failed[0].get('reason', {}).get('reason')})"
        return text
    return str(error.error).strip() or "no reason given"


def _last(error: Any) -> str:
    """What the lowest layer said, without object addresses."""
    text = str(getattr(error, "info", None) or error)
    return text.rsplit(": ", 1)[-1].rstrip(")'\" ")
