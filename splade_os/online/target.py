"""The index that an application writes to: made, adopted, or found, when it is first written."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.resolve import resolve_recorded
from splade_os.engines import Engine, IndexLayout, IndexMeta
from splade_os.engines.base import Identity
from splade_os.errors import (
    AuthorizationError,
    IndexFormatError,
    IndexNotFoundError,
    InputError,
)
from splade_os.ingest.index.adopt import adopt_index, mapped_texts
from splade_os.ingest.index.target import ensure_index
from splade_os.settings import DEFAULT_MODEL

_log = logging.getLogger("splade_os.online")
_IDS = frozenset({"_id", "id"})


@dataclass(frozen=True)
class WriteTarget:
    """What is written to, and with what.

    Attributes:
        identity: of the index behind the name; empty where the user may not ask.
    """

    meta: IndexMeta
    encoder: DocumentEncoder
    identity: Identity


def identity_of(engine: Engine, index: str) -> Identity:
    """What a name stands for now; empty where there is none, or where the user may not ask."""
    with suppress(IndexNotFoundError, AuthorizationError):
        return engine.identity(index)
    return frozenset()


def open_target(
    engine: Engine,
    index: str,
    documents: Sequence[Mapping[str, Any]],
    *,
    model: str | None,
    device: str | None,
    text_fields: Sequence[str] | None,
    known: Sequence[str] = (),
    layout: IndexLayout | None = None,
) -> WriteTarget:
    """Find the index, adopt it if it is somebody else's, or make it.

    Args:
        documents: the first ones; where no text fields are named, their fields that hold strings
            are taken.
        model, device: what encodes; default the index's own model, else the starter.
        text_fields: fields to encode.
        known: those of the index that the name stood for before.
        layout: of a new index.

    Raises:
        InputError: no text field is named, and none can be guessed.
        ModelMismatchError, IndexFormatError: the index is for another model, or for other fields.
    """
    try:
        meta: IndexMeta | None = engine.index_meta(index)
    except IndexNotFoundError:
        meta = None
    except IndexFormatError:  # somebody else's
        if engine.url.startswith("sqlite"):
            raise
        mapped = mapped_texts(engine, index)
        fields = tuple(text_fields or known or _guessed(index, documents, mapped))
        encoder = DocumentEncoder.load(model or DEFAULT_MODEL, device=device)
        meta = adopt_index(engine, index, encoder.identity, fields)
        return WriteTarget(meta, encoder, identity_of(engine, index))
    if meta is not None:
        name = model or resolve_recorded(meta.model, index).name
        encoder = DocumentEncoder.load(name, device=device, **meta.model.options().model_dump())
        fields = tuple(text_fields or meta.text_fields)
    else:
        fields = tuple(text_fields or known or _guessed(index, documents, None))
        encoder = DocumentEncoder.load(model or DEFAULT_MODEL, device=device)
    meta = ensure_index(
        engine, index, encoder.identity, fields, left_open=encoder.left_open, layout=layout
    )
    encoder.adopt(meta.model)
    return WriteTarget(meta, encoder, identity_of(engine, index))


def _guessed(
    index: str, documents: Sequence[Mapping[str, Any]], allowed: Sequence[str] | None
) -> list[str]:
    """The text fields of an index whose user has named none; says which, once."""
    found = dict.fromkeys(
        name
        for document in documents
        for name, value in document.items()
        if isinstance(value, str) and name not in _IDS and (allowed is None or name in allowed)
    )
    fields = list(found) if documents else list(allowed or ())
    if not fields:
        raise InputError(
            f"Which fields of {index} hold text? None is named, and the first documents have none.",
            hint="Name them: Index(..., text_fields=['title', 'text']).",
        )
    _log.warning(
        "The text fields of %s are %s: the fields of its first documents that hold text. Others? "
        "Name them: text_fields=[...].",
        index,
        ", ".join(fields),
    )
    return fields
