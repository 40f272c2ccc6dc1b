"""``--sync``: documents that the source has no more leave the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import orjson

from splade_os.engines import Engine
from splade_os.errors import IngestError
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.results import ResultRecorder, id_hash

_PAGE = 500


def delete_absent(
    engine: Engine,
    index: str,
    checkpoint: Checkpoint,
    results: ResultRecorder,
) -> int:
    """Delete every document whose id the source did not have.

    Ids are compared by 63 bits of a hash: a collision keeps a document that should go, and
    never deletes one that should stay.

    Returns:
        How many were deleted.

    Raises:
        IngestError: a record without an id was rejected: its document may be one of those;
            or the source had no document at all; or it is not known which ids it has.
    """
    progress = results.progress
    if progress.nameless:
        raise IngestError(
            f"--sync deletes nothing: {progress.nameless:,} records of the source were too damaged "
            "to have an id, and their documents would be deleted.",
            hint="All others are indexed. Mend those of "
            f"{results.dead_letters.file} in the source, then run again.",
        )
    if not progress.positions.mark:
        raise IngestError(
            "--sync deletes nothing: the source is empty, and so would be the index.",
            hint=f"If that is right: splade-os index delete --index {index}",
        )
    if progress.noted != progress.positions.mark or progress.positions.above:
        raise IngestError(
            f"--sync deletes nothing: of {progress.positions.mark:,} records that were read, the "
            f"ids of {progress.noted:,} are noted.",
            hint="All records are indexed. Run it again with --restart --skip-unchanged.",
        )
    deleted = 0
    for page in _pages(engine.scan(index, (), page=_PAGE)):
        hashes = {id_hash(identifier): identifier for identifier in page}
        gone = [page_id for h, page_id in hashes.items() if h not in checkpoint.has_seen(hashes)]
        if not gone:
            continue
        lines = [orjson.dumps({"delete": {"_id": i}}) + b"\n" for i in gone]
        outcomes = engine.bulk(index, b"".join(lines))
        for outcome in outcomes:
            if outcome.ok:
                deleted += 1
            elif outcome.status != 404:
                raise IngestError(f"{outcome.id} could not be deleted: {outcome.reason}")
    return deleted


def _pages(documents: Iterator[tuple[str, Mapping[str, Any]]]) -> Iterator[list[str]]:
    while page := [identifier for identifier, _ in islice(documents, _PAGE)]:
        yield page
