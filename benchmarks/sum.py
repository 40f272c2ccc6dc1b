"""nDCG@10 of the sum of IDF and BM25 scores, by weight of BM25 and by how documents are encoded.

    python benchmarks/sum.py BEIR_FOLDER ... --cache FOLDER [--url URL]

Learned weights are computed once (the starter, without its prior) and kept in `--cache`; prior,
mask, caps and windows come on top, and everything is multiplied in memory, with the 9 significant
bits that an engine keeps. BM25's scores are the engine's own (english analyser). `0` is IDF alone.
Whole words need `pip install snowballstemmer`: stems with the weight of the prior, instead of BM25.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import uuid4

import numpy as np
from scipy import sparse

from splade_os import DocumentEncoder
from splade_os.encoding.expansion import keeps_no_expansion, without_expansion
from splade_os.encoding.lexical import K1, SAMPLE, B, LexicalPrior
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.rows import heaviest
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.evaluation.collection import open_collection
from splade_os.features import truncate
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch

BM25_WEIGHTS = (0, 0.5, 1, 1.5, 2, 3)
WORD_WEIGHTS = (0, 0.3, 0.6, 1, 2, 3)
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "`--lexical-weight 2`": {"prior": 2},
    "`--lexical-weight 1` (the starter)": {},
    "`--lexical-weight 0.5`": {"prior": 0.5},
    "`--lexical-weight 0`": {"prior": 0},
    "`--mask-expansion`": {"mask": True},
    "`--lexical-weight 0 --mask-expansion`": {"prior": 0, "mask": True},
    "`--max-active-dims 160`": {"cap": 160},
    "`--max-active-dims 128`": {"cap": 128},
    "`--long-texts chunk --stride 32`": {"stride": 32},
    "the same, `--max-active-dims 192`": {"stride": 32, "cap": 192},
    "the same, `--max-active-dims 128`": {"stride": 32, "cap": 128},
}
LEARNED = DocumentEncoder.load("starter", dtype="auto", lexical_weight=0)
MEAN_WEIGHT = 0.297  # of the starter: what a prior of weight 1 is multiplied by
SILENT = keeps_no_expansion(LEARNED.vocabulary)

Scores = np.ndarray[Any, Any]


class Collection:
    """A collection, its queries and what its documents are made of."""

    def __init__(self, folder: Path, cache: Path, url: str) -> None:
        self.name, self._cache, self._url = folder.name, cache, url
        found = open_collection(str(folder))
        records = list(found.documents())
        self._ids = [record.id for record in records]
        self._texts = [record.text for record in records]
        self._tokens, _ = LEARNED.tokenize_documents(self._texts)
        self._queries = list(found.judged.queries.values())
        places = {identifier: i for i, identifier in enumerate(self._ids)}
        self._gains, self._best = [], []
        for query in found.judged.queries:
            judged = {d: r for d, r in found.judged.qrels[query].items() if r > 0}
            best = sorted(judged.values(), reverse=True)[:10]
            self._best.append(sum(gain / np.log2(i + 2) for i, gain in enumerate(best)))
            self._gains.append({places[d]: r for d, r in judged.items() if d in places})
        counted = [LEARNED.counted(ids) for ids in self._tokens]
        self._average = mean(len(ids) for ids in counted[:SAMPLE] if len(ids))
        statistics = TermStatistics.empty(LEARNED.identity.vocabulary_size)
        for ids in counted:
            statistics.count(ids)
        table = IdfQueryEncoder.load("starter", statistics, whole=True)
        self._asked = csr(table.encode(self._queries, "log"))

    def documents(
        self, prior: float = 1, mask: bool = False, stride: int = 0, cap: int | None = None
    ) -> SparseBatch:
        batch = self._learned(stride)
        if mask:
            batch = without_expansion(batch, self._tokens, SILENT)
        special = LEARNED.vocabulary.special_ids
        batch = LexicalPrior(prior * MEAN_WEIGHT, self._average, special).add(batch, self._tokens)
        return heaviest(batch, cap) if cap else batch

    def _learned(self, stride: int) -> SparseBatch:
        file = self._cache / f"{self.name}.{f'chunk{stride}' if stride else 'cut'}.learned.npz"
        if not file.exists():
            encoder = LEARNED
            if stride:
                encoder = DocumentEncoder.load(
                    "starter", dtype="auto", lexical_weight=0, long_texts="chunk", stride=stride
                )
            batch = encoder.encode_tokens(self._tokens)
            np.savez(file, indptr=batch.indptr, indices=batch.indices, values=batch.values)
        return SparseBatch(**np.load(file), width=LEARNED.identity.vocabulary_size)

    def scores(self, batch: SparseBatch) -> Scores:
        return np.asarray((self._asked @ csr(batch).T).todense())  # (Q, N)

    @cached_property
    def bm25(self) -> Scores:
        file = self._cache / f"{self.name}.bm25.npy"
        if not file.exists():
            np.save(file, np.stack(list(self._bm25())))
        return np.load(file)

    def _bm25(self) -> Iterator[Scores]:
        engine, index = ClusterEngine(self._url), f"sum-{uuid4().hex[:12]}"
        text = {"properties": {"text": {"type": "text", "analyzer": "english"}}}
        engine.request("PUT", f"/{index}", {"settings": {"number_of_shards": 1}, "mappings": text})
        try:
            for i, content in enumerate(self._texts):
                engine.request("PUT", f"/{index}/_doc/{i}", {"text": content})
            engine.request("POST", f"/{index}/_refresh")
            for query in self._queries:
                body = {"size": 10_000, "_source": False, "query": {"match": {"text": query}}}
                hits = engine.request("POST", f"/{index}/_search", body)["hits"]["hits"]
                scores = np.zeros(len(self._ids), np.float32)
                scores[[int(hit["_id"]) for hit in hits]] = [hit["_score"] for hit in hits]
                yield scores
        finally:
            engine.request("DELETE", f"/{index}")

    @cached_property
    def words(self) -> Scores:
        """Scores of stemmed words as features: saturated frequency times IDF, as the prior."""
        from snowballstemmer import stemmer  # type: ignore[import-not-found]

        stem = stemmer("english").stemWords
        texts = [stem(re.findall(r"\w+", text.lower())) for text in self._texts]
        queries = [stem(re.findall(r"\w+", text.lower())) for text in self._queries]
        ids = {word: i for i, word in enumerate({word for text in texts for word in text})}
        average = mean(len(text) for text in texts if text)
        frequencies = Counter(word for text in texts for word in set(text))
        idf = {
            word: np.log1p((len(texts) - n + 0.5) / (n + 0.5)) for word, n in frequencies.items()
        }
        documents = matrix(
            [
                {
                    ids[w]: f * (K1 + 1) / (f + K1 * (1 - B + B * len(text) / average))
                    for w, f in Counter(text).items()
                }
                for text in texts
            ],
            len(ids),
        )
        documents.data = truncate(documents.data)
        asked = [
            {ids[w]: idf[w] * (1 + np.log(f)) for w, f in Counter(text).items() if w in ids}
            for text in queries
        ]
        return np.asarray((matrix(asked, len(ids)) @ documents.T).todense())

    def ndcg(self, scores: Scores) -> float:
        """Mean over the queries; graded, as trec_eval's."""
        found = []
        for row, gains, best in zip(scores, self._gains, self._best, strict=True):
            top = [int(i) for i in np.argsort(-row, kind="stable")[:10] if row[i] > 0]
            found.append(sum(gains.get(i, 0) / np.log2(r + 2) for r, i in enumerate(top)) / best)
        return float(np.mean(found))


def matrix(rows: list[dict[int, float]], width: int) -> sparse.csr_matrix:
    indptr = np.cumsum([0, *map(len, rows)])
    indices = [i for row in rows for i in row]
    values = np.array([value for row in rows for value in row.values()], np.float32)
    return sparse.csr_matrix((values, indices, indptr), shape=(len(rows), width))


def csr(batch: SparseBatch) -> sparse.csr_matrix:
    values = truncate(batch.values)
    return sparse.csr_matrix((values, batch.indices, batch.indptr), (len(batch), batch.width))


def line(name: str, values: list[float], last: str = "") -> None:
    best = max(values)
    cells = [f"**{v:.4f}**" if v == best else f"{v:.4f}" for v in values]
    print(f"| {name} | {' | '.join([*cells, last] if last else cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--url", default="http://localhost:9200")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    collections = [Collection(folder, given.cache, given.url) for folder in given.folders]
    shown = " | ".join(f"{weight:g}" for weight in BM25_WEIGHTS)
    print(f"| BM25's weight | {shown} | terms |\n|---|{'---|' * (len(BM25_WEIGHTS) + 1)}")
    for c in collections:
        batch = c.documents()
        scores = c.scores(batch)
        values = [c.ndcg(scores + weight * c.bm25) for weight in BM25_WEIGHTS]
        name = f"{c.name} (BM25 {c.ndcg(c.bm25):.4f})"
        line(name, values, f"{len(batch.indices) / len(batch):.0f}")
    for name, options in VARIANTS.items():
        batches = [c.documents(**options) for c in collections]
        pairs = list(zip(collections, batches, strict=True))
        scored = [(c, c.scores(batch)) for c, batch in pairs]
        values = [mean(c.ndcg(s + w * c.bm25) for c, s in scored) for w in BM25_WEIGHTS]
        terms = mean(len(batch.indices) / len(batch) for batch in batches)
        line(f"mean, {name}", values, f"{terms:.0f}")
    shown = " | ".join(f"{weight:g}" for weight in WORD_WEIGHTS)
    print(f"\n| whole words' weight | {shown} |\n|---|{'---|' * len(WORD_WEIGHTS)}")
    for prior in (1.0, 0.0):
        scored = [(c, c.scores(c.documents(prior=prior))) for c in collections]
        values = [mean(c.ndcg(s + w * c.words) for c, s in scored) for w in WORD_WEIGHTS]
        line(f"mean, `--lexical-weight {prior:g}`", values)


if __name__ == "__main__":
    main()
