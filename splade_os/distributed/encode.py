"""`splade-os encode` on a Ray cluster: a source → a folder of Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from splade_os.distributed.attempts import guarded
from splade_os.distributed.cluster import READER_CPUS, RayOptions, connected
from splade_os.distributed.reading import parts_of
from splade_os.distributed.runner import Input, encoded_dataset, job_error
from splade_os.distributed.worker import POISON, EncoderSpec
from splade_os.encoding import DocumentEncoder
from splade_os.errors import SpladeError
from splade_os.ingest.documents.encoded_rows import EncodingRecord
from splade_os.ingest.documents.parquet_folder import (
    ROWS,
    begin_folder,
    encoded_batches,
    encoding_record,
    end_folder,
    write_file,
)
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.documents.vector_files import Skip
from splade_os.ingest.sources import Selection, Source, SourceOptions


@dataclass
class Rows:
    """A window as encoded rows, or a file of some.

    Attributes:
        position: of its first record.
        batches: the rows; none once they are in a file.
        written: rows in a file.
        skipped: where something stood that cannot be encoded, and why.
        error: what ended the work at it; the job ends with it.
    """

    position: int
    batches: list[Any] = field(default_factory=list)
    written: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    error: SpladeError | None = None


class RowWorker:
    """An actor: windows of records → encoded rows."""

    def __init__(
        self, spec: EncoderSpec, encoding: EncodingRecord, attempts: Any, most: int
    ) -> None:
        self._encoding, self._attempts, self._most = encoding, attempts, most
        self._failed: SpladeError | None = None
        try:
            self._encoder = spec.load()
        except SpladeError as error:  # an actor that cannot start is started again for ever
            self._failed = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        found: list[Rows] = []
        for packed in batch["window"].tolist():
            items = cloudpickle.loads(packed)
            broken = items[-1] if isinstance(items[-1], SpladeError) else self._failed
            if broken is not None:
                found.append(Rows(0, error=broken))
                continue
            found += guarded(self._attempts, self._most, items, self.work, self._poison)
        return {"rows": [cloudpickle.dumps(rows) for rows in found]}

    def work(self, window: Sequence[Record | Rejected]) -> Rows:
        """Encode a window."""
        rows = Rows(window[0].position)

        def skip(where: str, reason: str) -> None:
            rows.skipped.append((where, reason))

        try:
            rows.batches = [*encoded_batches(window, self._encoder, self._encoding, skip)]
        except SpladeError as error:
            rows.error = error
        return rows

    def _poison(self, item: Record | Rejected) -> Rows:
        return Rows(item.position, skipped=[(item.where, POISON.format(self._most))])


class FileWriter:
    """A task: encoded rows → a file, named by the position of its first record, so that a task that
    is repeated writes the same file again."""

    def __init__(self, out: Path, encoding: EncodingRecord) -> None:
        self._out, self._encoding = out, encoding

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from ray import cloudpickle

        parts: list[Rows] = [cloudpickle.loads(packed) for packed in batch["rows"].tolist()]
        result = Rows(min(part.position for part in parts))
        result.error = next((part.error for part in parts if part.error is not None), None)
        result.skipped = [skipped for part in parts for skipped in part.skipped]
        batches = [each for part in parts for each in part.batches]
        if batches and result.error is None:
            file = self._out / f"part-{result.position:015}.parquet"
            result.written = write_file(file, self._encoding, batches)
        return {"rows": [cloudpickle.dumps(result)]}


def encode_on_ray(
    source: Source,
    out: Path,
    *,
    spec: str,
    encoder: DocumentEncoder,
    model: str,
    running: dict[str, Any],
    skip: Skip,
    reader: RecordReader,
    cluster: RayOptions,
    selection: Selection | None = None,
    opening: SourceOptions | None = None,
) -> int:
    """Encode a source into a folder, as `write_parquet` does; its files come in another order.

    Args:
        source, spec: what was found, and by which name workers find it too.
        out: on a file system that all nodes share.
        encoder, model, running: of the driver, all that is measured included; the model and how
            workers run it.
        skip: is told where something stood that cannot be encoded, and why.

    Returns:
        The number of vectors.

    Raises:
        SettingsError: something is in the folder already; a Ray cluster that is too small.
        ClusterError: no Ray cluster answers.
        SpladeError: a source that breaks off, a model that is another one on a worker.
    """
    selection = selection or Selection()
    encoding = encoding_record(encoder, reader.stored_text_fields)
    parts = parts_of(source, spec, opening or SourceOptions(), selection)
    count = files = 0
    with connected(cluster) as ray:
        begin_folder(out)
        found, attempts = encoded_dataset(
            ray,
            cluster,
            Input(parts, reader, selection),
            encoder.window,
            None,
            RowWorker,
            {"spec": EncoderSpec(model, running, encoder.identity), "encoding": encoding},
        )
        written = found.map_batches(
            FileWriter(out.absolute(), encoding),
            batch_size=max(1, ROWS // encoder.window),
            num_cpus=READER_CPUS,
        )
        try:
            for batch in written.iter_batches(batch_size=None, prefetch_batches=0):
                for packed in batch["rows"].tolist():
                    rows: Rows = ray.cloudpickle.loads(packed)
                    if rows.error is not None:
                        raise rows.error
                    for where, reason in rows.skipped:
                        skip(where, reason)
                    count += rows.written
                    files += bool(rows.written)
        except ray.exceptions.RayError as error:
            raise job_error(error, "Delete the folder, and encode again.") from error
        del attempts  # the actor lives as long as somebody has its handle
        end_folder(out, encoding, empty=not files)
    return count
