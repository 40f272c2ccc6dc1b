"""The index that an ingest writes to: made if it is missing, checked if it is there."""

from __future__ import annotations

from collections.abc import Sequence

from splade_os import __version__
from splade_os.engines import Engine, IndexMeta
from splade_os.errors import IndexFormatError, IndexNotFoundError, ModelMismatchError
from splade_os.identity import ModelIdentity
from splade_os.vocabulary import FEATURE_NAMING


def new_meta(model: ModelIdentity, text_fields: Sequence[str]) -> IndexMeta:
    """What a new index remembers."""
    return IndexMeta(
        splade_os=__version__,
        feature_naming=FEATURE_NAMING,
        text_fields=tuple(text_fields),
        model=model,
    )


def ensure_index(
    engine: Engine, index: str, model: ModelIdentity, text_fields: Sequence[str]
) -> IndexMeta:
    """Create the index, or check that it was made for the same model and fields.

    Raises:
        ModelMismatchError: another model, or other settings of it, encoded the index.
        IndexFormatError: the index is none of ours, or has other text fields.
    """
    try:
        meta = engine.index_meta(index)
    except IndexNotFoundError:
        meta = new_meta(model, text_fields)
        engine.create_index(index, meta)
        return meta
    difference = model.difference(meta.model)
    if difference:
        raise ModelMismatchError(
            f"The index {index} was encoded with the model {meta.model.name}, and {model.name} "
            f"is not the same: {difference}.",
            hint="Ingest into a new index, or name the model of this one.",
        )
    if meta.feature_naming != FEATURE_NAMING or meta.text_fields != tuple(text_fields):
        raise IndexFormatError(
            f"The index {index} encodes the fields {', '.join(meta.text_fields)} with the feature "
            f"naming {meta.feature_naming}; this ingest has {', '.join(text_fields)} and "
            f"{FEATURE_NAMING}.",
            hint="Ingest into a new index, or give the same --text.",
        )
    return meta
