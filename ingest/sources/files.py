"""Files, folders, globs, URLs and standard input, plain or compressed."""

from __future__ import annotations

import bz2
import glob
import gzip
import hashlib
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal

from splade_os.errors import InputError, MissingExtraError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.json_files import read_json, read_lines
from splade_os.ingest.sources.tables import read_csv, read_pairs, read_parquet, read_tsv
from splade_os.ingest.sources.trec import read_trec

_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_HEAD = 65_536  # bytes of a file that its fingerprint takes in

Reader = Callable[[IO[bytes], str, int], Iterator[Item]]
_FORMATS: dict[str, Reader] = {
    "jsonl": read_lines,
    "ndjson": read_lines,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "pairs": read_pairs,
    "parquet": read_parquet,
    "trec": read_trec,
}
FORMATS = tuple(sorted(_FORMATS))
_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")


class FileSource:
    """One or more files, read one after the other."""

    unit: Literal["bytes"] = "bytes"

    def __init__(self, name: str, files: list[str], format_: str | None) -> None:
        self.name, self._files = name, files
        self._readers = [_reader(file, format_) for file in files]
        self._sizes = [_size(file) for file in files]
        known = [size for size in self._sizes if size is not None]
        self.total = sum(known) if len(known) == len(files) else None
        self.done = 0
        self.repeatable = True  # of standard input: if the same is fed again

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for file in self._files:
            digest.update(f"{file}\0{_size(file)}\0".encode())
            if file != "-":
                with ExitStack() as stack:
                    digest.update(_open(file, stack).read(_HEAD))
        return digest.hexdigest()

    def items(self, skip: int = 0) -> Iterator[Item]:
        before, seen = 0, 0  # bytes of the files before, items of all
        for file, size, reader in zip(self._files, self._sizes, self._readers, strict=True):
            with ExitStack() as stack:
                try:
                    raw = _open(file, stack)
                    seekable = raw.seekable()
                    stream = _decompress(raw, file, stack)
                    label = "standard input" if file == "-" else file.rsplit("/", 1)[-1]
                    for item in reader(stream, label, 0):
                        if seekable and not seen % 64:  # tell() of a file costs as much as a line
                            self.done = before + raw.tell()
                        elif not seekable:
                            self.done += len(item.raw)
                        seen += 1
                        if seen > skip:
                            yield item
                    if size is not None:
                        self.done = before = before + size
                except _damages() as error:
                    raise InputError(
                        f"{file} cannot be read to its end: {error}",
                        hint="What came before is indexed. Mend the file, then run with --restart.",
                    ) from error


def open_files(spec: str, format_: str | None) -> FileSource:
    """Find the files of a specification.

    Raises:
        InputError: there is none, or one is of no format that can be read.
    """
    if spec == "-":
        return FileSource("standard input", ["-"], format_ or "jsonl")
    if "://" in spec:
        return FileSource(spec, [spec], format_)
    path = Path(spec).expanduser()
    if path.is_dir():
        for name in _BEIR_CORPUS:
            if (path / name).is_file():
                return FileSource(str(path / name), [str(path / name)], format_)
        files = [str(f) for f in sorted(path.rglob("*")) if f.is_file() and _format_of(f.name)]
        if not files:
            raise InputError(
                f"The folder {path} holds no {' or '.join(_BEIR_CORPUS)}, and no other file that "
                "can be read.",
                hint=f"Formats: {', '.join(FORMATS)}.",
            )
        return FileSource(str(path), files, format_)
    if path.is_file():
        return FileSource(str(path), [str(path)], format_)
    found = glob.glob(str(path), recursive=True)  # noqa: PTH207
    files = sorted(file for file in found if Path(file).is_file())
    if not files:
        raise InputError(f"There is no source {spec}.", hint="Name a file, a folder, a glob or -.")
    return FileSource(spec, files, format_)


def _format_of(file: str) -> str | None:
    """The format that the suffix names, whatever the compression."""
    parts = file.lower().rsplit("/", 1)[-1].split(".")
    if len(parts) > 2 and f".{parts[-1]}" in _COMPRESSIONS:
        parts.pop()
    return parts[-1] if len(parts) > 1 and parts[-1] in _FORMATS else None


def _reader(file: str, format_: str | None) -> Reader:
    if format_ is not None and format_ not in _FORMATS:
        raise InputError(f"There is no format {format_!r}.", hint=f"One of {', '.join(FORMATS)}.")
    chosen = format_ or _format_of(file)
    if chosen is None:
        raise InputError(
            f"{file} is none of the formats that can be read: {', '.join(FORMATS)} "
            f"(also {', '.join(_COMPRESSIONS)}).",
            hint="Say which it is with --format.",
        )
    return _FORMATS[chosen]


def _open(file: str, stack: ExitStack) -> IO[bytes]:
    if file == "-":
        return _standard_input()
    if "://" not in file:
        return stack.enter_context(Path(file).open("rb"))
    opened: IO[bytes] = stack.enter_context(_fsspec().open(file, "rb"))
    return opened


def _standard_input() -> IO[bytes]:
    if sys.stdin is None:  # <&-
        raise InputError("Standard input is closed.", hint="Feed a file to it, or name one.")
    try:
        number = sys.stdin.fileno()
    except (OSError, ValueError):  # replaced by a stream without a file
        return sys.stdin.buffer
    # of its own: Python aborts where a thread still waits in sys.stdin at the end
    return open(number, "rb", closefd=False)


def _size(file: str) -> int | None:
    if file == "-":
        return None
    if "://" not in file:
        return Path(file).stat().st_size
    try:
        system, path = _fsspec().core.url_to_fs(file)
        size: int | None = system.size(path)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{file} cannot be opened: {error}") from error
    return size


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("Reading from a URL", "sources") from None
    return fsspec


def _damages() -> tuple[type[Exception], ...]:
    """What reading and decompressing a damaged file raises."""
    zstandard = sys.modules.get("zstandard")
    more = () if zstandard is None else (zstandard.ZstdError,)
    return (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error, *more)


def _decompress(raw: IO[bytes], file: str, stack: ExitStack) -> IO[bytes]:
    suffix = file[file.rfind(".") :].lower() if "." in file else ""
    opened: Any = raw
    if suffix == ".gz":
        opened = stack.enter_context(gzip.open(raw))  # noqa: SIM115
    elif suffix == ".bz2":
        opened = stack.enter_context(bz2.open(raw))  # noqa: SIM115
    elif suffix == ".xz":
        opened = stack.enter_context(lzma.open(raw))  # noqa: SIM115
    elif suffix == ".zst":
        try:
            import zstandard
        except ImportError:
            raise MissingExtraError("Reading .zst", "sources") from None
        reader = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        opened = io.BufferedReader(stack.enter_context(reader))
    stream: IO[bytes] = opened
    return stream
