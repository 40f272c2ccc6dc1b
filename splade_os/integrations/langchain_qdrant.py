"""LangChain's interface of sparse embeddings, which lives in langchain-qdrant."""

from __future__ import annotations

from splade_os.encoding.query import QueryMode
from splade_os.errors import MissingExtraError
from splade_os.integrations.sparse_texts import Sparse, SparseTexts

try:
    from langchain_qdrant import SparseEmbeddings, SparseVector
except ImportError as error:
    raise MissingExtraError("Sparse embeddings of LangChain", "langchain-qdrant") from error


class SpladeSparseEmbeddings(SparseEmbeddings):
    """Texts as sparse vectors of ids in the model's vocabulary, for the stores of others.

    Args:
        model, device: what encodes.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
    """

    def __init__(
        self, model: str = "starter", device: str | None = None, query_mode: QueryMode = "encoder"
    ) -> None:
        self._texts = SparseTexts(model, device, query_mode)

    def embed_documents(self, texts: list[str]) -> list[SparseVector]:
        """Of documents."""
        return [_vector(row) for row in self._texts.documents(texts)]

    def embed_query(self, text: str) -> SparseVector:
        """Of a query."""
        return _vector(self._texts.queries([text])[0])


def _vector(row: Sparse) -> SparseVector:
    ids, weights = row
    return SparseVector(indices=ids, values=weights)
