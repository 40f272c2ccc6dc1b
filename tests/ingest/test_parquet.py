"""Whatever type a Parquet column has, its rows are documents as pandas and pyarrow read them."""

from __future__ import annotations

import base64
import io
import json
import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pandas
import pyarrow as pa
import pytest
from pyarrow import parquet

from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import find_source, read_source

NOON = datetime(2024, 5, 1, 12, 0, 0)
EXACT = datetime(2024, 5, 1, 12, 0, 0, 123456)
DIGITS = "12345678901234567890.12345678901234567890"
VALUES: list[tuple[Any, Any, Any]] = [
    (pa.timestamp("s"), NOON, "2024-05-01T12:00:00"),
    (pa.timestamp("ms"), NOON, "2024-05-01T12:00:00"),
    (pa.timestamp("us"), EXACT, EXACT.isoformat()),
    (pa.timestamp("ns"), EXACT, EXACT.isoformat()),
    (pa.timestamp("ns"), 1_714_564_800_000_000_007, "2024-05-01T12:00:00.000000007"),
    (pa.timestamp("us", "Europe/Berlin"), NOON.replace(tzinfo=UTC), "2024-05-01T12:00:00Z"),
    (pa.timestamp("s"), 10**12, "33658-09-27T01:46:40"),
    (pa.date32(), date(2024, 5, 1), "2024-05-01"),
    (pa.date64(), date(2024, 5, 1), "2024-05-01"),
    (pa.date32(), 10**8, "275760-09-13"),
    (pa.date32(), -(10**8), "-271821-04-20"),
    (pa.time32("s"), time(12, 30), "12:30:00"),
    (pa.time64("us"), time(12, 30, 1, 500000), "12:30:01.500"),
    (pa.time64("ns"), 1, "00:00:00.000000001"),
    (pa.duration("ms"), timedelta(seconds=1.5), 1.5),
    (pa.duration("ns"), timedelta(days=400), 400 * 86_400),
    (pa.decimal128(9, 2), Decimal("19.99"), 19.99),
    (pa.decimal128(9, 2), Decimal("7.00"), 7),
    (pa.decimal256(40, 20), Decimal(DIGITS), DIGITS),
    (pa.binary(), b"plain text", "plain text"),
    (pa.binary(), b"\xff\x00", base64.b64encode(b"\xff\x00").decode()),
    (pa.large_binary(), "é".encode(), "é"),
    (pa.binary(2), b"ab", "ab"),
    (pa.float32(), float("nan"), None),
    (pa.float16(), 1.5, 1.5),
    (pa.uint64(), 2**64 - 1, 2**64 - 1),
    (pa.string(), "text", "text"),
    (pa.large_string(), "text", "text"),
    (pa.null(), None, None),
    (pa.bool_(), True, True),
    (pa.dictionary(pa.int32(), pa.string()), "text", "text"),
    (pa.map_(pa.string(), pa.float32()), [("a", 1.5), ("b", None)], {"a": 1.5, "b": None}),
    (pa.map_(pa.int32(), pa.date32()), [(1, date(2024, 5, 1))], {"1": "2024-05-01"}),
    (pa.list_(pa.timestamp("ns")), [NOON, None], ["2024-05-01T12:00:00", None]),
    (pa.list_(pa.decimal128(5, 1), 2), [Decimal("1.5"), Decimal("2.0")], [1.5, 2]),
    (pa.large_list(pa.list_(pa.binary())), [[b"a"], None], [["a"], None]),
    (
        pa.struct([("a", pa.struct([("b", pa.date32())])), ("c", pa.string())]),
        {"a": {"b": date(2024, 5, 1)}, "c": None},
        {"a": {"b": "2024-05-01"}, "c": None},
    ),
    (
        pa.list_(pa.struct([("a", pa.map_(pa.string(), pa.duration("s")))])),
        [{"a": [("x", timedelta(seconds=3))]}, None],
        [{"a": {"x": 3}}, None],
    ),
]  # fmt: skip


def written(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    file = folder / "docs.parquet"
    parquet.write_table(pa.table(columns), file, **options)
    return file


def read(file: Path, reader: RecordReader | None = None) -> list[Any]:
    return list(read_source(find_source(str(file)), reader or RecordReader()))


@pytest.mark.parametrize(("type_", "value", "expected"), VALUES)
def test_values(tmp_path: Path, type_: Any, value: Any, expected: Any) -> None:
    column = pa.array([value, None], type_)
    for options in ({}, {"store_schema": False}) if not pa.types.is_duration(type_) else ({},):
        file = written(tmp_path, {"_id": ["a", "b"], "text": ["x", "y"], "v": column}, **options)
        stored = parquet.read_schema(file).field("v").type
        if stored.__class__ is not column.type.__class__:
            continue  # Parquet itself does not have the type
        one, two = read(file)
        assert isinstance(one, Record), one
        assert one.source["v"] == expected and two.source["v"] is None
        assert type(one.source["v"]) is type(expected)
        assert orjson.loads(orjson.dumps(one.source)) == one.source


def test_uuids(tmp_path: Path) -> None:
    some = uuid.UUID(int=5)
    column = pa.array([some.bytes], pa.binary(16)).cast(pa.uuid())
    (record,) = read(written(tmp_path, {"_id": ["a"], "text": ["x"], "v": column}))
    assert record.source["v"] == str(some)


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {
            "text": ["a", None, "c"],
            "when": pandas.to_datetime(
                ["2024-05-01", None, "2024-05-01 12:00:00.5"], format="mixed"
            ),
            "zoned": pandas.to_datetime(["2024-05-01 12:00"] * 3).tz_localize("Europe/Berlin"),
            "kind": pandas.Categorical(["x", "y", "x"]),
            "number": [1.5, None, 3],
            "took": pandas.to_timedelta(["1s", "2h", None]),
        }
    )
    file = tmp_path / "docs.parquet"
    frame.to_parquet(file)
    found = [r.source for r in read(file, RecordReader(("text", "kind")))]
    assert [d["when"] for d in found] == ["2024-05-01T00:00:00", None, "2024-05-01T12:00:00.500"]
    assert [d["zoned"] for d in found] == ["2024-05-01T10:00:00Z"] * 3
    assert [d["took"] for d in found] == [1, 7200, None]
    expected = json.loads(frame.to_json(orient="records", date_format="iso"))
    for name in ("text", "kind", "number"):
        assert [d[name] for d in found] == [d[name] for d in expected]


PAIRS = [[("hello", 1.5), ("world", 2.0)], [("hello", 0.5)]]
DECIMALS = [[(k, Decimal(v)) for k, v in pairs] for pairs in PAIRS]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(PAIRS, pa.map_(pa.string(), pa.float32())),
        pa.array(DECIMALS, pa.map_(pa.string(), pa.decimal128(4, 2))),
        pa.array([dict(pairs) for pairs in PAIRS]),
    ],
)
def test_vectors(tmp_path: Path, column: Any) -> None:
    file = written(tmp_path, {"id": ["a", "b"], "vector": column})
    found = read(file, RecordReader(vectors=True))
    assert [r.vector for r in found] == [{"hello": 1.5, "world": 2.0}, {"hello": 0.5}]


def test_a_row_that_json_does_not_have_is_one_dead_letter(tmp_path: Path) -> None:
    pairs = [[("a", 1)], [("a", 1), ("a", 2)], [("b", 1)]]
    columns = {
        "_id": [str(i) for i in range(3)] * 400,
        "text": ["x"] * 1200,
        "f": pa.array([1.0, 2.0, float("inf")] * 400),
        "m": pa.array(pairs * 400, pa.map_(pa.string(), pa.int32())),
    }
    found = read(written(tmp_path, columns))
    assert [r.id for r in found if isinstance(r, Record)] == ["0"] * 400
    bad = [r for r in found if isinstance(r, Rejected)]
    assert len(bad) == 800 and bad[0].where == "docs.parquet:row 2"
    assert "'m'" in bad[0].reason and "'f'" in bad[1].reason


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"caf\xe9", b"well"])
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    found = read(written(tmp_path, {"_id": ["1", "2", "3"], "text": text}))
    assert [r.id for r in found if isinstance(r, Record)] == ["1", "3"]
    (bad,) = [r for r in found if isinstance(r, Rejected)]
    assert bad.where == "docs.parquet:row 2" and "'text'" in bad.reason


def test_compressed_and_piped(tmp_path: Path) -> None:
    import gzip
    import subprocess
    import sys

    data = io.BytesIO()
    parquet.write_table(pa.table({"_id": ["1", "2"], "text": ["a", "b"]}), data)
    file = tmp_path / "docs.parquet.gz"
    file.write_bytes(gzip.compress(data.getvalue()))
    assert [r.id for r in read(file)] == ["1", "2"]
    script = (
        "from splade_os.ingest.sources import *\n"
        "print(*[r.id for r in read_source(find_source('-'), RecordReader())])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=data.getvalue(), capture_output=True, check=False
    )
    assert done.stdout.split() == [b"1", b"2"], done.stderr


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16(), pa.int32()])
def test_maps_of_weights(tmp_path: Path, kind: pa.DataType) -> None:
    """As pyarrow's own values, in batches and row groups of any size; a key twice is refused."""
    draw = random.Random(str(kind))
    maps: list[Any] = [
        draw.choice([None, [], [(f"t{k}", float(k % 7)) for k in draw.sample(range(99), 5)]])
        for _ in range(1500)
    ]
    maps[700] = [("a", 1.0), ("a", 2.0)]
    maps[900] = [("nan", float("nan"))] if pa.types.is_floating(kind) else None
    maps[901] = [("null", None)]
    cast = [m and [(k, v if v is None or v != v else kind_of(kind)(v)) for k, v in m] for m in maps]
    column = pa.array(cast, pa.map_(pa.string(), kind))
    table = pa.table({"_id": pa.array(range(1500)), "text": ["x"] * 1500, "m": column})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=333)
    found = list(read_source(find_source(str(tmp_path / "a.parquet")), RecordReader()))
    assert isinstance(found[700], Rejected) and "a map has a key twice" in found[700].reason
    for i, (item, value) in enumerate(zip(found, column.to_pylist(), strict=True)):
        if i != 700:
            assert isinstance(item, Record)
            expected = value if value is None else {k: None if v != v else v for k, v in value}
            assert item.source["m"] == expected


def kind_of(kind: pa.DataType) -> type:
    return float if pa.types.is_floating(kind) else int
