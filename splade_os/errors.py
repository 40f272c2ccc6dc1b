"""The error tree. Every error that splade-os raises on purpose is a ``SpladeError``.

::

    SpladeError
    ├── SettingsError            a flag, variable or settings file is wrong
    ├── InputError               a source, record or text cannot be read
    ├── ModelError               a model folder is missing, incomplete or not understood
    │   └── ModelMismatchError   an index was encoded by another model
    ├── EncodingError            a text could not be encoded (names the text)
    │   └── EncoderProcessError      a process that encodes ended: no text is the cause
    ├── MissingExtraError        an optional dependency is not installed
    ├── EngineError              the search engine refused or failed
    │   ├── EngineUnavailableError   nothing answers at the URL
    │   │   └── EngineTimeoutError       not in time
    │   ├── AuthenticationError      the engine refused the credentials
    │   ├── AuthorizationError       the user lacks a right
    │   ├── IndexNotFoundError
    │   ├── IndexExistsError
    │   ├── IndexFormatError         an index without, or with damaged, splade-os metadata
    │   └── DeploymentError          a query encoder could not be put into the cluster
    ├── IngestError              an ingest stopped before its end
    ├── TrainingError            a training run stopped before its end
    └── ClusterError             a local cluster could not be started or stopped

A message says what happened, where, and what to do next; ``hint`` holds the last part.
"""

from __future__ import annotations

import re
from typing import Any

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SpladeWarning(UserWarning):
    """Something works, but not as the user may think."""


def one_line(text: str) -> str:
    """A text with its control characters and line breaks as their escapes."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class SpladeError(Exception):
    """Base of all errors raised by splade-os.

    Args:
        message: what happened and where; one line, whatever names and values it quotes.
        hint: what to do next; printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        message = one_line(message)
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        # by attributes: subclasses take other arguments, and errors cross processes
        return _restore, (type(self), dict(self.__dict__))

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def _restore(kind: type[SpladeError], attributes: dict[str, Any]) -> SpladeError:
    error = kind.__new__(kind, attributes["message"])
    error.__dict__.update(attributes)
    return error


class SettingsError(SpladeError):
    """A flag, an environment variable or a settings file is wrong."""


class InputError(SpladeError):
    """A source, a record or a text cannot be read."""


class ModelError(SpladeError):
    """A model folder is missing, incomplete or not understood."""


class ModelMismatchError(ModelError):
    """The index was encoded by another model than the one at hand."""


class EncodingError(SpladeError):
    """A text could not be encoded."""


class EncoderProcessError(EncodingError):
    """A process of a device could not start, ended or failed. No text is the cause: whoever
    looks for the culprit among texts has to let it pass."""


class MissingExtraError(SpladeError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs packages that are not installed.",
            hint=f"Install them: pip install 'splade-os[{extra}]'",
        )


class EngineError(SpladeError):
    """The search engine refused a request or failed.

    Attributes:
        status: HTTP status of the answer, where there was one.
        transient: the same request may go well later.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        transient: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.transient = transient


class EngineUnavailableError(EngineError):
    """Nothing answers at the engine's URL."""


class EngineTimeoutError(EngineUnavailableError):
    """The engine did not answer in time."""


class AuthenticationError(EngineError):
    """The engine refused the credentials."""


class AuthorizationError(EngineError):
    """The user is known, and lacks a right.

    Attributes:
        distribution: of the server, as the way it says so tells.
    """

    distribution: str = "opensearch"


class IndexNotFoundError(EngineError):
    """The index does not exist."""


class IndexExistsError(EngineError):
    """The index exists already."""


class IndexFormatError(EngineError):
    """The index carries no splade-os metadata, or damaged metadata."""


class DeploymentError(EngineError):
    """A query encoder could not be put into the cluster; nothing of it is left there."""


class IngestError(SpladeError):
    """An ingest stopped before its end."""


class TrainingError(SpladeError):
    """A training run stopped before its end: collapse, or losses that are not finite."""


class ClusterError(SpladeError):
    """A local cluster could not be started, reached or stopped."""
