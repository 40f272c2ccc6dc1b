"""Judgements of the page, in a folder that ``splade-os evaluate`` reads."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from pathlib import Path

import orjson

from splade_os.errors import InputError, SpladeWarning
from splade_os.evaluation.runs import Qrels
from splade_os.evaluation.trec import read_qrels, read_queries

_HEADER = "query-id\tcorpus-id\tscore\n"
_ID = 12  # hexadecimal digits of a query's id


class Judgements:
    """Queries and judgements in BEIR's layout: ``queries.jsonl`` and ``qrels/test.tsv``. What is
    there already is kept; each change is on the disk when `judge` returns.

    Raises:
        InputError: the folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.queries_file, self.qrels_file = folder / "queries.jsonl", folder / "qrels" / "test.tsv"
        self._lock = threading.Lock()
        self._queries: dict[str, str] = {}
        self._qrels: Qrels = {}
        if self.queries_file.exists():
            self._queries = read_queries(self.queries_file)
        if self.qrels_file.exists() and self.qrels_file.read_text("utf-8") != _HEADER:
            with warnings.catch_warnings():  # the last judgement of a pair is the one that counts
                warnings.simplefilter("ignore", SpladeWarning)
                self._qrels = read_qrels(self.qrels_file)
        self._ids = {text: identifier for identifier, text in self._queries.items()}
        try:
            self.qrels_file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Judgements cannot be kept in {folder}: {error.strerror}.") from None

    def of(self, query: str) -> dict[str, int]:
        """Document id → relevance, as far as it is judged for a query."""
        return dict(self._qrels.get(self._ids.get(" ".join(query.split()), ""), {}))

    @property
    def count(self) -> int:
        """Number of all judgements."""
        return sum(map(len, self._qrels.values()))

    def judge(self, query: str, document: str, relevance: int | None) -> None:
        """Keep a judgement; ``None`` takes it back.

        Raises:
            InputError: the id or the query cannot stand in the file, or it cannot be written.
        """
        query = " ".join(query.split())
        if not query:
            raise InputError("There is no query to judge a document for.")
        if not document.strip() or set(document) & set("\t\r\n"):
            raise InputError(f"The id {document!r} cannot stand in a file of judgements.")
        with self._lock:
            identifier = self._ids.get(query) or _id_of(query)
            judged = self._qrels.setdefault(identifier, {})
            if relevance is None:
                judged.pop(document, None)
            else:
                judged[document] = relevance
            self._queries[identifier], self._ids[query] = query, identifier
            if not judged:
                del self._qrels[identifier], self._queries[identifier], self._ids[query]
            try:
                _replace(self.queries_file, self.queries_lines())
                _replace(self.qrels_file, self.qrels_lines())
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no valid Unicode"
                raise InputError(f"The judgement cannot be kept: {reason}.") from None

    def queries_lines(self) -> str:
        """The file of the queries."""
        lines = (orjson.dumps({"_id": i, "text": text}) for i, text in self._queries.items())
        return "".join(line.decode() + "\n" for line in lines)

    def qrels_lines(self) -> str:
        """The file of the judgements."""
        rows = (
            f"{query}\t{document}\t{relevance}\n"
            for query, judged in self._qrels.items()
            for document, relevance in judged.items()
        )
        return _HEADER + "".join(rows)


def _id_of(query: str) -> str:
    return hashlib.sha256(query.encode("utf-8", "surrogatepass")).hexdigest()[:_ID]


def _replace(file: Path, text: str) -> None:
    """Whole or not at all."""
    partial = file.with_name(f".{file.name}.new")
    with partial.open("w", encoding="utf-8", newline="") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)
