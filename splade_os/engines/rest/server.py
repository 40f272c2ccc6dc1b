"""What answers at a URL, asked once."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from splade_os.engines.fields.capabilities import (
    Capabilities,
    amazon_serverless,
    clause_limit,
    read_modules,
)
from splade_os.engines.rest.wire import Call
from splade_os.errors import (
    AuthenticationError,
    AuthorizationError,
    EngineError,
    EngineUnavailableError,
)

_NODES_FILTER = (
    "nodes.*.version,nodes.*.modules.name,nodes.*.plugins.name,"
    "nodes.*.jvm.mem.heap_max_in_bytes,nodes.*.thread_pool.search.size"
)
_OLDEST = {"opensearch": "2.9", "elasticsearch": "8.0"}
"""What a server is taken for that does not tell its version to this user."""
ROOT = Call("GET", "/")
NODES = Call("GET", "/_nodes/plugins,jvm,thread_pool", params={"filter_path": _NODES_FILTER})
SETTINGS = Call(
    "GET",
    "/_cluster/settings",
    params={"include_defaults": "true", "filter_path": "*.indices.query"},
)

PING_TIMEOUT = 5.0  # seconds

Result = TypeVar("Result")
Ask = Call | tuple[Call, ...]
"""One request, or several that do not wait for each other: their answers come as a list, an error
in the place of what failed."""
Steps = Generator[Ask, Any, Result]


class ServerSteps:
    """What the server is, and has.

    Args:
        url: for messages.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._server: Capabilities | None = None
        self._asked_limit = False

    def capabilities(self) -> Steps[Capabilities]:
        """What the server is and has; asked once.

        Raises:
            EngineError: it is neither OpenSearch nor Elasticsearch, or too old to score a dot
                product.
        """
        if self._server is None:
            root, nodes = yield (ROOT, NODES)
            self._server = self._read(root, nodes)
        return self._server

    def ping(self) -> Steps[bool]:
        """Whether anything that may be asked answers, at the first attempt."""
        try:
            (answer,) = yield (replace(ROOT, attempts=1, timeout=PING_TIMEOUT),)
        except EngineUnavailableError:
            return False
        if isinstance(answer, EngineError) and (answer.status or 0) >= 500:
            return False
        if isinstance(answer, AuthenticationError):
            raise answer
        return True  # also where this user may not ask what it is

    def _read(self, root: Any, nodes: Any) -> Capabilities:
        """From the answers to `ROOT` and `NODES`, or their errors."""
        distribution, version, serverless = self._version(root)
        told = _allowed(nodes)
        if version is None:
            versions = [node["version"] for node in told.get("nodes", {}).values()]
            version = versions[0] if versions else _OLDEST[distribution]
        server = Capabilities(distribution, version, read_modules(told), serverless=serverless)
        if not server.number:
            raise EngineError(f"{self._url} is neither OpenSearch nor Elasticsearch.")
        if not server.linear:
            raise EngineError(
                f"{distribution} {version} cannot score a dot product: it has no linear "
                "rank_feature.",
                hint="OpenSearch has it from 1.1 on, Elasticsearch from 7.12 on. (OpenSearch "
                "calls itself 7.10.2 where compatibility.override_main_response_version is on: "
                "set it to false.)",
            )
        return replace(server, max_clauses=clause_limit(distribution, server.number, {}, told))

    def _version(self, root: Any) -> tuple[str, str | None, bool]:
        """Distribution, version (``None`` = as the nodes tell), and whether it is serverless."""
        if isinstance(root, AuthorizationError):  # without cluster:monitor/main all else may go
            return root.distribution, None, False
        if isinstance(root, AuthenticationError | EngineUnavailableError):
            raise root
        if isinstance(root, EngineError):
            if root.status == 404 and amazon_serverless(self._url):  # has no GET /, is a 2.x
                return "opensearch", "2.0 (serverless)", True
            if root.status != 405:
                raise root
            return "elasticsearch", None, False
        root = root if isinstance(root, Mapping) else {}
        version = root.get("version", {})
        version = version if isinstance(version, Mapping) else {}
        distribution, number = version.get("distribution"), str(version.get("number") or "")
        if distribution is None and "OpenSearch" in str(root.get("tagline")):
            return "opensearch", None, False  # in compatibility mode: it calls itself 7.10.2
        serverless = version.get("build_flavor") == "serverless"
        return distribution or "elasticsearch", number, serverless

    def clause_limit(self, *, anew: bool = False) -> Steps[int]:
        """The limit of clauses that is set; not asked before a query comes near it: the limit
        without a setting is known, which spares every first search a request.

        Args:
            anew: the server refused what was within the limit: somebody has changed it.
        """
        if anew:
            self._server = None
        server = yield from self.capabilities()
        if (anew or not self._asked_limit) and not server.derives_clauses:
            (settings,) = yield (SETTINGS,)
            limit = clause_limit(server.distribution, server.number, _allowed(settings), {})
            self._server = server = replace(server, max_clauses=limit)
        self._asked_limit = True
        return server.max_clauses


def _allowed(answer: Any) -> Mapping[str, Any]:
    """The answer, or nothing where the user may not ask, or a managed service lacks it."""
    if isinstance(answer, EngineUnavailableError) or (
        isinstance(answer, BaseException) and not isinstance(answer, EngineError)
    ):
        raise answer
    return answer if isinstance(answer, Mapping) else {}
