"""What pruning the documents of an index would do: the curve by which to choose a setting.

Nothing is encoded again: the vectors of the index are cut and written into copies of it, one
setting at a time, which are searched, weighed and deleted.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from splade_os.encoding.rows import prune, row_numbers
from splade_os.engines import DocumentRenderer, Engine, IndexMeta, IndexStats
from splade_os.engines.fields.stored import scored_vector
from splade_os.errors import EngineError, SettingsError, SpladeError
from splade_os.evaluation.collection import Collection
from splade_os.evaluation.evaluate import Settings
from splade_os.evaluation.live import batch_of, run_queries, time_queries
from splade_os.evaluation.measures import score
from splade_os.evaluation.memory import Change
from splade_os.evaluation.report import CurvePoint, Evaluation
from splade_os.evaluation.sparsity import Sparsity
from splade_os.evaluation.ways import Way
from splade_os.identity import EncodingOptions
from splade_os.search.client import SearchClient
from splade_os.vectors import SparseBatch

Progress = Callable[[str, int], None]
_OPTIONS = ("max_active_dims", "max_ratio", "min_weight", "alpha_mass")
_PAGE = 1000  # documents read at once
_TIMED = 100  # queries per setting
_BODY = 4_000_000  # bytes of one bulk request


@dataclass(frozen=True)
class Sweep:
    """Settings to try.

    Attributes:
        option: of `EncodingOptions` that prunes documents.
        values: of it.
    """

    option: str
    values: Sequence[float]

    def change(self, value: float) -> Change:
        """What a value does to document vectors."""
        if self.option == "max_active_dims":
            return partial(heaviest, count=int(value))
        options: dict[str, Any] = {self.option: value}
        return partial(prune, **options)


def parse_sweep(text: str) -> Sweep:
    """``max-ratio=0,0.1,0.2`` → sweep.

    Raises:
        SettingsError: no such option, or a value that it cannot have.
    """
    name, _, values = text.partition("=")
    option = name.strip().replace("-", "_")
    if option not in _OPTIONS:
        known = ", ".join(known.replace("_", "-") for known in _OPTIONS)
        raise SettingsError(f"{name!r} prunes no documents.", hint=f"One of {known}.")
    try:
        sweep = Sweep(option, [float(value) for value in values.split(",")])
        for value in sweep.values:
            _option(sweep, value)
    except ValueError:  # pydantic's ValidationError is one
        raise SettingsError(
            f"{text!r} has a value that {name} cannot have.",
            hint="Like max-ratio=0,0.05,0.1 or max-active-dims=64,128,256.",
        ) from None
    return sweep


def heaviest(batch: SparseBatch, *, count: int) -> SparseBatch:
    """The ``count`` heaviest weights of each row."""
    rows = row_numbers(batch)
    order = np.lexsort((-batch.values, rows))
    rank = np.arange(len(order)) - batch.indptr[rows]
    keep = np.zeros(len(order), bool)
    keep[order] = rank < count
    indptr = np.concatenate(([0], np.cumsum(np.minimum(batch.active_dims(), count))))
    return SparseBatch(
        indptr.astype(np.int64), batch.indices[keep], batch.values[keep], batch.width
    )


def sweep_index(
    client: SearchClient,
    collection: Collection,
    ways: Sequence[Way],
    sweep: Sweep,
    *,
    settings: Settings,
    model: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[CurvePoint]:
    """Try each setting on a copy of an index.

    Args:
        client: of the index, whose documents are copied; it is only read.
        collection: queries and judgements.
        ways: how to search; bm25 and engine are left out.
        sweep: the settings.
        settings: measures and depth.
        model, device: as of the client.
        progress: called with what is done, and how often.
    """
    report = progress or (lambda what, done: None)
    engine, meta, judged = client.engine, client.meta, collection.judged
    points = []
    for value in sweep.values:
        told = meta.model_copy(
            update={"model": meta.model.model_copy(update=_option(sweep, value))}
        )
        name = f"{client.index}-sweep-{uuid.uuid4().hex[:8]}"
        engine.create_index(name, told)
        try:
            said = f"documents with {sweep.option} {value:g} written"
            documents = _copy(client, name, told, sweep.change(value), partial(report, said))
            stats = _settled(engine, name)
            copy = SearchClient(engine=engine, index=name, model=model, device=device)
            for way in ways:
                if way.mode in ("bm25", "engine"):  # without vectors; deployed for another index
                    continue
                run, queries = run_queries(
                    copy,
                    judged.queries,
                    way,
                    depth=settings.hits,
                    remove_query_id=settings.remove_query_id,
                )
                evaluation = Evaluation(
                    way.label,
                    run,
                    score(judged.qrels, run, settings.measures),
                    Sparsity.of(queries) if queries is not None else None,
                    documents,
                    time_queries(copy, judged.queries, way, _TIMED),
                )
                points.append(CurvePoint(sweep.option, value, evaluation, stats))
        finally:
            engine.delete_index(name)
    return points


def _copy(
    client: SearchClient,
    name: str,
    meta: IndexMeta,
    change: Change,
    report: Callable[[int], None],
) -> Sparsity:
    """Write the changed documents of an index into another."""
    engine, vocabulary = client.engine, client.encoder("idf").vocabulary
    renderer = DocumentRenderer.for_index(vocabulary, meta)
    ids_of = {feature: i for i, feature in enumerate(vocabulary.named(meta.feature_naming))}
    sparsity = Sparsity.empty(len(vocabulary))
    documents = engine.scan(client.index, page=_PAGE)
    while page := [(i, dict(source)) for i, source in islice(documents, _PAGE)]:
        vectors = [scored_vector(source.pop(meta.field, None), meta) for _, source in page]
        batch = change(batch_of(vectors, ids_of))
        for _, source in page:
            source.pop(meta.hash_field, None)  # the mark of another index
        sparsity.add(batch)
        lines: list[bytes] = []
        size = 0
        for line in [*renderer.render_many(page, batch), b""]:
            if isinstance(line, SpladeError):
                raise line
            if lines and (not line or size + len(line) > _BODY):
                _send(engine, name, b"".join(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        report(sparsity.rows)
    statistics = engine.load_statistics(client.index)
    if statistics is not None:
        engine.save_statistics(name, statistics)
    return sparsity


def _send(engine: Engine, name: str, body: bytes) -> None:
    for outcome in engine.bulk(name, body):
        if not outcome.ok:
            raise EngineError(f"The copy of document {outcome.id} was refused: {outcome.reason}")


def _settled(engine: Engine, name: str) -> IndexStats:
    """The size of an index of one segment: what is compared is not left to merging."""
    engine.refresh(name)
    engine.merge(name)
    return engine.stats(name)


def _option(sweep: Sweep, value: float) -> dict[str, Any]:
    """A setting as a checked encoding option."""
    given = int(value) if sweep.option == "max_active_dims" else value
    options = EncodingOptions.model_validate({sweep.option: given})
    return options.model_dump(include={sweep.option})
