"""What is evaluated: documents, queries and judgements of one collection, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from splade_os.errors import InputError, MissingExtraError
from splade_os.evaluation.beir import Judged, judge, read_judged
from splade_os.evaluation.trec import read_qrels, read_queries
from splade_os.ingest.documents.records import Record, RecordReader
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
    try:
        folder = Path(spec).expanduser()
        folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of nobody
        raise InputError(f"There is no folder {spec}: {error}.", hint=_hint("./")) from None
    if spec.startswith(_IR_DATASETS):
        name = spec.removeprefix(_IR_DATASETS).replace("/", "-")
        judged = _judged_by_ir_datasets(spec.removeprefix(_IR_DATASETS), queries, qrels)
    else:
        name = folder.resolve().name.removesuffix(".gz").removesuffix(".jsonl")
        judged = _judged_by_files(spec, folder, split, queries, qrels)

    def documents() -> Iterator[Record]:
        for item in read_source(find_source(spec), reader):
            if not isinstance(item, Record):
                raise InputError(
                    f"{item.where}: {item.reason}.",
                    hint="A collection with a damaged document would give other figures.",
                )
            yield item

    return Collection(name, judged, documents)


def _hint(spec: str) -> str:
    """What may be meant: the name of a data set alone is no folder."""
    what = (
        "A collection is a folder in BEIR's layout (corpus.jsonl, queries.jsonl, qrels/test.tsv), "
        "irds:ID, nanobeir, or any source of ingest together with --queries and --qrels."
    )
    if not spec.replace("-", "").replace("_", "").isalnum():
        return what
    return (
        f"{what}\nIs BEIR's data set {spec} meant? irds:beir/{spec.lower()}/test downloads it "
        "(pip install 'splade-os[sources]'; without /test where it has no splits); or name the "
        "folder into which you unpacked it."
    )


def _judged_by_files(
    spec: str, folder: Path, split: str, queries: Path | None, qrels: Path | None
) -> Judged:
    if queries is None and qrels is None:
        if not folder.is_dir():
            if folder.exists():
                raise InputError(
                    f"{spec} is a file: its queries and judgements are not known.",
                    hint="Name them with --queries FILE and --qrels FILE.",
                )
            raise InputError(f"There is no folder {spec}.", hint=_hint(spec))
        return read_judged(folder, split)
    texts = read_queries(queries or folder / "queries.jsonl")
    judgements = read_qrels(qrels or folder / "qrels" / f"{split}.tsv")
    return judge(texts, judgements, str(qrels or folder))


def _judged_by_ir_datasets(name: str, queries: Path | None, qrels: Path | None) -> Judged:
    """Queries and qrels of an id of ir_datasets, which downloads what it lacks."""
    try:
        import ir_datasets
    except ImportError:
        raise MissingExtraError("irds:", "sources") from None
    try:
        dataset = ir_datasets.load(name)
    except KeyError:
        raise InputError(
            f"ir_datasets knows no {name!r}.",
            hint="See https://ir-datasets.com, e.g. irds:beir/scifact/test.",
        ) from None
    for part, given in (("queries", queries), ("qrels", qrels)):
        if given is None and not getattr(dataset, f"has_{part}")():
            raise InputError(f"{name} of ir_datasets has no {part}.", hint=f"Name --{part} FILE.")
    texts = (
        read_queries(queries)
        if queries
        else {query.query_id: query.default_text() for query in dataset.queries_iter()}
    )
    judgements = (
        read_qrels(qrels)
        if qrels
        else {query: dict(judged) for query, judged in dataset.qrels_dict().items()}
    )
    return judge(texts, judgements, f"irds:{name}")
