"""One local Ray for all tests; documents; a load of them on it, and as one machine makes it."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os import DocumentEncoder
from splade_os.distributed.cluster import RayOptions, import_ray
from splade_os.distributed.load import load_on_ray
from splade_os.engines import Engine, connect
from splade_os.engines.base import HASH_FIELD, VECTOR_FIELD
from splade_os.ingest.documents.records import RecordReader
from splade_os.ingest.load import load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.sources import find_source

WINDOW = 8
RUNNING: dict[str, Any] = {"device": "cpu", "dtype": "int8"}  # starts without torch
READER = RecordReader(text_fields=("text",))
WORDS = [
    "the",
    "red",
    "cat",
    "reads",
    "a",
    "river",
    "of",
    "words",
    "in",
    "small",
    "index",
    "shards",
    "and",
    "sparse",
    "vectors",
    "by",
    "night",
]


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    # others may fill the memory of this machine: Ray would kill its workers from 95 % on
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
    ray = import_ray()
    ray.init(
        address="local", num_cpus=6, include_dashboard=False, object_store_memory=200_000_000,
        log_to_driver=False, logging_level=logging.ERROR,
    )  # fmt: skip
    try:
        yield ray
    finally:
        ray.shutdown()


@pytest.fixture
def engine(opensearch_url: str) -> Iterator[Engine]:
    opened = connect(opensearch_url)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Job:
    """A folder of files, and what loads it."""

    folder: Path
    engine: Engine
    count: int
    average_length: float | None = None

    def encoder(self) -> DocumentEncoder:
        return DocumentEncoder.load("starter", **RUNNING, average_length=self.average_length)

    def arguments(self, dead: str, **others: Any) -> dict[str, Any]:
        given = {"window": WINDOW, **others.pop("options", {})}
        return {
            "engine": self.engine,
            "encoder": self.encoder(),
            "reader": READER,
            "options": IngestOptions(**given),
            "dead_letters": self.folder.with_name(dead),
            **others,
        }

    def plain(self, index: str, **others: Any) -> IngestReport:
        return load_source(
            str(self.folder), target=index, **self.arguments("plain.jsonl", **others)
        )

    def on_ray(self, index: str, *, url: str | None = None, **others: Any) -> IngestReport:
        cluster = others.pop("cluster", RayOptions(workers=1, writers=2))
        return load_on_ray(
            find_source(str(self.folder)),
            spec=str(self.folder),
            connect=partial(connect, url or self.engine.url),
            target=index,
            model="starter",
            running=RUNNING,
            cluster=cluster,
            **self.arguments("dead.jsonl", **others),
        )

    def letters(self) -> list[dict[str, Any]]:
        file = self.folder.with_name("dead.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def job(engine: Engine, tmp_path: Path) -> Job:
    """Three files; a line that is no JSON; an id three times, in files that are read at once."""
    draw = random.Random(1)
    folder = tmp_path / "corpus"
    folder.mkdir()
    number = 0
    for part in range(3):
        rows: list[str] = []
        for _ in range(50):
            text = " ".join(draw.choices(WORDS, k=draw.randrange(1, 12)))
            rows.append(json.dumps({"id": f"d{number}", "text": text, "n": number}))
            number += 1
        rows.insert(7, json.dumps({"id": "twice", "text": f"of file {part}", "n": -1 - part}))
        if part == 1:
            rows.insert(3, "no JSON")
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    return Job(folder, engine, number + 1)


def contents(engine: Engine, index: str) -> tuple[dict[str, Any], Any, Any]:
    """Documents with their vectors, of their marks the hashes alone; ``_meta``; statistics."""
    engine.refresh(index)
    ids = [identifier for identifier, _ in engine.scan(index, ())]
    assert len(ids) == len(set(ids)) == engine.count(index)
    found = {i: dict(each) for i, each in engine.documents(index, ids).items()}
    for each in found.values():
        each[HASH_FIELD] = each[HASH_FIELD][:24]
    return found, engine.index_meta(index), engine.load_statistics(index)


def assert_same(engine: Engine, index: str, other: str) -> None:
    """Every document once, as a load on one machine leaves it; the same statistics to the last."""
    (mine, meta, counted), (theirs, meta_of, expected) = (
        contents(engine, name) for name in (index, other)
    )
    assert meta == meta_of and mine.keys() == theirs.keys()
    for identifier, document in mine.items():
        vector, wanted = document.pop(VECTOR_FIELD), theirs[identifier].pop(VECTOR_FIELD)
        assert vector == pytest.approx(wanted, rel=2**-8), identifier
        assert document == theirs[identifier]
    assert (counted.documents, counted.tokens) == (expected.documents, expected.tokens)
    np.testing.assert_array_equal(counted.frequencies, expected.frequencies)
    state = engine.load_state(index)
    assert state is not None and not state.loading and state.settings is None
    assert engine.settings(index).get("refresh_interval") != "-1"


@pytest.fixture
def names(engine: Engine, index: str) -> Iterator[tuple[str, str]]:
    """Two names of indices, removed at the end."""
    yield index, f"{index}-plain"
    for name in engine.indices(f"{index}*"):
        engine.delete_index(name)
