"""What an ingest logs: to the logger ``splade_os.ingest``, with its facts beside the words.

Each record bears ``event`` (``start``, ``progress``, ``retry``, ``dead_letter``, ``no_id``,
``export``, ``text_field``, ``shards``, ``end``, ``failed``) and ``data``, a dict of JSON values.
Warnings are what a user should look at; start, progress, retries, shards and end are of the level
INFO.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from splade_os.ingest.documents.envelopes import EXTENDED_JSON, HIT
from splade_os.ingest.report import IngestReport

_TAKEN = {
    HIT: "documents and ids are taken out of them; index, routing, version and score are not kept.",
    EXTENDED_JSON: "ids, numbers and dates of it are read as plain ones.",
}

logger = logging.getLogger("splade_os.ingest")


def log(level: int, event: str, message: str, **data: Any) -> None:
    """Log an event."""
    logger.log(level, "%s", message, extra={"event": event, "data": data})


def log_report(event: str, report: IngestReport) -> None:
    """Log how far an ingest is, or how it ended."""
    message = (
        f"{report.indexed:,} of {report.read:,} records indexed, {report.dead:,} dead letters, "
        f"{report.retries:,} retries, {report.seconds:,.1f} s"
    )
    log(logging.INFO, event, message, **asdict(report), verified=report.verified)


class Notes:
    """What is told once of the records read."""

    _FIRST = 1000  # records, after which a text field is missed
    _FEW = 0.5  # share of the records

    def __init__(self) -> None:
        self._no_id = False
        self._exports: set[str] = set()
        self._missed: set[str] = set()

    def look(self, report: IngestReport, *, ended: bool = False) -> None:
        """Tell what is new in a report."""
        if report.hashed and not self._no_id:
            self._no_id = True
            log(
                logging.WARNING,
                "no_id",
                "The records have no id (no field _id or id): theirs are hashes of the records. "
                "If they have one: --id FIELD.",
            )
        for kind in report.exports.keys() - self._exports:
            self._exports.add(kind)
            log(logging.WARNING, "export", f"The records are {kind}: {_TAKEN[kind]}", kind=kind)
        records = report.read - report.dead
        if records < 1 or not (ended or records >= self._FIRST):
            return
        for name, count in report.text_fields.items():
            if count and not (ended and count < self._FEW * records):
                continue
            if name not in self._missed:
                self._missed.add(name)
                told = f"none of {records:,} records" if not count else f"{count:,} of {records:,}"
                log(
                    logging.WARNING,
                    "text_field",
                    f"The text field {name!r}: {told} {'has' if not count else 'records have'} "
                    "text in it. What is encoded is chosen with --text.",
                    field=name,
                    records=records,
                    with_text=count,
                )
