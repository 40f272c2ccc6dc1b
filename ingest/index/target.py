"""The index that an ingest writes to: made if it is missing, checked if it is there."""

from __future__ import annotations

from collections.abc import Sequence

from splade_os import __version__
from splade_os.engines import Engine, IndexMeta
from splade_os.errors import (
    IndexExistsError,
    IndexFormatError,
    IndexNotFoundError,
    ModelMismatchError,
)
from splade_os.identity import ModelIdentity, short_hash
from splade_os.statistics import TermStatistics


def new_meta(
    engine: Engine,
    model: ModelIdentity,
    text_fields: Sequence[str],
    field_type: str | None = None,
) -> IndexMeta:
    """What a new index remembers.

    Args:
        engine: where it will be.
        model, text_fields: what encodes which fields.
        field_type: how vectors are stored; default the first that the engine has.

    Raises:
        EngineError: the engine does not have the field type.
    """
    field_type = field_type or next(iter(engine.field_types()), "rank_features")
    return IndexMeta(
        splade_os=__version__,
        field_type=field_type,
        feature_naming=engine.feature_naming(field_type),
        text_fields=tuple(text_fields),
        model=model,
    )


def ensure_index(
    engine: Engine,
    index: str,
    model: ModelIdentity,
    text_fields: Sequence[str],
    field_type: str | None = None,
) -> IndexMeta:
    """Create the index, or check that it was made for the same model and fields. One that holds
    nothing takes others: it is bound to nothing yet.

    Raises:
        ModelMismatchError: another model, or other settings of it, encoded the index.
        IndexFormatError: the index is none of ours, or has other text fields, or another
            field type.
    """
    try:
        meta = engine.index_meta(index)
    except IndexNotFoundError:
        meta = new_meta(engine, model, text_fields, field_type)
        try:
            engine.create_index(index, meta)
        except IndexExistsError:  # another process was faster
            meta = engine.index_meta(index)
        else:
            return meta
    difference = model.difference(meta.model)
    if difference or meta.text_fields != tuple(text_fields):
        change = {"model": model, "text_fields": tuple(text_fields), "splade_os": __version__}
        if _is_unused(engine, index):
            engine.update_meta(index, meta.model_copy(update=change))
            engine.save_statistics(index, TermStatistics.empty(model.vocabulary_size))
            meta, difference = engine.index_meta(index), None
    if difference:
        raise ModelMismatchError(
            f"The index {index} was encoded with the model {meta.model.name} (content hash "
            f"{short_hash(meta.model.content_hash)}), and {model.name} is not the same: "
            f"{difference}.",
            hint="Ingest into a new index, or name the model of this one.",
        )
    if field_type not in (None, meta.field_type):
        raise IndexFormatError(
            f"The index {index} stores vectors as {meta.field_type}, not as {field_type}.",
            hint="Ingest into a new index, or leave --field-type out.",
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
