"""How a cluster is reached, as keywords that an editor completes and mypy checks."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from splade_os.engines.connection.credentials import Secret


class WireKeywords(TypedDict, total=False):
    """What they mean stands at `splade_os.engines.connection.options.client_options`;
    ``compress``: gzip both ways."""

    username: str | None
    password: Secret
    api_key: Secret
    bearer_token: Secret
    aws_region: str | None
    aws_service: str | None
    ca_certs: str | Path | None
    verify_certs: bool
    fingerprint: str | None
    client_cert: str | Path | None
    client_key: str | Path | None
    client_key_password: Secret
    allow_http: bool
    timeout: float
    compress: bool


class EngineKeywords(WireKeywords, total=False):
    """Of `connect`; ``statistics_index``: where the term statistics are."""

    statistics_index: str


class ConnectionKeywords(EngineKeywords, total=False):
    """Of a client: also ``cloud_id``, instead of the URL."""

    cloud_id: str | None
