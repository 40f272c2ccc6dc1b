"""Any bytes in any format: no exception but `SpladeError`, and what is read is what other
readers of the format read, to the last record.

``SPLADE_OS_FUZZ`` is the number of inputs of each property (default 60), in at most about
``SPLADE_OS_FUZZ_SECONDS`` (default 5; at least 50 inputs). They are the same in every run.
"""

from __future__ import annotations

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import os
import time
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pandas
import pyarrow as pa
import pytest
import zstandard
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st
from pyarrow import parquet

from splade_os.errors import InputError
from splade_os.ingest.documents.given_vectors import vector_of
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import SourceOptions, find_source, read_source
from splade_os.ingest.sources.foreign import foreign
from tests.fuzz.tally import Tally, tallies

INPUTS = int(os.environ.get("SPLADE_OS_FUZZ", "60"))
SECONDS = float(os.environ.get("SPLADE_OS_FUZZ_SECONDS", "5"))
BLOCK = 50  # inputs between two looks at the clock


def fuzz(test: Callable[..., None]) -> Callable[..., None]:
    """Run a property on inputs of one seed after the other, until the number or the time is up."""
    inner = settings(
        max_examples=min(BLOCK, INPUTS),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(test)

    @functools.wraps(test, updated=())
    def run(**fixtures: Any) -> None:
        end = time.monotonic() + SECONDS
        tally = Tally(test.__name__.removeprefix("test_").replace("_", " "))
        tallies.append(tally)
        for number in range(0, INPUTS, BLOCK):
            tally.inputs += min(BLOCK, INPUTS)
            try:
                seed(number)(inner)(**fixtures)
            except Exception:
                tally.uncaught += 1
                raise
            if time.monotonic() > end:
                break

    return run


KEYS = st.sampled_from(["_id", "id", "text", "title", "x", "vector", ""])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), TEXT)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(
    st.fixed_dictionaries({"_id": st.uuids().map(str), "text": TEXT}, optional={"x": VALUES}),
    max_size=8,
)
# what damages a text format most
SIGNS = [bytes([byte]) for byte in b'"\\{}[],:\n\r\t\0\xff\xe9\x1e']
WORDS = [b"NaN", b"1e999", b"9" * 5000, b"[" * 1100, b"\\ud800", b"\xef\xbb\xbf", b"\x1f\x8b"]
PIECES = st.sampled_from([*SIGNS, *WORDS])
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 4), PIECES | st.binary(max_size=4)), max_size=3
)


def damaged(data: bytes, damage: list[tuple[float, int, bytes]]) -> bytes:
    for place, gone, piece in damage:
        at = round(place * len(data))
        data = data[:at] + piece + data[at + gone :]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(
    folder: Path, name: str, data: bytes, reader: RecordReader | None = None, **options: Any
) -> tuple[list[Record | Rejected], InputError | None]:
    """What is read before the source ends or breaks off."""
    file = folder / name
    file.write_bytes(data)
    found: list[Record | Rejected] = []
    try:
        source = find_source(str(file), SourceOptions(**options))
        source.fingerprint()
        found.extend(read_source(source, reader or RecordReader()))
    except InputError as error:
        assert name in str(error)
        return found, error
    assert [item.position for item in found] == list(range(1, len(found) + 1))
    return found, None


def good(found: list[Record | Rejected]) -> list[dict[str, Any]]:
    return [dict(r.source) | {"_id": r.id} for r in found if isinstance(r, Record)]


def dumped(value: Any, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=False, **options)


def strict(text: bytes) -> Any:
    """The value as Python's json reads it, refusing what is none of JSON's."""

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    return json.loads(text.decode(), parse_constant=refuse)


def twice(text: bytes) -> bool:
    """Whether a key stands twice in one of its objects."""
    pairs: list[list[tuple[str, Any]]] = []
    json.loads(text.lstrip(b"\x1e"), object_pairs_hook=pairs.append)
    return any(len(dict(each)) < len(each) for each in pairs)


OTHER_FORMS = (b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
"""First bytes of what is no UTF-8: these files are read as what they say that they are."""

# --- JSON -------------------------------------------------------------------------------------


@fuzz
@given(st.lists(VALUES | DOCUMENTS.map(lambda d: d[0] if d else {}), max_size=8), DAMAGE)
def test_json_lines(folder: Path, values: list[Any], damage: Any) -> None:
    data = damaged("".join(dumped(value) + "\n" for value in values).encode(), damage)
    assume(not data.startswith(OTHER_FORMS) and foreign(data) is None)
    assume(b"\0" not in data[:4])
    start = data.removeprefix(b"\xef\xbb\xbf").split()
    assume(not start or (start[0] not in (b"[", b"{") and not start[0].startswith(b"[{")))
    found, error = read(folder, "a.jsonl", data)
    assert error is None
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    assert len(found) == len(lines)
    for item, line in zip(found, lines, strict=True):
        try:
            value = strict(line.lstrip(b"\x1e"))
            # no half of a surrogate pair, and no number that is infinite as a double
            dumped(value, allow_nan=False).encode()
        except (ValueError, RecursionError, TypeError):
            continue
        if twice(line):
            assert isinstance(item, Rejected)
            continue
        fine = isinstance(value, dict) and isinstance(value.get("text"), str)
        fine = fine and isinstance(value.get("_id"), str) and 0 < len(value["_id"]) < 100
        if fine and "title" not in value:
            assert isinstance(item, Record), item
            assert item.id == value["_id"]
            assert dumped(dict(item.source)) == dumped(
                {k: v for k, v in value.items() if k != "_id"}
            )


LAYOUTS: dict[str, Callable[[list[Any]], str]] = {
    "array": dumped,
    "indented": lambda d: dumped(d, indent=2),
    "a line each": lambda d: "[" + ",\n".join(map(dumped, d)) + "]",
    "lines": lambda d: "\n".join(map(dumped, d)),
    "joined": lambda d: "".join(map(dumped, d)),
    "indented objects": lambda d: "\n".join(dumped(x, indent=4) for x in d),
    "two arrays": lambda d: dumped(d[: len(d) // 2]) + "\n" + dumped(d[len(d) // 2 :]),
}


@fuzz
@given(st.sampled_from(sorted(LAYOUTS)), DOCUMENTS)
def test_json_of_any_layout(folder: Path, layout: str, documents: list[Any]) -> None:
    documents = json.loads(orjson.dumps(documents))  # NaN as null
    found, error = read(folder, "a.json", LAYOUTS[layout](documents).encode())
    assert error is None and dumped(good(found)) == dumped(
        [{k: v for k, v in d.items() if k != "_id"} | {"_id": d["_id"]} for d in documents]
    )


@fuzz
@given(st.sampled_from(sorted(LAYOUTS)), DOCUMENTS, DAMAGE)
def test_damaged_json(folder: Path, layout: str, documents: list[Any], damage: Any) -> None:
    data = damaged(LAYOUTS[layout](documents).encode(), damage)
    assume(not data.startswith(OTHER_FORMS))
    assume(b"\0" not in data[:4])  # UTF-16 and UTF-32 without a mark
    found, error = read(folder, "a.json", data)
    try:
        value = strict(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        if data.strip(b" \t\r\n\x1e\xef\xbb\xbf"):
            assert found or error or b"[]" in data.translate(None, b" \t\r\n\x1e")
        return
    assert error is None
    if isinstance(value, list):
        assert len(found) == len(value)


# --- tables -----------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from('ab",;\t\n\r é'), max_size=8)


@pytest.mark.filterwarnings("ignore::pandas.errors.ParserWarning")
@fuzz
@given(st.text(st.sampled_from('ab",\n\r é'), max_size=60))
def test_csv_as_others_read_it(folder: Path, text: str) -> None:
    data = f"_id,text\n{text}".encode()
    found, error = read(folder, "a.csv", data)
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))[1:]
    rows = [row for row in rows if row]
    if error is None:
        assert len(found) == len(rows)
        for item, row in zip(found, rows, strict=True):
            assert isinstance(item, Rejected) or [item.id, item.text] == row
            if len(row) == 2 and row[0]:
                assert isinstance(item, Record)
    else:
        assert len(found) == len(rows) - 1
    eof = False
    try:
        pandas.read_csv(io.BytesIO(data), on_bad_lines="skip", dtype=str, index_col=False)
    except pandas.errors.ParserError as caught:
        eof = "EOF inside string" in str(caught)
    assert eof == (error is not None)


@fuzz
@given(st.lists(st.tuples(CELLS.filter(bool), CELLS), max_size=6), st.sampled_from(",;\t|"))
def test_tables_that_a_writer_wrote(
    folder: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([("_id", "text"), *rows])
    name = "a.tsv" if delimiter == "\t" else "a.csv"
    for options in ({}, {"delimiter": delimiter}):
        found, error = read(folder, name, out.getvalue().encode(), **options)
        assert error is None
        assert [(r.id, r.text) for r in found if isinstance(r, Record)] == rows


@fuzz
@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), DAMAGE, st.sampled_from(
    ["a.csv", "a.tsv"]
))  # fmt: skip
def test_damaged_tables(folder: Path, rows: list[list[str]], damage: Any, name: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter="," if name == "a.csv" else "\t").writerows([("_id", "text"), *rows])
    read(folder, name, damaged(out.getvalue().encode(), damage))


@fuzz
@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b" ")), max_size=6))
def test_pairs(folder: Path, lines: list[bytes]) -> None:
    data = b"0\tfirst\n" + b"\n".join(lines)
    found, error = read(folder, "a.tsv", data)
    assert error is None
    lines = [line for line in lines if line.strip()]
    assert len(found) == 1 + len(lines)
    for item, line in zip(found[1:], lines, strict=True):
        identifier, tab, text = line.removesuffix(b"\r").partition(b"\t")
        try:
            expected = (identifier.decode(), text.decode())
        except UnicodeDecodeError:
            assert isinstance(item, Rejected) and "UTF-8" in item.reason
            continue
        if tab and identifier:
            assert isinstance(item, Record) and (item.id, item.text) == expected


# --- TREC -------------------------------------------------------------------------------------

OPEN, CLOSE, NUMBER = "<DOC>", "</DOC>", "<DOCNO>{}</DOCNO>"
TOKENS = st.lists(
    st.sampled_from(
        [OPEN, CLOSE, OPEN, CLOSE, NUMBER, "text", "<b>", "\n", " ", "&amp;", "<!-- x -->"]
    ),
    max_size=24,
)


@fuzz
@given(TOKENS, st.integers(65_510, 65_540))
def test_trec(folder: Path, tokens: list[str], padding: int) -> None:
    """A machine of two states that reads the tokens says what is in the file."""
    expected: list[str] = []  # of each item: id, or "dead"
    inside, held = False, list[str]()
    for i, token in enumerate(tokens):
        if token not in (OPEN, CLOSE):
            held.append(NUMBER.format(i) if token == NUMBER else token)
            continue
        text = [t for t in held if not t.isspace() and t not in ("<b>", "<!-- x -->")]
        if not inside and text:
            expected.append("dead")
        if inside and token == CLOSE:
            numbers = [t for t in text if t.startswith("<DOCNO>")]
            expected.append(numbers[0].split(">")[1].split("<")[0] if numbers else "dead")
        elif inside or token == CLOSE:
            expected.append("dead")
        inside, held = token == OPEN, []
    text = [t for t in held if not t.isspace() and t not in ("<b>", "<!-- x -->")]
    if not inside and text:
        expected.append("dead")
    content = "".join(NUMBER.format(i) if t == NUMBER else t for i, t in enumerate(tokens))
    found, error = read(folder, "a.trec", (" " * padding + content).encode())
    assert [r.id if isinstance(r, Record) else "dead" for r in found] == expected
    assert (error is not None) == inside


@fuzz
@given(TOKENS, DAMAGE)
def test_damaged_trec(folder: Path, tokens: list[str], damage: Any) -> None:
    read(folder, "a.trec", damaged("".join(tokens).encode(), damage))


# --- Parquet ----------------------------------------------------------------------------------

SIMPLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (pa.string(), TEXT),
    (pa.large_string(), TEXT),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.binary(), st.binary(max_size=5)),
    (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.time64("us"), st.integers(0, 86_399_999_999)),
    (pa.duration("ns"), st.integers(-(2**63) + 1, 2**63 - 1)),
    (pa.decimal128(38, 10), st.decimals(-(10**20), 10**20, places=10)),
    *((pa.timestamp(unit), st.integers(-(2**53), 2**53)) for unit in ("ms", "us", "ns")),
    *((pa.timestamp(unit, "UTC"), st.integers(-(2**62), 2**62)) for unit in ("ms", "us", "ns")),
]
NESTED: list[tuple[Any, st.SearchStrategy[Any]]] = [
    pair
    for type_, strategy in SIMPLE
    for pair in (
        (type_, strategy),
        (pa.list_(type_), st.lists(st.none() | strategy, max_size=3)),
        (pa.struct([("a", type_)]), st.fixed_dictionaries({"a": st.none() | strategy})),
        (
            pa.map_(pa.string(), type_),
            st.dictionaries(TEXT, st.none() | strategy, max_size=3).map(lambda d: list(d.items())),
        ),
    )
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 4))
    columns = {"_id": pa.array([str(i) for i in range(rows)], pa.string())}
    columns["text"] = pa.array(["text"] * rows, pa.string())
    for i, (type_, strategy) in enumerate(draw(st.lists(st.sampled_from(NESTED), max_size=3))):
        values = draw(st.lists(st.none() | strategy, min_size=rows, max_size=rows))
        columns[f"c{i}"] = pa.array(values, type_)
    return pa.table(columns)


@fuzz
@given(tables())
def test_parquet(folder: Path, table: pa.Table) -> None:
    out = io.BytesIO()
    parquet.write_table(table, out)
    found, error = read(folder, "a.parquet", out.getvalue())
    assert error is None and len(found) == table.num_rows
    plain = [i for i, field in enumerate(table.schema) if field.type in (pa.string(), pa.int64())]
    for item, row in zip(found, table.select(plain).to_pylist(), strict=True):
        if isinstance(item, Rejected):
            assert "inf is no number" in item.reason
            continue
        document = dict(item.source)
        assert orjson.loads(orjson.dumps(document)).keys() == document.keys()
        assert {k: document[k] for k in row if k != "_id"} == {
            k: v for k, v in row.items() if k != "_id"
        }


@fuzz
@given(tables(), DAMAGE)
def test_damaged_parquet(folder: Path, table: pa.Table, damage: Any) -> None:
    out = io.BytesIO()
    parquet.write_table(table, out)
    read(folder, "a.parquet", damaged(out.getvalue(), damage))


# --- archives and encodings -------------------------------------------------------------------

LINES = [orjson.dumps({"_id": str(i), "text": f"text {i} {i * 7919}"}) + b"\n" for i in range(99)]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
ORACLES: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda data: pa.CompressedInputStream(pa.BufferReader(data), "zstd").read(),
}
BROKEN = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


@fuzz
@given(st.sampled_from(sorted(COMPRESS)), st.lists(st.integers(0, 99), max_size=3), DAMAGE,
       st.floats(0, 1))  # fmt: skip
def test_archives(folder: Path, suffix: str, bounds: list[int], damage: Any, cut: float) -> None:
    edges = [0, *sorted(bounds), 99]
    parts = [b"".join(LINES[a:b]) for a, b in pairwise(edges)]
    data = damaged(b"".join(COMPRESS[suffix](part) for part in parts), damage)
    data = data[: max(1, round(cut * len(data)))] if cut < 0.7 else data
    found, error = read(folder, f"a.jsonl{suffix}", data)
    try:
        expected = ORACLES[suffix](data)
    except BROKEN:
        assert error is not None or suffix == ".zst"
        return
    if error is None:
        lines = [line for line in expected.split(b"\n") if line.strip()]
        assert len(found) == len(lines)
        assert good(found) == [orjson.loads(line) for line in lines]


@fuzz
@given(
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.trec", "a.parquet", "part-0"]),
    st.sampled_from(
        [None, "utf-8", "cp1252", "utf-16", "utf-16-be", "utf-32", "shift_jis", "utf-7"]
    ),
    st.binary(max_size=60),
)
def test_any_bytes(folder: Path, name: str, encoding: str | None, data: bytes) -> None:
    read(folder, name, data, encoding=encoding)


@fuzz
@given(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-32-be"]), DOCUMENTS)
def test_encodings(folder: Path, encoding: str, documents: list[Any]) -> None:
    text = "".join(dumped(document) + "\n" for document in documents)
    plain, _ = read(folder, "a.jsonl", text.encode())
    found, error = read(folder, "a.jsonl", text.encode(encoding))
    assert error is None and dumped(good(found)) == dumped(good(plain))


# --- vectors ----------------------------------------------------------------------------------

TERMS = {"cat": 0, "dog": 1, "sun": 2}
WEIGHTS = st.one_of(st.floats(), st.integers(), VALUES, st.just(10**400), st.just(-(10**5000)))


@fuzz
@given(st.dictionaries(st.sampled_from([*TERMS, "moon"]), WEIGHTS, max_size=4))
def test_vectors(vector: dict[str, Any]) -> None:
    sound = all(
        token in TERMS and type(weight) in (int, float) and 0 <= weight <= 3.4028234e38
        for token, weight in vector.items()
    )
    try:
        ids, values = vector_of(vector, TERMS)
    except InputError:
        assert not sound
        return
    assert (values > 0).all() and (ids[1:] > ids[:-1]).all()
    assert sound or any(
        isinstance(weight, float) and weight > 3.4028234e38 for weight in vector.values()
    )


@fuzz
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=4), max_size=4), DAMAGE,
       st.sampled_from(["a.jsonl", "a.json"]))  # fmt: skip
def test_vectors_in_files(folder: Path, values: list[Any], damage: Any, name: str) -> None:
    lines = [dumped(value) for value in values]
    text = "\n".join(lines) if name == "a.jsonl" else f"[{','.join(lines)}]"
    found, _ = read(folder, name, damaged(text.encode(), damage), RecordReader(vectors=True))
    for item in found:
        if isinstance(item, Record) and item.vector is not None:
            try:
                vector_of(item.vector, TERMS)
            except InputError as error:
                assert len(error.message) < 1000
