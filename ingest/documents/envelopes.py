"""Documents as other tools export them: hits of a search, and MongoDB's Extended JSON."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import numpy as np

VECTOR_KEY = "vector"
"""Field of pre-encoded documents, as Anserini's JsonVectorCollection has it."""
HIT = "hits of a search"
EXTENDED_JSON = "MongoDB's Extended JSON"

_OF_ENGINE = frozenset(
    ("_index", "_routing", "_version", "_seq_no", "_primary_term", "_ignored", "_field_names",
     "_nested_path")
)  # fmt: skip
"""Names that no field of a document may have: engines refuse it."""
_OF_HIT = _OF_ENGINE | {"_type", "_score"}
_ANSWERS = {
    "hits.hits": "the answer of a search",
    "response.docs": "an answer of Solr",
    "rows": "a listing of CouchDB",
}
_DEEP = 3  # objects inside of each other, in which documents are looked for
_DOLLAR = b'"$'
_SHOWN = 10  # names of fields
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity")


def opened(value: dict[str, Any], raw: bytes = b"") -> tuple[dict[str, Any], str | None]:
    """The document in a record, its id as ``_id``, and the kind of export that it stood in.

    Of a hit (Elasticsearch, OpenSearch, elasticdump) it is ``_source``, or the hit without what
    the engine says of it. Of Extended JSON (``mongoexport``) ids, numbers, dates and binary are
    plain values.

    Args:
        raw: JSON of the record, where it is at hand: without ``"$`` it is no Extended JSON.
    """
    kind = None
    source = value.get("_source")
    if isinstance(source, dict) and ("_id" in value or "_index" in value):
        value, kind = {"_id": value.get("_id"), **source}, HIT
    elif not _OF_ENGINE.isdisjoint(value):
        value, kind = {k: x for k, x in value.items() if k not in _OF_HIT}, HIT
    nested = any((type(x) is dict or type(x) is list) and k != VECTOR_KEY for k, x in value.items())
    if nested and (not raw or _DOLLAR in raw):
        with suppress(RecursionError):  # nothing that is nested so deep is such an export
            plain = _plain(value)
            if plain is not value:
                return plain, kind or EXTENDED_JSON
    return value, kind


def what_is_there(value: Mapping[str, Any], text_fields: Sequence[str]) -> str:
    """Of a record that has none of the text fields: where they may be; for a message."""
    found = _find(value, lambda _, x: isinstance(x, list) and bool(x) and isinstance(x[0], dict))
    if found is not None:
        path, elements = found
        answer = f"this is {_ANSWERS[path]}, " if path in _ANSWERS else ""
        each = f".{path}[]" + (".doc" if path == "rows" and "doc" in elements[0] else "")
        return (
            f"{answer}{path} holds {len(elements):,} objects. If they are the documents: "
            f"jq -c '{each}' FILE | splade-os ingest -"
        )
    names = {name.rpartition(".")[2] for name in text_fields}
    if len(value) > 1 and all(isinstance(x, dict) and names & x.keys() for x in value.values()):
        return (
            f"it has {len(value):,} objects by name. If they are the documents: "
            "jq -c 'to_entries[] | {_id: .key} + .value' FILE | splade-os ingest -"
        )
    found = _find(value, lambda name, x: name in names and isinstance(x, str | dict))
    if found is not None:
        path, inner = found
        if isinstance(inner, dict) and inner:  # typed: {"title": {"S": "Red shoe"}}
            path = f"{path}.{next(iter(inner))}"
        return f"it has {path}: --text {path}"
    return f"it has {', '.join(map(str, [*value][:_SHOWN])) or 'no field'}"


def _find(
    value: Mapping[str, Any], wanted: Callable[[str, Any], bool], depth: int = _DEEP
) -> tuple[str, Any] | None:
    """The first field that is wanted, of the outermost object that has one, and its path."""
    for name, inner in value.items():
        if wanted(name, inner):
            return name, inner
    for name, inner in value.items() if depth > 1 else ():
        if isinstance(inner, dict):
            found = _find(inner, wanted, depth - 1)
            if found is not None:
                return f"{name}.{found[0]}", found[1]
    return None


def _plain(value: Any) -> Any:
    """A value without Extended JSON; the same object, if it has none.

    Raises:
        RecursionError: it is nested too deep, or holds itself.
    """
    if type(value) is dict:
        name = next(iter(value), "")
        if name in _TYPES:
            try:
                return _TYPES[name](value)
            except (ValueError, TypeError, KeyError):  # somebody else's field of this name
                return value
        inner = {
            k: _plain(x) if type(x) is dict or type(x) is list else x for k, x in value.items()
        }
        return value if all(inner[k] is x for k, x in value.items()) else inner
    if type(value) is list:
        several = [_plain(x) if type(x) is dict or type(x) is list else x for x in value]
        return value if all(a is b for a, b in zip(several, value, strict=True)) else several
    return value


def _only(value: dict[str, Any]) -> Any:
    """What stands under the only key."""
    ((_, inner),) = value.items()
    return inner


def _text(value: dict[str, Any]) -> str:
    inner = _only(value)
    if not isinstance(inner, str):
        raise TypeError
    return inner


def _double(value: dict[str, Any]) -> float | None:
    text = _text(value)
    return None if text in _NO_NUMBERS else float(text)


def _date(value: dict[str, Any]) -> str:
    inner = _only(value)
    if isinstance(inner, dict):
        inner = int(inner["$numberLong"])
    if isinstance(inner, int) and not isinstance(inner, bool):  # milliseconds since 1970
        return f"{np.datetime64(inner, 'ms')}Z"
    return _text(value)


def _binary(value: dict[str, Any]) -> str:
    inner = value["$binary"]
    if isinstance(inner, str):  # before Extended JSON 2
        inner = {"base64": inner, "subType": value["$type"]}
    if inner["subType"] in ("03", "3", "04", "4"):
        return str(UUID(bytes=base64.b64decode(inner["base64"], validate=True)))
    text: str = inner["base64"]
    return text


def _seconds(value: dict[str, Any]) -> str:
    return f"{np.datetime64(_only(value)['t'], 's')}Z"


_TYPES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$oid": _text,
    "$uuid": _text,
    "$symbol": _text,
    "$numberInt": lambda value: int(_text(value)),
    "$numberLong": lambda value: int(_text(value)),
    "$numberDouble": _double,
    "$numberDecimal": _text,  # of 34 digits
    "$date": _date,
    "$timestamp": _seconds,
    "$binary": _binary,
    "$undefined": lambda value: None,
}
"""https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/"""
