"""nDCG@10 of IDF queries with and without a space before texts, for tokenizers that keep it.

    python benchmarks/first_words.py [BEIR_FOLDER ...]

No model takes part: a tokenizer of granite's shape (RoBERTa's byte-level BPE), one of ModernBERT's
(the same behind NFC) and one of Gemma's are trained on the documents; a document's vector is the
lexical prior of its own tokens (BM25's saturated frequency), a query's the IDF table of the
documents, and the score their dot product over all documents. Peer: everything as the texts begin,
in the same run. Queries as they are, and in small letters, as people type: these tokenizers know
``Why`` and ``why`` as two words as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from ir_measures import calc_aggregate, nDCG
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from splade_os.encoding.first_words import FirstWords
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.lexical import LexicalPrior
from splade_os.encoding.processor import processor_name
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.evaluation.collection import Collection, open_collection
from splade_os.evaluation.topk import TopK
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch

DATA = Path(__file__).parents[2] / "shared" / "data"
DEFAULT = [DATA / n for n in ("scifact", "medquad-liveqa", "fairytaleqa", "cranfield", "cisi")]
SHAPES = ("roberta", "modernbert", "gemma")
SIZE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="*", default=DEFAULT)
    rows = []
    for folder in parser.parse_args().folders:
        if not folder.is_dir():
            rows += [row(f"{folder.name} {s}", note="the collection is not here") for s in SHAPES]
            continue
        collection = open_collection(str(folder))
        texts = {record.id: record.text for record in collection.documents()}
        rows += [r for shape in SHAPES for r in measure(collection, texts, shape)]
    for r in rows:
        print(f"{r['case']:<42} {r['ours']!s:>8} {r['peer']!s:>8}  {r['note']}", file=sys.stderr)
    print(json.dumps({"benchmark": "first_words", "machine": processor_name(), "rows": rows}))


def measure(collection: Collection, texts: dict[str, str], shape: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        train(shape, list(texts.values())).save(f"{folder}/tokenizer.json")
        tokenizer = TextTokenizer(
            Path(folder), max_length=None, lowercase=False, special_tokens=False
        )
    tokens = tokenizer(list(texts.values()))
    vocabulary, first_words = tokenizer.vocabulary(), FirstWords(tokenizer)
    judged = list(collection.judged.queries.values())
    forms = {"": judged, " small letters": [query.lower() for query in judged]}
    found: dict[str, list[float]] = {form: [] for form in forms}
    # as the texts begin; counts and queries behind a space; the lexical prior too
    for counted, prior in ((False, False), (True, False), (True, True)):
        statistics = TermStatistics.empty(len(vocabulary))
        statistics.count_many([first_words(ids) if counted else ids for ids in tokens])
        table = IdfTable.from_statistics(statistics, vocabulary)
        mean = statistics.tokens / statistics.documents
        documents = LexicalPrior(
            1.0, mean, vocabulary.special_ids, first_words if prior else None
        ).add(SparseBatch.empty(len(tokens), len(vocabulary)), tokens)
        encoder = IdfQueryEncoder(tokenizer, table, leading_space=counted)
        for form, queries in forms.items():
            best = TopK(encoder.encode(queries), 10)
            best.add(list(texts), documents)
            run = best.run(list(collection.judged.queries))
            qrels = collection.judged.qrels
            found[form].append(calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])
    return [
        row(
            f"{collection.name} {shape}{form}",
            now,
            before,
            f"{len(judged)} queries; with the lexical prior as well {whole:.4f}",
        )
        for form, (before, now, whole) in found.items()
    ]


def train(shape: str, texts: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if shape == "gemma":
        made.normalizer = normalizers.Replace(" ", "▁")
        made.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    else:
        if shape == "modernbert":
            made.normalizer = normalizers.NFC()
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    alphabet = [] if shape == "gemma" else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, initial_alphabet=alphabet, special_tokens=["<s>"], show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def row(
    case: str, ours: float | None = None, peer: float | None = None, note: str = ""
) -> dict[str, Any]:
    return {
        "case": case,
        "ours": None if ours is None else round(ours, 4),
        "peer": None if peer is None else round(peer, 4),
        "unit": "nDCG@10",
        "ratio": round(ours / peer, 3) if ours is not None and peer else None,
        "goal": 1.0,
        "ok": None if ours is None or peer is None else ours >= peer,
        "note": note,
    }


if __name__ == "__main__":
    main()
