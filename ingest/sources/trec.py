"""TREC's ``<DOC>`` files."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator

from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import damaged
from splade_os.ingest.sources.streams import utf8

_CHUNK = 1 << 16
_LONGEST = 100_000_000  # bytes of one document
_MARK = re.compile(rb"<(/?)DOC\s{0,9}>", re.I)
_MARK_BYTES = 16  # no mark is longer
_DOCNO = re.compile(rb"<DOCNO>\s*(.*?)\s*</DOCNO>", re.S | re.I)
_TITLE = re.compile(rb"<(TITLE|HEADLINE|HEAD|TI)>(.*?)</\1>", re.S | re.I)
_CDATA = re.compile(rb"<!\[CDATA\[(.*?)\]\]>", re.S)
# as HTML has it: a `<` before anything but a letter is text
_TAG = re.compile(rb"<!--.*?-->|</?[A-Za-z][^<>]*>|<[!?][^<>]*>", re.S)


def read_trec(stream: io.BufferedReader, name: str) -> Iterator[Item]:
    """One item per ``<DOC>``, wherever it stands in a line; fields ``_id``, ``title`` and
    ``text`` (all else, without tags, entities as characters).

    Text outside of documents is a damaged item (tags around them are none), as is a document
    in whose midst another one begins.

    Raises:
        ValueError: the last document has no end.
    """
    inside, start = False, 1
    pieces: list[bytes] = []
    size = 0
    for line, piece, mark in _pieces(stream):
        pieces.append(piece)
        size += len(piece)
        if inside and (mark is None or size > _LONGEST):
            raise ValueError(f"the <DOC> of line {start} has no end")
        if size > _LONGEST:
            raise ValueError(f"no <DOC> in the {size:,} bytes from line {start} on")
        if mark == "":
            continue
        raw = b"".join(pieces)
        if inside and mark == "close":
            yield Item(f"{name}:{start}", raw, decode=_document)
        elif inside:
            reason = f"the <DOC> has no end before the next one, of line {line}"
            yield damaged(f"{name}:{start}", reason, raw)
        else:
            if _TAG.sub(b"", raw).strip():
                begin = start + raw[: len(raw) - len(raw.lstrip())].count(b"\n")
                reason = "text outside of any <DOC>"
                yield damaged(f"{name}:{begin}", reason, raw.strip())
            if mark == "close":
                reason = "a </DOC> that ends no document"
                yield damaged(f"{name}:{line}", reason, b"</DOC>")
        inside, start, pieces, size = mark == "open", line, [], 0


def _pieces(stream: io.BufferedReader) -> Iterator[tuple[int, bytes, str | None]]:
    """The text before each mark, with the mark's line and kind: open, close, ``""`` = none yet,
    ``None`` = end of file."""
    text, line = b"", 1
    while data := stream.read1(_CHUNK):
        text += data
        at = 0
        for mark in _MARK.finditer(text):
            piece = text[at : mark.start()]
            line += piece.count(b"\n")
            yield line, piece, "close" if mark[1] else "open"
            line += mark[0].count(b"\n")
            at = mark.end()
        keep = max(at, len(text) - _MARK_BYTES)  # a mark may have begun
        piece, text = text[at:keep], text[keep:]
        if piece:
            line += piece.count(b"\n")
            yield line, piece, ""
    yield line, text, None


def _document(raw: bytes) -> dict[str, str]:
    utf8(raw)
    number = _DOCNO.search(raw)
    if number is None:
        raise ValueError("no <DOCNO>")
    rest = raw[: number.start()] + b" " + raw[number.end() :]
    title = _TITLE.search(rest)
    if title is not None:
        rest = rest[: title.start()] + b" " + rest[title.end() :]
    found = {"_id": _plain(number[1]), "text": _plain(rest)}
    return found if title is None else {"_id": found["_id"], "title": _plain(title[2]), **found}


def _plain(raw: bytes) -> str:
    raw = _CDATA.sub(lambda found: html.escape(found[1].decode(), quote=False).encode(), raw)
    return " ".join(html.unescape(_TAG.sub(b" ", raw).decode()).split())
