"""`splade-os ingest`, as a user runs it: sources, exit codes, dead letters, damage."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder, ingest_documents
from splade_os.cli import cli
from splade_os.encoding.backend import NonFiniteError
from splade_os.engines import Engine, MatchQuery, SearchRequest
from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.documents.vector_files import write_jsonl
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.sources import find_source, read_source
from splade_os.vectors import Ids, SparseBatch


def run(*arguments: str, stdin: bytes = b"", cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "splade_os", *arguments],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        check=False,
    )


def lines(documents: list[object]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


DOCUMENTS: list[object] = [
    {"_id": f"d{i}", "title": f"cat {i}", "text": "the search engine", "price": i}
    for i in range(40)
]


@pytest.mark.parametrize("form", ["jsonl", "gz", "stdin", "beir", "beir-gz"])
def test_sources(
    engine: Engine,
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, name, stdin = lines(DOCUMENTS), "docs.jsonl", b""
    if form.startswith("beir"):
        (tmp_path / "beir").mkdir()
        name = "beir/corpus.jsonl"
    if form.endswith("gz"):
        data, name = gzip.compress(data), name + ".gz"
    (tmp_path / name).write_bytes(data)
    source = str(Path(name).parent) if form.startswith("beir") else name
    if form == "stdin":
        source, stdin = "-", data
    command = ["ingest", source, "--index", index, "--url", engine_url, "--json"]
    monkeypatch.chdir(tmp_path)
    for extra, field in (["--model", str(tiny / "router")], "created"), ([], "updated"):
        done = CliRunner().invoke(cli, [*command, *extra], input=stdin)  # then: the index's model
        assert done.exit_code == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["read"], report[field], report["verified"]) == (40, 40, True)
        assert "Verified" in done.stderr
    assert engine.count(index) == 40
    statistics = engine.load_statistics(index)
    assert statistics is not None and statistics.documents == 40
    (hit,) = engine.search(index, SearchRequest(MatchQuery("17"))).hits
    assert hit.source == {"title": "cat 17", "text": "the search engine", "price": 17}


def test_damaged_lines(
    engine: Engine,
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = {
        2: (b"not json", "not valid JSON"),
        4: (b"[1, 2]", "not a JSON object"),
        5: (b'{"_id": "x", "text": true}', "'text' is bool"),
        7: (b'{"_id": "x", "body": "no text field"}', "none of the text fields"),
        8: (b'{"_id": [1], "text": "cat"}', "neither text nor a whole number"),
        10: (b'{"_id": "x", "text": "\xff\xfe"}', "is not UTF-8"),
        11: (b'{"_id": "' + b"x" * 600 + b'", "text": "cat"}', "longer than 512"),
        13: (b'{"_id": "x", "text": "cat", "splade_os_vector": {}}', "field 'splade_os_vector'"),
    }
    good = iter(lines(DOCUMENTS).splitlines())
    content = [bad[i][0] if i in bad else next(good) for i in range(1, 21)]
    (tmp_path / "docs.jsonl").write_bytes(b"\n".join([*content, b"", b"  "]) + b"\n")
    monkeypatch.chdir(tmp_path)
    command = ["ingest", "docs.jsonl", "--index", index, "--url", engine_url, "--json"]
    more = ["--model", str(tiny / "router"), "--dead-letters", "dead.jsonl"]
    done = CliRunner().invoke(cli, [*command, *more])
    assert done.exit_code == 3, done.stderr
    report = json.loads(done.stdout)
    assert (report["read"], report["created"], report["dead"]) == (20, 12, len(bad))
    assert engine.count(index) == 12
    letters = [json.loads(line) for line in (tmp_path / "dead.jsonl").read_text().splitlines()]
    by_position = {letter["position"]: letter for letter in letters}
    assert set(by_position) == set(bad)
    for position, (raw, reason) in bad.items():
        letter = by_position[position]
        assert reason in letter["reason"], letter
        assert letter["where"] == f"docs.jsonl:{position}"
        if isinstance(letter["record"], str):
            assert letter["record"] == raw.decode("utf-8", "surrogateescape")


def test_documents_that_the_engine_refuses(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, opensearch_url: str
) -> None:
    if not engine.url.startswith("http"):
        pytest.skip("SQLite has no mapping that a field could conflict with")
    records = [
        Record(1, "t:1", "a", "cat", {"text": "cat", "price": {"amount": 3}}),
        Record(2, "t:2", "b", "dog", {"text": "dog", "price": 3}),
        Record(3, "t:3", "c", "sun", {"text": "sun", "price": {"amount": 4}}),
    ]
    report = ingest_documents(
        records,
        engine=engine,
        index=index,
        encoder=DocumentEncoder.load(str(tiny / "router"), device="cpu"),
        dead_letters=tmp_path / "dead.jsonl",
    )
    assert (report.created, report.dead, report.verified) == (2, 1, True)
    letter = json.loads((tmp_path / "dead.jsonl").read_text())
    assert (letter["id"], letter["status"]) == ("b", 400)
    assert "price" in letter["reason"]
    assert letter["record"] == {"_id": "b", "text": "dog", "price": 3}
    statistics = engine.load_statistics(index)
    assert statistics is not None and statistics.documents == 2


def test_text_that_cannot_be_encoded(
    engine: Engine, index: str, tiny: Path, tmp_path: Path
) -> None:
    records = [
        Record(i, f"t:{i}", f"d{i}", "cat" if i != 5 else "\ud800", {"n": i}) for i in range(1, 9)
    ]
    report = ingest_documents(
        records,
        engine=engine,
        index=index,
        encoder=DocumentEncoder.load(str(tiny / "router"), device="cpu"),
        dead_letters=tmp_path / "dead.jsonl",
    )
    assert (report.created, report.dead, report.verified) == (7, 1, True)
    assert json.loads((tmp_path / "dead.jsonl").read_text())["id"] == "d5"


def test_model_that_breaks_down_on_one_text(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu", batch_tokens=16)
    genuine, calls = encoder._backend.encode, []

    def breaking(tokens: list[object], limit: int | None) -> object:
        calls.append(len(tokens))
        if len(calls) == 2:
            raise NonFiniteError(0)
        return genuine(tokens, limit)  # type: ignore[arg-type]

    monkeypatch.setattr(encoder._backend, "encode", breaking)
    report = ingest_documents(
        [Record(i, f"t:{i}", f"d{i}", "cat dog", {"n": i}) for i in range(1, 30)],
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=tmp_path / "dead.jsonl",
    )
    assert (report.created, report.dead, report.verified) == (29, 0, True)


def test_one_text_that_breaks_the_model(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found by halves: the others are not encoded one by one."""
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu", batch_tokens=100_000)
    genuine, calls = encoder._backend.encode, []
    (culprit,) = encoder.tokenize(["moon moon moon"])

    def breaking(tokens: list[Ids], limit: int | None) -> SparseBatch:
        calls.append(len(tokens))
        for row, ids in enumerate(tokens):
            if np.array_equal(ids, culprit):
                raise NonFiniteError(row)
        return genuine(tokens, limit)

    monkeypatch.setattr(encoder._backend, "encode", breaking)
    records = [
        Record(i, f"t:{i}", f"d{i}", "moon moon moon" if i == 77 else f"cat dog {i}", {"n": i})
        for i in range(1, 301)
    ]
    dead = tmp_path / "dead.jsonl"
    report = ingest_documents(
        records, engine=engine, index=index, encoder=encoder, dead_letters=dead
    )
    assert (report.created, report.dead, report.verified) == (299, 1, True)
    assert json.loads(dead.read_text())["id"] == "d77" and len(calls) < 30
    calls.clear()
    skipped: list[str] = []
    count = write_jsonl(
        tmp_path / "v.jsonl", records, encoder, lambda where, _: skipped.append(where)
    )
    assert (count, skipped) == (299, ["t:77"]) and len(calls) < 30
    written = [json.loads(line)["id"] for line in (tmp_path / "v.jsonl").open()]
    assert written == [f"d{i}" for i in range(1, 301) if i != 77]


def test_what_waits_is_sorted_by_length_together(
    engine: Engine, index: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the model is busy, texts pile up, and are padded less."""
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    encoder.window = 64
    genuine, sizes = encoder.encode_batches, []

    def slow(tokens: list[Ids]) -> Iterator[tuple[list[int], SparseBatch]]:
        sizes.append(len(tokens))
        time.sleep(1.0 if len(sizes) == 1 else 0)
        yield from genuine(tokens)

    monkeypatch.setattr(encoder, "encode_batches", slow)
    report = ingest_documents(
        [Record(i, f"t:{i}", f"d{i}", "cat dog " * (i % 9), {"n": i}) for i in range(1, 201)],
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=tmp_path / "dead.jsonl",
        options=IngestOptions(window=8),
    )
    assert (report.created, report.verified) == (200, True)
    assert sum(sizes) == 200 and max(sizes) == sizes[1] == 64


def test_file_that_breaks_off(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    whole = gzip.compress(np.random.default_rng(0).bytes(9000).hex().encode())
    (tmp_path / "docs.jsonl.gz").write_bytes(gzip.compress(lines(DOCUMENTS)) + whole[:5000])
    command = ["ingest", "docs.jsonl.gz", "--index", index, "--url", engine_url]
    done = run(*command, "--model", str(tiny / "router"), cwd=tmp_path)
    assert done.returncode == 1
    assert b"cannot be read to its end" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.jsonl"], 1, "There is no source"),
        (["empty"], 1, "holds no corpus.jsonl"),
        (["notes.docx"], 1, "none of the formats"),
        ([], 2, "Missing argument"),
        (["docs.jsonl", "--dtype", "int3"], 2, "Invalid value"),
        (["docs.jsonl", "--model", "no/such/model"], 1, "no model folder"),
        (["docs.jsonl", "--url", "http://localhost:1"], 1, "Nothing answers"),
        (["docs.jsonl", "--text", ","], 2, "--text names no field"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    (tmp_path / "notes.docx").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "docs.jsonl").write_bytes(lines(DOCUMENTS))
    url = [] if "--url" in arguments else ["--url", "sqlite:///e.db"]
    done = run("ingest", *arguments, "--index", "x", *url, cwd=tmp_path)
    assert done.returncode == code, done.stderr.decode()
    assert words in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_records() -> None:
    reader = RecordReader(("title", "body"), "sku")
    value = {"sku": 12, "title": None, "body": "red cat", "x": 1}
    record = reader.read(Item("f:3", value=value), 3)
    assert isinstance(record, Record)
    assert (record.id, record.text) == ("12", "red cat")
    assert record.source == value
    assert isinstance(reader.read(Item("f:1", value={"body": "x"}), 1), Rejected)
    plain = RecordReader()
    one, other = (plain.read(Item("f", value={"text": t}), 1) for t in ("a", "b"))
    assert isinstance(one, Record) and isinstance(other, Record)
    again = plain.read(Item("g", value={"text": "a"}), 9)
    assert isinstance(again, Record)
    assert one.id != other.id and one.id == again.id


def test_standard_library_is_a_source() -> None:
    found = list(read_source(find_source("python:stdlib"), RecordReader()))
    assert len(found) > 2000
    assert all(isinstance(record, Record) for record in found)
    assert len({record.id for record in found}) == len(found)


def test_unreadable_source(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip at all")
    with pytest.raises(InputError, match="cannot be read"):
        list(read_source(find_source(str(tmp_path / "a.jsonl.gz")), RecordReader()))
