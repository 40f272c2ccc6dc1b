"""What a new index is made with, where the user says more than splade-os would."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import orjson

from splade_os.engines import Engine, IndexLayout, IndexMeta
from splade_os.errors import InputError, SettingsError


def chosen_layout(
    engine: Engine,
    *,
    like: str | None = None,
    mapping: str | Path | None = None,
    settings: str | Path | None = None,
    shards: int | None = None,
) -> IndexLayout | None:
    """Mapping and settings of a new index; ``None`` = those of splade-os.

    Args:
        like: an index whose mapping, analysers and settings it takes.
        mapping, settings: JSON files with those, over the ones of ``like``: as ``PUT /INDEX`` takes
            them, or as ``GET /INDEX`` gives them.
        shards: its number, over all others.

    Raises:
        IndexNotFoundError: there is no such index.
        InputError: a file that cannot be read, or is no such thing.
        EngineError: the engine has no mappings.
    """
    found = IndexLayout() if like is None else engine.layout(like)
    told: dict[str, Any] = dict(found.settings)
    if settings is not None:
        body = _part(settings, "settings")
        inner = body.pop("index", {})
        if not isinstance(inner, Mapping):
            raise InputError(f"{settings}: 'index' is no JSON object.")
        told |= {n.removeprefix("index."): value for n, value in {**body, **inner}.items()}
    if shards is not None:
        told["number_of_shards"] = shards
    layout = IndexLayout(told, found.mapping if mapping is None else _part(mapping, "mappings"))
    return None if layout == IndexLayout() else layout


def _part(file: str | Path, name: str) -> dict[str, Any]:
    """``{"mappings": {...}}`` or what stands in it; also of ``{"INDEX": {"mappings": ...}}``."""
    try:
        value = orjson.loads(Path(file).read_bytes())
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{file} is no JSON: {error}.") from error
    outer = value
    if isinstance(value, Mapping) and len(value) == 1 and name not in value:
        (value,) = value.values()  # as GET answers: by the name of the index
    if not isinstance(value, Mapping) or name not in value:
        value = {name: outer}
    part = value[name]
    if not isinstance(part, Mapping):
        raise InputError(
            f"{file} holds no {name} of an index: {str(part)[:60]}",
            hint=f'Write {{"{name}": {{...}}}}, as PUT /INDEX takes it.',
        )
    return dict(part)


def with_texts(mapping: Mapping[str, Any], meta: IndexMeta) -> dict[str, Any]:
    """A mapping of the user's own, with the text fields that it does not have.

    Raises:
        SettingsError: it has a field that splade-os needs for itself.
    """
    properties = dict(mapping.get("properties", {}))
    require_room(properties, meta, "The mapping")
    for name in meta.text_fields:
        if name.partition(".")[0] not in properties:
            properties[name] = {"type": "text"}
    return {**mapping, "properties": properties}


def require_room(properties: Collection[str], meta: IndexMeta, whose: str) -> None:
    """Whether an index of somebody else can have the fields of splade-os beside its own.

    Raises:
        SettingsError: one of the names is taken.
    """
    for name in (meta.field, meta.hash_field):
        if name in properties:
            raise SettingsError(
                f"{whose} has a field {name!r} already, which is none of splade-os.",
                hint="Give another name: --vector-field NAME.",
            )
