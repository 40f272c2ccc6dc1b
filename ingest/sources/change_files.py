"""Files of changes: one JSON object a line, or the lines of the bulk API."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import damaged
from splade_os.ingest.sources.bulk_files import ALONE, DAMAGED, WRITE, action_of, value_of
from splade_os.ingest.sources.json_files import parse_line, read_lines

_IGNORED = frozenset({"_id", "_index", "_type"})  # every change goes to the index that is named


def read_changes(stream: io.BufferedReader, name: str) -> Iterator[Item]:
    """An item for each change. An action of the bulk API and the line after it are one, whose value
    is ``{"op", "id", "doc"}``; everything else is as it stands there."""
    items = read_lines(stream, name)
    item = next(items, None)
    while item is not None:
        action = action_of(item)
        if action is None:
            yield item
            item = next(items, None)
            continue
        operation, options = action
        following = None if operation == ALONE else next(items, None)
        if operation != ALONE and (following is None or action_of(following) is not None):
            yield damaged(item.where, f"the action {operation!r} has no document", item.raw)
            item = following
            continue
        yield _change(item, operation, options, following)
        item = next(items, None)


def _change(item: Item, operation: str, options: dict[str, Any], body: Item | None) -> Item:
    raw = item.raw if body is None else item.raw.rstrip(b"\r\n") + b"\n" + body.raw

    def decode(raw: bytes) -> Any:
        unknown = options.keys() - _IGNORED
        if unknown:
            raise ValueError(f"the action has {min(unknown)!r}, which is not known here")
        change = {"op": operation, "id": options.get("_id")}
        if body is None:
            return change
        document = value_of(body)
        if document is DAMAGED:
            document = parse_line(body.raw)  # which says why
        if operation in WRITE:
            return {**change, "op": "upsert", "doc": document}
        if not isinstance(document, dict) or document.keys() != {"doc"}:
            raise ValueError('of an update of the bulk API only {"doc": {...}} is known')
        return {**change, "doc": document["doc"]}

    return Item(item.where, raw, decode=decode)
