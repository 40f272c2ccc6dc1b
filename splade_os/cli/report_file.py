"""``--report FILE``: what became of an ingest, as JSON, however it ended."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from splade_os.cli.terminal import echo
from splade_os.errors import IngestError, SpladeError

if TYPE_CHECKING:
    from splade_os.ingest.report import IngestReport


@dataclass
class LatestReport:
    """The report so far."""

    report: IngestReport | None = None


@contextmanager
def report_file(file: Path | None) -> Iterator[LatestReport]:
    """Write the latest report at the end, with ``exit_code`` and, if there was one, ``error``.

    Raises:
        IngestError: it cannot be written.
    """
    latest = LatestReport()
    if file is None:
        yield latest
        return
    if not file.parent.is_dir():
        raise click.UsageError(f"--report {file}: there is no folder {file.parent}.")
    code, message = 0, None
    try:
        yield latest
    except BaseException as error:
        code, message = _code_of(error), _message_of(error)
        try:
            _write(file, latest, code, message)
        except IngestError as unwritten:  # what ended the ingest stays the error
            echo(unwritten.message, err=True)
        raise
    _write(file, latest, code, message)


def report_fields(report: IngestReport) -> dict[str, Any]:
    """A report as JSON objects have it."""
    return {
        **asdict(report),
        "indexed": report.indexed,
        "verified": report.verified,
        "lost_share": report.lost_share,
    }


def _code_of(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 0
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130
    return error.exit_code if isinstance(error, click.ClickException) else 1


def _message_of(error: BaseException) -> str | None:
    if isinstance(error, SystemExit):
        return None
    return str(error) if isinstance(error, SpladeError) else f"{type(error).__name__}: {error}"


def _write(file: Path, latest: LatestReport, code: int, error: str | None) -> None:
    fields = {} if latest.report is None else report_fields(latest.report)
    text = orjson.dumps(
        {**fields, "exit_code": code, "error": error},
        default=str,
        option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
    )
    try:
        if file.exists() and not file.is_file():  # a pipe, /dev/stdout: cannot be replaced
            file.write_bytes(text)
            return
        unfinished = file.with_name(f".{file.name[:100]}.{os.getpid()}")
        try:
            with unfinished.open("wb") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            os.replace(unfinished, file)  # noqa: PTH105
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as reason:
        raise IngestError(
            f"The report cannot be written to {file}: {reason.strerror}.",
            hint="Free some space, or name another file with --report.",
        ) from reason
