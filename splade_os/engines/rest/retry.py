"""What is sent to a cluster again, how often and after how long: the one place for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from splade_os.errors import EngineError, EngineTimeoutError

Result = TypeVar("Result")
ATTEMPTS = 5


def _policy(attempts: int, repeat_timeouts: bool) -> dict[str, Any]:
    """Full jitter, 0.2 s doubling to at most 20 s."""

    def worth_it(error: BaseException) -> bool:
        if isinstance(error, EngineTimeoutError):
            return repeat_timeouts
        return isinstance(error, EngineError) and error.transient

    return {
        "retry": retry_if_exception(worth_it),
        "wait": wait_random_exponential(multiplier=0.2, max=20),
        "stop": stop_after_attempt(attempts),
        "reraise": True,
    }


def with_retries(
    send: Callable[[], Result], *, attempts: int = ATTEMPTS, repeat_timeouts: bool = False
) -> Result:
    """Call ``send`` until it succeeds.

    Args:
        send: one request; must be safe to repeat.
        attempts: calls in all.
        repeat_timeouts: also after a time-out (a bulk with explicit ids; never a search, which
            would burden an engine that is too slow already).
    """
    return Retrying(**_policy(attempts, repeat_timeouts))(send)


async def with_retries_async(
    send: Callable[[], Awaitable[Result]],
    *,
    attempts: int = ATTEMPTS,
    repeat_timeouts: bool = False,
) -> Result:
    """`with_retries` for a coroutine function."""
    return await AsyncRetrying(**_policy(attempts, repeat_timeouts))(send)
