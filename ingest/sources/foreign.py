"""Files that are known by their first bytes, and are read by another program first."""

from __future__ import annotations

_ARCHIVE = "Unpack it, or feed one member:"
_FEED = "| splade-os ingest -"
_PYARROW = "Convert it to Parquet:"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (or an Office file)",
     f"{_ARCHIVE} unzip -p FILE MEMBER {_FEED} (of Excel: save it as CSV)"),
    (b"PK\x05\x06", "an empty ZIP archive", "There is nothing in it."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", f"{_ARCHIVE} 7z x -so FILE MEMBER {_FEED}"),
    (b"Rar!\x1a\x07", "a RAR archive", f"{_ARCHIVE} unrar p -inul FILE MEMBER {_FEED}"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4", f"lz4 -dc FILE {_FEED}"),
    (b"\x1f\x9d", "compressed with compress", f"zcat FILE {_FEED}"),
    (b"\x5d\x00\x00", "compressed with LZMA (before xz)", f"xz -dc FILE {_FEED}"),
    (b"LZIP", "compressed with lzip", f"lzip -dc FILE {_FEED}"),
    (b"\x89LZO", "compressed with lzop", f"lzop -dc FILE {_FEED}"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy", f"snzip -dc FILE {_FEED}"),
    (b"ARROW1", "an Arrow (Feather) file",
     f"{_PYARROW} pyarrow.parquet.write_table(pyarrow.feather.read_table('FILE'), 'docs.parquet')"),
    (b"\xff\xff\xff\xff", "an Arrow stream",
     f"{_PYARROW} pyarrow.parquet.write_table(pyarrow.ipc.open_stream('FILE').read_all(), "
     "'docs.parquet')"),
    (b"ORC", "an ORC file",
     f"{_PYARROW} pyarrow.parquet.write_table(pyarrow.orc.read_table('FILE'), 'docs.parquet')"),
    (b"Obj\x01", "an Avro file", f"avro-tools tojson FILE {_FEED}"),
    (b"SQLite format 3\0", "a SQLite database",
     "sqlite3 -json FILE 'SELECT * FROM TABLE' | splade-os ingest - --format json"),
    (b"%PDF-", "a PDF document", "Take its text out first: pdftotext FILE"),
    (b"\xd0\xcf\x11\xe0", "an Office file of before 2007", "Save it as CSV."),
)  # fmt: skip
_TAR = 257  # where a tar archive says that it is one


def foreign(start: bytes) -> tuple[str, str] | None:
    """What a file is that begins so, and what to do with it; ``None``: nothing of the kind."""
    if start[_TAR : _TAR + 5] == b"ustar":
        return "a tar archive", f"{_ARCHIVE} tar -xOf FILE MEMBER {_FEED}"
    for mark, what, cure in _KINDS:
        # a mark of letters alone may be how the header of a table begins
        if start.startswith(mark) and (not mark.isalnum() or b"\0" in start):
            return what, cure
    return None
