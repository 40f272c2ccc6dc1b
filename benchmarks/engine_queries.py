"""Does a cluster encode queries as `IdfQueryEncoder` does? Every query, term by term.

    python benchmarks/engine_queries.py [BEIR_FOLDER] [--url URL] [--random 10000]

The cluster has ML Commons and neural-search; without --url a node of its own is started, where its
artifacts are there already (`splade-os cluster up --flavor plugins` fetches them). Texts are
all queries of the collection and random strings: words of the corpus, pieces of the vocabulary
glued together, ASCII, any Unicode. Compared are the terms, the weights as float32, and the 100
best hits of every query of the collection. Documents are encoded without a model, by the lexical
prior alone: it is queries that are compared, and so the whole takes two minutes.

Peer: mode ``idf`` of `SearchClient`, which encodes in the client, on the same index.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from splade_os import SearchClient, __version__
from splade_os.encoding.layout import read_layout
from splade_os.encoding.lexical import LexicalPrior
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import model_hash, resolve_model
from splade_os.engines import DocumentRenderer, Engine, IndexMeta, connect
from splade_os.engines.opensearch_ml.ml_commons import MlCommons
from splade_os.errors import IndexNotFoundError
from splade_os.export.opensearch_deploy import deploy_package
from splade_os.export.opensearch_deployed import undeploy_encoder
from splade_os.export.opensearch_tokenizer import export_opensearch_tokenizer
from splade_os.identity import ModelIdentity
from splade_os.local import down, up
from splade_os.local.artifacts import find_release, missing_bytes
from splade_os.local.places import base_dir
from splade_os.statistics import TermStatistics
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import FEATURE_NAMING

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "scifact"
NAME = "benchmark-engine-queries"  # of index, query encoder and pipeline
K = 100
BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--url")
    parser.add_argument("--random", type=int, default=10_000)
    arguments = parser.parse_args()
    rows = run(arguments.folder, arguments.url, arguments.random)
    for r in rows:
        print(f"{r['case']:<34} {r['ours']!s:>9} {r['peer']!s:>9} {r['note']}", file=sys.stderr)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"benchmark": "engine_queries", "machine": machine, "rows": rows}))


def run(folder: Path, url: str | None, count: int) -> list[dict[str, Any]]:
    release = find_release("opensearch", flavor="plugins")
    if not folder.is_dir():
        return [not_run("the collection is not here")]
    if url is not None:
        return measure(folder, url, count)
    if missing_bytes(release, base_dir() / "artifacts"):
        return [not_run("the plugins are not here: splade-os cluster up --flavor plugins")]
    try:
        node = up(name=NAME, flavor="plugins", via="jvm", port=0, heap="1g")
        return measure(folder, node.url, count)
    finally:
        down(NAME, delete_data=True)


def measure(folder: Path, url: str, count: int) -> list[dict[str, Any]]:
    corpus = [" ".join((d["title"], d["text"])) for d in lines(folder / "corpus.jsonl.gz")]
    queries = [q["text"] for q in lines(folder / "queries.jsonl.gz")]
    plain = IdfQueryEncoder.load("starter")
    engine = connect(url)
    fill(engine, corpus, plain)
    client = SearchClient(engine=engine, index=NAME)
    encoder = client.encoder("idf")
    with tempfile.TemporaryDirectory() as scratch:
        package = export_opensearch_tokenizer(
            "starter", f"{scratch}/out", name=NAME, statistics=engine.load_statistics(NAME)
        )
        deployed = deploy_package(
            package, engine, pipeline=NAME, indices=[NAME], replace=True, allow=lambda changes: True
        )
    try:
        strings = list(random_strings(count, corpus, plain.vocabulary.tokens))
        rows = [
            terms(MlCommons(engine), deployed.model_id, encoder, texts, case)
            for case, texts in ((folder.name, queries), ("random strings", strings))
        ]
        return [*rows, *hits(client, queries, folder.name)]
    finally:
        undeploy_encoder(engine, NAME, force=True)
        engine.delete_index(NAME)


def lines(file: Path) -> Iterator[dict[str, str]]:
    with gzip.open(file) as stream:
        yield from map(orjson.loads, stream)


def fill(engine: Engine, corpus: list[str], plain: IdfQueryEncoder) -> None:
    """An index of the collection, its vectors made by the lexical prior alone."""
    layout = read_layout(resolve_model("starter").folder)
    width, part = len(plain.vocabulary), layout.document
    prior = LexicalPrior(1.0, 250.0, plain.vocabulary.special_ids)
    identity = ModelIdentity(
        name="starter",
        content_hash=model_hash(part),
        activation=part.activation,
        pooling=part.pooling,
        max_length=part.max_length,
        vocabulary_size=width,
    )
    with contextlib.suppress(IndexNotFoundError):
        engine.delete_index(NAME)
    meta = IndexMeta(splade_os=__version__, feature_naming=FEATURE_NAMING, model=identity)
    engine.create_index(NAME, meta)
    statistics = TermStatistics.empty(width)
    renderer = DocumentRenderer(plain.vocabulary)
    for start in range(0, len(corpus), 500):
        texts = corpus[start : start + 500]
        tokens = plain.tokenize(texts)
        batch = prior.add(SparseBatch.empty(len(texts), width), tokens)
        actions = []
        for i, (ids, weights) in enumerate(batch):
            statistics.count(tokens[i])
            actions.append(renderer.render(str(start + i), {}, ids, weights))
        assert all(outcome.ok for outcome in engine.bulk(NAME, b"".join(actions)))
    engine.refresh(NAME)
    engine.save_statistics(NAME, statistics)


def random_strings(count: int, corpus: list[str], tokens: Any) -> Iterator[str]:
    random = np.random.default_rng(8)
    words = np.array(sorted({word for text in corpus[:1000] for word in text.split()}), object)
    pieces = np.array([token.removeprefix("##") for token in tokens], object)
    planes = [c for c in range(0x30000) if not 0xD800 <= c < 0xE000]
    for i in range(count):
        kind = i % 4
        if kind == 0:  # up to twice of what a query may have
            yield " ".join(random.choice(words, int(2 ** random.uniform(0, 9))))
        elif kind == 1:
            yield "".join(random.choice(pieces, random.integers(1, 12)))
        elif kind == 2:
            yield "".join(map(chr, random.integers(0, 128, random.integers(1, 60))))
        else:
            yield "".join(map(chr, random.choice(planes, random.integers(1, 30))))


def terms(
    ml: MlCommons, model_id: str, encoder: Any, texts: list[str], case: str
) -> dict[str, Any]:
    """How many texts have the very same terms and weights on both sides."""
    features, equal, different, most = encoder.vocabulary.features, 0, [], 0.0
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        answers = ml.encode(model_id, batch)
        for text, answer, (ids, weights) in zip(batch, answers, encoder.encode(batch), strict=True):
            expected = dict(zip((features[i] for i in ids.tolist()), weights, strict=True))
            same = answer.keys() == expected.keys()
            if same:
                gaps = [abs(np.float32(answer[t]) - w) / w for t, w in expected.items()]
                most = max([most, *map(float, gaps)])
                same = not any(gaps)
            equal += same
            if not same:
                different.append(text)
    for text in different[:5]:
        print(f"different: {text!r}", file=sys.stderr)
    note = f"texts with identical terms and float32 weights; largest relative difference {most:.1g}"
    return row(f"{case}: terms", equal, len(texts), "texts", len(texts), equal == len(texts), note)


def hits(client: SearchClient, queries: list[str], name: str) -> list[dict[str, Any]]:
    equal, seconds = 0, dict.fromkeys(("idf", "engine"), 0.0)
    for text in queries:
        found = {}
        for mode in seconds:
            start = time.perf_counter()
            found[mode] = client.search(text, K, mode, source=())  # type: ignore[arg-type]
            seconds[mode] += time.perf_counter() - start
        equal += same_hits(*({h.id: h.score for h in found[mode]} for mode in seconds))
    ms = {mode: round(total / len(queries) * 1000, 2) for mode, total in seconds.items()}
    note = f"queries with the same {K} best hits, scores to 1e-5"
    count = len(queries)
    return [
        row(f"{name}: hits", equal, count, "queries", count, equal == count, note),
        row(f"{name}: time", ms["engine"], ms["idf"], "ms", None, None, "a search; peer: mode idf"),
    ]


def same_hits(one: dict[str, float], two: dict[str, float]) -> bool:
    """Whether two rankings differ at most where scores are equal."""
    if len(one) != len(two):
        return False
    if not one:
        return True
    least = min(one.values())
    alone = one.keys() ^ two.keys()  # tied with the last hit
    return all(np.isclose(one.get(i, two.get(i)), least, rtol=1e-5) for i in alone) and all(
        np.isclose(score, two[i], rtol=1e-5) for i, score in one.items() if i in two
    )


def not_run(why: str) -> dict[str, Any]:
    return row("engine queries", None, None, "texts", None, None, f"not run: {why}")


def row(
    case: str,
    ours: float | None,
    peer: float | None,
    unit: str,
    goal: float | None,
    ok: bool | None,
    note: str,
) -> dict[str, Any]:
    ratio = round(ours / peer, 3) if ours is not None and peer else None
    return {
        "case": case, "ours": ours, "peer": peer, "unit": unit, "ratio": ratio, "goal": goal,
        "ok": ok, "note": note,
    }  # fmt: skip


if __name__ == "__main__":
    main()
