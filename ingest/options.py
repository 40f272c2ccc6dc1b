"""What can be chosen about an ingest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from splade_os.engines import IndexLayout


@dataclass(frozen=True)
class IngestOptions:
    """How an ingest runs.

    Attributes:
        max_bytes: size of a bulk request at most.
        max_documents: documents of a bulk request at most.
        concurrency: bulk requests under way at most; how many there are adapts to the cluster.
        flush_seconds: a request is sent at the latest after this time, full or not.
        patience: seconds for which a cluster may not answer, or put documents off, before the
            ingest stops (it can be resumed).
        window: documents that are read, looked up and tokenised together.
        queue_bytes: memory of the documents that wait before a stage, of which there are four, and
            half of it for a window; one document always may, whatever it takes.
        on_error: ``continue`` after a document that cannot be indexed, or ``abort``.
        max_errors: dead letters after which the ingest stops.
        unusable: the ingest stops where none of so many records at the beginning can be indexed;
            ``None`` = never, nor where ``max_errors`` is given.
        skip_unchanged: look up what the index holds, and leave out what is the same.
        load_settings: ``on`` = no refresh and no replicas while loading; ``auto`` = where the
            index is empty at the beginning; ``off``.
        count_terms: keep the term statistics of the index, for IDF queries.
        sync: at the end, delete from the index what the source has no more.
        vector_field, content_field: (a new index) names of the fields that hold the vectors, and
            the text for BM25; default names that no document has.
        layout: (a new index) its mapping and settings; default those of splade-os.
    """

    max_bytes: int = 8_000_000
    max_documents: int = 5_000
    concurrency: int = 4
    flush_seconds: float = 5.0
    patience: float = 600.0
    window: int = 512
    queue_bytes: int = 16_000_000
    on_error: Literal["continue", "abort"] = "continue"
    max_errors: int | None = None
    unusable: int | None = 100
    skip_unchanged: bool = False
    load_settings: Literal["auto", "on", "off"] = "auto"
    count_terms: bool = True
    sync: bool = False
    vector_field: str | None = None
    content_field: str | None = None
    layout: IndexLayout | None = None
