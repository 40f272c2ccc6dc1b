"""Training data: rows of a query, its documents and the teacher's scores.

Whatever the file holds (pairs, triplets, columns of negatives, lists, ids into a corpus) becomes a
`Row` with one number of documents, the relevant one first.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splade_os.errors import InputError, MissingExtraError, SettingsError
from splade_os.training.recipe import DataPart
from splade_os.training.tables import load_table

_log = logging.getLogger(__name__)
# .../org___name/configuration/version/commit/name-train.arrow; a local file has 64 digits there
_HUB_FILE = re.compile(r"/([^/]+___[^/]+)/[^/]+/[^/]+/([0-9a-f]{40})/[^/]+$")
_AT_ONCE = 10_000  # rows in memory
_TEMPLATE = 4  # words: "what is the outlook"

DataScores = Literal["own", "margins"]


@dataclass(frozen=True)
class Row:
    """One training example.

    Attributes:
        query: text.
        documents: texts, the relevant one first.
        scores: of the teacher; empty where the data has none.
        scores_kind: ``own``: one for each document; ``margins``: of the relevant document above
            each negative; ``None``: no scores.
    """

    query: str
    documents: list[str]
    scores: list[float]
    scores_kind: DataScores | None


class Texts:
    """Id → text, read from a file of records; memory holds the ids, not the texts."""

    def __init__(self, table: Any, id_column: str, text_columns: Sequence[str], name: str) -> None:
        missing = [c for c in (id_column,) if c not in table.column_names]
        columns = [c for c in text_columns if c in table.column_names]
        if missing or not columns:
            raise InputError(
                f"{name} has the columns {', '.join(table.column_names)}; needed are "
                f"{id_column} and one of {', '.join(text_columns)}.",
                hint="Set data.corpus_id and data.corpus_text.",
            )
        self._table, self._columns, self._name = table, columns, name
        self._rows = {str(value): i for i, value in enumerate(table[id_column])}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, identifier: Any) -> str:
        place = self._rows.get(str(identifier))
        if place is None:
            raise InputError(f"{self._name} has no text with the id {identifier!r}.")
        record = self._table[place]
        return " ".join(str(record[c]) for c in self._columns if record[c])

    def __iter__(self) -> Iterator[str]:
        for record in self._table:
            yield " ".join(str(record[c]) for c in self._columns if record[c])


class Rows:
    """Training rows by position.

    Args:
        part: the recipe's ``data``.
        table: a ``datasets.Dataset``.
        corpus, queries: texts of ids, where the columns hold ids.

    Attributes:
        part: as given.
        columns: documents per row.
        scores_kind: of the teacher's scores in the data, see `Row`.
    """

    def __init__(
        self, part: DataPart, table: Any, corpus: Texts | None, queries: Texts | None
    ) -> None:
        scores = [part.scores] if isinstance(part.scores, str) else (part.scores or [])
        needed = [part.query, *part.documents, *scores]
        missing = [name for name in needed if name not in table.column_names]
        if missing:
            raise InputError(
                f"The training data has no column {', '.join(missing)}; it has "
                f"{', '.join(table.column_names)}.",
                hint="Name its columns in data.query, data.documents and data.scores.",
            )
        if not len(table):
            raise InputError("The training data holds no row.")
        self.part, self._scores = part, scores
        self._table = table.select_columns(list(dict.fromkeys(needed)))
        self._corpus, self._queries = corpus, queries
        self._epoch = 0
        counts = self._count(part.documents)
        available = int(counts.min()) - 1
        if available < 0:
            raise InputError(
                f"The training data: {self._named(int(counts.argmin()))} has no document.",
            )
        wanted = available if part.negatives is None else part.negatives
        if wanted > available:
            self._leave_out(counts <= wanted, wanted)
            counts = counts[counts > wanted]
        self.columns = 1 + wanted
        self.scores_kind = self._kind_of_scores(counts) if scores else None
        self._check()

    def _check(self) -> None:
        """Every row, once: not one of them shall stop a run in its midst.

        Raises:
            InputError: a row without a text, with an id that the corpus lacks, or whose score is
                no number.
        """
        texts = [(self.part.query, self._queries)]
        texts += [(name, self._corpus) for name in self.part.documents]
        columns = [(n, t) for n, t in texts if t is not None or not _all_text(self._table, n)]
        if not columns and not self._scores:
            return
        table = self._table.select_columns(
            list(dict.fromkeys([name for name, _ in columns] + self._scores))
        )
        for start in range(0, len(table), _AT_ONCE):
            batch = table[start : start + _AT_ONCE]
            for name, of_ids in columns:
                for position, value in enumerate(batch[name], start):
                    for one in value if isinstance(value, list) else [value]:
                        self._text(one, of_ids, position, name)
            for place in range(len(batch[self._scores[0]]) if self._scores else 0):
                record = {name: batch[name][place] for name in self._scores}
                self._row_scores(record, start + place)

    def _leave_out(self, short: npt.NDArray[np.bool_], wanted: int) -> None:
        if short.all():
            raise InputError(
                f"No row of the training data has the {wanted} negatives that data.negatives asks "
                "for.",
                hint="Lower data.negatives, or leave it out.",
            )
        _log.warning(
            "%s of %s rows have fewer than %d negatives and are left out (data.negatives).",
            f"{int(short.sum()):,}", f"{len(short):,}", wanted,
        )  # fmt: skip
        self._table = self._table.select(np.flatnonzero(~short))

    def _kind_of_scores(self, documents: npt.NDArray[np.int64]) -> DataScores:
        """By the first row; the others must agree."""
        numbers = self._count(self._scores)
        missing = documents - numbers
        kind: DataScores = "margins" if missing[0] == 1 and numbers[0] else "own"
        wrong = missing != (1 if kind == "margins" else 0)
        if not wrong.any():
            return kind
        row = int(wrong.argmax())
        other = f", unlike {self._named(0)}, which has {numbers[0]} for {documents[0]}"
        raise InputError(
            f"data.scores ({', '.join(self._scores)}): {self._named(row)} has "
            f"{numbers[row]} scores for {documents[row]} documents "
            f"(data.documents: {', '.join(self.part.documents)}){other if row else ''}.",
            hint="In every row it holds one score for each document, or in every row one margin "
            "(relevant minus negative) for each negative.",
        )

    def _named(self, row: int) -> str:
        """A row as a person finds it again in a file that was shuffled: by its query."""
        return f"the row with {self.part.query} {str(self._table[row][self.part.query])[:80]!r}"

    def __len__(self) -> int:
        return len(self._table)

    def revisions(self) -> dict[str, str]:
        """Name (as the cache of `datasets` writes it: ``org___name``) → commit, of the data sets
        that came from the hub."""
        files = [Path(file["filename"]).as_posix() for file in self._table.cache_files]
        return {found[1]: found[2] for found in map(_HUB_FILE.search, files) if found}

    def set_epoch(self, epoch: int) -> None:
        """Choose other negatives (``negatives_pick: spread``)."""
        self._epoch = epoch

    def __getitem__(self, position: int) -> Row:
        record = self._table[int(position)]
        values = self._documents(record)
        scores = self._row_scores(record, position)
        kept = [0, *self._pick(len(values) - 1, int(position))]
        if self.scores_kind == "margins":
            scores = [scores[i - 1] for i in kept[1:]]
        elif scores:
            scores = [scores[i] for i in kept]
        documents = [self._text(values[i], self._corpus, position) for i in kept]
        query = self._text(record[self.part.query], self._queries, position, self.part.query)
        return Row(query, documents, scores, self.scores_kind)

    def keys(self) -> npt.NDArray[np.int64]:
        """A hash of every text (or id) that a row may show, ``(N, columns)``.

        Unlike rows have unlike hashes but for chance (64 bits).
        """
        counts = self._count(self.part.documents)
        out = np.zeros((len(self), 1 + int(counts.max())), np.int64)
        for start in range(0, len(self), _AT_ONCE):
            batch = self._table[start : start + _AT_ONCE]
            for i in range(len(batch[self.part.query])):
                record = {name: column[i] for name, column in batch.items()}
                values = [record[self.part.query], *self._documents(record)]
                hashes = [hash(str(value)) for value in values]
                # a shorter row repeats its query, which never clashes with itself
                out[start + i] = (hashes + [hashes[0]] * out.shape[1])[: out.shape[1]]
        return out

    def texts(self) -> Iterator[str]:
        """Every document once: the corpus, or the documents of all rows."""
        if self._corpus is not None:
            yield from self._corpus
            return
        seen: set[int] = set()
        for record in self._table:
            for text in self._documents(record):
                key = hash(text)
                if key not in seen:
                    seen.add(key)
                    yield str(text)

    def _documents(self, record: dict[str, Any]) -> list[Any]:
        values: list[Any] = []
        for name in self.part.documents:
            value = record[name]
            values += value if isinstance(value, list) else [value]
        return values

    def _row_scores(self, record: dict[str, Any], position: int) -> list[float]:
        values: list[Any] = []
        for name in self._scores:
            value = record[name]
            values += value if isinstance(value, list) else [value]
        try:
            found = [float(value) for value in values]
        except (TypeError, ValueError):
            found = [math.nan]
        if not all(map(math.isfinite, found)):
            raise InputError(
                f"The training data: {self._named(position)} has a score that is no number: "
                f"{values} (data.scores: {', '.join(self._scores)})."
            )
        return found

    def _pick(self, available: int, position: int) -> list[int]:
        wanted = self.columns - 1
        if not wanted:
            return []
        if self.part.negatives_pick == "first":
            return list(range(1, wanted + 1))
        step = available // wanted
        return [1 + j * step + (self._epoch + position) % step for j in range(wanted)]

    def _text(
        self, value: Any, texts: Texts | None, position: int, column: str | None = None
    ) -> str:
        if texts is not None:
            return texts[value]
        if not isinstance(value, str):
            found = "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
            raise InputError(
                f"The training data: {self._named(position)} holds {found}, not text, in "
                f"{column or ' or '.join(self.part.documents)}.",
                hint="If it holds ids, name data.corpus (and data.queries).",
            )
        return value

    def _count(self, names: Sequence[str]) -> npt.NDArray[np.int64]:
        """Values of each row in some columns: all of a list, else one."""
        total = np.zeros(len(self._table), np.int64)
        for name in names:
            if not _one_text(self._table, name):
                column = self._table.select_columns([name])
                for start in range(0, len(total), _AT_ONCE):
                    rows = column[start : start + _AT_ONCE][name]
                    total[start : start + len(rows)] += [
                        len(value) if isinstance(value, list) else value is not None
                        for value in rows
                    ]
            else:
                total += 1
        return total


def _capped(table: Any, part: DataPart) -> Any:
    """The first rows of each source, and of each template of questions."""
    limits: list[tuple[str, int, Callable[[Any], str]]] = [
        (column, most, str) for column, most in part.most_per.items()
    ]
    if part.most_per_template is not None:
        if part.queries is not None:
            raise SettingsError("data.most_per_template needs texts, and the queries are ids.")
        limits.append((part.query, part.most_per_template, _template))
    for column, most, kind in limits:
        if column not in table.column_names:
            raise InputError(
                f"data.most_per: the training data has no column {column}; it has "
                f"{', '.join(table.column_names)}."
            )
        counts: Counter[str] = Counter()
        kept = []
        for i, value in enumerate(table[column]):
            name = kind(value)
            counts[name] += 1
            if counts[name] <= most:
                kept.append(i)
        _log.info(
            "At most %d rows for each %s: %d of %d are used.", most, column, len(kept), len(table)
        )
        table = table.select(kept)
    return table


def _template(query: Any) -> str:
    return " ".join(str(query).lower().split()[:_TEMPLATE])


def load_rows(part: DataPart) -> tuple[Rows, Rows | None]:
    """Training rows, and the held-out ones (or ``None``).

    Raises:
        InputError: a file, column, id or text is missing or wrong.
        MissingExtraError: the package `datasets` is not installed.
    """
    try:
        from datasets import concatenate_datasets
    except ImportError:
        raise MissingExtraError("Reading training data", "train") from None
    names = [part.train] if isinstance(part.train, str) else part.train
    tables = [load_table(name, part.subset, part.split) for name in names]
    try:
        table = tables[0] if len(tables) == 1 else concatenate_datasets(tables)
    except ValueError as error:
        raise InputError(f"The training files do not fit together: {error}") from None
    for column, values in part.leave_out.items():
        if column not in table.column_names:
            raise InputError(
                f"data.leave_out: the training data has no column {column}; it has "
                f"{', '.join(table.column_names)}."
            )
        kept = [i for i, value in enumerate(table[column]) if str(value) not in values]
        table = table.select(kept)
    if part.shuffle_seed is not None:
        table = table.shuffle(seed=part.shuffle_seed)
    table = _capped(table, part)
    if part.limit is not None:
        table = table.select(range(min(part.limit, len(table))))
    corpus = _texts(part, part.corpus)
    queries = _texts(part, part.queries)
    if not part.held_out:
        return Rows(part, table, corpus, queries), None
    held_out = part.held_out_of(len(table))
    if held_out >= len(table):
        raise SettingsError(
            f"data.held_out {part.held_out} leaves nothing of {len(table):,} rows to train on.",
            hint="Hold out fewer, or a share of them: --set data.held_out=0.1",
        )
    border = len(table) - held_out
    return (
        Rows(part, table.select(range(border)), corpus, queries),
        Rows(part, table.select(range(border, len(table))), corpus, queries),
    )


def count_idf(rows: Rows) -> Callable[[Any, Any], npt.NDArray[np.float32]]:
    """IDF over all training documents, for a tokenizer and its vocabulary."""
    from splade_os.encoding.idf import IdfTable
    from splade_os.statistics import TermStatistics

    def count(tokenizer: Any, vocabulary: Any) -> npt.NDArray[np.float32]:
        statistics = TermStatistics.empty(len(vocabulary))
        batch: list[str] = []
        for text in rows.texts():
            batch.append(text)
            if len(batch) == 1000:
                for ids in tokenizer(batch):
                    statistics.count(ids)
                batch = []
        for ids in tokenizer(batch):
            statistics.count(ids)
        return IdfTable.from_statistics(statistics, vocabulary, "training documents").weights

    return count


def _texts(part: DataPart, name: str | None) -> Texts | None:
    if name is None:
        return None
    return Texts(load_table(name), part.corpus_id, part.corpus_text, name)


def _one_text(table: Any, name: str) -> bool:
    """Whether a column holds one value, not a list, in every row: known from its type."""
    import pyarrow as pa

    kind = table.data.column(name).type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_primitive)
    return any(check(kind) for check in checks)


def _all_text(table: Any, name: str) -> bool:
    """Whether a column holds a text, or a list of texts, in every row of the file: known from its
    type and the number of nulls, without a look at the rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = table.data.column(name)
    while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        if values.null_count:
            return False
        values = pc.list_flatten(values)
    if values.null_count:
        return False
    return any(check(values.type) for check in (pa.types.is_string, pa.types.is_large_string))
