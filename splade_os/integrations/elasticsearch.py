"""elasticsearch-py's ``VectorStore`` helper, with vectors that the client makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from elasticsearch.helpers.vectorstore import EmbeddingService, RetrievalStrategy

from splade_os import __version__
from splade_os.encoding.query import QueryMode
from splade_os.engines import IndexMeta
from splade_os.engines.fields.shapes import TERM
from splade_os.engines.fields.strategies import FieldStrategy
from splade_os.errors import SettingsError
from splade_os.integrations.sparse_texts import Sparse, SparseTexts
from splade_os.vocabulary import FEATURE_NAMING, Vocabulary

_FIELD_TYPE = "sparse_vector"  # the default of this package there; every Elasticsearch since 8.11
_STRATEGY = FieldStrategy(_FIELD_TYPE, "elasticsearch", FEATURE_NAMING, (TERM,))


class SpladeEmbeddings(EmbeddingService):
    """Encodes for a ``VectorStore``: feature → weight, where its interface has lists of numbers.

    Args:
        model, device: what encodes.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
    """

    def __init__(
        self, model: str = "starter", device: str | None = None, query_mode: QueryMode = "encoder"
    ) -> None:
        self.texts = SparseTexts(model, device, query_mode)

    def embed_documents(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Of documents."""
        return _named(self.texts.documents(texts), self.texts.document_encoder.vocabulary)

    def embed_query(self, query: str) -> dict[str, float]:
        """Of a query; empty where it has no term with a weight."""
        return _named(self.texts.queries([query]), self.texts.query_encoder.vocabulary)[0]


class SpladeStrategy(RetrievalStrategy):
    """How a ``VectorStore`` stores and asks for vectors: a `sparse_vector` field, and a weighted
    term query whose score is the exact dot product. The index is one of splade-os: `SearchClient`
    and the command line search it, too.

    Args:
        embeddings: of the same ``VectorStore``.
    """

    def __init__(self, embeddings: SpladeEmbeddings) -> None:
        self._embeddings = embeddings

    def es_query(
        self,
        *,
        query: str | None,
        query_vector: Mapping[str, float] | None,
        text_field: str,
        vector_field: str,
        k: int,
        num_candidates: int,
        filter: list[dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The body of a search; one that finds nothing for a query without terms, which would
        match every document.

        Raises:
            SettingsError: neither text nor vector, or a dense vector.
        """
        if query_vector is None and query is None:
            raise SettingsError("Give the store a query, or a query_vector.")
        weights = (
            query_vector if query_vector is not None else self._embeddings.embed_query(str(query))
        )
        if not isinstance(weights, Mapping):
            raise SettingsError(
                f"query_vector is {type(weights).__name__}, not feature → weight.",
                hint="Give the store embedding_service=SpladeEmbeddings(...).",
            )
        if not weights:
            return {"query": {"match_none": {}}}
        values = np.array(list(weights.values()), np.float32)
        terms = orjson.loads(TERM.render(vector_field, list(weights), values))
        if filter:
            terms = {"bool": {"must": [terms], "filter": list(filter)}}
        return {"query": terms}

    def es_mappings_settings(
        self, *, text_field: str, vector_field: str, num_dimensions: int | None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Mapping, with the record of the model, and settings."""
        meta = IndexMeta(
            splade_os=__version__,
            field=vector_field,
            field_type=_FIELD_TYPE,
            feature_naming=FEATURE_NAMING,
            text_fields=(text_field,),
            bm25=(text_field,),
            model=self._embeddings.texts.document_encoder.identity,
        )
        mapping = {"properties": {text_field: {"type": "text"}}}
        body = _STRATEGY.index_body(meta, mapping=mapping)
        return body["mappings"], body["settings"]


def _named(rows: list[Sparse], vocabulary: Vocabulary) -> list[dict[str, float]]:
    features = vocabulary.named(FEATURE_NAMING)
    return [{features[i]: weight for i, weight in zip(*row, strict=True)} for row in rows]
