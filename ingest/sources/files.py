"""Files, folders, globs, URLs, pipes and standard input, plain or compressed."""

from __future__ import annotations

import hashlib
import io
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

from splade_os.errors import InputError, MissingExtraError
from splade_os.ingest.documents.encoded_rows import EncodingRecord
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import Skipped, SourceOptions
from splade_os.ingest.sources.compression import damages, decompress
from splade_os.ingest.sources.discovery import files_of_folder, files_of_glob, is_stream
from splade_os.ingest.sources.foreign import foreign
from splade_os.ingest.sources.formats import (
    FORMATS,
    check_format,
    format_of_content,
    format_of_name,
    read_format,
)
from splade_os.ingest.sources.parquet import encoding_of
from splade_os.ingest.sources.streams import as_utf8, buffered, head
from splade_os.ingest.sources.tables import TableOptions
from splade_os.urls import shown, without_secrets

_log = logging.getLogger("splade_os.ingest")

_HEAD = 65_536  # bytes of a file that its fingerprint takes in
_STREAM_FORMAT = "jsonl"  # of a pipe whose content does not tell


class FileSource:
    """One or more files, read one after the other.

    Attributes:
        skipped: what stands in the folder or matches the glob and is not read.
    """

    unit: Literal["bytes"] = "bytes"

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        options: SourceOptions | None = None,
        skipped: Sequence[Skipped] = (),
    ) -> None:
        self.name, self._files = name, list(files)
        self._options = options or SourceOptions()
        self.skipped = tuple(skipped)
        self._tables = TableOptions(self._options.delimiter)
        check_format(self._options.format)
        self._formats = [self._format(file) for file in self._files]
        self._sizes = [_size(file) for file in self._files]
        known = [size for size in self._sizes if size is not None]
        self.total = sum(known) if len(known) == len(self._files) else None
        self.done = 0
        self.repeatable = True  # of standard input: if the same is fed again

    def expect(self, text_fields: tuple[str, ...], id_fields: tuple[str, ...]) -> None:
        """Say which fields will be looked for: tables without a header are known by that."""
        self._tables = TableOptions(self._options.delimiter, text_fields, id_fields)

    def fingerprint(self) -> str:
        """Of names, sizes and first bytes, and of how they are read.

        Raises:
            InputError: a file cannot be read.
        """
        options = self._options
        digest = hashlib.blake2b(digest_size=16)
        if options.encoding or options.delimiter:
            digest.update(f"{options.encoding}\0{options.delimiter}\0".encode())
        for file in self._files:
            digest.update(f"{file}\0{_size(file)}\0".encode("utf-8", "surrogateescape"))
            if not is_stream(file):
                try:
                    with ExitStack() as stack:
                        digest.update(_open(file, stack).read(_HEAD))
                except (OSError, ValueError) as error:
                    raise _unreadable(file, error) from _cause(file, error)
        return digest.hexdigest()

    def split(self) -> list[FileSource]:
        """A source of each file, which another process can read.

        Raises:
            InputError: one of them is a pipe, or standard input.
        """
        stream = next((file for file in self._files if is_stream(file)), None)
        if stream is not None:
            raise InputError(
                f"{self.name} can only be read by the process that it was given to.",
                hint="Write it to files first; or load it without --on.",
            )
        options = replace(self._options, engine=None)
        parts = [FileSource(file, [file], options) for file in self._files]
        for part in parts:
            part._tables = self._tables
        return parts

    def encoding(self) -> EncodingRecord | None:
        """What the first file says of how its rows were encoded; ``None`` if it holds none that
        were.

        Raises:
            InputError: what it says is damaged.
        """
        file, format_ = self._files[0], self._formats[0]
        if format_ != "parquet" or is_stream(file):
            return None
        try:
            with ExitStack() as stack:
                stream = _open(file, stack)
                return encoding_of(stream) if stream.read(4) == b"PAR1" else None
        except (OSError, ValueError) as error:
            raise _unreadable(file, error) from _cause(file, error)

    def items(self, skip: int = 0) -> Iterator[Item]:
        before, seen = 0, 0  # bytes of the files before, items of all
        for file, size, format_ in zip(self._files, self._sizes, self._formats, strict=True):
            label = "standard input" if file == "-" else shown(file).rsplit("/", 1)[-1]
            with ExitStack() as stack:
                try:
                    raw = _open(file, stack)
                except (OSError, ValueError) as error:
                    raise _unreadable(file, error) from _cause(file, error)
                seekable = raw.seekable()
                try:
                    stream, format_ = self._decoded(raw, file, format_)
                    for item in read_format(format_, stream, label, self._tables):
                        if seekable and not seen % 64:  # tell() of a file costs as much as a line
                            self.done = before + raw.tell()
                        elif not seekable:
                            self.done += len(item.raw)
                        seen += 1
                        if seen > skip:
                            yield item
                    if size is not None:
                        self.done = before = before + size
                except damages() as error:
                    raise InputError(
                        f"{shown(file)} cannot be read to its end: "
                        f"{without_secrets(str(error), file)}",
                        hint="What came before is indexed. Mend the file, then run with --restart.",
                    ) from _cause(file, error)

    def _decoded(
        self, raw: IO[bytes], file: str, format_: str | None
    ) -> tuple[io.BufferedReader, str]:
        """A stream of what the file holds, and its format.

        Raises:
            InputError: it is a file of another kind.
        """
        start, stream = head(buffered(raw))
        _refuse_foreign(start, file)
        stream = decompress(stream, file)
        if format_ == "parquet":
            return stream, format_
        start, stream = head(stream)
        _refuse_foreign(start, file)
        if format_ is None and format_of_content(start) == "parquet":
            return stream, "parquet"
        stream = as_utf8(stream, self._options.encoding)
        if format_ is None:
            start, stream = head(stream)
            format_ = format_of_content(start) or _STREAM_FORMAT
        return stream, format_

    def _format(self, file: str) -> str | None:
        """The format of a file; ``None`` = its content tells when it is read.

        Raises:
            InputError: nothing tells.
        """
        chosen = self._options.format or format_of_name(file)
        if chosen is not None or is_stream(file):
            return chosen
        chosen = content_format(file, self._options.encoding)
        if chosen is None:
            with ExitStack() as stack:
                start, stream = head(buffered(_open(file, stack)))
                _refuse_foreign(start, file)
                _refuse_foreign(head(decompress(stream, file))[0], file)
            raise InputError(
                f"{shown(file)} is none of the formats that can be read: neither its name nor its "
                "content tells one.",
                hint=f"Say which it is with --format: {', '.join(FORMATS)}.",
            )
        return chosen


def open_files(spec: str, options: SourceOptions) -> FileSource:
    """Find the files of a specification.

    Raises:
        InputError: there is none, or one is of no format that can be read.
    """
    if spec == "-":
        return FileSource("standard input", ["-"], options)
    if "://" in spec:
        return FileSource(shown(spec), [spec], options)
    try:
        path = Path(spec).expanduser()
        if path.is_dir():
            found = files_of_folder(path, options.format is not None)
        elif path.is_file() or is_stream(str(path)):
            return FileSource(str(path), [str(path)], options)
        else:
            found = files_of_glob(str(path))
    except (OSError, ValueError, RuntimeError) as error:  # names that no file can have; ~nobody
        raise _unreadable(spec, error) from _cause(spec, error)
    for level, harmless in ((logging.WARNING, False), (logging.INFO, True)):
        some = [skipped for skipped in found.skipped if skipped.harmless is harmless]
        if some:
            listed = "".join(f"\n  {skipped}" for skipped in some[:10])
            more = f"\n  and {len(some) - 10:,} more" if len(some) > 10 else ""
            _log.log(level, "Not read of %s: %d.%s%s", spec, len(some), listed, more)
    return FileSource(found.name or spec, found.files, options, found.skipped)


def content_format(file: str, encoding: str | None = None) -> str | None:
    """The format that the first bytes of a file tell, whatever its compression and encoding.

    Raises:
        InputError: the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            stream = decompress(buffered(_open(file, stack)), file)
            start, stream = head(stream)
            return format_of_content(start) or format_of_content(head(as_utf8(stream, encoding))[0])
        except damages() as error:
            raise _unreadable(file, error) from _cause(file, error)


def _refuse_foreign(start: bytes, file: str) -> None:
    found = foreign(start)
    if found is not None:
        what, cure = found
        raise InputError(f"{shown(file)} is {what}.", hint=cure.replace("FILE", shown(file)))


def _unreadable(file: str, error: Exception) -> InputError:
    return InputError(f"{shown(file)} cannot be opened: {without_secrets(str(error), file)}")


def _cause(file: str, error: Exception) -> Exception | None:
    """A traceback shows the cause, which may name the URL with its password."""
    return error if shown(file) == file else None


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
    if is_stream(file):
        return None
    try:
        if "://" not in file:
            return Path(file).stat().st_size
        system, path = _fsspec().core.url_to_fs(file)
        size: int | None = system.size(path)
    except (OSError, ValueError, ImportError) as error:
        raise _unreadable(file, error) from _cause(file, error)
    return size


def _fsspec() -> Any:
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("Reading from a URL", "sources") from None
    return fsspec
