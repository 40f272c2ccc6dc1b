"""JSON lines, and one JSON array of any size."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterator
from typing import IO, Any

from splade_os.ingest.documents.records import Item, parse_json

_CHUNK = 1 << 16
_BLANK = " \t\r\n"


def read_lines(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """One item per line that is not blank."""
    for number, line in enumerate(stream, first + 1):
        if not line.isspace():
            yield Item(f"{name}:{number}", line, decode=parse_json)


def read_json(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """The elements of an array; or lines, if the file begins with something else.

    Raises:
        ValueError: the array is damaged: where its next element begins is unknown.
    """
    buffered = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)  # type: ignore[type-var]
    start = buffered.peek(_CHUNK).lstrip(b" \t\r\n\xef\xbb\xbf")
    if not start.startswith(b"["):
        yield from read_lines(buffered, name, first)
        return
    decoder = json.JSONDecoder(parse_constant=_refuse)
    text = _Text(buffered)
    text.skip("[")
    number = first
    while text.peek() != "]":
        number += 1
        yield Item(f"{name}[{number}]", value=text.value(decoder, number))
        if text.peek() == ",":
            text.skip(",")
            if text.peek() == "]":
                raise ValueError(f"element {number + 1} of the array is missing")
        elif text.peek() != "]":
            raise ValueError(f"no comma after element {number} of the array")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


class _Text:
    """A window over the text of a stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def _more(self) -> bool:
        data = self._stream.read(_CHUNK)
        self._ended = not data
        self._text = self._text[self._at :] + self._decode.decode(data, final=self._ended)
        self._at = 0
        return not self._ended

    def peek(self) -> str:
        """The next character that is not blank."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                raise ValueError("the array has no end")

    def skip(self, expected: str) -> None:
        assert self.peek() == expected
        self._at += 1

    def value(self, decoder: json.JSONDecoder, number: int) -> Any:
        self.peek()
        step = 1
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # perhaps only cut off; read twice as much each time, so that a large element
                # is not parsed again for every piece of it
                if not [True for _ in range(step) if self._more()]:  # all of them
                    raise ValueError(
                        f"element {number} of the array is not valid JSON: {error.msg}"
                    ) from None
                step *= 2
                continue
            if end == len(self._text) and not self._ended and self._more():
                continue  # a number may go on
            self._at = end
            return value
