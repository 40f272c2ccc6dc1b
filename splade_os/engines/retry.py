"""What is sent to a cluster again, how often and after how long: the one place for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from opensearchpy.exceptions import ConnectionError as TransportConnectionError
from opensearchpy.exceptions import ConnectionTimeout, SSLError, TransportError
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

Result = TypeVar("Result")
_PUT_OFF = {429, 502, 503, 504}


def with_retries(
    send: Callable[[], Result], *, attempts: int = 5, repeat_timeouts: bool = False
) -> Result:
    """Call ``send`` until it succeeds; full jitter, 0.2 s doubling to at most 20 s.

    Args:
        send: one request; must be safe to repeat.
        attempts: calls in all.
        repeat_timeouts: also after a time-out (a bulk with explicit ids; never a search, which
            would burden an engine that is too slow already).
    """

    def worth_it(error: BaseException) -> bool:
        if isinstance(error, SSLError):
            return False
        if isinstance(error, ConnectionTimeout):
            return repeat_timeouts
        if isinstance(error, TransportConnectionError):
            # nobody listens: answered at once, so that a wrong URL does not hang
            return "refused" not in str(error) and "resolve" not in str(error)
        return isinstance(error, TransportError) and error.status_code in _PUT_OFF

    policy = Retrying(
        retry=retry_if_exception(worth_it),
        wait=wait_random_exponential(multiplier=0.2, max=20),
        stop=stop_after_attempt(attempts),
        reraise=True,
    )
    return policy(send)
