"""``--log-format``: on stderr talk for people, or one JSON object a line with a time stamp."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import orjson

from splade_os.cli.terminal import secho

LogFormat = Literal["text", "json"]
_LEVELS = {"Error:": "error", "Warning:": "warning"}


@contextmanager
def logging_to_stderr(
    form: LogFormat, name: str = "splade_os.ingest", *, every_line: bool = False
) -> Iterator[None]:
    """Within it, what is logged of an ingest, or under another name, goes to stderr.

    As text only what a user should look at (``every_line``: everything); as JSON everything, and
    whatever else is written to stderr, also after it (the last error of a command), becomes
    objects of that form.
    """
    logger = logging.getLogger(name)
    handler: logging.Handler = _Text()
    before = logger.level
    if every_line:
        handler = logging.StreamHandler(sys.stderr)
        logger.setLevel(logging.INFO)
    if form == "json":
        lines = JsonLines(sys.stderr)
        sys.stderr = lines
        handler = _Json(lines)
        logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class JsonLines(io.TextIOBase):
    """A text stream each line of which goes to another one as a JSON object."""

    encoding = "utf-8"
    errors = "strict"

    def __init__(self, out: TextIO) -> None:
        self._out, self._part = out, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *whole, self._part = (self._part + text).split("\n")
        for line in whole:
            if line.strip():
                first = line.split(" ", 1)[0]
                self.put({"level": _LEVELS.get(first, "info"), "message": line})
        return len(text)

    def put(self, fields: dict[str, Any]) -> None:
        """Write an object, with the time before its fields."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = orjson.dumps({"time": time, **fields}, default=_plain)
        self._out.write(line.decode() + "\n")
        self._out.flush()


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, Path) else repr(value)


class _Json(logging.Handler):
    def __init__(self, out: JsonLines) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"level": record.levelname.lower(), "event": getattr(record, "event", None)}
        data = getattr(record, "data", {})
        self._out.put({**fields, "message": record.getMessage(), **data})


class _Text(logging.Handler):
    """Warnings; an error is told by the command, as its last word."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            secho(record.getMessage(), fg="yellow", err=True)
