"""What is evaluated: documents, queries and judgements of one collection, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from splade_os.errors import InputError, MissingExtraError
from splade_os.evaluation.beir import Judged, judge, read_judged
from splade_os.evaluation.trec import read_qrels, read_queries
from splade_os.ingest.records import Item, Record, RecordReader
from splade_os.ingest.sources import find_source, read_source

_IR_DATASETS = "irds:"


@dataclass(frozen=True)
class Collection:
    """One collection.

    Attributes:
        name: for people, and for files.
        judged: its queries and judgements.
        documents: opens the documents; every call starts again at the first one.
    """

    name: str
    judged: Judged
    documents: Callable[[], Iterator[Record]]


def open_collection(
    spec: str,
    *,
    split: str = "test",
    queries: Path | None = None,
    qrels: Path | None = None,
    reader: RecordReader | None = None,
) -> Collection:
    """Find a collection.

    Args:
        spec: a BEIR folder, ``irds:ID`` of ir_datasets, or, with ``queries`` and ``qrels``, any
            source that ingest reads.
        split: (BEIR folder) which judgements.
        queries: file of queries, instead of the collection's own.
        qrels: file of judgements, instead of the collection's own.
        reader: makes records of documents.

    Raises:
        InputError: something is missing or damaged.
    """
    reader = reader or RecordReader()
    if spec.startswith(_IR_DATASETS):
        return _from_ir_datasets(spec.removeprefix(_IR_DATASETS), reader)
    folder = Path(spec).expanduser()
    if queries is None and qrels is None:
        if not folder.is_dir():
            raise InputError(
                f"{spec} is no BEIR folder.",
                hint="Give a folder with corpus, queries and qrels; or nanobeir; or irds:ID; or "
                "any source of ingest together with --queries and --qrels.",
            )
        judged = read_judged(folder, split)
    else:
        texts = read_queries(queries or folder / "queries.jsonl")
        judgements = read_qrels(qrels or folder / "qrels" / f"{split}.tsv")
        judged = judge(texts, judgements, str(qrels or folder))
    source = find_source(spec)
    name = folder.resolve().name.removesuffix(".gz").removesuffix(".jsonl")

    def documents() -> Iterator[Record]:
        for item in read_source(source, reader):
            if not isinstance(item, Record):
                raise InputError(
                    f"{item.where}: {item.reason}.",
                    hint="A collection with a damaged document would give other figures.",
                )
            yield item

    return Collection(name, judged, documents)


def _from_ir_datasets(name: str, reader: RecordReader) -> Collection:
    """Documents, queries and qrels of an ir_datasets id; it downloads what it lacks."""
    try:
        import ir_datasets
    except ImportError:
        raise MissingExtraError("irds:", "sources") from None
    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        raise InputError(
            f"ir_datasets knows no {name!r}.", hint="See https://ir-datasets.com, e.g. "
            "irds:beir/scifact/test."
        ) from None  # fmt: skip
    for part in ("docs", "queries", "qrels"):
        if not getattr(dataset, f"has_{part}")():
            raise InputError(f"{name} of ir_datasets has no {part}.")
    queries = {query.query_id: query.default_text() for query in dataset.queries_iter()}

    def documents() -> Iterator[Record]:
        for position, document in enumerate(dataset.docs_iter(), 1):
            where = f"irds:{name}:{position}"
            value = {"_id": document.doc_id, "text": document.default_text()}
            item = reader.read(Item(where, value=value), position)
            if not isinstance(item, Record):
                raise InputError(f"{where}: {item.reason}.")
            yield item

    qrels = {q: dict(judged) for q, judged in dataset.qrels_dict().items()}
    return Collection(name.replace("/", "-"), judge(queries, qrels, f"irds:{name}"), documents)
