"""Small collections that tests make themselves."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from tests.tiny_models import _WORDS as WORDS

Documents = dict[str, str]
Judgements = dict[str, dict[str, int]]


def words(random: np.random.Generator, least: int, most: int) -> str:
    return " ".join(random.choice(WORDS, random.integers(least, most)))


def make(
    documents: int = 120, queries: int = 25, seed: int = 5, *, copies: bool = True
) -> tuple[Documents, dict[str, str], Judgements]:
    """Random words; a few documents twice, so that scores tie; a query is part of a document."""
    random = np.random.default_rng(seed)
    corpus = {f"d{i}": words(random, 4, 20) for i in range(documents)}
    for i in range(0, documents, 17) if copies else ():
        corpus[f"copy{i}"] = corpus[f"d{i}"]
    names = list(corpus)
    asked, judged = {}, {}
    for i in range(queries):
        about = random.choice(names)
        own = corpus[about].split()
        asked[f"q{i}"] = " ".join(random.choice(own, min(4, len(own)), replace=False))
        others = random.choice(names, random.integers(1, 14), replace=False)
        judged[f"q{i}"] = {about: 2, **{str(o): int(random.integers(0, 3)) for o in others}}
        judged[f"q{i}"][about] = 2
    return corpus, asked, judged


def write_beir(
    folder: Path,
    collection: tuple[Documents, dict[str, str], Judgements],
    *,
    packed: bool = False,
) -> Path:
    corpus, queries, qrels = collection
    (folder / "qrels").mkdir(parents=True)
    files = {
        "corpus.jsonl": [json.dumps({"_id": i, "title": "", "text": t}) for i, t in corpus.items()],
        "queries.jsonl": [json.dumps({"_id": i, "text": t}) for i, t in queries.items()],
        "qrels/test.tsv": ["query-id\tcorpus-id\tscore"]
        + [f"{q}\t{d}\t{r}" for q, judged in qrels.items() for d, r in judged.items()],
    }
    for name, lines in files.items():
        content = ("\n".join(lines) + "\n").encode()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder
