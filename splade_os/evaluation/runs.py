"""Runs and judgements: what a retriever returned, and what it should have."""

from __future__ import annotations

from collections.abc import Mapping

Run = dict[str, dict[str, float]]
"""Query id → document id → score."""
Qrels = dict[str, dict[str, int]]
"""Query id → document id → relevance; above zero is relevant."""


def judged_queries(qrels: Qrels) -> list[str]:
    """Queries that have a relevant document; no other can tell two retrievers apart."""
    return [query for query, documents in qrels.items() if any(r > 0 for r in documents.values())]


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Document ids, best first; ties by ascending id, as sentence-transformers ranks them."""
    return sorted(scores, key=lambda document: (-scores[document], document))


def top(scores: Mapping[str, float], depth: int) -> dict[str, float]:
    """The first ``depth`` documents of a ranking, in order."""
    return {document: scores[document] for document in ranking(scores)[:depth]}


def without_query_ids(run: Mapping[str, Mapping[str, float]]) -> Run:
    """A run in which no query finds the document of its own id.

    In some collections (ArguAna, Quora) queries are documents of the corpus; BEIR's own
    evaluation drops them.
    """
    return {
        query: {document: score for document, score in hits.items() if document != query}
        for query, hits in run.items()
    }
