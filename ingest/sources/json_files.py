"""JSON lines, and JSON values of any layout: arrays, indented objects, one after the other."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from splade_os.ingest.documents.records import Item, parse_json
from splade_os.ingest.sources.base import damaged
from splade_os.ingest.sources.streams import utf8

_CHUNK = 1 << 16
_GIVE_UP = 1 << 20  # bytes in which a damaged value's end is looked for, if another one begins
_BLANK = b" \t\r\n\x1e"  # with the record separator of RFC 7464
_BLANKS = re.compile(rb"[ \t\r\n\x1e]*+")
_PLAIN = re.compile(rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+', re.S)
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.S)
_SCALAR = re.compile(rb"[^,\]\n]*+")  # of an array
_MARK = codecs.BOM_UTF8
# the first line is a bracket alone, or begins an array of objects
_SEVERAL_LINES = re.compile(rb"\s*+(?:[\[{][ \t\r]*+\n|\[\s*+\{)")
_LINE = re.compile(rb"[^\n]*+")


def read_lines(stream: io.BufferedReader, name: str) -> Iterator[Item]:
    """One item per line that is not blank; of a file whose first line shows that its values are
    not one a line (an array, or objects over several lines), the items of `read_json`."""
    if _SEVERAL_LINES.match(stream.peek()):
        yield from read_json(stream, name)
        return
    for number, line in enumerate(stream, 1):
        if not line.isspace():
            yield Item(f"{name}:{number}", line, decode=parse_line)


def parse_line(raw: bytes) -> Any:
    """`parse_json`, with or without the record separator of RFC 7464, or a byte order mark (of a
    file that was appended to another one).

    Raises:
        ValueError: saying what is wrong.
    """
    try:
        return parse_json(raw)
    except ValueError:
        if raw.startswith((b"\x1e", _MARK)):
            return parse_line(raw.removeprefix(_MARK).lstrip(b"\x1e"))
        utf8(raw)  # of both reasons the more useful one
        raise


def read_json(stream: io.BufferedReader, name: str) -> Iterator[Item]:
    """All values of the file; of an array its elements.

    A damaged value is one item: its end is where its brackets close, or where a line begins as
    the value's own line did.

    Raises:
        ValueError: the file ends within a value or an array, or has no comma between elements.
    """
    text = _Text(stream)
    while first := text.peek():
        if first == b"[":
            yield from _elements(text, name)
        elif first == b"{":
            yield text.value(f"{name}:{text.line}", f"the value of line {text.line}")[0]
        else:
            yield _item(f"{name}:{text.line}", text.take(_LINE))


def _elements(text: _Text, name: str) -> Iterator[Item]:
    """The elements of an array; those of all arrays of the file are counted on."""
    begin = text.line
    text.skip()
    comma, whole = False, True  # comma: an element has to follow
    while (first := text.peek()) != b"]":
        if not first:
            raise ValueError(f"the array of line {begin} has no end")
        text.elements += 1
        where = f"{name}[{text.elements}]"
        if first == b",":
            yield damaged(where, "the element is missing")
            text.skip()
            comma = True
            continue
        what = f"element {text.elements} (line {text.line}) of the array"
        if first in b"{[":
            item, whole = text.value(where, what)
        else:
            item = _item(where, text.take(_STRING if first == b'"' else _SCALAR, what))
            whole = True
        yield item
        comma = False
        if whole and text.peek() == b",":
            text.skip()
            comma = True
        elif whole and text.peek() not in (b"]", b""):
            raise ValueError(f"there is no comma after {what}")
    if comma:
        text.elements += 1
        yield damaged(f"{name}[{text.elements}]", "the element is missing")
    text.skip()


def _item(where: str, raw: bytes) -> Item:
    try:
        return Item(where, raw, parse_json(raw))
    except (ValueError, RecursionError):
        return Item(where, raw, decode=parse_line)  # which says why


class _Text:
    """A window over a stream, that moves on from value to value.

    Attributes:
        line: number of the line at which it stands, from 1.
        elements: of arrays, so far.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._text, self._at, self._ended = b"", 0, False
        self.line, self.elements = 1, 0
        self._before: bytes | None = b""  # blanks between the line's begin and here, if only those

    def peek(self) -> bytes:
        """The next byte that is not blank; none at the end."""
        while True:
            byte = self._text[self._at : self._at + 1]
            if byte and byte not in _BLANK:
                return byte
            end = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if end > self._at:
                blanks = self._text[self._at : end]
                lines = blanks.count(b"\n")
                if lines:
                    self.line += lines
                    self._before = blanks[blanks.rfind(b"\n") + 1 :]
                elif self._before is not None:
                    self._before += blanks
                self._at = end
            elif not self._more():
                return b""

    def skip(self) -> None:
        """One byte on, which is no line break."""
        self._at += 1
        self._before = None

    def take(self, pattern: re.Pattern[bytes], what: str = "") -> bytes:
        """What matches here, and is not at the end of what has been read so far.

        Raises:
            ValueError: ``what`` ends with the file.
        """
        size = _CHUNK
        while True:
            found = pattern.match(self._text, self._at)
            if found and (found.end() < len(self._text) or self._ended):
                return self._advance(max(found.end(), self._at + 1)).rstrip(_BLANK)
            if not self._more(size):
                if found:
                    continue
                raise ValueError(f"{what} is not valid JSON: it has no end")
            size *= 2  # a long value is not matched again for every piece of it

    def value(self, where: str, what: str) -> tuple[Item, bool]:
        """The object or array that begins here, and whether it was read to its own end (else
        what follows is the next one: a comma between them was taken with the damaged one).

        Raises:
            ValueError: ``what`` ends with the file.
        """
        end = self._closed()
        start = self._at
        if end is not None:
            raw = self._text[start:end]
            item = _item(where, raw)
            if item.decode is None or _has_sound_brackets(raw):
                self._advance(end)
                return item, True
        other = self._another(end)
        if other >= 0:
            return Item(where, self._advance(other), decode=parse_line), False
        if end is None:
            raise ValueError(f"{what} is not valid JSON: it has no end")
        return Item(where, self._advance(end), decode=parse_line), True

    def _another(self, end: int | None = None) -> int:
        """Where, up to ``end``, a line begins as that of the value here does; -1 if nowhere."""
        if self._before is None:
            return -1
        mark = b"\n" + self._before + self._text[self._at : self._at + 1]
        return self._text.find(mark, self._at, len(self._text) if end is None else end)

    def _closed(self) -> int | None:
        """Where the brackets close; ``None`` if they do not."""
        depth, position, size = 0, self._at, _CHUNK
        while True:
            position = _PLAIN.match(self._text, position).end()  # type: ignore[union-attr]
            if position < len(self._text) and self._text[position] != 0x22:
                depth += 1 if self._text[position] in b"{[" else -1
                position += 1
                if not depth:
                    return position
                continue
            if len(self._text) - self._at > _GIVE_UP and self._another() >= 0:
                return None
            position -= self._at
            if not self._more(size):
                return None
            size *= 2

    def _advance(self, end: int) -> bytes:
        taken = self._text[self._at : end]
        self._at = end
        self.line += taken.count(b"\n")
        self._before = None
        return taken

    def _more(self, size: int = _CHUNK) -> bool:
        pieces = [self._text[self._at :]]
        while size > 0 and (data := self._stream.read1(size)):
            pieces.append(data)
            size -= max(len(data), _CHUNK)
        self._ended = len(pieces) == 1
        self._text, self._at = b"".join(pieces), 0
        return not self._ended


def _has_sound_brackets(raw: bytes) -> bool:
    """Whether it is JSON, but for numbers, bytes and control characters that JSON does not have:
    then it ends where its brackets close."""
    try:
        json.loads(raw.decode("utf-8", "surrogateescape"), parse_int=len, strict=False)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
