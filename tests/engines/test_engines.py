"""What one kind of engine alone has, and what is refused before any is asked."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import numpy as np
import orjson
import pytest

from splade_os import mappings
from splade_os.engines import (
    DocumentRenderer,
    Engine,
    SearchRequest,
    TermsQuery,
    connect,
    explain_terms,
)
from splade_os.engines.fields import impacts
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    EngineError,
    EngineUnavailableError,
    IndexFormatError,
    IndexNotFoundError,
    InputError,
    SettingsError,
)
from splade_os.features import truncate
from tests.conftest import stems
from tests.engines.contract import VOCABULARY, fill, meta_for, random_batch


@pytest.mark.parametrize("field", ["splade_os_vector", "splade_os_content", "splade_os_hash"])
def test_reserved_fields(field: str) -> None:
    row = np.array([1], np.int32), np.array([1], np.float32)
    with pytest.raises(InputError, match=field):
        DocumentRenderer(VOCABULARY).render("d", {field: 1}, *row)


def literal_mappings(engine: ClusterEngine) -> list[Path]:
    folder = Path(mappings.__path__[0]) / engine.info().distribution
    return [folder / f"{field_type}.json" for field_type in engine.field_types()]


def test_literal_mappings_work_as_they_stand(engine: Engine) -> None:
    """But for the analyser where a distribution lacks it."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("a cluster's")
    for file in literal_mappings(engine):
        data = file.read_bytes()
        if not stems(engine):
            data = data.replace(b'"english"', b'"standard"')
        url = f"{engine.url}/literal-mapping"
        headers = {"Content-Type": "application/json"}
        for method, content in (("PUT", data), ("GET", None), ("DELETE", None)):
            request = urllib.request.Request(url, content, headers, method=method)
            with urllib.request.urlopen(request) as answer:
                body = json.load(answer)
            if method == "GET":
                properties = body["literal-mapping"]["mappings"]["properties"]
                kind = {"impact": "text"}.get(file.stem, file.stem)
                assert properties["splade_os_vector"]["type"] == kind
    with pytest.raises(IndexNotFoundError):
        engine.index_meta("literal-mapping")


def theirs(engine: ClusterEngine, index: str, identifier: str, query: object) -> list[float]:
    """The engine's own explanation of a score: its summands, largest first."""
    request = urllib.request.Request(
        f"{engine.url}/{index}/_explain/{identifier}",
        orjson.dumps({"query": query}),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        explanation = json.load(answer)["explanation"]
    while len(explanation["details"]) == 1 and "sum of" in explanation["details"][0]["description"]:
        explanation = explanation["details"][0]
    return sorted((detail["value"] for detail in explanation["details"]), reverse=True)


def test_every_field_and_shape_is_exact_and_explained(engine: Engine, index: str) -> None:
    """Every way that the server has to store vectors, with every spelling of a query."""
    if not isinstance(engine, ClusterEngine):
        pytest.skip("SQLite has one")
    server = engine.capabilities()
    batch = random_batch(120, seed=7)
    dense = batch.to_dense()
    ids = np.arange(0, 1500, 2)
    weights = np.random.default_rng(3).uniform(0.01, 90, len(ids)).astype(np.float32)
    assert server.field_types
    for field_type in server.field_types:
        strategy = strategy_for(field_type, server)
        # a scale that the weights of this batch need; then the sums that it makes are the truth
        kind, close = ("impact:256", 1e-4) if field_type == "impact" else (field_type, 1e-5)
        quantised = impacts.weights_of(impacts.frequencies(dense, 256.0), 256.0)
        kept = quantised if field_type == "impact" else truncate(dense)
        stored = np.where(dense > 0, kept, 0).astype(np.float64)
        expected = stored[:, ids] @ weights.astype(np.float64)
        name = f"{index}-{field_type.replace('_', '-')}"
        try:
            fill(engine, name, batch, kind)
            names = VOCABULARY.named(strategy.feature_naming)
            query = TermsQuery([names[i] for i in ids], weights)
            for shape in strategy.shapes:
                request = SearchRequest(query, k=120, with_vector=True, shape=shape.name)
                response = engine.search(name, request)
                got = np.array([hit.score for hit in response.hits])
                mine = np.array([expected[int(hit.id[1:])] for hit in response.hits])
                np.testing.assert_allclose(got, mine, rtol=close, err_msg=shape.name)
                best = np.sort(expected[expected > 0])[::-1]
                np.testing.assert_allclose(got, best, rtol=close, err_msg=shape.name)
                assert response.body is not None
                for hit in response.hits[:3]:
                    assert hit.vector is not None
                    shares = [share.share for share in explain_terms(query, hit.vector)]
                    assert sum(shares) == pytest.approx(hit.score, rel=close)
                    summands = theirs(engine, name, hit.id, orjson.loads(response.body)["query"])
                    np.testing.assert_allclose(shares, summands, rtol=close, err_msg=shape.name)
            with pytest.raises(EngineError, match="has no query 'cubic'"):
                engine.search(name, SearchRequest(query, shape="cubic"))
        finally:
            engine.delete_index(name)


def test_field_type_that_the_server_lacks(engine: Engine, index: str) -> None:
    with pytest.raises(EngineError, match=r"no field of the type 'dense'"):
        meta_for(engine, "dense")
    meta = meta_for(engine).model_copy(update={"field_type": "dense"})
    if isinstance(engine, ClusterEngine):
        with pytest.raises(EngineError, match="--field-type"):
            engine.create_index(index, meta)


def test_index_of_somebody_else(opensearch_url: str) -> None:
    urllib.request.urlopen(urllib.request.Request(f"{opensearch_url}/foreign", method="PUT"))
    try:
        with pytest.raises(IndexFormatError, match="not made by splade-os"):
            connect(opensearch_url).index_meta("foreign")
    finally:
        urllib.request.urlopen(urllib.request.Request(f"{opensearch_url}/foreign", method="DELETE"))


def test_nothing_answers() -> None:
    with pytest.raises(EngineUnavailableError, match="Nothing answers at http://localhost:1"):
        connect("http://localhost:1").info()


def test_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no database " * 100)
    with pytest.raises(EngineUnavailableError, match=r"notes\.txt"):
        connect(f"sqlite:///{file}")


@pytest.mark.parametrize("url", ["localhost:9200", "sqlite:///", "ftp://x"])
def test_wrong_url(url: str) -> None:
    with pytest.raises(SettingsError, match="not the URL of an engine"):
        connect(url)


def test_password_stays_secret(opensearch_url: str) -> None:
    engine = connect(opensearch_url, username="me", password="hunter2secret")
    with pytest.raises(EngineError) as caught:
        engine.bulk("nowhere", b"{}\n")
    assert "hunter2secret" not in repr(caught.value) + str(caught.value)
