"""Exact retrieval in memory: what a model gives before any engine has a part in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from splade_os.encoding import DocumentEncoder, QueryEncoder, load_query_encoder, read_layout
from splade_os.encoding.layout import StaticPart
from splade_os.encoding.query import IdfQueryEncoder, QueryMode
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.text import Normalization
from splade_os.errors import EncoderProcessError, EncodingError, InputError
from splade_os.evaluation.runs import Run, without_query_ids
from splade_os.evaluation.sparsity import Sparsity
from splade_os.evaluation.topk import TopK
from splade_os.ingest.documents.records import Record
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch

MemoryMode = Literal["model", "idf", "encoder"]
MEMORY_MODES: tuple[MemoryMode, ...] = ("model", "idf", "encoder")
_BLOCK = 512  # documents encoded at a time

Change = Callable[[SparseBatch], SparseBatch]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Retrieved:
    """What one way of searching returned.

    Attributes:
        run: the best documents of every query.
        queries, documents: how sparse their vectors were.
    """

    run: Run
    queries: Sparsity
    documents: Sparsity


def load_queries_encoder(
    model: str,
    mode: MemoryMode,
    *,
    statistics: TermStatistics | None = None,
    leading_space: bool | None = None,
    device: str | None = None,
    normalize: Normalization | None = None,
) -> QueryEncoder:
    """The query encoder of a mode.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        mode: ``model``: the query side that the model was saved with, as sentence-transformers'
            ``encode_query`` (a table for an inference-free model, the transformer for any
            other); ``idf``: a table of IDF weights from ``statistics``; ``encoder``: the
            transformer.
        statistics: (``idf``) of the corpus.
        leading_space: (``idf``) whether they were counted with a space before every text;
            default as `corpus_statistics` of this model counts.
        device: torch device.
        normalize: Unicode normal form, as that of the documents; default what the model says.
    """
    if mode == "idf" and statistics is None:
        raise ValueError("idf needs the statistics of the corpus")
    if mode == "model":
        static = isinstance(read_layout(resolve_model(model).folder).query, StaticPart)
        side: QueryMode = "idf" if static else "encoder"
        return load_query_encoder(model, side, device=device, normalize=normalize)
    if mode == "idf":
        return IdfQueryEncoder.load(
            model, statistics, normalize=normalize, leading_space=leading_space
        )
    return load_query_encoder(model, mode, device=device, normalize=normalize)


def corpus_statistics(
    documents: Iterable[Record], encoder: DocumentEncoder, progress: Progress | None = None
) -> TermStatistics:
    """Document frequencies as ingest counts them: tokenises, and runs no model."""
    statistics = TermStatistics.empty(encoder.identity.vocabulary_size)
    for block in _blocks(documents):
        for ids in encoder.tokenize([record.text for record in block]):
            statistics.count(encoder.counted(ids))
        if progress:
            progress(statistics.documents)
    return statistics


def encoded_blocks(
    documents: Iterable[Record], encoder: DocumentEncoder
) -> Iterator[tuple[list[str], SparseBatch]]:
    """Ids and vectors of the documents, 512 at a time.

    Raises:
        EncodingError: naming a document that cannot be encoded.
    """
    for block in _blocks(documents):
        try:
            batch = encoder.encode_content([record.text for record in block])
        except EncoderProcessError:
            raise
        except EncodingError as error:
            raise EncodingError(
                f"Documents {block[0].where} to {block[-1].where}: {error.message}",
                hint=error.hint,
            ) from None
        yield [record.id for record in block], batch


def retrieve(
    blocks: Iterable[tuple[list[str], SparseBatch]],
    queries: Sequence[str],
    vectors: Mapping[str, SparseBatch],
    *,
    changes: Mapping[str, Change] | None = None,
    depth: int = 100,
    remove_query_id: bool = False,
    progress: Progress | None = None,
) -> dict[tuple[str, str], Retrieved]:
    """Search every query over all documents, which pass by once.

    Args:
        blocks: ids and vectors of documents (`encoded_blocks`).
        queries: their ids.
        vectors: mode → vectors of the queries, in this order.
        changes: name → what happens to the document vectors, e.g. pruning; default nothing,
            under the name ``""``.
        depth: documents kept per query.
        remove_query_id: a query may not find the document of its own id.
        progress: called with the number of documents that have passed.

    Returns:
        (mode, name of the change) → what was found.

    Raises:
        InputError: there is no document.
    """
    changes = changes or {"": lambda batch: batch}
    best = {
        (mode, name): TopK(batch, depth + remove_query_id)
        for mode, batch in vectors.items()
        for name in changes
    }
    sparsity: dict[str, Sparsity] = {}
    done = 0
    for ids, batch in blocks:
        for name, change in changes.items():
            changed = change(batch)
            sparsity.setdefault(name, Sparsity.empty(batch.width)).add(changed)
            for mode in vectors:
                best[mode, name].add(ids, changed)
        done += len(ids)
        if progress:
            progress(done)
    if not done:
        raise InputError("The collection holds no document.")
    found = {}
    for (mode, name), hits in best.items():
        run = hits.run(queries)
        if remove_query_id:
            run = {q: dict(list(h.items())[:depth]) for q, h in without_query_ids(run).items()}
        found[mode, name] = Retrieved(run, Sparsity.of(vectors[mode]), sparsity[name])
    return found


def _blocks(documents: Iterable[Record]) -> Iterator[list[Record]]:
    stream = iter(documents)
    while block := list(islice(stream, _BLOCK)):
        yield block
