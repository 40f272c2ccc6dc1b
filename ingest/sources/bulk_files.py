"""Files for the bulk API: an action and its document, on two lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any

from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import damaged

_log = logging.getLogger("splade_os.ingest")

_LOOKED_AT = 100  # damaged items before the first one that can be read
_LONGEST = 10_000  # bytes of an action
DAMAGED = object()
ALONE = "delete"
WRITE = ("index", "create")
_OPERATIONS = (*WRITE, "update", ALONE)
_OPTIONS = frozenset(
    ("_index", "_id", "_type", "routing", "_routing", "version", "_version", "version_type",
     "_version_type", "if_seq_no", "if_primary_term", "pipeline", "op_type", "retry_on_conflict",
     "_retry_on_conflict", "require_alias", "dynamic_templates", "parent", "_parent", "_source",
     "list_executed_pipelines", "require_data_stream")
)  # fmt: skip


def documents_of_actions(items: Iterator[Item], name: str) -> Iterator[Item]:
    """The documents of ``index`` and ``create`` actions, with the ids of the actions, if the
    first item that can be read is an action; else the items as they are.

    Deletions and updates of a part of a document are damaged items, as is an action without a
    document, and a document without an action.
    """
    seen = []
    for item in items:
        seen.append(item)
        if value_of(item) is not DAMAGED or len(seen) == _LOOKED_AT:
            break
    items = chain(seen, items)
    if not seen or action_of(seen[-1]) is None:
        return items
    _log.warning(
        "%s is read as a file for the bulk API: each document has the id of the action before it.",
        name,
    )
    return _documents(items)


def _documents(items: Iterator[Item]) -> Iterator[Item]:
    item = next(items, None)
    while item is not None:
        action = action_of(item)
        if action is None:
            told = "no action of the bulk API stands before it"
            yield item if value_of(item) is DAMAGED else damaged(item.where, told, item.raw)
            item = next(items, None)
            continue
        operation, options = action
        if operation == ALONE:
            told = "a deletion: an ingest only writes (with --sync it deletes what is absent)"
            yield damaged(item.where, told, item.raw)
            item = next(items, None)
            continue
        document = next(items, None)
        if document is None or action_of(document) is not None:
            yield damaged(item.where, f"the action {operation!r} has no document", item.raw)
            item = document
            continue
        if operation in WRITE:
            decode = partial(_named, options.get("_id"), document)
            yield Item(document.where, document.raw, decode=decode)
        else:
            told = "an update of a part of a document: an ingest writes whole ones"
            raw = item.raw.rstrip(b"\r\n") + b"\n" + document.raw
            yield damaged(item.where, told, raw)
        item = next(items, None)


def _named(identifier: Any, document: Item, raw: bytes) -> Any:
    value = document.decode(raw) if document.decode else document.value
    if identifier is None or not isinstance(value, dict):
        return value
    return {"_id": identifier, **{k: x for k, x in value.items() if k != "_id"}}


def value_of(item: Item) -> Any:
    """The value of an item, or `DAMAGED`."""
    try:
        return item.decode(item.raw) if item.decode else item.value
    except (ValueError, RecursionError):
        return DAMAGED


def action_of(item: Item) -> tuple[str, dict[str, Any]] | None:
    """Operation and options, if it is an action."""
    value = value_of(item) if len(item.raw) < _LONGEST else None
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((operation, options),) = value.items()
    if operation not in _OPERATIONS or not isinstance(options, dict):
        return None
    return (operation, options) if options.keys() <= _OPTIONS else None
