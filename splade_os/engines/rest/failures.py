"""What goes wrong between a client and a cluster → errors of splade-os, with the engine's own
reason. Understands the exceptions of opensearch-py and of elasticsearch-py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from splade_os.engines.fields.capabilities import amazon_serverless
from splade_os.errors import (
    AuthenticationError,
    AuthorizationError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    IndexExistsError,
    IndexNotFoundError,
    SpladeError,
)

_OF_THE_CLIENT = ("certificate", "unknown ca")  # in what a server's TLS alert says
PUT_OFF = {429, 502, 503, 504}
PERMANENT = frozenset(
    {
        "illegal_argument_exception",  # an alias of several indices, or without a write index
        "routing_missing_exception",
        "index_closed_exception",
        "invalid_index_name_exception",
        "security_exception",
    }
)
"""Types of errors of one item that waiting does not mend."""
_ACTION = re.compile(r"\b(?:cluster|indices):[\w/*\[\]-]*[\w*]")
_OF_AWS = re.compile("not authorized|AccessDenied|security token|signature", re.IGNORECASE)


def no_connection(url: str, kind: str, detail: str) -> SpladeError:
    """No answer came: ``kind`` is ``fingerprint``, ``tls``, ``timeout``, ``json`` or
    ``connection``."""
    if kind == "fingerprint":
        return EngineUnavailableError(
            f"{url} is not the server that was named: no certificate that it shows has the given "
            f"fingerprint. They have {detail}.",
            hint="Ask who runs the server whether its certificate was renewed; if so, name one of "
            "these with --fingerprint. If not, somebody stands between.",
        )
    if "alert" in detail.lower() and any(word in detail.lower() for word in _OF_THE_CLIENT):
        return EngineUnavailableError(
            f"{url} does not take the client's certificate, or wants one: {detail}",
            hint="Name one that the server trusts: --client-cert FILE --client-key FILE.",
        )
    if kind == "tls":
        return EngineUnavailableError(
            f"No trusted TLS connection to {url}: {detail}",
            hint="Name the CA bundle with --ca-certs, or skip the check with --insecure.",
        )
    if kind == "timeout":
        return EngineTimeoutError(
            f"{url} did not answer in time.",
            hint="Look at the cluster's load, or wait longer with --timeout SECONDS.",
        )
    if kind == "json":
        return EngineError(f"{url} answered something that is no JSON: is it a search engine?")
    if url.startswith("http:") and "without response" in detail:
        return EngineUnavailableError(
            f"{url} closed the connection without an answer.",
            hint=f"If it speaks TLS, write https{url[4:]}. Else look at its log.",
            transient=True,
        )
    # nobody listens: told at once, so that a wrong URL does not hang
    hopeless = any(word in detail for word in ("refused", "resolve", "not known", "getaddrinfo"))
    return EngineUnavailableError(
        f"Nothing answers at {url}: {detail}",
        hint="Start a local one: splade-os cluster up. Or name another with --url.",
        transient=not hopeless,
    )


def refused(url: str, index: str | None, status: int, body: Any) -> SpladeError:
    """The cluster answered with an error.

    Args:
        url, index: of the request.
        status: of HTTP, or of one item of an ``_msearch``.
        body: the answer, parsed if it was JSON.
    """
    kind, reason = _reason(body)
    if status == 401:
        return AuthenticationError(
            f"{url} refused the credentials ({status}): {reason}",
            hint="Set SPLADE_OS_USERNAME and SPLADE_OS_PASSWORD, SPLADE_OS_API_KEY or "
            "SPLADE_OS_BEARER_TOKEN; on AWS, SPLADE_OS_AWS_REGION. See docs/connect.md.",
            status=status,
        )
    if status == 403 and "cluster_block" not in reason:
        return _forbidden(url, index, kind, reason)
    absent = status == 404 and not kind and amazon_serverless(url)
    if absent or "serverless mode" in reason:
        return EngineError(
            f"{url} is serverless, and lacks what was asked for ({status}): {reason}",
            hint="Search and ingest do without it. What is about nodes, shards or the cluster "
            "cannot be done there.",
            status=status,
        )
    if status == 404 and "index_not_found" in kind:
        return IndexNotFoundError(
            f"There is no index {index} at {url}.",
            hint="Make it with: splade-os ingest SOURCE --index NAME.",
            status=status,
        )
    if "resource_already_exists" in kind:
        return IndexExistsError(
            f"The index {index} exists already.",
            hint=f"Delete it with: splade-os index delete --index {index}. Or take another name.",
            status=status,
        )
    if "index_closed" in kind:
        return EngineError(
            f"The index {index} is closed.",
            hint=f"Open it: curl -XPOST {url}/{index}/_open",
            status=status,
        )
    return EngineError(
        f"{url} refused the request ({status}): {reason}",
        hint=_hint(status, kind, reason),
        status=status,
        transient=status in PUT_OFF,
    )


def too_many_clauses(error: Exception) -> bool:
    """Whether a search failed at the server's limit of clauses."""
    return "maxClauseCount" in str(error) or "too_many_" in str(error)


def _forbidden(url: str, index: str | None, kind: str, reason: str) -> SpladeError:
    """403: a right is missing; or something in between lets the request not through."""
    where = f" on {index}" if index else ""
    action = _ACTION.search(reason)
    if not kind and action is None and not _OF_AWS.search(reason):
        return EngineError(
            f"Something between here and {url} refused the request{where} (403): {reason}",
            hint="It is no answer of a search engine: ask who runs the gateway or the proxy.",
            status=403,
        )
    right = f"the right {action[0]}" if action else "a right"
    error = AuthorizationError(
        f"The user lacks {right}{where} at {url} (403): {reason}",
        hint="docs/connect.md has the smallest roles for ingest, search and deploy. On AWS, "
        "SPLADE_OS_AWS_REGION signs requests.",
        status=403,
    )
    if "is unauthorized for" in reason:  # Elasticsearch's sentence; OpenSearch: no permissions for
        error.distribution = "elasticsearch"
    return error


def _hint(status: int, kind: str, reason: str) -> str | None:
    if status == 413:
        return "The request is larger than the engine or a proxy allows; send smaller ones."
    if "cluster_block" in kind:
        if "flood-stage" in reason or "read-only-allow-delete" in reason:
            return (
                "The disk of a node is full (flood stage): free some. The block goes by itself "
                "then; before 7.4: PUT INDEX/_settings "
                '{"index.blocks.read_only_allow_delete": null}.'
            )
        return "The index is blocked for writing: PUT INDEX/_block or _settings did it."
    if "media_type_header" in kind:
        return (
            "The elasticsearch package is newer than the server: "
            "pip install 'elasticsearch<9', or give the URL instead of a client."
        )
    if "No handler for type" in reason or "No mapper found for type" in reason:
        return "This server lacks the field type; name another with --field-type."
    if "maxClauseCount" in reason or "too_many" in kind + reason:
        return (
            "The query has more words than the engine takes: shorten it, or raise its setting "
            "indices.query.bool.max_clause_count."
        )
    if "rescore window" in reason.lower():
        return "The index allows less (index.max_rescore_window): ask for fewer hits, or raise it."
    if "result window" in reason.lower():
        return "Page with search_after= or scan() instead of an offset."
    return None


def _reason(body: Any) -> tuple[str, str]:
    """The engine's root cause: its type, and one line; never the request, which may hold
    secrets."""
    detail = body.get("error") if isinstance(body, Mapping) else None
    if isinstance(detail, Mapping):
        causes = detail.get("root_cause") or [detail]
        kind = str(causes[0].get("type"))
        text = f"{kind}: {causes[0].get('reason')}"
        failed = detail.get("failed_shards") or []
        if failed:
            inner = failed[0].get("reason", {}).get("reason")
            if inner and inner not in text:
                text += f" ({inner})"
        deeper = detail.get("caused_by", {}).get("reason")
        if deeper and deeper not in text:
            text += f" ({deeper})"
        return kind, text
    text = str(detail if detail is not None else body or "").strip()
    return "", text[:500] or "no reason given"
