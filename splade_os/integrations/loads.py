"""A collection of a framework as an index, all of it or an error."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine
from splade_os.errors import IngestError
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.pipeline import ingest_documents


def load_all(
    records: Iterable[Record | Rejected],
    *,
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    text_fields: Sequence[str],
    what: str,
) -> int:
    """`ingest_documents`, without dead letters: who loads from a framework has no file to mend.

    Args:
        what: the documents, for the message.

    Returns:
        How many there were.

    Raises:
        IngestError: not every document could be indexed; those that could are.
        KeyboardInterrupt: it was interrupted.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = ingest_documents(
            records,
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=Path(folder) / "dead.jsonl",
            text_fields=text_fields,
        )
    if report.interrupted:
        raise KeyboardInterrupt
    if report.dead or not report.verified:
        reason = report.first_dead or "the index holds fewer than it should"
        raise IngestError(
            f"{report.dead:,} of {report.read:,} {what} could not be indexed in {index}: {reason}."
        )
    return report.read
