"""Nested objects are documents of Lucene's, not of ours: nothing counts them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from splade_os.cli import cli
from splade_os.engines import DocumentRenderer, Engine
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.ingest.index.target import new_meta
from tests.engines.contract import IDENTITY, VOCABULARY


def test_nested_objects_are_not_counted(engine: Engine, index: str, tmp_path: Path) -> None:
    engine.create_index(index, new_meta(engine, IDENTITY, ("text",)))
    if isinstance(engine, ClusterEngine):
        mapping = {"properties": {"attributes": {"type": "nested"}}}
        engine.request("PUT", f"/{index}/_mapping", mapping)
    renderer = DocumentRenderer(VOCABULARY)
    row = np.array([3, 9], np.int32), np.array([1, 2], np.float32)
    source = {"text": "shoe", "attributes": [{"name": "colour"}, {"name": "size"}]}
    body = b"".join(renderer.render(f"d{i}", source, *row) for i in range(5))
    assert all(outcome.ok for outcome in engine.bulk(index, body))
    engine.refresh(index)
    assert engine.count(index) == engine.stats(index).documents == 5
    if isinstance(engine, ClusterEngine):  # what it is that must not be counted
        stats = engine.request("GET", f"/{index}/_stats/docs")
        assert stats["_all"]["primaries"]["docs"]["count"] == 15
    shown = CliRunner().invoke(
        cli, ["index", "show", "--json", "--index", index, "--url", engine.url]
    )
    assert json.loads(shown.stdout)["documents"] == 5
    assert engine.stats(index).bytes > 0


def test_deleted_documents_are_not_counted(engine: Engine, index: str) -> None:
    engine.create_index(index, new_meta(engine, IDENTITY, ("text",)))
    renderer = DocumentRenderer(VOCABULARY)
    row = np.array([3], np.int32), np.array([1], np.float32)
    engine.bulk(index, b"".join(renderer.render(f"d{i}", {}, *row) for i in range(3)))
    engine.bulk(index, b'{"delete":{"_id":"d1"}}\n')
    engine.refresh(index)
    assert engine.stats(index).documents == 2
