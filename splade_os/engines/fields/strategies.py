"""Field strategies: one per way of storing vectors. Each owns the mapping, the names of
features in documents, and the shapes of queries; what is stored of a weight is Lucene's
FeatureField in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splade_os import mappings
from splade_os.engines.base import CONTENT_FIELD, HASH_FIELD, VECTOR_FIELD, IndexMeta
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.fields.shapes import (
    IMPACT,
    NEURAL_SPARSE,
    RANK_FEATURE,
    SPARSE_VECTOR,
    TERM,
    Shape,
)
from splade_os.errors import EngineError
from splade_os.text_fields import merged
from splade_os.vocabulary import FEATURE_NAMING, TOKEN_IDS

_OWN = "splade_os_"  # begins the names of what a field brings along
_SETTINGS = ("analysis", "similarity")


@dataclass(frozen=True)
class FieldStrategy:
    """How vectors are stored and searched.

    Attributes:
        field_type: as ``--field-type`` and the index's record name it.
        folder: of its mapping.
        feature_naming: rule from token to feature name.
        shapes: of queries, the default first.
    """

    field_type: str
    folder: str
    feature_naming: str
    shapes: tuple[Shape, ...]

    def shape(self, name: str | None, server: Capabilities) -> Shape:
        """The shape of that name; ``None`` = the default.

        Raises:
            EngineError: the server or the field does not have it.
        """
        if name is None:
            return self.shapes[0]
        for shape in self.shapes:
            if shape.name == name:
                return shape
        raise EngineError(
            f"{server.distribution} {server.version} has no query {name!r} on a field of the "
            f"type {self.field_type}.",
            hint=f"It has: {', '.join(shape.name for shape in self.shapes)}.",
        )

    def index_body(
        self,
        meta: IndexMeta,
        settings: Mapping[str, Any] | None = None,
        mapping: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The body that creates an index: the literal mapping, text fields and ``_meta``.

        Args:
            mapping: one of the user's own, in the place of the literal one.
        """
        body = mappings.load(self.folder, self.field_type)
        own = body["settings"]["index"]
        if mapping is None:
            self._name_fields(body["mappings"], meta)
        else:
            fields = {**mapping.get("properties", {}), **self.adopted(meta)}
            body["mappings"] = {**mapping, "properties": fields}
            del own["mapping.ignore_malformed"]  # as the user has it
        told = body["mappings"].get("_meta", {})
        body["mappings"]["_meta"] = {**told, "splade_os": meta.record()}
        for name, value in (settings or {}).items():
            if name in _SETTINGS:  # beside those of the field
                own[name] = merged(own.get(name, {}), value)
            else:
                own[name] = value
        return body

    @staticmethod
    def _name_fields(mapping: dict[str, Any], meta: IndexMeta) -> None:
        """Give the literal mapping the names and the text fields of an index."""
        names = {
            VECTOR_FIELD: meta.field,
            CONTENT_FIELD: meta.content_field,
            HASH_FIELD: meta.hash_field,
        }
        properties = {names.get(n, n): p for n, p in mapping["properties"].items()}
        for each in properties.values():
            if "copy_to" in each:
                each["copy_to"] = names[each["copy_to"]]
        for name in meta.text_fields:
            properties.setdefault(name, properties["text"])
        mapping["properties"] = properties

    def lacking(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The analysers and similarities of the field that an index lacks: an index gets them
        only when it is made, or closed.

        Args:
            settings: of the index, flat.
        """
        own = mappings.load(self.folder, self.field_type)["settings"]["index"]
        there = {
            kind
            for kind in _SETTINGS
            if any(f".{_OWN}" in n and n.startswith(f"{kind}.") for n in settings)
        }
        return {kind: own[kind] for kind in _SETTINGS if kind in own and kind not in there}

    def adopted(self, meta: IndexMeta) -> dict[str, Any]:
        """Mapping of the two fields that an index of somebody else gets."""
        properties = mappings.load(self.folder, self.field_type)["mappings"]["properties"]
        return {
            meta.field: properties[VECTOR_FIELD],
            meta.hash_field: properties[HASH_FIELD],
        }


def strategy_for(field_type: str, server: Capabilities) -> FieldStrategy:
    """The strategy of a field type on a server.

    Raises:
        EngineError: the server does not have the field type, naming those that it has.
    """
    name = f"{server.distribution} {server.version}"
    if field_type not in server.field_types:
        there = ", ".join(server.field_types) or "none that can store vectors"
        lacks = ""
        if field_type == "rank_features" and server.linear:
            lacks = " (its module mapper-extras is not there)"
        raise EngineError(
            f"{name} has no field of the type {field_type!r}{lacks}.",
            hint=f"It has: {there}. Choose with --field-type.",
        )
    if field_type == "rank_features":
        shapes = [RANK_FEATURE]
        if server.neural_search:
            shapes.append(NEURAL_SPARSE)
        if server.term_on_rank_features:
            shapes.append(TERM)
        return FieldStrategy(field_type, server.distribution, FEATURE_NAMING, tuple(shapes))
    if field_type == "impact":
        return FieldStrategy(field_type, server.distribution, FEATURE_NAMING, (IMPACT,))
    if server.distribution == "opensearch":  # SEISMIC
        return FieldStrategy(field_type, "opensearch", TOKEN_IDS, (NEURAL_SPARSE,))
    shapes = [TERM]
    if server.sparse_vector_query:
        shapes.append(SPARSE_VECTOR)
    return FieldStrategy(field_type, "elasticsearch", FEATURE_NAMING, tuple(shapes))
