"""Runs steps: generators that say what to do, and are sent what came of it.

Written once for waiting in line and once for asyncio. Whatever ends a step is thrown into the
generator, KeyboardInterrupt and CancelledError as well, so that it can release what it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def drive(steps: Generator[Step, Any, Result], do: Callable[[Step], Any]) -> Result:
    """Run steps to their end.

    Args:
        do: carries out one step.
    """
    try:
        step = next(steps)
        while True:
            try:
                answer = do(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        result: Result = end.value
        return result


async def drive_async(
    steps: Generator[Step, Any, Result],
    do: Callable[[Step], Awaitable[Any]],
    holds: Callable[[Step], bool] = lambda step: False,
) -> Result:
    """`drive` for asyncio.

    Args:
        do: carries out one step.
        holds: whether a step takes something that must be released. A task that is cancelled
            meanwhile waits for it to end, and is cancelled then; what the generator does after
            that is not cancelled again.
    """
    cancelled: asyncio.CancelledError | None = None
    try:
        step = next(steps)
        while True:
            error: BaseException | None = None
            cancel: asyncio.CancelledError | None = None
            try:
                if cancelled is not None or holds(step):
                    answer, cancel = await _whole(do(step))
                else:
                    answer = await do(step)
            except asyncio.CancelledError as ended:
                error = cancelled = ended
            except BaseException as ended:
                error = ended
            if error is not None:
                step = steps.throw(error)
                continue
            cancelled = cancelled or cancel
            step = steps.send(answer)
            if cancel is not None:
                step = steps.throw(cancel)
    except StopIteration as end:
        if cancelled is not None:
            raise cancelled from None
        result: Result = end.value
        return result


async def _whole(work: Awaitable[Any]) -> tuple[Any, asyncio.CancelledError | None]:
    """What came of ``work``, and the cancellation that was asked for meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:
            break
    return task.result(), cancelled
