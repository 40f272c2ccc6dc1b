"""Tries a model in training on a collection, in memory: nDCG@10, MRR@10, active dimensions.

Exact: every query against every document. Measures are those of `splade_os.evaluation`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splade_os.encoding.batching import token_budget
from splade_os.encoding.idf import IdfTable
from splade_os.errors import InputError
from splade_os.evaluation.collection import Collection as Judged
from splade_os.evaluation.collection import open_collection
from splade_os.evaluation.measures import card_measures
from splade_os.evaluation.nanobeir import HUB, open_nanobeir
from splade_os.statistics import TermStatistics
from splade_os.training.data import Rows
from splade_os.training.model import Features, SpladeModel, TextEncoder, dense
from splade_os.training.query_table import presence
from splade_os.training.recipe import EvaluationPart
from splade_os.vectors import Ids

_K = 10


@dataclass(frozen=True)
class Collection:
    """Queries, documents and judgements.

    Attributes:
        name: of its metrics.
        documents, queries: id → text.
        qrels: query id → document id → relevance.
        idf: ``model``, or ``corpus``: query weights are counted on these documents.
    """

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    idf: str = "model"

    @property
    def main(self) -> str:
        """The metric to go by."""
        return f"{self.name}_ndcg@10"

    def __call__(self, model: SpladeModel, encoder: TextEncoder) -> dict[str, float]:
        """``NAME_ndcg@10``, ``_mrr@10``, ``_query_dims``, ``_document_dims``, ``_flops``."""
        return {
            f"{self.name}_{key}": value for key, value in evaluate(self, model, encoder).items()
        }


@dataclass(frozen=True)
class Several:
    """Collections with one mean, as NanoBEIR."""

    name: str
    members: Sequence[Collection]

    @property
    def main(self) -> str:
        """The metric to go by."""
        return f"{self.name}_mean_ndcg@10"

    def __call__(self, model: SpladeModel, encoder: TextEncoder) -> dict[str, float]:
        """Metrics of each member, and ``NAME_mean_...`` of all."""
        metrics: dict[str, float] = {}
        sums: dict[str, list[float]] = {}
        for member in self.members:
            for key, value in evaluate(member, model, encoder).items():
                metrics[f"{self.name}_{member.name}_{key}"] = value
                sums.setdefault(key, []).append(value)
        means = {f"{self.name}_mean_{key}": float(np.mean(v)) for key, v in sums.items()}
        return metrics | means


@torch.no_grad()  # type: ignore[untyped-decorator]
def evaluate(collection: Collection, model: SpladeModel, encoder: TextEncoder) -> dict[str, float]:
    """Search every query among all documents."""
    query_ids = list(collection.queries)
    document_ids = np.array(list(collection.documents))
    tokens = encoder.document_tokens(list(collection.documents.values()))
    queries = _queries(collection, model, encoder, tokens)  # (Q, V)
    best = torch.full((len(query_ids), 0), 0.0, device=queries.device)
    found = torch.empty((len(query_ids), 0), dtype=torch.long, device=queries.device)
    active, frequency = 0, torch.zeros(model.vocabulary_size, device=queries.device)
    budget = 2048 if queries.device.type == "cpu" else 65_536
    for rows in token_budget([len(ids) for ids in tokens], budget):
        batch = [tokens[i] for i in rows]
        vectors = _encode(model, encoder, batch)
        active += int((vectors > 0).sum())
        frequency += (vectors > 0).sum(0)
        with torch.autocast(queries.device.type, enabled=False):
            scores = torch.cat([best, queries @ vectors.T], 1)
        places = torch.tensor(list(rows), device=scores.device).expand(len(query_ids), -1)
        best, order = scores.topk(min(_K, scores.shape[1]), 1)
        found = torch.cat([found, places], 1).gather(1, order)
    run = {
        query: {
            str(document_ids[place]): float(score)
            for place, score in zip(found[i].tolist(), best[i].tolist(), strict=True)
            if score > 0
        }
        for i, query in enumerate(query_ids)
    }
    measured = card_measures(collection.qrels, run).means
    query_active = queries > 0
    return {
        "ndcg@10": measured["ndcg@10"],
        "mrr@10": measured["mrr@10"],
        "query_dims": float(query_active.sum(1).float().mean()),
        "document_dims": active / len(tokens),
        "flops": float((query_active.float().mean(0) * frequency / len(tokens)).sum()),
    }


def _encode(model: SpladeModel, encoder: TextEncoder, tokens: Sequence[Ids]) -> Tensor:
    features = _to(encoder.pad(tokens), model.device)
    vectors = model.encode_documents(features).float()
    prior = encoder.prior_of(tokens)
    return vectors if prior is None else vectors + dense(prior, vectors.device)


def _queries(
    collection: Collection, model: SpladeModel, encoder: TextEncoder, documents: Sequence[Ids]
) -> Tensor:
    texts = list(collection.queries.values())
    if model.inference_free and collection.idf == "corpus":
        statistics = TermStatistics.empty(model.vocabulary_size)
        for ids in documents:
            statistics.count(ids)
        weights = IdfTable.from_statistics(statistics, encoder.vocabulary).weights
        table = torch.from_numpy(weights).to(model.device)
        features = _to(encoder.queries(texts), model.device)
        return presence(features["input_ids"], features["attention_mask"], len(table)) * table
    parts = [
        model.encode_queries(_to(encoder.queries(texts[start : start + 32]), model.device)).float()
        for start in range(0, len(texts), 32)
    ]
    return torch.cat(parts)


def _to(features: Features, device: torch.device) -> Features:
    return {
        name: value.to(device) if isinstance(value, Tensor) else value
        for name, value in features.items()
    }


def load_collections(
    parts: Sequence[EvaluationPart], held_out: Rows | None
) -> list[Collection | Several]:
    """The collections of a recipe.

    Raises:
        InputError: a collection cannot be read.
    """
    return [_load(part, held_out) for part in parts]


def _load(part: EvaluationPart, held_out: Rows | None) -> Collection | Several:
    if part.kind == "nanobeir":
        members = [
            _of_judged(part.model_copy(update={"name": found.name}), found)
            for found in open_nanobeir(part.sets, part.path or HUB)
        ]
        return Several(part.name, members)
    if part.kind == "held-out":
        assert held_out is not None
        return _cut(part, *_held_out(held_out))
    assert part.path is not None
    return _of_judged(part, open_collection(part.path, split=part.split))


def _of_judged(part: EvaluationPart, found: Judged) -> Collection:
    documents = {record.id: record.text for record in found.documents()}
    return _cut(part, documents, found.judged.queries, found.judged.qrels)


def _held_out(
    rows: Rows,
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """Every held-out query, its first document relevant, among all held-out documents."""
    ids: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for i in range(len(rows)):
        row = rows[i]
        for text in row.documents:
            ids.setdefault(text, f"d{len(ids)}")
        queries[f"q{i}"] = row.query
        qrels[f"q{i}"] = {ids[row.documents[0]]: 1}
    return {identifier: text for text, identifier in ids.items()}, queries, qrels


def _cut(
    part: EvaluationPart,
    documents: dict[str, str],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]],
) -> Collection:
    """As many queries and documents as the recipe asks for, always the same ones."""
    chooser = random.Random(0)
    if part.queries is not None and part.queries < len(queries):
        kept = sorted(chooser.sample(sorted(queries), part.queries))
        queries = {identifier: queries[identifier] for identifier in kept}
    qrels = {identifier: qrels[identifier] for identifier in queries}
    judged = {document for one in qrels.values() for document in one if document in documents}
    if part.documents is not None and part.documents < len(documents):
        others = sorted(set(documents) - judged)
        chosen = judged | set(
            chooser.sample(others, min(len(others), max(0, part.documents - len(judged))))
        )
        documents = {i: text for i, text in documents.items() if i in chosen}
    if not judged:
        raise InputError(f"evaluation {part.name}: none of the judged documents is there.")
    return Collection(part.name, documents, queries, qrels, part.idf)
