"""NanoBEIR: thirteen small retrieval collections, on the hub or in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from splade_os.errors import InputError, MissingExtraError
from splade_os.evaluation.beir import judge
from splade_os.evaluation.collection import Collection, open_collection
from splade_os.evaluation.runs import Qrels
from splade_os.ingest.documents.records import Record

HUB = "sentence-transformers/NanoBEIR-en"
NAMES = {
    name.lower(): name
    for name in (
        "ClimateFEVER", "DBPedia", "FEVER", "FiQA2018", "HotpotQA", "MSMARCO", "NFCorpus", "NQ",
        "QuoraRetrieval", "SCIDOCS", "ArguAna", "SciFact", "Touche2020",
    )
}  # fmt: skip


def open_nanobeir(names: Sequence[str] = (), place: str = HUB) -> list[Collection]:
    """The collections, in order.

    Args:
        names: ``msmarco``, ``nq`` ...; default all 13.
        place: name of a dataset on the hub, a folder that holds such a dataset (subsets
            ``corpus``, ``queries``, ``qrels``, a split per collection), or a folder of BEIR
            folders ``NanoMSMARCO``, ``NanoNQ`` ...

    Raises:
        InputError: a name is unknown, or a collection cannot be had.
        MissingExtraError: the package datasets is not installed.
    """
    wanted = [name.lower().removeprefix("nano") for name in names] or list(NAMES)
    for name in wanted:
        if name not in NAMES:
            raise InputError(
                f"NanoBEIR has no collection {name!r}.", hint=f"It has {', '.join(NAMES)}."
            )
    return [_open(f"Nano{NAMES[name]}", place) for name in wanted]


def _open(name: str, place: str) -> Collection:
    folder = Path(place).expanduser() / name
    if folder.is_dir():
        found = open_collection(str(folder))
        return Collection(name, found.judged, found.documents)
    queries = {str(q["_id"]): str(q["text"]) for q in _subset(place, "queries", name) if q["text"]}
    qrels: Qrels = {}
    for row in _subset(place, "qrels", name):
        documents = row["corpus-id"]
        for document in documents if isinstance(documents, list) else [documents]:
            qrels.setdefault(str(row["query-id"]), {})[str(document)] = int(row.get("score", 1))
    corpus = _subset(place, "corpus", name)

    def records() -> Iterator[Record]:
        for position, row in enumerate(corpus, 1):
            if row["text"]:  # sentence-transformers leaves empty documents out
                identifier, text = str(row["_id"]), str(row["text"])
                yield Record(position, f"{name}:{position}", identifier, text, {"text": text})

    return Collection(name, judge(queries, qrels, f"{place} {name}"), records)


def _subset(place: str, subset: str, split: str) -> Any:
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingExtraError("NanoBEIR", "sources") from None
    try:
        return load_dataset(place, subset, split=split)
    except Exception as error:  # datasets raises almost anything
        raise InputError(
            f"{subset} of {split} cannot be read from {place}: {error}",
            hint="Without a way to the hub: put the dataset into a folder, and name it with "
            "--nanobeir-from FOLDER.",
        ) from error
