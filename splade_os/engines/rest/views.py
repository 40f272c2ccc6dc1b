"""What ``GET /NAME`` says about the indices behind a name: everything that a search has to know, in
one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from splade_os.engines.base import Identity, IndexMeta
from splade_os.engines.rest.answers import expect, objects
from splade_os.errors import IndexFormatError, IndexNotFoundError

DEFAULT_WINDOW = 10_000


@dataclass(frozen=True)
class View:
    """What a name stands for.

    Attributes:
        meta: the record that all indices behind it have.
        identity: name and UUID of each; empty where the user may not ask.
        filters: of the alias, one for each index that it has one on.
        result_window: hits that a page may reach to (``index.max_result_window``).
        rescore_window: hits that a second phase may score (``index.max_rescore_window``).
        shards: of each index; none where the user may not ask.
    """

    meta: IndexMeta
    identity: Identity = frozenset()
    filters: tuple[Mapping[str, Any], ...] = ()
    result_window: int = DEFAULT_WINDOW
    rescore_window: int = DEFAULT_WINDOW
    shards: Mapping[str, int] = field(default_factory=dict)


def read_view(answer: Any, index: str, url: str) -> View:
    """From the answer to ``GET /NAME`` (or ``GET /NAME/_mapping``, which tells less).

    Raises:
        IndexFormatError: it is no index of ours, or several of different ways.
        EngineError: the answer is no engine's.
    """
    bodies = objects(answer, url)
    if not bodies:  # of a pattern
        raise IndexNotFoundError(
            f"No index matches {index} at {url}.", hint="Name one that is there."
        )
    mappings = {name: expect(body, url, "mappings", kind=Mapping) for name, body in bodies.items()}
    meta = _meta(mappings, index)
    identity, filters, windows = set(), [], []
    shards: dict[str, int] = {}
    for name, body in bodies.items():
        if "settings" not in body:
            continue
        settings = expect(body, url, "settings", "index", kind=Mapping)
        identity.add((name, str(expect(settings, url, "uuid"))))
        shards[name] = int(settings.get("number_of_shards", 1))
        alias = expect(body, url, "aliases", kind=Mapping).get(index, {})
        if name != index and "filter" in alias:
            filters.append(alias["filter"])
        result = int(settings.get("max_result_window", DEFAULT_WINDOW))
        windows.append((result, int(settings.get("max_rescore_window", result))))
    if not windows:
        return View(meta)
    result, rescore = (min(sizes) for sizes in zip(*windows, strict=True))
    return View(meta, frozenset(identity), tuple(filters), result, rescore, shards)


def _encoded(record: Any) -> Any:
    """What has to be the same in all indices that are searched together."""
    if not isinstance(record, Mapping):
        return record
    return {name: value for name, value in record.items() if name != "splade_os"}


def _meta(mappings: Mapping[str, Mapping[str, Any]], index: str) -> IndexMeta:
    found = [(mapping.get("_meta") or {}).get("splade_os") for mapping in mappings.values()]
    foreign = [name for name, record in zip(mappings, found, strict=True) if record is None]
    if foreign:
        name = foreign[0]
        raise IndexFormatError(
            f"The index {name} was not made by splade-os: its mapping has no _meta.splade_os."
            + (f" ({index} stands for it, among {len(found)}.)" if len(found) > 1 else ""),
            hint="Ingest into a new index: splade-os ingest SOURCE --index NAME. Or adopt it: "
            f"splade-os index adopt --index {name} --text FIELDS.",
        )
    if any(_encoded(meta) != _encoded(found[0]) for meta in found):
        raise IndexFormatError(
            f"{index} stands for {len(found)} indices that were encoded in different ways: "
            f"{', '.join(sorted(mappings))}.",
            hint="Name one of them.",
        )
    try:
        meta = IndexMeta.read(found[0])
    except ValidationError as error:
        raise IndexFormatError(
            f"The splade-os record in the mapping of {index} is damaged or of a newer "
            f"version: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}.",
        ) from None
    for name, mapping in mappings.items():
        if meta.field not in mapping.get("properties", {}):
            raise IndexFormatError(
                f"The index {name} has no field {meta.field!r}, in which its record says that "
                "the vectors are.",
                hint="Ingest into a new index.",
            )
    return meta
