"""Managed services refuse part of the API. Here a real node does, behind a wire that refuses what
they are reported to refuse, in their words; on the services themselves nothing of this was run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from splade_os import SearchClient, ingest_documents
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.engines.rest.failures import refused
from splade_os.engines.rest.wire import Call, open_wire
from splade_os.errors import EngineError
from tests.search.test_search import loaded, records

TEXT = "cat and dog in the red sun"
AMAZON = "https://abc.eu-west-1.aoss.amazonaws.com"


class Managed:
    """The wire to a node, and what stands in its way."""

    def __init__(self, target: str, url: str, status: int, lacks: str, root: Any = None) -> None:
        self._wire, self.url = open_wire(target), url
        self._status, self._lacks, self._root = status, re.compile(lacks), root

    def send(self, call: Call) -> Any:
        if self._lacks.match(f"{call.method} {call.path}"):
            raise refused(self.url, call.index, self._status, self._why(call))
        body = b"" if call.path.endswith("/_mapping") else call.body or b""  # there: a note alone
        if b"number_of_" in body or b"auto_expand" in body:
            why = "Settings [index.number_of_shards] are not available when running in "
            why += "serverless mode"
            raise refused(self.url, call.index, 400, {"error": why})
        return self._root if call.path == "/" else self._wire.send(call)

    def _why(self, call: Call) -> Any:
        if self._root is None:
            return ""
        return {
            "error": f"Request for uri [{call.path}] with method [{call.method}] exists but is not "
            "available when running in serverless mode"
        }

    def close(self) -> None:
        self._wire.close()


def test_elastic_serverless(elasticsearch_url: str, tiny: Path) -> None:
    root = {"version": {"number": "8.11.0", "build_flavor": "serverless"}}
    lacks = r"\w+ /(_nodes|_cluster|\w+/_stats|\w+/_forcemerge)"
    with_url = Managed(elasticsearch_url, "https://p.es.eu.elastic.cloud", 410, lacks, root)
    engine = ClusterEngine(wire=with_url)
    assert engine.capabilities() == Capabilities("elasticsearch", "8.11.0", serverless=True)
    shapes = {"rank_features", "sparse_vector"}
    assert set(engine.field_types()) == shapes and engine.capabilities().exclude_vectors
    try:
        report = ingest_documents(
            records(20), engine=engine, index="managed", encoder=loaded(tiny / "router"),
            dead_letters=Path("never.jsonl"), field_type="sparse_vector",
        )  # fmt: skip
        assert report.verified and report.created == 20
        client = SearchClient(engine=engine, index="managed")
        for mode in ("idf", "bm25", "hybrid"):
            assert client.search(TEXT, 5, mode)  # type: ignore[arg-type]
    finally:
        engine.delete_index("managed")
    with pytest.raises(EngineError, match="is serverless, and lacks") as caught:
        engine.stats("nothing")
    assert caught.value.status == 410


def test_amazon_serverless(opensearch_url: str, tiny: Path) -> None:
    lacks = r"GET /$|\w+ /(_nodes|_cluster|\w+/_stats|\w+/_refresh|\w+/_forcemerge)"
    engine = ClusterEngine(wire=Managed(opensearch_url, AMAZON, 404, lacks))
    assert engine.capabilities().serverless
    assert engine.info().distribution == "opensearch"
    assert engine.field_types() == ("rank_features",)
    engine.refresh("nothing")  # it does so by itself
    with pytest.raises(EngineError, match="is serverless, and lacks"):
        engine.stats("nothing")


def test_a_domain_that_says_it_is_elasticsearch(opensearch_url: str) -> None:
    root = {"version": {"number": "7.10.2", "build_flavor": "oss"}}
    engine = ClusterEngine(
        wire=Managed(opensearch_url, "https://d.es.amazonaws.com", 404, "-", root)
    )
    with pytest.raises(EngineError, match="override_main_response_version"):
        engine.info()
