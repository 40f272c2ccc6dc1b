"""Training data, damaged: every row that is read is what json or pyarrow reads, and a file that
cannot be read to its end is refused before the first step."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from splade_os.errors import InputError, SettingsError
from splade_os.training.data import Rows, load_rows
from splade_os.training.recipe import DataPart
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import change, damage

RECORDS = [
    {"query": "red sun", "positive": "the sun is r\u00f6d", "negatives": ["moon", "sea"]},
    {"query": "moon", "positive": "white", "negatives": ["sun", "sea"]},
    {"query": "\u6771", "positive": "\u4eac", "negatives": ["a", "b"]},
]
PLAIN = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in RECORDS).encode()
PART = {"documents": ["positive", "negatives"]}


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    yield
    datasets.enable_progress_bars()
    datasets.logging.set_verbosity_warning()


def read(file: Path) -> list[tuple[str, list[str]]]:
    rows, _ = load_rows(DataPart(train=str(file), **PART))  # type: ignore[arg-type]
    return texts(rows)


def texts(rows: Rows) -> list[tuple[str, list[str]]]:
    return [(row.query, row.documents) for row in (rows[i] for i in range(len(rows)))]


def wanted(records: list[Any]) -> list[tuple[str, list[str]]]:
    lists = [
        [text for name in PART["documents"] for text in _several(record[name])]
        for record in records
    ]
    shown = min(map(len, lists))
    return [(r["query"], texts[:shown]) for r, texts in zip(records, lists, strict=True)]


def _several(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_json_lines(tmp_path: Path, fuzz: Fuzz) -> None:
    def load(data: bytes) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_bytes(data)
        found = read(file)
        text = data.decode("utf-8-sig")
        lines = [line for line in text.split("\n") if line.strip()]
        assert found == wanted([json.loads(line) for line in lines])

    fuzz("training data (JSON lines)", lambda chance: damage(PLAIN, chance), load)


@pytest.mark.parametrize(
    "line",
    [
        '{"query": "q", "positive": "p", "positive": "r", "negatives": ["a", "b"]}',
        '{"query": "q", "positive" : "p", "positive" : "r", "negatives": ["a"]}',
        '[{"query": "q", "positive": "p", "query": "r", "negatives": ["a"]}]',
    ],
)
def test_a_key_that_comes_twice(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(InputError, match=r"pairs.jsonl:1 has the key '\w+' twice"):
        read(file)


def test_values(tmp_path: Path, fuzz: Fuzz) -> None:
    def make(chance: random.Random) -> bytes:
        records = change(RECORDS, chance)
        try:
            lines = [json.dumps(r, default=repr, skipkeys=True) for r in records]
        except RecursionError:  # deeper than the writer goes
            lines = []
        return "".join(line + "\n" for line in lines).encode()

    def load(data: bytes) -> None:
        file = tmp_path / "pairs.jsonl"
        file.write_bytes(data)
        found = read(file)
        assert found == wanted([json.loads(line) for line in data.splitlines()])

    fuzz("training data (values)", make, load)


@pytest.mark.parametrize("form", ["gz", "zst"])
def test_packed(tmp_path: Path, fuzz: Fuzz, form: str) -> None:
    plain = PLAIN * 100
    if form == "gz":
        packed = gzip.compress(plain, mtime=0)
    else:  # a block ends with each piece, so a file may be cut after whole lines
        writer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
        packed = b""
        for _ in range(10):
            packed += writer.compress(PLAIN * 10)
            packed += writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        packed += writer.flush()

    def load(data: bytes) -> None:
        file = tmp_path / f"pairs.jsonl.{form}"
        file.write_bytes(data)
        found = read(file)
        assert len(found) % (len(RECORDS) * 10) == 0 and set(map(str, found)) <= {
            str(row) for row in wanted(RECORDS)
        }

    fuzz(f"training data ({form})", lambda chance: damage(packed, chance), load)


def test_parquet(tmp_path: Path, fuzz: Fuzz) -> None:
    good = tmp_path / "good.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), good, compression="none")
    packed = good.read_bytes()

    def load(data: bytes) -> None:
        file = tmp_path / "pairs.parquet"
        file.write_bytes(data)
        found = read(file)
        assert found == wanted(pq.read_table(file).to_pylist())

    fuzz("training data (Parquet)", lambda chance: damage(packed, chance), load)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('{"query": "a", "positive": "b"}\n{"query": "q", "positive": "ß"}\n'.encode("latin-1"),
         r"pairs\.jsonl:2 is not UTF-8"),
        ('{"query": "a", "positive": "b"}\n'.encode("utf-16"), r"not UTF-8.\nConvert .*utf-16"),
        (b'{"query": "a", "positive": ' + b"[" * 300 + b"]" * 300 + b"}\n", "nested more than 60"),
        (b'{"query": "a", "positive": "b"}\n{"query": "q", "positive": 5}\n',
         "the row with query 'q' holds int '5', not text, in positive"),
        (b'{"query": "a", "positive": "b"}\n{"query": "q", "positive": null}\n',
         "the row with query 'q' holds nothing, not text, in positive"),
        (b"", "holds no row"),
        (b'{"query": ' + b"[" * 3000, "nested more than 60"),
        (b'{"query": "a", "positive": "b"}\nnull\n', r"pairs\.jsonl:2 is no JSON object"),
        (b'{"query": "a", "positive": "b"}\n{"query": \n', r"pairs\.jsonl:2 is not valid JSON"),
        (b'[{"query": "a", "positive": "b"}, null]', "element 2 is no JSON object"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_told_at_the_start(
    tmp_path: Path, data: bytes, message: str
) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        load_rows(DataPart(train=str(file)))


def test_ids_and_scores_are_checked_at_the_start(tmp_path: Path) -> None:
    rows, corpus = tmp_path / "rows.jsonl", tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "d1", "text": "a"}\n')
    rows.write_text('{"query": "a", "positive": "d1"}\n{"query": "b", "positive": "d2"}\n')
    with pytest.raises(InputError, match=r"corpus\.jsonl has no text with the id 'd2'"):
        load_rows(DataPart(train=str(rows), corpus=str(corpus)))
    rows.write_text(
        '{"query": "a", "positive": "x", "s": 1.0}\n{"query": "b", "positive": "y", "s": null}\n'
    )
    with pytest.raises(InputError, match="the row with query 'b' has a score that is no number"):
        load_rows(DataPart(train=str(rows), scores="s"))


@pytest.mark.parametrize(("held_out", "left"), [(0.1, 9), (0.01, 9), (3, 7), (0.5, 5), (9, 1)])
def test_a_share_is_held_out(tmp_path: Path, held_out: float, left: int) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"query": "q{i}", "positive": "p{i}"}}\n' for i in range(10)))
    rows, kept = load_rows(DataPart(train=str(file), held_out=held_out))
    assert kept is not None and (len(rows), len(kept)) == (left, 10 - left)
    with pytest.raises(SettingsError, match=r"leaves nothing of 10 rows .*\n.*held_out=0\.1"):
        load_rows(DataPart(train=str(file), held_out=10))


def test_the_name_of_no_file() -> None:
    for name in ("x" * 300 + ".jsonl", "\0", "./x", "~nobody-of-this-name/x.jsonl", "/"):
        with pytest.raises(InputError):
            load_rows(DataPart(train=name))
