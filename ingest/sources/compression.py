"""gzip, bzip2, xz and Zstandard, known by their first bytes.

The readers of the standard library take bytes after the last member (bz2, lzma) and those of
python-zstandard the end of file within a frame for a good end. Here both are errors.
"""

from __future__ import annotations

import bz2
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from splade_os.errors import MissingExtraError
from splade_os.ingest.sources.streams import head

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
_BUFFER = 1 << 17
# Zstandard cannot bound what a piece of input becomes (at worst 128 KiB for four bytes)
_PIECE = {".gz": 1 << 16, ".bz2": 1 << 16, ".xz": 1 << 16, ".zst": 1 << 8}


class _Decompressor(Protocol):
    """As `bz2.BZ2Decompressor` and `lzma.LZMADecompressor` are."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def decompress(stream: io.BufferedReader, name: str) -> io.BufferedReader:
    """What a compressed stream holds; another one as it is.

    Args:
        stream: from its beginning.
        name: of the file; where its suffix says that it is compressed, it has to be.

    Raises:
        MissingExtraError: ``zstandard`` is not installed.
        OSError, EOFError, ValueError and those of `damages`: on reading, where it is damaged, cut
            off, or followed by something else.
    """
    start, stream = head(stream)
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    kind = _compression(start) or (suffix if suffix in COMPRESSIONS else None)
    if kind is None:
        return stream
    if start and _compression(start) is None:
        raise ValueError(f"it is called {suffix}, and its content is not compressed so: rename it")
    return io.BufferedReader(_Members(stream, kind), _BUFFER)


def damages() -> tuple[type[Exception], ...]:
    """What reading and decompressing a damaged file raises."""
    zstandard = sys.modules.get("zstandard")
    more = () if zstandard is None else (zstandard.ZstdError,)
    return (EOFError, OSError, ValueError, lzma.LZMAError, zlib.error, *more)


def _compression(start: bytes) -> str | None:
    if start.startswith(b"\x1f\x8b"):
        return ".gz"
    if start.startswith(b"BZh") and start[4:8] in (b"1AY&", b"\x17rE8"):  # a block, or none
        return ".bz2"
    if start.startswith(b"\xfd7zXZ\0"):
        return ".xz"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return ".zst"
    if len(start) > 3 and start[0] & 0xF0 == 0x50 and start[1:4] == b"\x2a\x4d\x18":
        return ".zst"  # begins with a skippable frame
    return None


def _factory(kind: str) -> Callable[[], _Decompressor]:
    if kind == ".gz":
        return _Gzip
    if kind == ".bz2":
        return bz2.BZ2Decompressor
    if kind == ".xz":
        return lzma.LZMADecompressor
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("Reading .zst", "sources") from None
    # windows up to 2 GiB: what `zstd --long=31` needs
    return lambda: _Zstandard(zstandard.ZstdDecompressor(max_window_size=1 << 31))


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Zstandard:
    needs_input = True

    def __init__(self, context: Any) -> None:
        self._inner = context.decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._inner.decompress(data))


class _Members(io.RawIOBase):
    """Decompresses one member (stream, frame) after the other, to the last byte."""

    def __init__(self, stream: io.BufferedReader, kind: str) -> None:
        self._stream, self._new, self._piece = stream, _factory(kind), _PIECE[kind]
        self._padded = kind in (".gz", ".xz")  # zeros may follow
        self._member: _Decompressor | None = None
        self._any = False
        self._input, self._output = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._output:
            self._output = memoryview(self._more(len(view)))
        size = min(len(view), len(self._output))
        view[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _more(self, length: int) -> bytes:
        """Some decompressed bytes; none at the end of the last member."""
        while True:
            if self._member is None:
                if not self._next():
                    return b""
                self._member, self._any = self._new(), True
            ended = False
            if not self._input and self._member.needs_input:
                self._input = self._stream.read1(self._piece)
                ended = not self._input
            data, self._input = self._input, b""
            output = self._member.decompress(data, length)
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            elif ended and not output:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            if output:
                return output

    def _next(self) -> bool:
        """Whether another member follows."""
        while True:
            self._input = self._input or self._stream.read1(self._piece)
            if not self._input:
                if not self._any:
                    raise EOFError("it is empty: there is no compressed data")
                return False
            if self._padded and self._any:
                self._input = self._input.lstrip(b"\0")
            if self._input:
                return True
