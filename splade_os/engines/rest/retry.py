"""What is sent to a cluster again, how often and after how long: the one place for it."""

from __future__ import annotations

import asyncio
import random
import time
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


_FIRST_WAIT = 0.2  # seconds


def _worth_it(error: BaseException, repeat_timeouts: bool) -> bool:
    if isinstance(error, EngineTimeoutError):
        return repeat_timeouts
    return isinstance(error, EngineError) and error.transient


def _policy(attempts: int, repeat_timeouts: bool) -> dict[str, Any]:
    """Of the calls after the first one. Full jitter, 0.2 s after the first, doubling to at most
    20 s."""
    return {
        "retry": retry_if_exception(lambda error: _worth_it(error, repeat_timeouts)),
        "wait": wait_random_exponential(multiplier=2 * _FIRST_WAIT, max=20),
        "stop": stop_after_attempt(attempts - 1),
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
    try:
        return send()  # nearly always all: a policy costs as much as the rest of a request
    except EngineError as error:
        if attempts < 2 or not _worth_it(error, repeat_timeouts):
            raise
    time.sleep(random.uniform(0, _FIRST_WAIT))
    return Retrying(**_policy(attempts, repeat_timeouts))(send)


async def with_retries_async(
    send: Callable[[], Awaitable[Result]],
    *,
    attempts: int = ATTEMPTS,
    repeat_timeouts: bool = False,
) -> Result:
    """`with_retries` for a coroutine function."""
    try:
        return await send()
    except EngineError as error:
        if attempts < 2 or not _worth_it(error, repeat_timeouts):
            raise
    await asyncio.sleep(random.uniform(0, _FIRST_WAIT))
    return await AsyncRetrying(**_policy(attempts, repeat_timeouts))(send)
