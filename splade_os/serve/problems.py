"""Errors → HTTP status and JSON; nothing of the program's inside gets out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from splade_os.control_characters import clean
from splade_os.errors import (
    AuthenticationError,
    AuthorizationError,
    EncodingError,
    EngineError,
    EngineTimeoutError,
    EngineUnavailableError,
    IndexFormatError,
    IndexNotFoundError,
    InputError,
    SettingsError,
    SpladeError,
)

_STATUS: tuple[tuple[type[SpladeError], int], ...] = (
    (EngineTimeoutError, 504),
    (EngineUnavailableError, 503),
    (AuthenticationError, 502),  # the service's own credentials: nothing that a client can mend
    (AuthorizationError, 502),
    (IndexNotFoundError, 404),
    (IndexFormatError, 409),
    (InputError, 400),
    (SettingsError, 400),
    (EncodingError, 400),
)
RETRY_AFTER = {429: "1", 503: "5"}
"""Seconds after which a request may go well."""


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: of the answer.
        kind: a name that programs can compare: ``too_large`` ...
        message, hint: as of `SpladeError`.
    """

    def __init__(self, status: int, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.hint = status, kind, message, hint


def request_error(error: SpladeError | ValidationError) -> RequestError:
    """An error of the library, or of the validation of a body, as an answer."""
    if isinstance(error, ValidationError):
        return RequestError(
            400, "ValidationError", _wrong(error), "/openapi.json says what it takes."
        )
    kind = type(error).__name__
    return RequestError(
        status_of(error), kind, clean(error.message), error.hint and clean(error.hint)
    )


def status_of(error: SpladeError) -> int:
    """The HTTP status that says whose fault an error is."""
    for of, status in _STATUS:
        if isinstance(error, of):
            return status
    if isinstance(error, EngineError):
        if error.status == 400:
            return 400  # the engine does not understand what the client asks for
        return 503 if error.status == 429 or error.transient else 502
    return 500


def problem_body(problem: RequestError, request_id: str) -> bytes:
    """The JSON that every error is answered with."""
    error: Mapping[str, Any] = {
        "type": problem.kind,
        "message": problem.message,
        "hint": problem.hint,
        "request_id": request_id,
    }
    return orjson.dumps({"error": error})


def _wrong(error: ValidationError) -> str:
    """Where a body is wrong, and how: the first few of it, none of its values."""
    parts = []
    for each in error.errors(include_url=False, include_input=False)[:3]:
        where = ".".join(str(part) for part in each["loc"]) or "the body"
        parts.append(f"{where}: {each['msg'].removeprefix('Value error, ')}")
    more = error.error_count() - len(parts)
    return clean("; ".join(parts) + (f"; and {more} more" if more > 0 else "") + ".")
