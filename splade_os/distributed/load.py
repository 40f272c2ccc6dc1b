"""`splade_os.ingest.load.load_source`, with the work done by a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splade_os.distributed.cluster import RayOptions, connected
from splade_os.distributed.reading import Connect, parts_of
from splade_os.distributed.runner import Input, RayRunner
from splade_os.distributed.worker import EncoderSpec
from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine
from splade_os.errors import SettingsError
from splade_os.ingest.documents.encoded_rows import require_same_encoding
from splade_os.ingest.documents.records import RecordReader
from splade_os.ingest.load import load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.sources import Selection, Source, SourceOptions, encoding_of_source
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.state.results import ResultRecorder
from splade_os.urls import is_cluster


def load_on_ray(
    source: Source,
    *,
    spec: str,
    engine: Engine,
    connect: Connect,
    target: str,
    encoder: DocumentEncoder,
    model: str,
    running: dict[str, Any] | None = None,
    cluster: RayOptions | None = None,
    opening: SourceOptions | None = None,
    reader: RecordReader | None = None,
    selection: Selection | None = None,
    options: IngestOptions | None = None,
    **others: Any,
) -> IngestReport:
    """Read a source into an index, with reading, encoding and sending spread over a Ray cluster.

    What `load_source` promises holds: every record is in the index or in the dead letters, once;
    statistics, ``_meta``, verification and alias are those of a load on one machine. Documents are
    delivered at least once; ids and marks make one of it. The index is the checkpoint: a load that
    goes on asks it for what is there, before anything is encoded.

    Args:
        source, spec: what was found, and by which name workers find it too.
        engine, connect: to the cluster that is written to, and what opens it in a worker.
        encoder, model, running: of the driver; the model and how workers run it.
        cluster: where, and with how many actors.
        others: of `load_source`.

    Raises:
        SettingsError: what cannot be done by several processes; a Ray cluster that is too small.
        ClusterError: no Ray cluster answers.
        SpladeError: see `load_source`.
    """
    cluster = cluster or RayOptions()
    reader, selection = reader or RecordReader(), selection or Selection()
    options = options or IngestOptions()
    if not is_cluster(engine.url):
        raise SettingsError(
            f"{engine.url} is a file of this machine, which other processes cannot write to.",
            hint="Load it without --on.",
        )
    if options.sync or reader.vectors:
        raise SettingsError(
            f"{'--sync' if options.sync else '--vectors'} cannot be spread over a cluster.",
            hint="Load it without --on.",
        )
    encoding = encoding_of_source(source)
    if encoding is not None:
        reader = require_same_encoding(reader, encoding, encoder)
    parts = parts_of(source, spec, opening or SourceOptions(), selection)
    with connected(cluster) as ray:

        def runner(
            context: StageContext,
            results: ResultRecorder,
            on_progress: Callable[[IngestReport], None] | None,
            heartbeat: tuple[float, Callable[[], None]] | None,
            /,
        ) -> RayRunner:
            spec_of_encoder = EncoderSpec(model, running or {}, context.encoder.identity, encoding)
            return RayRunner(
                ray,
                cluster,
                Input(parts, reader, selection),
                spec_of_encoder,
                connect,
                context,
                results,
                on_progress,
                heartbeat,
            )

        return load_source(
            source,
            named=spec,
            engine=engine,
            target=target,
            encoder=encoder,
            reader=reader,
            selection=selection,
            options=options,
            make_runner=runner,
            **others,
        )
