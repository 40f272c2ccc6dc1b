"""What an ingest would do, without doing it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from splade_os.encoding import DocumentEncoder
from splade_os.engines import DocumentRenderer, IndexMeta
from splade_os.errors import EncoderProcessError, EncodingError, InputError, SpladeError
from splade_os.ingest.documents.given_vectors import Row, vector_of
from splade_os.ingest.documents.records import Record, Rejected
from splade_os.ingest.documents.stamps import Stamper
from splade_os.ingest.sources import Source
from splade_os.vectors import SparseBatch


@dataclass(frozen=True)
class DryRun:
    """What one batch tells.

    Attributes:
        read, dead: records read, and those that would become dead letters.
        reasons: of the first of these, ``where: reason``.
        action: the first bulk action, two lines.
        bytes: mean size of an action.
        terms: mean number of terms.
        rate: documents encoded a second (one batch, without the engine).
        documents: estimate for the whole source; ``None`` = its size is unknown.
        empty: documents without any term.
        cut: documents that are longer than the model takes.
        lost_share: the part of all tokens that was cut off, 0 to 1.
    """

    read: int
    dead: int
    reasons: list[str]
    action: str | None
    bytes: float
    terms: float
    rate: float
    documents: int | None
    empty: int = 0
    cut: int = 0
    lost_share: float = 0.0

    @property
    def total_bytes(self) -> float | None:
        """Estimate of all bulk bodies."""
        return None if self.documents is None else self.documents * self.bytes

    @property
    def seconds(self) -> float | None:
        """Estimate of the time for encoding."""
        return None if self.documents is None or not self.rate else self.documents / self.rate


def dry_run(
    records: Iterable[Record | Rejected],
    source: Source,
    encoder: DocumentEncoder,
    meta: IndexMeta,
    window: int = 512,
) -> DryRun:
    """Read and encode one window; touches neither engine nor disk."""
    items = list(islice(records, window))
    reasons = [f"{item.where}: {item.reason}" for item in items if isinstance(item, Rejected)]
    good: list[Record] = []
    stamper = Stamper(encoder.identity, "dryrun")
    ids = encoder.vocabulary.ids
    rows: list[Row] = []  # of documents that bring their vectors
    start = time.perf_counter()
    for item in items:
        if isinstance(item, Rejected):
            continue
        try:
            stamper.of(item)
            if item.vector is not None:
                rows.append(vector_of(item.vector, ids))
            elif item.encoded is not None:
                rows.append((item.encoded.ids, item.encoded.weights))
            good.append(item)
        except InputError as error:
            reasons.append(f"{item.where}: {error.message}")
    cut, share = 0, 0.0
    batches = [SparseBatch.from_rows(rows, len(encoder.vocabulary))]
    if not rows and not encoder.identity.external:
        good, batches, lengths = _encode(good, encoder, reasons)
        lost = sum(missing for _, missing in lengths)
        cut = sum(missing > 0 for _, missing in lengths)
        share = lost / max(1, lost + sum(kept for kept, _ in lengths))
    seconds = time.perf_counter() - start
    batch = SparseBatch.concat(batches, len(encoder.vocabulary))
    renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
    documents = [(record.id, record.source) for record in good]
    marks = [str(stamper.of(record)) for record in good]
    lines = renderer.render_many(documents, batch, operation="create", marks=marks)
    sound = [line for line in lines if isinstance(line, bytes)]
    reasons += [line.message for line in lines if isinstance(line, SpladeError)]
    total = source.total
    if total is not None and source.unit == "bytes":
        total = round(total / source.done * len(items)) if source.done else None
    return DryRun(
        read=len(items),
        dead=len(items) - len(sound),
        reasons=reasons[:10],
        action=sound[0].decode() if sound else None,
        bytes=sum(map(len, sound)) / max(1, len(sound)),
        terms=float(batch.active_dims().mean()) if len(batch) else 0.0,
        rate=len(good) / seconds if seconds else 0.0,
        documents=max(total, len(items)) if total is not None else None,
        empty=int((batch.active_dims() == 0).sum()),
        cut=cut,
        lost_share=share,
    )


def _encode(
    records: list[Record], encoder: DocumentEncoder, reasons: list[str]
) -> tuple[list[Record], list[SparseBatch], list[tuple[int, int]]]:
    """Those that can be encoded, their vectors, and how many tokens of each were kept and lost."""
    try:
        tokens, lost = encoder.tokenize_documents([record.text for record in records])
        lengths = [(len(ids) - cut, cut) for ids, cut in zip(tokens, lost, strict=True)]
        return records, [encoder.encode_tokens(tokens)], lengths
    except EncoderProcessError:
        raise
    except EncodingError as error:
        if len(records) == 1:
            reasons.append(f"{records[0].where}: {error.message}")
            return [], [], []
        found = [_encode([record], encoder, reasons) for record in records]
        good, batches, lengths_of = zip(*found, strict=True)
        return (
            [record for some in good for record in some],
            [batch for some in batches for batch in some],
            [length for some in lengths_of for length in some],
        )
