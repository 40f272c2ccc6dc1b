"""What a service is started with."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from splade_os.errors import SettingsError
from splade_os.search.options import MAX_K

_LEAST_TOKEN = 16  # characters: what nobody guesses
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class ServeOptions:
    """Everything about a service but the cluster behind it.

    Attributes:
        indices: that may be searched; the first is the default.
        host: address to listen at; another than this machine's own needs a ``token``.
        port: 0 = any that is free.
        token: that clients bring (``Authorization: Bearer``; browsers as the password).
        allow_writes: whether ``/v1/documents`` changes the indices.
        judgements: folder for the judgements of the page, in BEIR's layout; ``None`` = no buttons.
        max_body: bytes of a request body.
        max_concurrent: requests that are worked on at once; more are refused with 429.
        max_k: hits of one search.
        max_texts: texts, or documents, of one request.
        timeout: seconds for one request, its body included; over it, 504 (a slow body: 408).

    Raises:
        SettingsError: a value that makes no sense.
    """

    indices: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    allow_writes: bool = False
    judgements: Path | None = None
    max_body: int = 1 << 20
    max_concurrent: int = 64
    max_k: int = 1_000
    max_texts: int = 100
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not self.indices or len(set(self.indices)) < len(self.indices):
            raise SettingsError(
                f"The indices to serve are {', '.join(self.indices) or 'none'}.",
                hint="Name each once: --index products,articles",
            )
        if self.token is not None and len(self.token) < _LEAST_TOKEN:
            raise SettingsError(
                f"The token has fewer than {_LEAST_TOKEN} characters, and could be guessed.",
                hint="Make one: openssl rand -hex 32",
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise SettingsError("The token has characters that an HTTP header cannot carry.")
        if self.token is None and not self.loopback:
            raise SettingsError(
                f"Whoever reaches {self.host} could search: without a token the service listens at "
                "the loopback address alone.",
                hint="Give one with --token @FILE or SPLADE_OS_SERVE_TOKEN.",
            )
        for name in ("max_body", "max_concurrent", "max_k", "max_texts", "timeout"):
            if not getattr(self, name) > 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be more than 0.")
        if self.max_k > MAX_K:
            raise SettingsError(f"max_k is {self.max_k:,}; an engine gives at most {MAX_K:,}.")

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
