"""Byte streams: looking at the first bytes of what cannot be rewound, decoding to UTF-8."""

from __future__ import annotations

import codecs
import io
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BUFFER = 1 << 16
_ENOUGH = 8  # bytes that tell a compression or a byte order mark
# those of UTF-32 first: the mark of UTF-16-LE is how the mark of UTF-32-LE begins
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# two characters of ASCII without a mark: which of the first four bytes are zero
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, False, True): "utf-16-le",
    (True, False, True, False): "utf-16-be",
    (False, True, True, True): "utf-32-le",
    (True, True, True, False): "utf-32-be",
}


def buffered(raw: IO[bytes]) -> io.BufferedReader:
    """The stream with ``peek`` and ``read1``, whatever opened it."""
    if isinstance(raw, io.BufferedReader):
        return raw
    return io.BufferedReader(cast(io.RawIOBase, raw), _BUFFER)


def head(stream: io.BufferedReader) -> tuple[bytes, io.BufferedReader]:
    """The first bytes of a stream, and the stream as if they had not been read.

    At least eight bytes, fewer only where it ends: a pipe may give them one by one. No more is
    waited for, so that a slow producer's first lines are read as they come.
    """
    start = stream.peek(_BUFFER)
    if len(start) >= _ENOUGH or not start:
        return start, stream
    start = b""
    while len(start) < _ENOUGH and (more := stream.read1(_BUFFER)):
        start += more
    replayed = cast(io.BufferedReader, io.BufferedReader(_Replayed(start, stream), _BUFFER))
    return replayed.peek(_BUFFER), replayed


def utf8(raw: bytes) -> str:
    """Text of bytes.

    Raises:
        ValueError: they are no UTF-8; says which one, and what to try.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the byte 0x{raw[error.start]:02x} (number {error.start + 1:,} of the record) is not "
            "UTF-8; if the whole file is in another encoding, name it: --encoding cp1252"
        ) from None


def as_utf8(stream: io.BufferedReader, encoding: str | None) -> io.BufferedReader:
    """A text file as UTF-8 without a byte order mark.

    The mark says what it is, then ``encoding``, then the zero bytes of UTF-16 and UTF-32. Bytes
    that the encoding does not have stay as they are, to be found by `utf8` in their record.
    """
    start, stream = head(stream)
    for mark, name in _MARKS:
        if start.startswith(mark):
            stream.read(len(mark))
            encoding = name
            break
    else:
        encoding = encoding or _ZEROS.get(tuple(not byte for byte in start[:4]))
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        return stream
    return io.BufferedReader(_Decoded(stream, codecs.lookup(encoding).name), _BUFFER)


class _Source(io.RawIOBase):
    """A raw stream made of pieces of any size."""

    _rest: memoryview = memoryview(b"")

    def readable(self) -> bool:
        return True

    def _piece(self) -> bytes:
        """The next bytes, empty at the end."""
        raise NotImplementedError

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._rest or memoryview(self._piece())
        size = min(len(view), len(data))
        view[:size] = data[:size]
        self._rest = data[size:]
        return size


class _Replayed(_Source):
    def __init__(self, start: bytes, stream: io.BufferedReader) -> None:
        self._rest, self._stream = memoryview(start), stream

    def _piece(self) -> bytes:
        return self._stream.read1(_BUFFER)


class _Decoded(_Source):
    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        # half a surrogate pair passes through, as does a byte that the encoding does not have:
        # both are no UTF-8 afterwards, and so become a dead letter of their record alone
        self._errors = "surrogatepass" if encoding.startswith("utf-") else "surrogateescape"
        self._decoder = codecs.getincrementaldecoder(encoding)(self._errors)
        self._stream, self._ended = stream, False

    def _piece(self) -> bytes:
        while not self._ended:
            data = self._stream.read1(_BUFFER)
            self._ended = not data
            text = self._decoder.decode(data, final=self._ended)
            if text:
                return text.encode("utf-8", self._errors)
        return b""
