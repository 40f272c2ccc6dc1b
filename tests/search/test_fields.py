"""Every way of storing vectors that a server has, through ingest and search client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splade_os import DocumentEncoder, SearchClient, ingest_documents
from splade_os.engines import Engine
from splade_os.engines.fields import impacts
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import EngineError, InputError
from splade_os.features import truncate
from tests.search.test_search import records

TEXT = "cat and dog in the red sun"


def test_every_field_and_spelling(engine: Engine, index: str, tiny: Path) -> None:
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    documents = encoder.encode([record.text for record in records(40)]).to_dense()
    for field_type in engine.field_types():
        quantised = impacts.weights_of(impacts.frequencies(documents, 4.0), 4.0)
        kept, close = (quantised, 1e-4) if field_type == "impact" else (truncate(documents), 1e-5)
        stored = np.where(documents > 0, kept, 0).astype(np.float64)
        name = f"{index}-{field_type.replace('_', '-')}"
        try:
            ingest_documents(
                records(40), engine=engine, index=name, encoder=encoder,
                dead_letters=Path("never.jsonl"), field_type=field_type,
            )  # fmt: skip
            client = SearchClient(engine=engine, index=name)
            assert client.meta.field_type == field_type
            shapes: list[str | None] = [None]
            if isinstance(engine, ClusterEngine):
                strategy = strategy_for(field_type, engine.capabilities())
                shapes += [shape.name for shape in strategy.shapes]
            for mode in ("idf", "encoder"):
                query = client.encoder(mode).encode([TEXT]).to_dense()[0]  # type: ignore[arg-type]
                expected = stored @ query.astype(np.float64)
                for shape in shapes:
                    results = client.search(TEXT, 10, mode, explain=True, shape=shape)  # type: ignore[arg-type]
                    assert results, (field_type, mode, shape)
                    for hit in results:
                        score = expected[int(hit.id[1:]) - 1]
                        assert hit.score == pytest.approx(score, rel=close)
                        assert sum(t.share for t in hit.terms) == pytest.approx(score, rel=close)
                        assert {term.token for term in hit.terms} <= set(results.query)
            few = client.search(TEXT, 10, filter={"range": {"n": {"lte": 10}}}, mode="idf")
            assert {hit.source["n"] for hit in few} <= set(range(1, 11)) and few
            token = next(iter(client.search(TEXT, mode="idf").query))
            raw = client.search({token: 2.0}, 5, "raw", explain=True)
            assert {term.token for hit in raw for term in hit.terms} == {token}
            if client.meta.feature_naming == "token-id":
                with pytest.raises(InputError, match="no token 'nonsense'"):
                    client.search({"nonsense": 1.0}, mode="raw")
            if isinstance(engine, ClusterEngine):
                with pytest.raises(EngineError, match="It has: "):
                    client.search(TEXT, shape="cubic", mode="idf")
        finally:
            engine.delete_index(name)


def test_the_engine_may_prune_only_when_told(engine: Engine, index: str, tiny: Path) -> None:
    """Elasticsearch drops frequent tokens of a ``sparse_vector`` query where it is let."""
    if not isinstance(engine, ClusterEngine) or not engine.capabilities().sparse_vector_query:
        pytest.skip("not a server with that query")
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    ingest_documents(
        records(40), engine=engine, index=index, encoder=encoder,
        dead_letters=Path("never.jsonl"), field_type="sparse_vector",
    )  # fmt: skip
    client = SearchClient(engine=engine, index=index)
    (exact,) = client.build(TEXT, shape="sparse_vector", mode="idf")
    (pruned,) = client.build(TEXT, shape="sparse_vector", token_pruning=True, mode="idf")
    assert b'"prune":false' in exact and b'"prune":true' in pruned
    assert client.search(TEXT, shape="sparse_vector", token_pruning=True, mode="idf") is not None
