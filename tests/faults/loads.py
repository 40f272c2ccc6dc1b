"""Documents to load, `splade-os ingest` as a process, and the check that nothing is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from splade_os.engines import Engine

FULL = "SPLADE_OS_TEST_FULL" in os.environ
"""`make test-faults`: many rounds instead of a few."""


@dataclass(frozen=True)
class Load:
    """A file of documents that bring their vectors (so that a process starts in a second)."""

    model: Path
    file: Path
    documents: dict[str, dict[str, Any]]
    """id → what must be in the index."""

    def command(self, url: str, index: str, *more: str) -> list[str]:
        return [
            *(sys.executable, "-m", "splade_os", "ingest", self.file.name, "--vectors"),
            *("--model", str(self.model), "--url", url, "--index", index),
            *("--dead-letters", "dead.jsonl", "--json"),
            *more,
        ]

    def start(self, url: str, index: str, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(url, index, *more),
            cwd=self.file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, url: str, index: str, *more: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, report and messages."""
        process = self.start(url, index, *more)
        out, talk = process.communicate(timeout=300)
        assert b"Traceback" not in talk, talk.decode()
        return process.returncode, json.loads(out) if out else {}, talk.decode()

    def letters(self) -> list[dict[str, Any]]:
        file = self.file.with_name("dead.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def make_load(model: Path, folder: Path, count: int, seed: int = 0, name: str = "v.jsonl") -> Load:
    """``count`` documents of random words and weights."""
    part = model / "document_0_Transformer"
    tokens = list(json.loads((part / "tokenizer.json").read_text())["model"]["vocab"])
    words = [token for token in tokens if token.isalpha() and len(token) > 1]
    draw = random.Random(seed)
    documents = {}
    with (folder / name).open("w") as out:
        for i in range(count):
            document = {"text": " ".join(draw.choices(words, k=10)), "n": i, "seed": seed}
            vector = {t: round(draw.uniform(0.01, 3), 3) for t in draw.sample(words, 20)}
            out.write(json.dumps({"id": f"d{i}", **document, "vector": vector}) + "\n")
            documents[f"d{i}"] = {"id": f"d{i}", **document}
    return Load(model, folder / name, documents)


def check_index(engine: Engine, index: str, load: Load) -> None:
    """Every document is in the index once, as it is in the file; the statistics are exact."""
    engine.refresh(index)
    scanned = list(engine.scan(index, ["id", "text", "n", "seed"]))
    assert len(scanned) == len(load.documents) == engine.count(index)
    assert dict(scanned) == load.documents
    statistics = engine.load_statistics(index)
    assert statistics is not None
    # the tokenizer itself is the oracle
    tokenizer = Tokenizer.from_file(str(load.model / "document_0_Transformer/tokenizer.json"))
    tokenizer.no_padding()
    texts = [document["text"] for document in load.documents.values()]
    expected = np.zeros(len(statistics.frequencies), np.int64)
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        expected[list(set(encoding.ids))] += 1
    assert statistics.documents == len(texts)
    np.testing.assert_array_equal(statistics.frequencies, expected)
