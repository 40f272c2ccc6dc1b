"""Who may ask: the token, the name that the service is called by, and pages of other sites."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from splade_os.serve.options import LOOPBACK_NAMES, ServeOptions
from splade_os.serve.problems import RequestError

OPEN_PATHS = frozenset({"/health/live", "/health/ready"})
"""For those who watch the service, and have no token."""


class Admission:
    """Lets a request in, or says why not."""

    def __init__(self, options: ServeOptions) -> None:
        self._token = options.token.encode() if options.token is not None else None

    def refusal(
        self, method: str, path: str, headers: Mapping[bytes, bytes]
    ) -> RequestError | None:
        """Why a request is not answered; ``None`` = it is.

        Args:
            headers: lower-case names.
        """
        if path in OPEN_PATHS:
            return None
        if self._token is None:
            # a page of another site whose name was pointed at this machine (DNS rebinding)
            name = urlsplit(f"//{headers.get(b'host', b'').decode('latin-1')}").hostname or ""
            if name not in LOOPBACK_NAMES:
                return RequestError(
                    421,
                    "wrong_host",
                    "Without a token this service answers to the names of this machine alone.",
                    "Ask http://localhost, or start it with --token.",
                )
        elif not self._known(headers.get(b"authorization", b"")):
            return RequestError(
                401,
                "unauthorized",
                "This service needs its token.",
                "Send it as Authorization: Bearer TOKEN; a browser asks for it as the password.",
            )
        if method not in ("GET", "HEAD") and not _own_page(headers):
            return RequestError(
                403,
                "cross_site",
                "Pages of other sites may not send requests to this service.",
            )
        return None

    def _known(self, given: bytes) -> bool:
        assert self._token is not None
        scheme, _, value = given.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        return hmac.compare_digest(value.strip(), self._token)


def _own_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request comes from our own page, or from no page at all: browsers say where one
    comes from, and would send the password along from anywhere."""
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return False
    origin = headers.get(b"origin")
    if origin is None:
        return True
    return urlsplit(origin.decode("latin-1")).netloc.encode("latin-1") == headers.get(b"host")
