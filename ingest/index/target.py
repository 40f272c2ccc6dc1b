"""The index that an ingest writes to: made if it is missing, checked if it is there."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from splade_os import __version__, mappings
from splade_os.engines import (
    CONTENT_FIELD,
    HASH_FIELD,
    VECTOR_FIELD,
    Engine,
    IndexLayout,
    IndexMeta,
)
from splade_os.engines.fields.impacts import DEFAULT_MAX
from splade_os.engines.names import check_name
from splade_os.errors import (
    IndexExistsError,
    IndexFormatError,
    IndexNotFoundError,
    ModelMismatchError,
    SettingsError,
)
from splade_os.identity import ModelIdentity, short_hash
from splade_os.ingest.index.layout import with_texts
from splade_os.statistics import TermStatistics
from splade_os.vocabulary import FEATURE_NAMING

_FIELD_NAME = re.compile(r"(?!_)[\w-]+")


def new_meta(
    engine: Engine,
    model: ModelIdentity,
    text_fields: Sequence[str],
    field_type: str | None = None,
    vector_field: str | None = None,
    content_field: str | None = None,
) -> IndexMeta:
    """What a new index remembers.

    Args:
        engine: where it will be.
        model, text_fields: what encodes which fields.
        field_type: how vectors are stored; default the first that the engine has. ``impact:8``
            says the weight that is stored as 255.
        vector_field, content_field: names of the fields that hold the vectors, and the text for
            BM25; default names that no document has.

    Raises:
        EngineError: the engine does not have the field type.
        SettingsError: a name that cannot be, or that is taken; a scale that is none.
    """
    field_type = field_type or next(iter(engine.field_types()), "rank_features")
    field_type, impact_max = _with_scale(field_type)
    meta = IndexMeta(
        splade_os=__version__,
        field=vector_field or VECTOR_FIELD,
        content_field=content_field or CONTENT_FIELD,
        field_type=field_type,
        feature_naming=engine.feature_naming(field_type),
        text_fields=tuple(text_fields),
        impact_max=impact_max,
        model=model,
    )
    if model.external and meta.feature_naming != FEATURE_NAMING:
        raise SettingsError(
            f"A field of the type {field_type} names features by the ids of a model's tokens, and "
            "no model is named.",
            hint="Name it (--model NAME), or store vectors by token: --field-type rank_features.",
        )
    _check_names(meta)
    return meta


def _with_scale(field_type: str) -> tuple[str, float | None]:
    """The field type, and of ``impact`` the weight that is stored as 255."""
    kind, colon, scale = field_type.partition(":")
    if kind != "impact":
        return field_type, None
    try:
        maximum = float(scale) if colon else DEFAULT_MAX
    except ValueError:
        maximum = 0.0
    if not 0 < maximum < math.inf:
        raise SettingsError(
            f"--field-type {field_type}: {scale!r} is no weight.",
            hint=f"Give the greatest usual one, e.g. impact:{DEFAULT_MAX:g} (the default).",
        )
    return kind, maximum


def _check_names(meta: IndexMeta) -> None:
    """Whether the index can have its own fields beside those of its documents."""
    own = {
        "--vector-field": meta.field,
        "--content-field": meta.content_field,
        "the mark": HASH_FIELD,
    }
    taken = dict.fromkeys(mappings.TEXT_FIELDS, "a text field of every index")
    taken |= dict.fromkeys(meta.text_fields, "a field to encode")
    for option, name in own.items():
        if not _FIELD_NAME.fullmatch(name):
            raise SettingsError(
                f"{option} {name!r}: a field's name has letters, digits, - and _, and begins with "
                "no _."
            )
        if name in taken:
            raise SettingsError(
                f"The field {name!r} ({option}) is {taken[name]} already.",
                hint="Give another name: --vector-field NAME, --content-field NAME; or store the "
                f"document's field by another one: --rename {name}=NAME.",
            )
        taken[name] = option


def ensure_index(
    engine: Engine,
    index: str,
    model: ModelIdentity,
    text_fields: Sequence[str],
    field_type: str | None = None,
    vector_field: str | None = None,
    content_field: str | None = None,
    *,
    left_open: frozenset[str] = frozenset(),
    layout: IndexLayout | None = None,
) -> IndexMeta:
    """Create the index (arguments as those of `new_meta`), or check that it was made for the same
    model and fields. One that holds nothing takes others: it is bound to nothing yet.

    Args:
        left_open: fields of the identity that are as the index says, if it is there
            (`DocumentEncoder.left_open`).
        layout: of a new index.

    Raises:
        ModelMismatchError: another model, or other settings of it, encoded the index.
        IndexFormatError: the index is none of ours, or has other text fields, another field
            type, or other names for its own fields.
        SettingsError: a name for a field that cannot be, or that is taken.
    """
    check_name(index)
    meta = _found_or_made(
        engine,
        index,
        model,
        text_fields,
        field_type,
        vector_field,
        content_field,
        left_open,
        layout or IndexLayout(),
    )
    engine.check_writable(index, meta)
    return meta


def _found_or_made(
    engine: Engine,
    index: str,
    model: ModelIdentity,
    text_fields: Sequence[str],
    field_type: str | None,
    vector_field: str | None,
    content_field: str | None,
    left_open: frozenset[str],
    layout: IndexLayout,
) -> IndexMeta:
    try:
        meta = engine.index_meta(index)
    except IndexNotFoundError:
        meta = new_meta(engine, model, text_fields, field_type, vector_field, content_field)
        mapping = layout.mapping
        if mapping is not None:
            meta = meta.model_copy(update={"bm25": tuple(text_fields)})
            mapping = with_texts(mapping, meta)
        try:
            engine.create_index(index, meta, layout.settings, mapping)
        except IndexExistsError:  # another process was faster
            meta = engine.index_meta(index)
        else:
            return meta
    difference = model.difference(meta.model, left_open)
    if not difference and model.average_length and not meta.model.average_length:
        known = meta.model.model_copy(update={"average_length": model.average_length})
        engine.update_meta(index, meta.model_copy(update={"model": known}))
        meta = engine.index_meta(index)
    if difference or meta.text_fields != tuple(text_fields):
        change = {"model": model, "text_fields": tuple(text_fields), "splade_os": __version__}
        if _is_unused(engine, index):
            engine.update_meta(index, meta.model_copy(update=change))
            engine.save_statistics(index, TermStatistics.empty(model.vocabulary_size))
            meta, difference = engine.index_meta(index), None
    if difference and meta.model.external:
        raise ModelMismatchError(
            f"The vectors of the index {index} came from outside, and no model was named that made "
            f"them: what {model.name} encodes does not go with them.",
            hint="Ingest into a new index; or bring vectors of the same kind, with --vectors and "
            "without --model.",
        )
    if difference and model.external:
        raise ModelMismatchError(
            f"The index {index} was encoded with the model {meta.model.name}, and it is not known "
            "what made these vectors.",
            hint=f"If it was that model, say so: --model {meta.model.name}.",
        )
    if difference:
        raise ModelMismatchError(
            f"The index {index} was encoded with the model {meta.model.name} (content hash "
            f"{short_hash(meta.model.content_hash)}), and {model.name} is not the same: "
            f"{difference}.",
            hint="Ingest into a new index, or name the model of this one.",
        )
    stored_as = meta.field_type
    if meta.impact_max is not None and field_type and ":" in field_type:
        stored_as = f"impact:{meta.impact_max:g}"
    for option, wanted, there in (
        ("--field-type", field_type, stored_as),
        ("--vector-field", vector_field, meta.field),
        ("--content-field", content_field, meta.content_field),
    ):
        if wanted not in (None, there):
            raise IndexFormatError(
                f"The index {index} was made with {option} {there}, not with {wanted}.",
                hint=f"Ingest into a new index, or leave {option} out.",
            )
    naming = engine.feature_naming(meta.field_type)
    if meta.feature_naming != naming or meta.text_fields != tuple(text_fields):
        raise IndexFormatError(
            f"The index {index} encodes the fields {', '.join(meta.text_fields)} with the feature "
            f"naming {meta.feature_naming}; this ingest has {', '.join(text_fields)} and "
            f"{naming}.",
            hint="Ingest into a new index, or give the same --text.",
        )
    return meta


def _is_unused(engine: Engine, index: str) -> bool:
    """Whether the index is empty, and not being loaded now."""
    if engine.settings(index).get("refresh_interval") == "-1":
        return False
    engine.refresh(index)
    return not engine.count(index)
