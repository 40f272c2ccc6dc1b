"""Who asks: one of the ways in which clusters know their users."""

from __future__ import annotations

import base64
import re
from typing import Any

from pydantic import SecretStr

from splade_os.engines.fields.capabilities import amazon_serverless
from splade_os.errors import MissingExtraError, SettingsError

_SENDABLE = re.compile(r"[!-~]+")

Secret = str | SecretStr | None


def plain(secret: Secret) -> str | None:
    """The secret itself, for those who send it."""
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret


def authentication(
    url: str,
    *,
    username: str | None,
    password: Secret,
    api_key: Secret,
    bearer_token: Secret,
    aws_region: str | None,
    aws_service: str | None,
    asynchronous: bool,
) -> dict[str, Any]:
    """Arguments for an opensearch-py client; `client_options` tells what each is.

    Raises:
        SettingsError: more than one way is given, or half of one.
        MissingExtraError: botocore is not installed.
    """
    ways = {
        "user name": username,
        "API key": api_key,
        "bearer token": bearer_token,
        "AWS region": aws_region,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise SettingsError(
            f"{' and '.join(given)} are given: by which shall the cluster know you?",
            hint="Leave the others out. Settings come from flags, SPLADE_OS_* variables, .env and "
            "splade-os.toml.",
        )
    if username is None and password is not None:
        raise SettingsError(
            "A password is given, and no user name.",
            hint="Set --username, or SPLADE_OS_USERNAME.",
        )
    if username is not None and password is None:
        raise SettingsError(
            f"The user name {username} is given, and no password.",
            hint="Set SPLADE_OS_PASSWORD, also to @FILE. On a terminal the command line asks.",
        )
    if aws_service is not None and aws_region is None:
        raise SettingsError(
            "An AWS service is given, and no region.",
            hint="Set --aws-region, or SPLADE_OS_AWS_REGION.",
        )
    if username is not None:
        return _header("Basic", _base64(f"{_user(username)}:{plain(password)}"))
    if api_key is not None:
        return _header("ApiKey", _encoded(str(plain(api_key))))
    if bearer_token is not None:
        return _header("Bearer", str(plain(bearer_token)))
    if aws_region is not None:
        return _signed(url, aws_region, aws_service, asynchronous)
    return {}


def _header(scheme: str, text: str) -> dict[str, Any]:
    """One header for every client: theirs know only passwords in Latin-1."""
    if not _SENDABLE.fullmatch(text):  # the HTTP library would repeat it in its complaint
        raise SettingsError(
            f"The {'API key' if scheme == 'ApiKey' else 'bearer token'} holds characters that no "
            "header can have: it is letters, digits and signs of ASCII, without spaces or line "
            "breaks.",
            hint="Look at the variable, or at the file that it names with @.",
        )
    return {"headers": {"authorization": f"{scheme} {text}"}}


def _user(name: str) -> str:
    if ":" in name:  # RFC 7617: what follows would be taken for the password
        raise SettingsError(
            "The user name holds a colon, which basic authentication cannot send.",
            hint="Is it an API key, id:key? Then set SPLADE_OS_API_KEY.",
        )
    return name


def _encoded(api_key: str) -> str:
    """Elasticsearch shows a key as ``id`` and ``api_key``, and as ``encoded``, which it wants."""
    return _base64(api_key) if ":" in api_key else api_key


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _signed(url: str, region: str, service: str | None, asynchronous: bool) -> dict[str, Any]:
    """Each request is signed (SigV4) by opensearch-py, with the credentials that AWS's own tools
    would use; those of a role are renewed by botocore before they end."""
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise MissingExtraError("Signing requests for AWS", "aws") from None
    try:
        credentials = botocore.session.Session().get_credentials()
    except BotoCoreError as error:
        raise SettingsError(
            f"AWS credentials cannot be had: {error}",
            hint="Look at AWS_PROFILE and ~/.aws/config; aws sts get-caller-identity must work.",
        ) from None
    if credentials is None:
        raise SettingsError(
            "There are no AWS credentials to sign requests with.",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where "
            "a role gives them.",
        )
    if service is None:
        service = "aoss" if amazon_serverless(url) else "es"
    if asynchronous:
        from opensearchpy import AsyncHttpConnection, AWSV4SignerAsyncAuth

        auth = AWSV4SignerAsyncAuth(credentials, region, service)
        # the default connection for asyncio knows only basic authentication
        return {"http_auth": auth, "connection_class": AsyncHttpConnection}
    from opensearchpy import Urllib3AWSV4SignerAuth

    return {"http_auth": Urllib3AWSV4SignerAuth(credentials, region, service)}
