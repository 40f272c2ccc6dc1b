"""Whatever stands in a source is a record, a dead letter with its place, or an error that names
file and place: nothing vanishes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import os
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import feather, ipc, orc, parquet

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import (
    SourceOptions,
    find_source,
    read_source,
    require_whole,
    skipped_of,
)

LINES = [b'{"_id":"%d","text":"text %d"}\n' % (i, i) for i in range(200)]


def zst(data: bytes) -> bytes:
    return zstandard.compress(data)


def flushed(data: list[bytes]) -> bytes:
    """One frame, a block for each piece."""
    writer = zstandard.ZstdCompressor().compressobj()
    blocks = [
        writer.compress(piece) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for piece in data
    ]
    return b"".join(blocks) + writer.flush()


SKIPPABLE = bytes.fromhex("5e2a4d18") + (4).to_bytes(4, "little") + b"name"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zst,
}


def read(file: Path | str, reader: RecordReader | None = None, **options: Any) -> list[Any]:
    source = find_source(str(file), SourceOptions(**options))
    return list(read_source(source, reader or RecordReader()))


def until_error(file: Path, **options: Any) -> tuple[list[Any], str | None]:
    """The records before the source breaks off, and what it says then."""
    found: list[Any] = []
    try:
        found.extend(read_source(find_source(str(file), SourceOptions(**options)), RecordReader()))
    except InputError as error:
        return found, str(error)
    return found, None


def written(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def ids(records: list[Any]) -> list[str]:
    return [record.id for record in records if isinstance(record, Record)]


def dead(records: list[Any]) -> list[tuple[str, str]]:
    return [(r.where, r.reason) for r in records if isinstance(r, Rejected)]


# --- archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("members", [1, 3])
def test_an_archive_that_is_cut_anywhere_is_an_error(
    tmp_path: Path, suffix: str, members: int
) -> None:
    parts = [COMPRESS[suffix](b"".join(LINES[i::members])) for i in range(members)]
    data, ends = b"".join(parts), [sum(map(len, parts[: i + 1])) for i in range(members)]
    whole = read(written(tmp_path, f"whole.jsonl{suffix}", data))
    assert len(ids(whole)) == len(LINES)
    for cut in {0, 1, 2, 5, len(data) - 1, len(data) - 4, *range(3, len(data), 37), *ends[:-1]}:
        _, error = until_error(written(tmp_path, f"cut.jsonl{suffix}", data[:cut]))
        assert (error is None) == (cut in ends), (cut, error)
        assert error is None or "cut.jsonl" in error


def test_a_frame_that_ends_between_its_blocks_is_an_error(tmp_path: Path) -> None:
    blocks = [b"".join(LINES[i : i + 50]) for i in range(0, 200, 50)]
    data = flushed(blocks)
    half = len(flushed(blocks[:2])) - 3  # without the empty block that ends the frame
    file = written(tmp_path, "docs.jsonl.zst", data[:half])
    found, error = until_error(file)
    assert len(ids(found)) == 100 and error is not None and "docs.jsonl.zst" in error
    assert len(ids(read(written(tmp_path, "docs.jsonl.zst", data)))) == 200


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    "tail", [b"garbage", b"\x1f", b"\x1f\x8b\x08garbage", b"BZh9x", b"\xfd7zX"]
)
def test_what_follows_an_archive_is_an_error(tmp_path: Path, suffix: str, tail: bytes) -> None:
    data = COMPRESS[suffix](b"".join(LINES)) + tail
    found, error = until_error(written(tmp_path, f"docs.jsonl{suffix}", data))
    assert len(ids(found)) <= 200 and error is not None


def test_skippable_frames_and_padding_are_none_of_the_text(tmp_path: Path) -> None:
    data = SKIPPABLE + zst(b"".join(LINES[:9])) + SKIPPABLE + zst(b"".join(LINES[9:])) + SKIPPABLE
    assert len(ids(read(written(tmp_path, "a.jsonl.zst", data)))) == 200
    _, error = until_error(written(tmp_path, "a.jsonl.zst", data[:-1]))
    assert error is not None
    for suffix in (".gz", ".xz"):
        data = COMPRESS[suffix](b"".join(LINES)) + bytes(512)
        assert len(ids(read(written(tmp_path, f"a.jsonl{suffix}", data)))) == 200


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_decompressor_bounds_its_memory(suffix: str) -> None:
    import tracemalloc

    from splade_os.ingest.sources.compression import decompress

    data = COMPRESS[suffix](b"a" * 60_000_000)
    tracemalloc.start()
    stream, size = decompress(io.BufferedReader(io.BytesIO(data)), "a" + suffix), 0  # type: ignore[arg-type]
    while more := stream.read1(1 << 16):
        size += len(more)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 60_000_000 and peak < 20_000_000


# --- JSON -------------------------------------------------------------------------------------


def documents(count: int) -> list[dict[str, Any]]:
    return [
        {"_id": str(i), "text": f'a "b" {{[ \\ {i}', "more": {"x": [{"y": [i, {}]}], "z": "]}"}}
        for i in range(count)
    ]


LAYOUTS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "array": json.dumps,
    "indented array": lambda d: json.dumps(d, indent=2),
    "array without indent": lambda d: json.dumps(d, indent=0),
    "array a line": lambda d: "[\n" + ",\n".join(map(json.dumps, d)) + "\n]\n",
    "lines": lambda d: "\n".join(map(json.dumps, d)),
    "one after the other": lambda d: "".join(map(json.dumps, d)),
    "blank between": lambda d: "  ".join(map(json.dumps, d)),
    "indented": lambda d: "\n".join(json.dumps(x, indent=4) for x in d) + "\n",
    "not indented": lambda d: "\r\n".join(json.dumps(x, indent=0) for x in d),
    "two arrays": lambda d: json.dumps(d[:3]) + "\n" + json.dumps(d[3:]),
    "arrays and objects": lambda d: json.dumps(d[:3]) + json.dumps(d[3]) + json.dumps(d[4:]),
    "sequence": lambda d: "".join(f"\x1e{json.dumps(x)}\n" for x in d),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [7, 3000])
def test_json_of_any_layout(tmp_path: Path, layout: str, count: int) -> None:
    file = tmp_path / "docs.json"
    file.write_text(LAYOUTS[layout](documents(count)), newline="")
    found = read(file)
    assert [(r.id, r.text, r.source["more"]) for r in found] == [
        (d["_id"], d["text"], d["more"]) for d in documents(count)
    ]


BAD_VALUES = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "digits": "1" * 5000,
    "nesting": "[" * 3000 + "]" * 3000,
    "half a pair": '"\\ud800"',
    "no comma": '1 "b": 2',
    "no value": "",
    "control character": '"a\tb"',
    "raw line": '"a\nb"',
    "bytes": '"\udcff"',
    "wrong bracket": "[1}",
}


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("layout", ["array", "array a line", "lines", "indented"])
def test_a_damaged_element_is_one_dead_letter(tmp_path: Path, bad: str, layout: str) -> None:
    elements = [json.dumps(d, indent=4 if layout == "indented" else None) for d in documents(5)]
    elements[2] = '{"_id": "2", "text": %s}' % BAD_VALUES[bad]  # noqa: UP031
    text = {
        "array": "[%s]" % ", ".join(elements),  # noqa: UP031
        "array a line": "[\n%s\n]" % ",\n".join(elements),  # noqa: UP031
        "lines": "\n".join(elements),
        "indented": "\n".join(elements),
    }[layout]
    file = written(tmp_path, "docs.json", text.encode("utf-8", "surrogateescape"))
    found, error = until_error(file)
    if bad == "wrong bracket" and layout == "array":  # its end cannot be told
        assert error is not None or len(dead(found)) == 1
        return
    assert error is None
    assert ids(found) == ["0", "1", "3", "4"]
    ((where, reason),) = dead(found)
    assert where == ("docs.json[3]" if "array" in layout else where)
    if bad == "bytes":
        assert "0xff" in reason and "--encoding" in reason


@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        ('[{"text":"a"},,{"text":"b"},]', 2, 2),
        ('[{"text":"a"},1,"x",null,[],NaN,tru,{"text":"b"}]', 2, 6),
        ('[]\n[{"text":"a"}]\n[]', 1, 0),
        ('{"text":"a"}\nnot json\n{"text":"b"}}\n"x"\n1\n{"text":"c"}', 3, 4),
        ('{"text": "a\n{"text":"b"}\n{"text":"c"}\n', 2, 1),
        ('{"text": ["a"\n{"text":"b"}\n', 1, 1),
        ("", 0, 0),
        (" \n\n", 0, 0),
    ],
)
def test_what_stands_in_a_json_file_is_counted(
    tmp_path: Path, content: str, good: int, bad: int
) -> None:
    found = read(written(tmp_path, "a.json", content.encode()))
    assert (len(ids(found)), len(dead(found))) == (good, bad), found


@pytest.mark.parametrize(
    "content",
    ['[{"text":"a"}', '[{"text":"a"},', "[", '{"text":', '[{"text":"a"} {"text":"b"}]', "[1}"],
)
def test_a_json_file_that_ends_too_early_is_an_error(tmp_path: Path, content: str) -> None:
    found, error = until_error(written(tmp_path, "a.json", content.encode()))
    assert error is not None and "a.json" in error and "line 1" in error
    assert len(ids(found)) == content.count('"a"}')


def test_a_damaged_line_costs_no_memory(tmp_path: Path) -> None:
    """What follows a damaged value is not read to its end, to look for its brackets."""
    import tracemalloc

    good = b'{"_id":"1","text":"%s"}\n' % (b"a" * 5000)
    file = written(tmp_path, "a.json", b'{"text": [1, \n' + good * 6_000)
    tracemalloc.start()
    found = sum(isinstance(r, Record) for r in read_source(find_source(str(file)), RecordReader()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 6_000 and peak < 10_000_000


# --- tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("cell", ['"hello', '"hello\n2{0}world\n3{0}foo', '"he said ""yes'])
def test_a_quote_that_is_never_closed_is_an_error(
    tmp_path: Path, name: str, end: str, cell: str
) -> None:
    delimiter = "," if name == "a.csv" else "\t"
    text = f"id{delimiter}text\n0{delimiter}good\n1{delimiter}{cell.format(delimiter)}{end}"
    found, error = until_error(written(tmp_path, name, text.encode()))
    assert ids(found) == ["0"]
    assert error is not None and "line 3" in error and name in error


def test_a_table_cut_within_a_cell(tmp_path: Path) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text"], *([str(i), f"a, {i}\nb"] for i in range(50))])
    data = out.getvalue().encode()
    for cut in range(len(data) - 100, len(data) - 2):
        found, error = until_error(written(tmp_path, "a.csv", data[:cut]))
        part = data[:cut].decode()
        expected = list(csv.reader(io.StringIO(part, newline="")))[1:]
        if part.count('"') % 2:
            assert error is not None and len(found) == len(expected) - 1
        else:
            assert error is None and len(found) == len([row for row in expected if row])


@pytest.mark.parametrize(
    "content",
    [
        b"_id,text\n1,a\n2,caf\xe9\n3,b\n",
        b"\n\r\n   \n_id,text\n1,a\n2,caf\xe9\n3,b\n",
        b"\xef\xbb\xbf_id;text\n1;a\n2;caf\xe9\n3;b\n",
        b"sep=;\r\n_id;text\r\n1;a\r\n2;caf\xe9\r\n3;b\r\n",
        b",_id,text\n0,1,a\n1,2,caf\xe9\n2,3,b\n",
        b"_id|text|x\n1|a|1,5\n2|caf\xe9|3\n3|b|\n",
        b"_id\ttext\n1\ta\n2\tcaf\xe9\n3\tb\n",
    ],
)
def test_csv_as_it_comes(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "a.csv", content)
    found = read(file)
    assert [(r.id, r.text) for r in found if isinstance(r, Record)] == [("1", "a"), ("3", "b")]
    ((where, reason),) = dead(found)
    assert "0xe9" in reason and "--encoding" in reason and where.startswith("a.csv:")
    guessed = b"," not in content.split(b"text")[0] and not content.startswith(b"sep")
    assert guessed == ("--delimiter" in caplog.text)
    if not content.startswith(b"\xef"):  # nobody has a mark of UTF-8 before cp1252
        assert [r.text for r in read(file, encoding="cp1252")] == ["a", "café", "b"]


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n \n", b"sep=;", b"_id,text", b"_id;text\n"])
def test_tables_without_rows(tmp_path: Path, content: bytes) -> None:
    assert read(written(tmp_path, "a.csv", content)) == []


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n \n", b"_id\ttext\n"])
def test_tab_separated_tables_without_rows(tmp_path: Path, content: bytes) -> None:
    assert read(written(tmp_path, "a.tsv", content)) == []


def test_delimiters(tmp_path: Path) -> None:
    one_column = written(tmp_path, "one.csv", b"text\na; b\nc\n")
    assert [r.text for r in read(one_column)] == ["a; b", "c"]
    odd = written(tmp_path, "odd.csv", b"_id:text\n1:a,b\n")
    assert [(r.id, r.text) for r in read(odd, delimiter=":")] == [("1", "a,b")]
    for wrong in ("", "::", "\n", '"'):
        with pytest.raises(InputError, match="delimiter"):
            read(odd, delimiter=wrong)
    with pytest.raises(InputError, match=r"odd\.csv:1.*title or text.*_id:text"):
        read(odd)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"D1\thello\nD2\tbar\n", [("D1", "hello"), ("D2", "bar")]),
        (b"7\thello\n8\tbar\n", [("7", "hello"), ("8", "bar")]),
        (b'\n\nD1\the\rllo\r\nD2\t"bar\n', [("D1", "he\rllo"), ("D2", '"bar')]),
        (b"id\ttext\nD1\thello\n", [("D1", "hello")]),
        (b"text\tdocid\nhello\tD1\n", None),
    ],
)
def test_tsv_with_and_without_header(
    tmp_path: Path, content: bytes, expected: list[tuple[str, str]] | None
) -> None:
    found = read(written(tmp_path, "a.tsv", content))
    if expected is None:
        assert [r.text for r in found] == ["hello"]
    else:
        assert [(r.id, r.text) for r in found] == expected


def test_one_byte_of_another_encoding_in_pairs(tmp_path: Path) -> None:
    file = written(tmp_path, "a.tsv", b"1\ta\n2\tcaf\xe9\n3\tb\n")
    found = read(file)
    assert ids(found) == ["1", "3"] and "--encoding" in dead(found)[0][1]
    assert [r.text for r in read(file, encoding="latin-1")] == ["a", "café", "b"]


# --- TREC -------------------------------------------------------------------------------------

TREC = {
    "one line": ("<DOC><DOCNO>A-1</DOCNO><TEXT>hello</TEXT></DOC>", [("A-1", "hello")], []),
    "two in a line": (
        "<doc><docno>1</docno>a</doc> <DOC><DOCNO>2</DOCNO>b</DOC>\n",
        [("1", "a"), ("2", "b")],
        [],
    ),
    "outside": (
        "before\n<DOC>\n<DOCNO>1</DOCNO>a</DOC>\n\nafter\n",
        [("1", "a")],
        ["a.trec:1", "a.trec:5"],
    ),
    "wrapped": (
        '<?xml version="1.0"?>\n<!-- x -->\n<DOCS>\n<DOC><DOCNO>1</DOCNO>a</DOC>\n</DOCS>\n',
        [("1", "a")],
        [],
    ),
    "unclosed": (
        "<DOC><DOCNO>1</DOCNO>a\n<DOC><DOCNO>2</DOCNO>b</DOC>",
        [("2", "b")],
        ["a.trec:1"],
    ),
    "closed twice": ("<DOC><DOCNO>1</DOCNO>a</DOC>\n</DOC>\n", [("1", "a")], ["a.trec:2"]),
    "entities": (
        "<DOC><DOCNO>1&amp;2</DOCNO>a &amp; b &lt;i&gt; &eacute; 1 < 2 <b>c</b> 3 > 2</DOC>",
        [("1&2", "a & b <i> é 1 < 2 c 3 > 2")],
        [],
    ),
    "no number": ("<DOC>a</DOC><DOC><DOCNO>1</DOCNO>a</DOC>", [("1", "a")], ["a.trec:1"]),
}


@pytest.mark.parametrize("case", TREC)
@pytest.mark.parametrize("padding", [0, 65_530])
def test_trec(tmp_path: Path, case: str, padding: int) -> None:
    text, good, bad = TREC[case]
    found = read(written(tmp_path, "a.trec", (" " * padding + text).encode()))
    assert [(r.id, r.text) for r in found if isinstance(r, Record)] == good
    assert [where for where, _ in dead(found)] == bad


def test_trec_in_another_encoding(tmp_path: Path) -> None:
    content = b"<DOC><DOCNO>1</DOCNO>caf\xe9</DOC>\n<DOC><DOCNO>2</DOCNO>b</DOC>\n"
    file = written(tmp_path, "a.trec", content)
    found = read(file)
    assert ids(found) == ["2"] and "0xe9" in dead(found)[0][1]
    assert [r.text for r in read(file, encoding="latin-1")] == ["café", "b"]
    assert until_error(written(tmp_path, "a.trec", b"\n<DOC>\n<DOCNO>1"))[1] is not None


# --- encodings and pipes ----------------------------------------------------------------------

TEXTS = {
    "a.jsonl": "".join(json.dumps(d, ensure_ascii=False) + "\n" for d in documents(3)),
    "a.json": json.dumps(documents(3), ensure_ascii=False, indent=1),
    "a.csv": "_id,text\n" + "".join(f"{i},Grüße {i} 日本 😀\n" for i in range(3)),
    "a.tsv": "".join(f"{i}\tGrüße {i} 日本 😀\n" for i in range(3)),
    "a.trec": "".join(f"<DOC><DOCNO>{i}</DOCNO>Grüße {i}</DOC>\n" for i in range(3)),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_encodings_by_their_first_bytes(
    tmp_path: Path, name: str, encoding: str, suffix: str
) -> None:
    plain = read(written(tmp_path, f"8-{name}", TEXTS[name].encode()))
    data = TEXTS[name].encode(encoding)
    found = read(written(tmp_path, name + suffix, gzip.compress(data) if suffix else data))
    assert [(r.id, r.text) for r in found] == [(r.id, r.text) for r in plain]
    assert len(found) == 3


def test_what_an_encoding_lacks(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jsonl", b'{"text":"\x80"}\n{"text":"\x81"}\n')
    good, bad = read(file, encoding="cp1252")
    assert good.text == "€" and "0x81" in bad.reason
    odd = written(tmp_path, "b.jsonl", '{"text":"a"}\n'.encode("utf-16")[:-1])
    assert until_error(odd)[1] is not None
    for wrong in ("utf-9", "rot13", "base64"):
        with pytest.raises(InputError, match="encoding"):
            read(file, encoding=wrong)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compression_and_format_by_the_first_bytes(tmp_path: Path, suffix: str) -> None:
    data = COMPRESS[suffix](b"".join(LINES))
    assert len(ids(read(written(tmp_path, "a.jsonl", data)))) == 200
    assert len(ids(read(written(tmp_path, "part-00000", data)))) == 200
    assert len(ids(read(written(tmp_path, f"part-1{suffix}", data)))) == 200


@pytest.mark.parametrize("name", TEXTS)
def test_pipes(tmp_path: Path, name: str) -> None:
    expected = [(r.id, r.text) for r in read(written(tmp_path, name, TEXTS[name].encode()))]
    script = (
        "import sys, json\n"
        "from splade_os.ingest.sources import *\n"
        "from splade_os.ingest.documents.records import RecordReader\n"
        "source = find_source(sys.argv[1], SourceOptions(format=sys.argv[2] or None))\n"
        "source.fingerprint()\n"
        "print(json.dumps([(r.id, r.text) for r in read_source(source, RecordReader())]))\n"
    )
    form = {"a.csv": "csv", "a.tsv": "pairs"}.get(name, "")
    pipe = f"cat {tmp_path / name} | "
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = f"{sys.executable} -c '{script}'"
    for command in (
        f"{pipe} {run} - '{form}'",
        f"{pipe} {run} /dev/stdin '{form}'",
        f"{run} /dev/stdin '{form}' < {tmp_path / name}",
        f"{run} <(gzip -c {tmp_path / name}) '{form}'",
        f"cat {tmp_path / name} > {fifo} & {run} {fifo} '{form}'",
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        assert [tuple(pair) for pair in json.loads(done.stdout)] == expected, command


# --- folders ----------------------------------------------------------------------------------


def test_what_is_not_read_of_a_folder_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = tmp_path / "docs", tmp_path / "other"
    (folder / "deep").mkdir(parents=True)
    other.mkdir()
    written(other, "x.jsonl", LINES[9])
    written(folder, "a.jsonl", LINES[0])
    written(folder / "deep", "part-00000", LINES[1])
    written(folder / "deep", "part-00001.gz", gzip.compress(LINES[2]))
    written(folder, "_SUCCESS", b"")
    written(folder, "README.md", b"about")
    source = find_source(str(folder))
    assert sorted(r.id for r in read_source(source, RecordReader())) == ["0", "1", "2"]
    assert {Path(s.name).name for s in skipped_of(source)} == {"_SUCCESS", "README.md"}
    require_whole(source, "--sync")
    assert "Not read" not in caplog.text
    written(folder, "part-7", b"not known")
    written(folder, "docs.xml", b"<a/>")
    written(folder, ".hidden.jsonl", LINES[3])
    (folder / "link").symlink_to(other)
    (folder / "nowhere.jsonl").symlink_to(tmp_path / "nothing")
    os.mkfifo(folder / "pipe.jsonl")
    source = find_source(str(folder))
    missed = {Path(s.name).name for s in skipped_of(source) if not s.harmless}
    assert missed == {
        "part-7",
        "docs.xml",
        ".hidden.jsonl",
        "link",
        "nowhere.jsonl",
        "pipe.jsonl",
    }
    assert all(name in caplog.text for name in missed)
    with pytest.raises(InputError, match=r"--sync needs the whole source.* 6 are not"):
        require_whole(source, "--sync")
    assert len(read(folder, format="jsonl")) == 4  # with it part-7 is read, and is damaged


def test_what_a_glob_does_not_read_is_told(tmp_path: Path) -> None:
    written(tmp_path, "a.jsonl", LINES[0])
    (tmp_path / "b.jsonl").mkdir()
    (tmp_path / "c.jsonl").symlink_to(tmp_path / "nothing")
    source = find_source(str(tmp_path / "*.jsonl"))
    assert [Path(s.name).name for s in skipped_of(source)] == ["b.jsonl", "c.jsonl"]
    with pytest.raises(InputError):
        require_whole(source, "--sync")


def test_what_may_not_be_read(tmp_path: Path) -> None:
    """As an ordinary user: a folder is told, a file is an error."""
    for folder in ("docs", "docs/closed", "files"):
        (tmp_path / folder).mkdir()
    written(tmp_path / "docs", "a.jsonl", LINES[0])
    written(tmp_path / "docs/closed", "b.jsonl", LINES[1])
    written(tmp_path / "files", "c.jsonl", LINES[2])
    (tmp_path / "files/c.jsonl").chmod(0)
    (tmp_path / "docs/closed").chmod(0)
    script = (
        "import os, sys\n"
        "import splade_os.ingest.sources.files\n"
        "from splade_os.ingest.sources import *\n"
        "from splade_os.ingest.documents.records import RecordReader\n"
        "from splade_os.errors import InputError\n"
        "os.getuid() or os.setuid(65534)\n"
        f"root = {str(tmp_path)!r}\n"
        "all_, one = '/docs/**/*.jsonl', '/docs/*/*.jsonl'\n"
        "for spec in ('/docs', all_, one, '/files', '/files/c.jsonl'):\n"
        "    try:\n"
        "        source = find_source(root + spec)\n"
        "        source.fingerprint()\n"
        "        found = [r.id for r in read_source(source, RecordReader())]\n"
        "        print(spec, found, *[s.reason for s in skipped_of(source)])\n"
        "    except InputError as error:\n"
        "        print(spec, 'InputError', error.message.replace(chr(10), ' '))\n"
    )
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    finally:
        (tmp_path / "docs/closed").chmod(0o755)
    assert done.returncode == 0, done.stderr
    docs, recursive, one, files, file = done.stdout.splitlines()
    assert "['0'] the folder cannot be read" in docs
    assert "['0'] the folder cannot be read" in recursive
    assert "InputError" in one and "cannot be read" in one
    assert all("InputError" in x and "c.jsonl cannot be opened" in x for x in (files, file))


def test_a_beir_folder_tells_what_is_no_part_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "qrels").mkdir()
    for name in ("corpus.jsonl", "queries.jsonl", "corpus2.jsonl"):
        written(tmp_path, name, LINES[0])
    source = find_source(str(tmp_path))
    assert len(list(source.items())) == 1
    missed = [Path(s.name).name for s in skipped_of(source) if not s.harmless]
    assert missed == ["corpus2.jsonl"] and "corpus2.jsonl" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


# --- files of another kind ----------------------------------------------------------------------

TABLE = pa.table({"_id": ["1", "2"], "text": ["red", "sun"]})


def archives(folder: Path) -> dict[str, Path]:
    """A file of each kind that other libraries write."""
    member = folder / "member.jsonl"
    member.write_bytes(b"".join(LINES))
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(member, "member.jsonl")
    for name, mode in (("a.tar", "w"), ("b.tar.gz", "w:gz"), ("c.tar.xz", "w:xz")):
        with tarfile.open(folder / name, mode) as tar:  # type: ignore[call-overload]
            tar.add(member, "member.jsonl")
    (folder / "a.lzma").write_bytes(lzma.compress(b"".join(LINES), format=lzma.FORMAT_ALONE))
    feather.write_feather(TABLE, folder / "a.feather")
    with ipc.new_stream(folder / "a.arrows", TABLE.schema) as stream:
        stream.write_table(TABLE)
    orc.write_table(TABLE, folder / "a.orc")
    with sqlite3.connect(folder / "a.db") as database:
        database.execute("CREATE TABLE documents (id, text)")
    member.unlink()
    return {path.name: path for path in folder.iterdir()}


WORDS = {
    ".zip": "a ZIP archive", ".tar": "a tar archive", ".gz": "a tar archive",
    ".xz": "a tar archive", ".lzma": "LZMA", ".feather": "an Arrow", ".arrows": "an Arrow stream",
    ".orc": "an ORC file", ".db": "a SQLite database",
}  # fmt: skip


@pytest.mark.parametrize("name", ["own", "a.jsonl", "a.json", "a.csv", "a.trec", "part-0"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str) -> None:
    """By its first bytes, whatever it is called, with a command that makes it readable."""
    for own, path in archives(tmp_path).items():
        file = path if name == "own" else path.rename(tmp_path / name)
        with pytest.raises(InputError, match=rf"{file.name} is .*{WORDS[path.suffix]}") as caught:
            read(file)
        assert caught.value.hint and "FILE" not in caught.value.hint, own


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
@pytest.mark.parametrize("layout", ["array", "indented array", "a line each", "indented objects"])
def test_json_lines_that_are_none(tmp_path: Path, name: str, layout: str) -> None:
    documents = [json.loads(line) for line in LINES]
    text = {
        "array": json.dumps(documents),
        "indented array": json.dumps(documents, indent=2),
        "a line each": "[\n" + ",\n".join(map(json.dumps, documents)) + "\n]\n",
        "indented objects": "\n".join(json.dumps(d, indent=4) for d in documents),
    }[layout]
    (tmp_path / name).write_text(text)
    found = read(tmp_path / name)
    assert [(r.id, r.text) for r in found] == [(d["_id"], d["text"]) for d in documents]


def test_files_that_were_appended_to_another(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"".join(b"\xef\xbb\xbf" + line for line in LINES))
    assert [r.id for r in read(file)] == [str(i) for i in range(200)]


def test_columns_of_one_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["1"])] * 3, names=["_id", "text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a column stands twice: _id, text, text"):
        read(tmp_path / "a.parquet")


def test_character_data_of_trec(tmp_path: Path) -> None:
    file = tmp_path / "a.trec"
    file.write_text("<DOC><DOCNO>1</DOCNO>x <![CDATA[a < b & &lt; <i>]]> y &lt;</DOC>")
    assert [r.text for r in read(file)] == ["x a < b & &lt; <i> y <"]


@pytest.mark.parametrize("suffix", sorted(COMPRESS))
def test_a_suffix_that_is_not_true(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(b"".join(LINES))
    with pytest.raises(InputError, match=rf"called \{suffix}, and its content is not compressed"):
        read(tmp_path / f"a.jsonl{suffix}")
