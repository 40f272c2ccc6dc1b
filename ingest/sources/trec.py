"""TREC's ``<DOC>`` files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from splade_os.ingest.documents.records import Item

_DOCNO = re.compile(rb"<DOCNO>\s*(.*?)\s*</DOCNO>", re.S | re.I)
_TITLE = re.compile(rb"<(TITLE|HEADLINE|HEAD|TI)>(.*?)</\1>", re.S | re.I)
_TAG = re.compile(rb"<[^>]*>")


def read_trec(stream: IO[bytes], name: str, first: int) -> Iterator[Item]:
    """One item per ``<DOC>``; fields ``_id``, ``title`` and ``text`` (all else, without tags)."""
    lines: list[bytes] = []
    start = 0
    for number, line in enumerate(stream, first + 1):
        tag = line.strip().upper()
        if tag == b"<DOC>":
            lines, start = [], number
        elif tag == b"</DOC>" and start:
            yield Item(f"{name}:{start}", b"".join(lines), decode=_document)
            start = 0
        elif start:
            lines.append(line)
    if start:
        raise ValueError(f"the <DOC> of line {start} has no end")


def _document(raw: bytes) -> dict[str, str]:
    number = _DOCNO.search(raw)
    if number is None:
        raise ValueError("no <DOCNO>")
    rest = _DOCNO.sub(b" ", raw)
    title = _TITLE.search(rest)
    if title is not None:
        rest = rest[: title.start()] + rest[title.end() :]
    found = {"_id": _plain(number[1]), "text": _plain(rest)}
    return found if title is None else {"_id": found["_id"], "title": _plain(title[2]), **found}


def _plain(raw: bytes) -> str:
    return " ".join(_TAG.sub(b" ", raw).decode("utf-8", "replace").split())
