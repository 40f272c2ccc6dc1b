"""Judgements, runs, queries and BEIR folders, damaged: what is read is what ir_measures and json
read, and what is refused is refused with its place."""

from __future__ import annotations

import gzip
import io
import json
import math
import random
from pathlib import Path

import ir_measures

from splade_os.evaluation.beir import read_judged
from splade_os.evaluation.trec import read_qrels, read_queries, read_run
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import damage

TREC = b"q1 0 d1 2\nq1 0 d2 0\nq1\t0\td-3 -1\n\nq2 0 d1 1\r\nq\xc3\xa4 0 d\xe6\x9d\xb1 3\n"
BEIR = b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\nq2\td1\t1\r\nq\xc3\xa4\td1\t1\n"
RUN = b"q1 Q0 d1 1 3.25 x\nq1 Q0 d2 2 1e-7 x\nq2\tQ0 d1 1 -4 a\r\n\nq\xc3\xa4 Q0 d1 1 7 x\n"
QUERIES_JSON = (
    b'{"_id": "q1", "text": "red sun"}\n{"id": 2, "text": "a \\u00e4 b", "metadata": {}}\n\n'
    b'{"_id": "q\xc3\xa4", "text": "moon"}\n'
)
QUERIES_TSV = b"q1\tred sun\nq2\ta tab\tin it\r\n\nq\xc3\xa4\tmoon\n"


def test_qrels_of_trec(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "qrels"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = read_qrels(file)
        theirs: dict[str, dict[str, int]] = {}
        for judgement in ir_measures.read_trec_qrels(data.decode("utf-8-sig") + "\n"):
            theirs.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
        assert found == theirs

    fuzz("qrels (TREC)", lambda chance: damage(TREC, chance), load)


def test_qrels_of_beir(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "qrels.tsv"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = read_qrels(file)
        text = data.decode("utf-8-sig")
        if text.split("\n")[0].rstrip("\r") != "query-id\tcorpus-id\tscore":
            return  # read as TREC's
        theirs: dict[str, dict[str, int]] = {}
        for line in text.split("\n")[1:]:
            if line.strip():
                query, document, relevance = line.split("\t")
                theirs.setdefault(query, {})[document] = int(relevance)
        assert found == theirs

    fuzz("qrels (BEIR)", lambda chance: damage(BEIR, chance), load)


def test_runs(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "run"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        theirs: dict[str, dict[str, float]] = {}
        found = read_run(file)
        for hit in ir_measures.read_trec_run(data.decode("utf-8-sig") + "\n"):
            theirs.setdefault(hit.query_id, {})[hit.doc_id] = hit.score
        assert found == theirs
        assert all(math.isfinite(score) for hits in found.values() for score in hits.values())

    fuzz("run (TREC)", lambda chance: damage(RUN, chance), load)


def test_queries_in_json_lines(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "queries.jsonl"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = read_queries(file)
        lines = [line for line in data.decode("utf-8-sig").split("\n") if line.strip()]
        rows = [json.loads(line) for line in lines]
        assert found == {str(row.get("_id", row.get("id"))): row["text"] for row in rows}

    fuzz("queries (JSON lines)", lambda chance: damage(QUERIES_JSON, chance), load)


def test_queries_with_tabs(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "queries.tsv"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = read_queries(file)
        text = io.StringIO(data.decode("utf-8-sig"), newline="\n")
        lines = [line.rstrip("\r\n") for line in text]
        assert found == dict(line.split("\t", 1) for line in lines if line.strip())

    fuzz("queries (TSV)", lambda chance: damage(QUERIES_TSV, chance), load)


def test_gzipped_judgements(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "qrels.gz"
    packed = gzip.compress(TREC * 50, mtime=0)

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = read_qrels(file)
        theirs: dict[str, dict[str, int]] = {}
        for judgement in ir_measures.read_trec_qrels(gzip.decompress(data).decode() + "\n"):
            theirs.setdefault(judgement.query_id, {})[judgement.doc_id] = judgement.relevance
        assert found == theirs

    fuzz("qrels (gzip)", lambda chance: damage(packed, chance), load)


def test_beir_folders(tmp_path: Path, fuzz: Fuzz) -> None:
    (tmp_path / "qrels").mkdir()

    def make(chance: random.Random) -> tuple[bytes, ...]:
        files = QUERIES_JSON, BEIR.replace(b"q2", b"2")
        damaged = chance.randrange(2)
        return tuple(damage(file, chance) if i == damaged else file for i, file in enumerate(files))

    def load(files: tuple[bytes, ...]) -> None:
        (tmp_path / "queries.jsonl").write_bytes(files[0])
        (tmp_path / "qrels" / "test.tsv").write_bytes(files[1])
        judged = read_judged(tmp_path)
        assert judged.queries.keys() == judged.qrels.keys()
        assert all(any(r > 0 for r in documents.values()) for documents in judged.qrels.values())

    fuzz("BEIR folder", make, load)
