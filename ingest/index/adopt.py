"""An index that somebody else made gets a vector field and a record, in place."""

from __future__ import annotations

from collections.abc import Sequence

from splade_os.engines import Engine, IndexMeta
from splade_os.engines.names import check_name
from splade_os.errors import IndexFormatError, SettingsError
from splade_os.identity import ModelIdentity
from splade_os.ingest.index.layout import require_room
from splade_os.ingest.index.target import ensure_index, new_meta

_TEXTS = frozenset({"text", "match_only_text", "search_as_you_type"})


def adopt_index(
    engine: Engine,
    index: str,
    model: ModelIdentity,
    text_fields: Sequence[str],
    *,
    bm25: Sequence[str] = (),
    field_type: str | None = None,
    vector_field: str | None = None,
) -> IndexMeta:
    """Let an index that exists take vectors: its mapping gets the vector field, the field of the
    mark and the record in ``_meta``. Documents, other fields, analysers and shards stay as they
    are. An index that is ours already is only compared.

    Args:
        model, text_fields: what encodes which fields.
        bm25: fields that BM25 searches, with their weights (``title^3``); default the text fields.
        field_type: how vectors are stored; default the first that the engine has.
        vector_field: name of the field of the vectors.

    Raises:
        IndexNotFoundError: there is no such index.
        IndexFormatError: it takes no documents, or stores none; or it is ours, for other fields.
        ModelMismatchError: it is ours, for another model.
        SettingsError: a field that is not there, or a name that is taken.
    """
    check_name(index)
    try:
        engine.index_meta(index)
    except IndexFormatError:
        properties = engine.properties(index)
    else:
        return ensure_index(engine, index, model, text_fields, field_type, vector_field)
    meta = new_meta(engine, model, text_fields, field_type, vector_field)
    meta = meta.model_copy(update={"bm25": tuple(bm25 or text_fields)})
    for name in (*text_fields, *(each.partition("^")[0] for each in meta.bm25)):
        if name not in properties:
            there = ", ".join(mapped_texts(engine, index)) or "none"
            raise SettingsError(
                f"The index {index} has no field {name!r}.", hint=f"Its text fields are: {there}."
            )
    require_room(properties, meta, f"The index {index}")
    engine.check_writable(index, meta)
    engine.adopt(index, meta)
    return engine.index_meta(index)


def mapped_texts(engine: Engine, index: str) -> list[str]:
    """The fields of an index that are mapped as text, in the order of the mapping."""
    return [name for name, kind in engine.properties(index).items() if kind in _TEXTS]
