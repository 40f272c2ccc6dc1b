"""Requests and what carries them: opensearch-py or elasticsearch-py, sync or async.

Given a URL, opensearch-py's transport is used for every engine: it speaks plain
``application/json``, which OpenSearch and every version of Elasticsearch understand. (The
elasticsearch package sends a media type that only servers of its own major version and the one
before accept.) Node pools, authentication and TLS are the client's; retries are ours.
"""

from __future__ import annotations

import gzip
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import orjson

from splade_os.engines.connection.options import client_options
from splade_os.engines.names import check_name
from splade_os.engines.rest.failures import no_connection, refused
from splade_os.engines.rest.retry import ATTEMPTS, with_retries, with_retries_async
from splade_os.errors import EngineError, MissingExtraError, SpladeError

# opensearch-py warns of every 404; an application that configures logging still sees it
logging.getLogger("opensearch").addHandler(logging.NullHandler())

_JSON, _NDJSON = "application/json", "application/x-ndjson"
_WORTH_COMPRESSING = 1024  # bytes
_LEVEL = 1
"""Vectors become 40 % at 70 MB/s; with 9, which both clients take, 35 % at 4 to 9."""


@dataclass(frozen=True)
class Call:
    """One HTTP request.

    Attributes:
        method, path, params: where to; the path as it is, not percent-encoded.
        body: JSON, as bytes.
        ndjson: the body is one JSON value per line.
        index: the name in the path, for errors; checked.
        timeout: seconds, where it is not the connection's.
        attempts: how often it is sent when it is put off or lost.
        repeat_timeouts: safe and useful to send again after a time-out.
        encoding: headers of a compressed body or answer.
        holds: it takes something in the server that is to be released, or releases it: whoever
            gives up waits for it.
        absent: 404 is an answer like any other, which nothing and nobody is warned of.
    """

    method: str
    path: str
    body: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    ndjson: bool = False
    index: str | None = None
    timeout: float | None = None
    attempts: int = ATTEMPTS
    repeat_timeouts: bool = False
    encoding: Mapping[str, str] = field(default_factory=dict)
    holds: bool = False
    absent: bool = False

    def __post_init__(self) -> None:
        if self.index is not None:
            writes = self.method in ("PUT", "DELETE") or self.path.endswith("/_bulk")
            check_name(self.index, one=writes)

    @property
    def url(self) -> str:
        """The path as it is sent: a name with a ``%`` or a ``#`` stays that name."""
        return quote(self.path, safe="/,*:@+$!~'()=&;")

    @property
    def policy(self) -> dict[str, Any]:
        return {"attempts": self.attempts, "repeat_timeouts": self.repeat_timeouts}

    @property
    def headers(self) -> dict[str, str]:
        kind = _NDJSON if self.ndjson else _JSON
        return {"content-type": kind, "accept": _JSON, **self.encoding}

    def compressed(self) -> Call:
        """The same with gzip both ways (RFC 9110, 8.4); small bodies stay as they are."""
        encoding, body = {"accept-encoding": "gzip"}, self.body
        if body is not None and len(body) >= _WORTH_COMPRESSING:
            encoding["content-encoding"] = "gzip"
            body = gzip.compress(body, _LEVEL)
        return replace(self, body=body, encoding=encoding)


class Wire(Protocol):
    """Carries requests."""

    url: str

    def send(self, call: Call) -> Any:
        """The parsed answer; failures as errors of splade-os."""

    def close(self) -> None:
        """Release connections."""


class AsyncWire(Protocol):
    """Carries requests, asynchronously."""

    url: str

    async def send(self, call: Call) -> Any:
        """The parsed answer; failures as errors of splade-os."""

    async def close(self) -> None:
        """Release connections."""


def open_wire(url: str, *, compress: bool = False, **options: Any) -> OpenSearchWire:
    """A connection by URL; ``compress``: gzip both ways; ``options`` of `client_options`."""
    from opensearchpy import OpenSearch

    arguments = client_options(url, **options)
    reopen = partial(OpenSearch, **arguments)
    return OpenSearchWire(reopen(), arguments["hosts"], reopen=reopen, compress=compress)


def open_async_wire(url: str, *, compress: bool = False, **options: Any) -> AsyncOpenSearchWire:
    """`open_wire` for asyncio.

    Raises:
        MissingExtraError: aiohttp is not installed.
    """
    try:
        from opensearchpy import AsyncOpenSearch
    except ImportError:
        raise MissingExtraError("AsyncSearchClient", "async") from None
    arguments = client_options(url, asynchronous=True, **options)
    reopen = partial(AsyncOpenSearch, **arguments)
    return AsyncOpenSearchWire(reopen(), arguments["hosts"], reopen=reopen, compress=compress)


def _opensearch_failure(
    error: Exception, urls: Sequence[str], index: str | None
) -> SpladeError | None:
    from opensearchpy import exceptions as theirs

    tried = ", ".join(urls)
    if isinstance(error, theirs.SSLError):
        return no_connection(tried, "tls", _last(error))
    if isinstance(error, theirs.ConnectionTimeout):
        return no_connection(tried, "timeout", "")
    if isinstance(error, theirs.ConnectionError):
        return no_connection(tried, _kind_of(error), _last(error))
    if isinstance(error, theirs.SerializationError | orjson.JSONDecodeError):
        return no_connection(tried, "json", "")
    if isinstance(error, theirs.TransportError):
        body = error.info if isinstance(error.info, Mapping) else {"error": error.error}
        return refused(urls[0], index, int(error.status_code), body)
    return None


def _elastic_failure(error: Exception, url: str, index: str | None) -> SpladeError | None:
    import elastic_transport as theirs
    from elasticsearch import ApiError

    if isinstance(error, ApiError):
        body = error.body if isinstance(error.body, Mapping) else {"error": str(error.body)}
        return refused(url, index, int(error.meta.status), body)
    if isinstance(error, theirs.TlsError):
        return no_connection(url, "tls", str(error.message))
    if isinstance(error, theirs.ConnectionTimeout):
        return no_connection(url, "timeout", "")
    if isinstance(error, theirs.SerializationError):
        return no_connection(url, "json", "")
    if isinstance(error, theirs.TransportError):
        return no_connection(url, _kind_of(error), str(error.message))
    return None


_AIOHTTP_NOTE = re.compile(r" ssl:(<[^>]*>|\w+)(?= \[)")
"""In what aiohttp says of every connection, with TLS or without."""


def _kind_of(error: Exception) -> str:
    text = _AIOHTTP_NOTE.sub("", str(error)).lower()
    return "tls" if "certificate" in text or "ssl" in text else "connection"


def _last(error: Any) -> str:
    """What the lowest layer said, without object addresses."""
    text = _AIOHTTP_NOTE.sub("", str(getattr(error, "info", None) or error))
    return text.rsplit(": ", 1)[-1].rstrip(")'\" ")


def _opensearch_arguments(call: Call) -> dict[str, Any]:
    params: dict[str, Any] = dict(call.params)
    if call.timeout is not None:
        params["request_timeout"] = call.timeout
    if call.absent:
        params["ignore"] = 404
    return {
        "method": call.method,
        "url": call.url,
        "params": params,
        "body": call.body,
        "headers": call.headers,
    }


def _elastic_arguments(call: Call) -> dict[str, Any]:
    query = f"?{urlencode(call.params)}" if call.params else ""
    headers = call.headers
    if call.body is None:
        del headers["content-type"]
    return {
        "method": call.method,
        "path": call.url + query,
        "headers": headers,
        "body": call.body,
    }


_INHERITED: list[Any] = []
"""Clients of a parent process: never closed here, where their connections are not ours."""


class ProcessClient:
    """A client and its connections, which are those of one process: after a fork parent and child
    would read each other's answers.

    Args:
        client: of this process.
        url: for messages.
        reopen: makes another one, in a child; ``None`` = the client is the user's.
    """

    def __init__(self, client: Any, url: str, reopen: Callable[[], Any] | None) -> None:
        self._client, self._url, self._reopen = client, url, reopen
        self._process = os.getpid()

    @property
    def own(self) -> bool:
        """Whether it is ours to close."""
        return self._reopen is not None

    def get(self) -> Any:
        """The client of the process that asks.

        Raises:
            EngineError: it is the user's, of another process.
        """
        if os.getpid() != self._process:
            if self._reopen is None:
                raise EngineError(
                    f"The client of {self._url} was made in process {self._process}, of which this "
                    f"one ({os.getpid()}) is a fork: both would read each other's answers.",
                    hint="Make the client after the fork, or give a URL instead of a client.",
                )
            _INHERITED.append(self._client)
            self._client, self._process = self._reopen(), os.getpid()
        return self._client


class OpenSearchWire:
    """An opensearch-py client of nodes at these URLs.

    Args:
        reopen: makes the client anew in a forked process; then it is closed with the wire.
        compress: gzip both ways.
    """

    def __init__(
        self,
        client: Any,
        urls: Sequence[str],
        *,
        reopen: Callable[[], Any] | None = None,
        compress: bool = False,
    ) -> None:
        self.url, self._urls, self._compress = urls[0], urls, compress
        self._client = ProcessClient(client, self.url, reopen)

    def send(self, call: Call) -> Any:
        sent = call.compressed() if self._compress else call
        client = self._client.get()

        def once() -> Any:
            try:
                return client.transport.perform_request(**_opensearch_arguments(sent))
            except Exception as error:
                raise _opensearch_failure(error, self._urls, call.index) or error from error

        return with_retries(once, **call.policy)

    def close(self) -> None:
        if self._client.own:
            self._client.get().close()


class AsyncOpenSearchWire:
    """`OpenSearchWire` of an ``AsyncOpenSearch`` client."""

    def __init__(
        self,
        client: Any,
        urls: Sequence[str],
        *,
        reopen: Callable[[], Any] | None = None,
        compress: bool = False,
    ) -> None:
        self.url, self._urls, self._compress = urls[0], urls, compress
        self._client = ProcessClient(client, self.url, reopen)

    async def send(self, call: Call) -> Any:
        sent = call.compressed() if self._compress else call
        client = self._client.get()

        async def once() -> Any:
            try:
                return await client.transport.perform_request(**_opensearch_arguments(sent))
            except Exception as error:
                raise _opensearch_failure(error, self._urls, call.index) or error from error

        return await with_retries_async(once, **call.policy)

    async def close(self) -> None:
        if self._client.own:
            client = self._client.get()
            pool = client.transport.connection_pool
            for connection in getattr(pool, "orig_connections", ()):  # else dead ones stay open
                await connection.close()
            await client.close()


class ElasticsearchWire:
    """An elasticsearch-py client of the user's."""

    def __init__(self, client: Any, url: str) -> None:
        self.url, self._client = url, ProcessClient(client, url, None)

    def send(self, call: Call) -> Any:
        client = self._client.get()
        if call.timeout is not None:
            client = client.options(request_timeout=call.timeout)
        if call.absent:
            client = client.options(ignore_status=404)

        def once() -> Any:
            try:
                return client.perform_request(**_elastic_arguments(call)).body
            except Exception as error:
                raise _elastic_failure(error, self.url, call.index) or error from error

        return with_retries(once, **call.policy)

    def close(self) -> None:
        """The client is the user's."""


class AsyncElasticsearchWire:
    """An ``AsyncElasticsearch`` client of the user's."""

    def __init__(self, client: Any, url: str) -> None:
        self.url, self._client = url, ProcessClient(client, url, None)

    async def send(self, call: Call) -> Any:
        client = self._client.get()
        if call.timeout is not None:
            client = client.options(request_timeout=call.timeout)
        if call.absent:
            client = client.options(ignore_status=404)

        async def once() -> Any:
            try:
                return (await client.perform_request(**_elastic_arguments(call))).body
            except Exception as error:
                raise _elastic_failure(error, self.url, call.index) or error from error

        return await with_retries_async(once, **call.policy)

    async def close(self) -> None:
        """The client is the user's."""


def wrap_client(client: Any) -> OpenSearchWire | ElasticsearchWire:
    """A wire over a client of opensearch-py or elasticsearch-py.

    Raises:
        TypeError: it is neither.
    """
    module = type(client).__module__
    if module.startswith("opensearchpy"):
        return OpenSearchWire(client, [_url_of_opensearch(client)])
    if module.startswith("elasticsearch"):
        return ElasticsearchWire(client, _url_of_elasticsearch(client))
    raise TypeError(f"{type(client).__name__} is no client of opensearch-py or elasticsearch-py.")


def wrap_async_client(client: Any) -> AsyncOpenSearchWire | AsyncElasticsearchWire:
    """`wrap_client` for ``AsyncOpenSearch`` and ``AsyncElasticsearch``."""
    module = type(client).__module__
    if not type(client).__name__.startswith("Async"):
        raise TypeError(f"{type(client).__name__} is not asynchronous: use SearchClient.")
    if module.startswith("opensearchpy"):
        return AsyncOpenSearchWire(client, [_url_of_opensearch(client)])
    if module.startswith("elasticsearch"):
        return AsyncElasticsearchWire(client, _url_of_elasticsearch(client))
    raise TypeError(f"{type(client).__name__} is no client of opensearch-py or elasticsearch-py.")


def _url_of_opensearch(client: Any) -> str:
    host = (client.transport.hosts or [{}])[0]
    scheme = "https" if host.get("use_ssl") or host.get("scheme") == "https" else "http"
    return f"{scheme}://{host.get('host', 'localhost')}:{host.get('port', 9200)}"


def _url_of_elasticsearch(client: Any) -> str:
    return next(iter(node.base_url for node in client.transport.node_pool.all()), "")
