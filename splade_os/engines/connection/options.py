"""How a cluster is reached, as arguments for a client of opensearch-py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from splade_os.engines.connection.credentials import Secret, authentication
from splade_os.engines.connection.redirects import unredirected
from splade_os.engines.connection.tls import tls_context
from splade_os.errors import SettingsError
from splade_os.settings import named_twice
from splade_os.urls import in_clear_text, nodes

_CONNECTIONS, _SOCKETS = 1000, 64
"""Of threads, each of which keeps one, more than any service has: what is over this is closed after
each request. Of coroutines, which wait for a free one."""


def client_options(
    url: str,
    *,
    username: str | None = None,
    password: Secret = None,
    api_key: Secret = None,
    bearer_token: Secret = None,
    aws_region: str | None = None,
    aws_service: str | None = None,
    ca_certs: str | Path | None = None,
    verify_certs: bool = True,
    fingerprint: str | None = None,
    client_cert: str | Path | None = None,
    client_key: str | Path | None = None,
    client_key_password: Secret = None,
    allow_http: bool = False,
    timeout: float = 60.0,
    asynchronous: bool = False,
) -> dict[str, Any]:
    """Arguments for ``OpenSearch`` or ``AsyncOpenSearch``.

    Args:
        url: ``https://host:9200``, or several nodes of one cluster with commas between:
            requests go to each in turn, and to another one where a connection fails. A user
            name and password in it are taken out.
        username, password: basic authentication.
        api_key: of Elasticsearch, as it gave it: ``encoded``, or ``id:api_key``.
        bearer_token: of a service account, an OAuth or JWT issuer.
        aws_region, aws_service: sign requests (SigV4) with the credentials that AWS's own tools
            would use, for ``es`` (OpenSearch Service) or ``aoss`` (Serverless); default by
            the host name.
        ca_certs: file or folder of CA certificates; default ``SSL_CERT_FILE``, ``SSL_CERT_DIR``,
            or certifi's.
        verify_certs: ``False`` trusts any server.
        fingerprint: SHA-256 of the server's certificate, or of a CA's in its chain, instead
            of ``ca_certs``; for this the server is asked at once.
        client_cert, client_key, client_key_password: PEM files that introduce the client; one
            may hold both, a key may be encrypted.
        allow_http: credentials may go over ``http://`` to another machine, where everybody on
            the way can read them.
        timeout: seconds per request.
        asynchronous: for ``AsyncOpenSearch``.

    Raises:
        SettingsError: arguments contradict each other, or a file cannot be used.
        MissingExtraError: botocore is not installed.
        EngineUnavailableError: the server does not show the fingerprint.
    """
    hosts, user, secret = nodes(url)
    url = hosts[0]
    if user is not None:
        if username is not None:
            raise named_twice(url)
        username, password = user, password if secret is None else secret
    if fingerprint is not None and len(hosts) > 1:
        raise SettingsError(
            "A fingerprint is looked up at one server, and several URLs are given.",
            hint="Name the CA that signed the certificates of all with --ca-certs.",
        )
    credentials = authentication(
        url,
        username=username,
        password=password,
        api_key=api_key,
        bearer_token=bearer_token,
        aws_region=aws_region,
        aws_service=aws_service,
        asynchronous=asynchronous,
    )
    readable = [host for host in hosts if in_clear_text(host)]
    if credentials and readable and not allow_http:
        raise SettingsError(
            f"{readable[0]} is another machine, reached without TLS: everybody on the way could "
            "read the credentials.",
            hint=f"Write https{readable[0].removeprefix('http')}, or allow it by name where the "
            "network is your own: --allow-http, SPLADE_OS_ALLOW_HTTP=true, allow_http=True.",
        )
    if asynchronous:
        credentials["connection_class"] = unredirected(credentials.get("connection_class"))
    return {
        "hosts": hosts,
        **credentials,
        "ssl_context": tls_context(
            url,
            ca_certs=ca_certs,
            verify_certs=verify_certs,
            fingerprint=fingerprint,
            client_cert=client_cert,
            client_key=client_key,
            client_key_password=client_key_password,
            timeout=timeout,
        ),
        "timeout": timeout,
        # retries are in retry.py; these are the tries on other nodes where a connection fails
        "max_retries": len(hosts) - 1,
        "retry_on_status": (),
        "pool_maxsize": _SOCKETS if asynchronous else _CONNECTIONS,
        "serializer": _serializer(),
    }


def _serializer() -> Any:
    from opensearchpy.serializer import JSONSerializer

    class Serializer(JSONSerializer):  # type: ignore[misc]
        """orjson instead of simplejson, which opensearch-py prefers where it is installed."""

        def loads(self, s: str) -> Any:
            return orjson.loads(s)

        def dumps(self, data: Any) -> Any:
            return data if isinstance(data, str | bytes) else orjson.dumps(data)

    return Serializer()
