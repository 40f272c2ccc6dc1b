"""Waiting for a cluster that does not answer, or that puts requests off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn, TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)
from tenacity.nap import sleep_using_event

from splade_os.engines import Engine
from splade_os.errors import EngineError, EngineUnavailableError, IngestError
from splade_os.ingest.log import log
from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation

RETRYABLE = frozenset({429, 502, 503, 504})
"""Statuses, of a request or of one document in it, that may go well later."""
T = TypeVar("T")


class RetryLaterError(Exception):
    """A request, or part of it, is to be sent again; says why."""


class RetryPolicy:
    """Repeats requests with full jitter, 0.5 s doubling to at most 30 s.

    Args:
        engine: for its URL in messages.
        cancellation: ends the wait when it is aborted.
        seconds: from the first failure of a request to giving it up.
    """

    def __init__(self, engine: Engine, cancellation: Cancellation, seconds: float) -> None:
        self._engine, self._cancellation, self._seconds = engine, cancellation, seconds

    def until_done(self, attempt: Callable[[], T]) -> T:
        """Call ``attempt`` until it does not raise `RetryLaterError`.

        Raises:
            IngestError: it was given up.
        """

        def checked() -> T:
            if self._cancellation.aborted.is_set():
                raise AbortedError
            return attempt()

        policy = Retrying(
            retry=retry_if_exception_type(RetryLaterError),
            wait=wait_random_exponential(multiplier=0.5, max=30),
            stop=stop_after_delay(self._seconds),
            sleep=sleep_using_event(self._cancellation.aborted),
            before_sleep=self._log,
            retry_error_callback=self._give_up,
        )
        return policy(checked)

    def call(self, request: Callable[[], T]) -> T:
        """`until_done` of a request that may be repeated as it is."""

        def attempt() -> T:
            try:
                return request()
            except EngineError as error:
                away = isinstance(error, EngineUnavailableError) or error.transient
                if away or error.status in RETRYABLE:
                    raise RetryLaterError(error.message) from error
                raise

        return self.until_done(attempt)

    @staticmethod
    def _log(state: RetryCallState) -> None:
        reason = state.outcome.exception() if state.outcome else None
        log(
            logging.INFO,
            "retry",
            f"Sent again in {state.upcoming_sleep:.1f} s: {reason}",
            reason=str(reason),
            attempt=state.attempt_number,
            wait=state.upcoming_sleep,
        )

    def _give_up(self, state: RetryCallState) -> NoReturn:
        reason = state.outcome.exception() if state.outcome else None
        raise IngestError(
            f"{self._engine.url} has not taken a request for {self._seconds:,.0f} s: {reason}",
            hint="What was acknowledged is saved. When the cluster is well again, run the same "
            "command with --resume.",
        )
