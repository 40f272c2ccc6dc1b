"""Runs steps: generators that say what to do, and are sent what came of it.

Written once for waiting in line and once for asyncio. Whatever ends a step is thrown into the
generator, KeyboardInterrupt and CancelledError as well, so that it can release what it holds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

Step = TypeVar("Step")
Result = TypeVar("Result")


def drive(
    steps: Generator[Step, Any, Result],
    do: Callable[[Step], Any],
    holds: Callable[[Step], bool] = lambda step: False,
) -> Result:
    """Run steps to their end.

    Args:
        do: carries out one step.
        holds: whether a step takes something that must be released, or releases it. Ctrl-C waits
            for it to end.
    """
    interrupted: KeyboardInterrupt | None = None
    try:
        step = next(steps)
        while True:
            interrupt: KeyboardInterrupt | None = None
            try:
                if holds(step) and threading.current_thread() is threading.main_thread():
                    answer, interrupt = _beside(do, step)
                else:
                    answer = do(step)
            except BaseException as error:
                step = steps.throw(error)
                continue
            interrupted = interrupted or interrupt
            step = steps.send(answer)
            if interrupt is not None:
                step = steps.throw(interrupt)
    except StopIteration as end:
        if interrupted is not None:
            raise interrupted from None
        result: Result = end.value
        return result


def _beside(do: Callable[[Step], Any], step: Step) -> tuple[Any, KeyboardInterrupt | None]:
    """What comes of a step in another thread, which no Ctrl-C ends, and the Ctrl-C meanwhile."""
    came: Future[Any] = Future()

    def work() -> None:
        try:
            came.set_result(do(step))
        except BaseException as error:
            came.set_exception(error)

    interrupt = None
    threading.Thread(target=work, daemon=True).start()
    while True:
        try:
            return came.result(), interrupt
        except KeyboardInterrupt as error:
            interrupt = error


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
