"""Encoded once, loaded often: Parquet with vectors against a load of the same documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.engines.base import HASH_FIELD, VECTOR_FIELD


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def told(done: Result) -> str:
    return f"{done.stderr}\n{done.exception}"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Texts of all lengths, fields of changing shape, nested and missing; one id twice."""
    rows: list[dict[str, Any]] = [
        {"id": f"d{i}", "text": "the red cat reads a river of words " * (i % 7), "n": i}
        | ({"m": {"a": [None, "x"], "é": f"{i / 3}"}} if i % 3 else {"k": None, "l": [i, i]})
        for i in range(60)
    ]
    rows[7]["text"] = "日本語 ☃"
    rows[50]["id"] = "d3"
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "no JSON\n")
    return file


@pytest.fixture
def folder(documents: Path, tiny: Path) -> Path:
    out = documents.with_name("v.parquet")
    done = run(
        "encode",
        documents,
        "--model",
        tiny / "router",
        "--text",
        "text",
        "-o",
        out,
        "--dtype",
        "float32",
    )
    assert done.exit_code == 3 and "1 skipped" in done.stderr, done.stderr
    return out


def contents(engine: Engine, index: str) -> tuple[dict[str, Any], Any, Any]:
    engine.refresh(index)
    ids = [identifier for identifier, _ in engine.scan(index, ())]
    found = {i: dict(each) for i, each in engine.documents(index, ids).items()}
    for each in found.values():
        each[HASH_FIELD] = each[HASH_FIELD].split("-")[0][:24]
    statistics = engine.load_statistics(index)
    assert statistics is not None
    return found, engine.index_meta(index), statistics


def test_a_load_of_parquet_is_a_load_of_its_documents(
    engine: Engine, index: str, documents: Path, folder: Path, tiny: Path, tmp_path: Path
) -> None:
    dead = ("--dead-letters", tmp_path / "dead.jsonl", "--json")
    target = ("--url", engine.url, "--index", index)
    done = run(
        "ingest", documents, "--model", tiny / "router", "--text", "text", *target, *dead,
        "--dtype", "float32",
    )  # fmt: skip
    assert done.exit_code == 3, done.stderr
    plain, meta, statistics = contents(engine, index)
    engine.delete_index(index)
    done = run("ingest", folder, *target, *dead)
    report = json.loads(done.stdout)
    assert done.exit_code == 3, done.stderr  # one id twice
    assert (report["dead"], report["read"], report["conflicts"]) == (0, 60, 1)
    assert report["verified"] and report["statistics_lag"] is None
    again, meta_again, counted = contents(engine, index)
    assert meta_again == meta
    for identifier, document in plain.items():
        mine, theirs = document.pop(VECTOR_FIELD), again[identifier].pop(VECTOR_FIELD)
        assert mine == pytest.approx(theirs, rel=2**-8) and document == again[identifier]
    assert again.keys() == plain.keys()
    assert counted.documents == statistics.documents and counted.tokens == statistics.tokens
    np.testing.assert_array_equal(counted.frequencies, statistics.frequencies)
    # the marks are those of a load: nothing is written or encoded again
    done = run(
        "ingest", documents, "--model", tiny / "router", *target, *dead, "--skip-unchanged",
        "--text", "text", "--limit", 40,
    )  # fmt: skip
    assert json.loads(done.stdout)["unchanged"] == 39, done.stderr


def test_another_model_is_refused(
    engine: Engine, index: str, documents: Path, folder: Path, tiny: Path
) -> None:
    target = ("--url", engine.url, "--index", index)
    done = run("ingest", documents, "--model", tiny / "bert", "--text", "text", *target)
    assert done.exit_code == 3, done.stderr
    done = run("ingest", folder, *target)
    assert done.exit_code == 1 and "is not the same" in told(done)
    done = run("ingest", folder, *target, "--model", tiny / "bert")
    assert done.exit_code == 1 and "is not that model" in told(done)
    done = run("ingest", folder, *target, "--drop", "n")
    assert done.exit_code == 1 and "splade-os encode" in told(done)


def changed(folder: Path, column: str, row: int, value: Any) -> None:
    file = next(folder.glob("*.parquet"))
    table = parquet.read_table(file)
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    new = pa.array(values, table.schema.field(column).type)
    parquet.write_table(table.set_column(place, table.schema.field(column), new), file)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("indices", [5, 5]),
        ("indices", None),
        ("indices", [1, 10**9]),
        ("indices", [1, None]),
        ("values", [1.0, float("nan")]),
        ("values", [1.0]),
        ("tokens", [-1]),
        ("id", ""),
        ("id", "x" * 513),
        ("hash", "short"),
        ("document", None),
        ("document", "{"),
        ("document", "[1]"),
    ],
)
def test_a_damaged_row_costs_itself(column: str, value: Any, folder: Path, tmp_path: Path) -> None:
    changed(folder, column, 4, value)
    url, dead = f"sqlite:///{tmp_path}/e.db", tmp_path / "dead.jsonl"
    target = ("--url", url, "--index", "damaged", "--dead-letters", dead, "--json")
    done = run("ingest", folder, *target)
    report = json.loads(done.stdout)
    assert (done.exit_code, report["dead"], report["read"]) == (3, 1, 60), done.stderr
    (letter,) = map(json.loads, dead.read_text().splitlines())
    assert letter["where"].endswith(":row 5") and letter["reason"]


def test_what_the_engine_refuses_can_be_tried_again(
    engine: Engine, index: str, folder: Path, tiny: Path, tmp_path: Path
) -> None:
    """A field of the index's own name: the dead letter holds document and vector."""
    document = {"id": "d9", "text": "the red cat", VECTOR_FIELD: 1}
    changed(folder, "document", 9, json.dumps(document))
    dead = tmp_path / "dead.jsonl"
    target = ("--url", engine.url, "--index", index)
    done = run("ingest", folder, *target, "--dead-letters", dead, "--json")
    assert json.loads(done.stdout)["dead"] == 1, done.stderr
    letter = json.loads(dead.read_text())
    assert letter["id"] == "d9" and VECTOR_FIELD in letter["reason"]
    vector = letter["record"]["vector"]
    assert vector and all(weight > 0 for weight in vector.values())
    letter["record"].pop(VECTOR_FIELD)
    dead.write_text(json.dumps(letter) + "\n")
    done = run("retry", dead, *target, "--model", tiny / "router")
    assert done.exit_code == 0, done.stderr
    stored = engine.documents(index, ["d9"])["d9"]
    assert stored["text"] == "the red cat"
    assert stored[VECTOR_FIELD] == pytest.approx(vector, rel=2**-8)


def test_files_of_two_encodings_are_not_mixed(
    documents: Path, folder: Path, tiny: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.parquet"
    run("encode", documents, "--model", tiny / "bert", "--text", "text", "-o", other)
    (other / "part-00000.parquet").rename(folder / "part-00001.parquet")
    target = ("--url", f"sqlite:///{tmp_path}/e.db", "--index", "mixed")
    done = run("ingest", folder, *target)
    assert done.exit_code == 1 and "encoded otherwise" in told(done)


def test_what_the_metadata_says_is_checked(folder: Path, tmp_path: Path) -> None:
    file = next(folder.glob("*.parquet"))
    table = parquet.read_table(file)
    target = ("--url", f"sqlite:///{tmp_path}/e.db", "--index", "damaged")
    for key, new in ((b'"format":1', b'"format":2'), (b'"model"', b'"modle"')):
        said = (table.schema.metadata or {})[b"splade_os"].replace(key, new)
        parquet.write_table(table.replace_schema_metadata({b"splade_os": said}), file)
        done = run("ingest", folder, *target)
        assert done.exit_code == 1 and "metadata" in told(done), done.stderr
    parquet.write_table(table.drop_columns(["values"]), file)
    done = run("ingest", folder, *target)
    assert done.exit_code == 1 and "'values' is missing" in told(done)


def test_a_folder_is_not_written_twice(documents: Path, folder: Path, tiny: Path) -> None:
    done = run("encode", documents, "--model", tiny / "router", "--text", "text", "-o", folder)
    assert done.exit_code == 1 and "there already" in told(done)
