"""Every source gives the same documents, whatever they stand in; damage is named."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splade_os.engines import SearchRequest, TermsQuery, connect
from splade_os.errors import InputError
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import Selection, SourceOptions, find_source, read_source

DOCUMENTS = [
    {"_id": f"d{i}", "title": f"cat, {i}", "text": 'the "search"\nengine Ünïcode 日本'}
    for i in range(150)
]


def jsonl() -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in DOCUMENTS)


def table(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(DOCUMENTS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(DOCUMENTS)
    return text.getvalue().encode()


def parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet as writer

    out = io.BytesIO()
    writer.write_table(pyarrow.Table.from_pylist(DOCUMENTS), out, row_group_size=40)
    return out.getvalue()


def zst(data: bytes) -> bytes:
    import zstandard

    frames = (data[: len(data) // 2], data[len(data) // 2 :])  # as `cat a.zst b.zst` makes them
    return b"".join(zstandard.compress(frame) for frame in frames)


FILES: dict[str, Callable[[], bytes]] = {
    "docs.jsonl": jsonl,
    "docs.ndjson": jsonl,
    "docs.json": lambda: json.dumps(DOCUMENTS, indent=1).encode(),
    "lines.json": jsonl,
    "docs.csv": lambda: table(","),
    "bom.csv": lambda: b"\xef\xbb\xbf" + table(","),
    "docs.tsv": lambda: table("\t"),
    "docs.parquet": parquet,
    "docs.jsonl.gz": lambda: gzip.compress(jsonl()),
    "two.jsonl.gz": lambda: gzip.compress(jsonl()[:3000]) + gzip.compress(jsonl()[3000:]),
    "docs.jsonl.zst": lambda: zst(jsonl()),
    "docs.jsonl.bz2": lambda: bz2.compress(jsonl()),
    "docs.csv.xz": lambda: lzma.compress(table(",")),
}


def read(spec: str, selection: Selection | None = None, **options: Any) -> list[Any]:
    reader = options.pop("reader", RecordReader())
    source = find_source(spec, SourceOptions(**options))
    return list(read_source(source, reader, selection))


def same(records: list[Any]) -> bool:
    """The documents of this file, in order."""
    expected = [(d["_id"], f"{d['title']} {d['text']}") for d in DOCUMENTS]
    return [(r.id, r.text) for r in records] == expected


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name]())
    records = read(str(tmp_path / name))
    assert same(records)
    assert [record.position for record in records] == list(range(1, 151))
    source = find_source(str(tmp_path / name))
    again = list(read_source(source, RecordReader(), done=100))
    assert [(r.position, r.id) for r in again] == [(r.position, r.id) for r in records[100:]]
    assert source.total == source.done == (tmp_path / name).stat().st_size


def test_folders_globs_and_urls(tmp_path: Path) -> None:
    import fsspec

    data = jsonl().splitlines(keepends=True)
    parts = tmp_path / "parts" / "deep"
    parts.mkdir(parents=True)
    for number in range(3):
        content = b"".join(data[number * 50 : number * 50 + 50])
        (parts / f"part-{number}.jsonl.gz").write_bytes(gzip.compress(content))
    (parts / "README.md").write_text("no documents")
    assert same(read(str(tmp_path / "parts")))
    assert same(read(str(parts / "part-*.jsonl.gz")))
    (tmp_path / "corpus.jsonl").write_bytes(jsonl())
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "no document"}\n')
    assert same(read(str(tmp_path)))
    with fsspec.open("memory://bucket/docs.csv.gz", "wb") as handle:
        handle.write(gzip.compress(table(",")))
    assert same(read("memory://bucket/docs.csv.gz"))
    with pytest.raises(InputError, match="cannot be opened"):
        read("memory://bucket/nothing.csv")


def test_trec_and_pairs(tmp_path: Path) -> None:
    file = tmp_path / "docs.trec"
    file.write_text(
        "<DOC>\n<DOCNO> WSJ-1 </DOCNO>\n<HL>\nHead\n</HL>\n<TEXT>\na <b>bold</b> cat\n</TEXT>\n"
        "</DOC>\n<DOC>\n<DOCNO>2</DOCNO><TITLE>A title</TITLE>\n<TEXT>dog</TEXT>\n</DOC>\n"
        "<DOC>\n<TEXT>no number</TEXT>\n</DOC>\n"
    )
    one, two, three = read(str(file))
    assert (one.id, one.text) == ("WSJ-1", "Head a bold cat")
    assert (two.id, two.source["title"], two.text) == ("2", "A title", "A title dog")
    assert isinstance(three, Rejected) and three.where == "docs.trec:14"
    pairs = tmp_path / "collection.tsv"
    pairs.write_text('0\tthe "first\n1\tsecond\ttab\nbroken\n')
    first, second, bad = read(str(pairs))
    assert (first.id, first.text) == ("0", 'the "first')
    assert (second.id, second.text) == ("1", "second\ttab")
    assert isinstance(bad, Rejected) and bad.where == "collection.tsv:3"


def test_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(jsonl())
    assert same(read(f"hf:{folder}/train"))
    records = read(f"hf:{folder}/train", Selection(offset=140))
    assert [record.id for record in records] == [d["_id"] for d in DOCUMENTS[140:]]
    with pytest.raises(InputError, match="cannot be opened"):
        read(f"hf:{folder}/nothing")
    with pytest.raises(InputError, match="names no split"):
        read("hf:train")


def test_ir_datasets(tmp_path: Path) -> None:
    import ir_datasets
    from ir_datasets.datasets.base import Dataset
    from ir_datasets.formats import TsvDocs
    from ir_datasets.util import LocalDownload

    (tmp_path / "docs.tsv").write_text("a\tthe cat\nb\tthe dog\n")
    name = f"local-{tmp_path.name}"
    docs = TsvDocs(LocalDownload(tmp_path / "docs.tsv"), namespace=name, lang="en")
    ir_datasets.registry.register(name, Dataset(docs))
    records = read(f"irds:{name}")
    assert [(r.id, r.text) for r in records] == [("a", "the cat"), ("b", "the dog")]
    with pytest.raises(InputError, match="knows no collection"):
        read("irds:no-such-thing")


def test_selection(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_bytes(jsonl())
    spec = str(tmp_path / "docs.jsonl")
    ids = [document["_id"] for document in DOCUMENTS]
    assert [r.id for r in read(spec, Selection(offset=10, limit=5))] == ids[10:15]
    shards = [read(spec, Selection(limit=100, shard=i, of=3)) for i in (1, 2, 3)]
    assert [r.id for r in shards[0]] == ids[:100:3]
    assert sorted(r.id for shard in shards for r in shard) == sorted(ids[:100])
    source = find_source(spec)
    rest = list(read_source(source, RecordReader(), Selection(7, 100, 2, 3), done=20))
    whole = read(spec, Selection(7, 100, 2, 3))
    assert [(r.position, r.id) for r in rest] == [(r.position, r.id) for r in whole[20:]]


def test_fields() -> None:
    value = {"sku": 7, "name": "red cat", "body": "sun", "price": 3, "secret": "x"}
    reader = RecordReader(
        ("name", "body"), "sku", join=" | ", drop=("secret",), rename={"name": "title"}
    )
    from splade_os.ingest.documents.records import Item

    record = reader.read(Item("f:1", value=value), 1)
    assert isinstance(record, Record)
    assert (record.id, record.text) == ("7", "red cat | sun")
    assert record.source == {"sku": 7, "title": "red cat", "body": "sun", "price": 3}
    assert reader.stored_text_fields == ("title", "body")
    kept = RecordReader(("name",), "sku", keep=("price",)).read(Item("f:1", value=value), 1)
    assert isinstance(kept, Record) and kept.source == {"price": 3}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b'[{"text": "a"}, {"text": ', "not valid JSON"),
        ("a.json", b'[{"text": "a"} {"text": "b"}]', "no comma"),
        ("a.csv", b"text,text\na,b\n", "stands twice"),
        ("a.parquet", b"PAR1 is not enough", "Parquet"),
        ("a.jsonl.gz", gzip.compress(jsonl())[:-20], "Compressed file ended"),
        ("a.jsonl.zst", b"not compressed", "cannot be read"),
        ("a.trec", b"<DOC>\n<DOCNO>1</DOCNO>\n", "has no end"),
    ],
)
def test_sources_that_break_off(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read(str(tmp_path / name))
    assert name in str(caught.value)


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('_id,text\n1,cat\n2,dog,more\n3\n4,"two\nlines"\n5,sun\n')
    records = read(str(tmp_path / "a.csv"))
    assert [r.id for r in records if isinstance(r, Record)] == ["1", "4", "5"]
    assert [r.where for r in records if isinstance(r, Rejected)] == ["a.csv:3", "a.csv:4"]


def test_another_index(tmp_path: Path, tiny: Path) -> None:
    from click.testing import CliRunner

    from splade_os.cli import cli

    (tmp_path / "docs.jsonl").write_bytes(jsonl())
    url = f"sqlite:///{tmp_path}/e.db"
    place = ["--url", url, "--model", str(tiny / "router")]
    done = CliRunner().invoke(cli, ["ingest", str(tmp_path / "docs.jsonl"), "--index", "a", *place])
    assert done.exit_code == 0, done.stderr
    done = CliRunner().invoke(cli, ["ingest", "index:a", "--index", "b", *place])
    assert done.exit_code == 0, done.stderr
    engine = connect(url)
    assert dict(engine.scan("a", ["title", "text"])) == dict(engine.scan("b", ["title", "text"]))
    (_, stored) = next(iter(engine.scan("b")))
    features = sorted(stored["splade_os_vector"])[:2]
    import numpy as np

    request = SearchRequest(TermsQuery(features, np.ones(2, np.float32)))
    assert [h.score for h in engine.search("a", request).hits] == [
        h.score for h in engine.search("b", request).hits
    ]
