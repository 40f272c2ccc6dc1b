"""Queries, judgements and runs in files: TREC's formats, and BEIR's for judgements and queries."""

from __future__ import annotations

import gzip
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

from splade_os.errors import InputError, SpladeWarning
from splade_os.evaluation.files import read_json_lines, read_lines
from splade_os.evaluation.runs import Qrels, Run, ranking

_BEIR_HEADER = ["query-id", "corpus-id", "score"]
_LARGEST = 2**31 - 1  # relevance, in trec_eval


def read_queries(file: Path) -> dict[str, str]:
    """Query id → text, of ``.jsonl`` (``_id``, ``text``) or of lines ``id TAB text``; also ``.gz``.

    Raises:
        InputError: naming the line that is neither, or an id that comes twice.
    """
    queries: dict[str, str] = {}
    if file.name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json")):
        pairs = (
            (where, value.get("_id", value.get("id")), value.get("text"))
            for where, value in read_json_lines(file)
        )
    else:
        pairs = ((where, *line.partition("\t")[::2]) for where, line in read_lines(file))
    for where, identifier, text in pairs:
        known = isinstance(identifier, str | int) and not isinstance(identifier, bool)
        if not known or not isinstance(text, str) or not text.strip():
            raise InputError(
                f"{where} is no query: an id (text or a whole number) and a text are needed (in "
                "JSON _id and text, else separated by a tab)."
            )
        if str(identifier) in queries:
            raise InputError(f"{where}: the query {identifier} comes twice.")
        queries[str(identifier)] = text
    return queries


def read_qrels(file: Path) -> Qrels:
    """Judgements: TREC's ``query iteration document relevance``, or BEIR's tab-separated
    ``query-id corpus-id score`` with its header line; also ``.gz``.

    Of a pair that is judged more than once the last judgement counts, and a `SpladeWarning` says
    so.

    Raises:
        InputError: naming the line that is neither.
    """
    qrels: Qrels = {}
    beir = False
    again: list[str] = []
    for number, (where, line) in enumerate(read_lines(file)):
        if number == 0 and line.split("\t") == _BEIR_HEADER:
            beir = True
            continue
        parts = line.split("\t") if beir else line.split()
        if len(parts) != (3 if beir else 4):
            form = "query-id, corpus-id, score" if beir else "query, iteration, document, relevance"
            raise InputError(
                f"{where} has {len(parts)} columns; a judgement is {form}.",
                hint="" if beir else "BEIR's files start with the line query-id corpus-id score.",
            )
        query, document = parts[0], parts[-2]
        if not (query.strip() and document.strip()):
            raise InputError(f"{where}: a judgement needs the ids of a query and a document.")
        relevance = _relevance(where, parts[-1])
        judged = qrels.setdefault(query, {})
        if document in judged:
            again.append(
                f"{where}: {document} is judged {relevance} for {query}, before {judged[document]}"
            )
        judged[document] = relevance
    if not qrels:
        raise InputError(f"{file} holds no judgement.")
    if again:
        warnings.warn(
            f"{len(again):,} judgements are of a pair that was judged before; the last one counts. "
            f"The first is {again[0]}.",
            SpladeWarning,
            stacklevel=2,
        )
    return qrels


def _relevance(where: str, text: str) -> int:
    try:
        relevance = int(text)
    except ValueError:
        raise InputError(f"{where}: the relevance {text[:80]!r} is no whole number.") from None
    if abs(relevance) > _LARGEST:
        raise InputError(f"{where}: the relevance {text[:80]} is beyond {_LARGEST:,}.")
    return relevance


def read_run(file: Path) -> Run:
    """A run in TREC's form ``query Q0 document rank score tag``; also ``.gz``.

    Only the scores order the documents, as trec_eval reads it.

    Raises:
        InputError: naming the line that is damaged, or a document that comes twice.
    """
    run: Run = {}
    for where, line in read_lines(file):
        parts = line.split()
        if len(parts) != 6:
            raise InputError(
                f"{where} has {len(parts)} columns; a line of a run is "
                "query, Q0, document, rank, score, tag."
            )
        query, document = parts[0], parts[2]
        try:
            value = float(parts[4])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{where}: the score {parts[4][:80]!r} is no finite number.")
        hits = run.setdefault(query, {})
        if document in hits:
            raise InputError(f"{where}: the document {document} comes twice for {query}.")
        hits[document] = value
    if not run:
        raise InputError(f"{file} holds no hit.")
    return run


def write_run(file: Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run in TREC's form; ``.gz`` is compressed.

    Raises:
        InputError: an id holds white space, which the format cannot carry, or the file cannot
            be written.
    """
    rows = []
    for query, hits in run.items():
        for rank, document in enumerate(ranking(hits), 1):
            for identifier in (query, document):
                if len(identifier.split()) != 1:
                    raise InputError(f"The id {identifier!r} cannot stand in a TREC run.")
            rows.append(f"{query} Q0 {document} {rank} {hits[document]!r} {tag}\n")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (gzip.open if file.suffix == ".gz" else open)(file, "wb") as handle:
            handle.write("".join(rows).encode())
    except OSError as error:
        raise InputError(f"The run {file} cannot be written: {error}") from None
