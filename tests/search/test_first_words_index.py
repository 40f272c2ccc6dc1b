"""An index remembers how its first words were counted, and its queries are cut in the same way."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from splade_os import DocumentEncoder, SearchClient, ingest_documents
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import Engine
from splade_os.export.index_statistics import index_statistics
from splade_os.export.opensearch_tokenizer import engine_terms, export_opensearch_tokenizer
from splade_os.ingest.documents.records import Record
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.state.statistics import recount
from tests.encoding.spaced_models import symmetric

DOCUMENTS = [*["a boat of the river"] * 9, "river banks", "\nriver", " river", ""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(symmetric("roberta", tmp_path_factory.mktemp("spaced") / "model"))


def fill(engine: Engine, index: str, encoder: DocumentEncoder, folder: Path, shift: int = 0) -> int:
    """Documents, each with its own words as its vector; how many have the word in it."""
    records = [
        Record(i, "test", f"d{i}", text, {"text": text}, {"Ġriver": 1.0, "Ġthe": 0.5})
        for i, text in enumerate(DOCUMENTS, 1 + shift)
    ]
    ingest_documents(
        records, engine=engine, index=index, encoder=encoder, dead_letters=folder / "dead.jsonl",
        options=IngestOptions(),
    )  # fmt: skip
    engine.refresh(index)
    return len([text for text in DOCUMENTS if "river" in text])


def frequencies(engine: Engine, index: str, encoder: DocumentEncoder) -> dict[str, int]:
    statistics = engine.load_statistics(index)
    assert statistics is not None
    vocabulary = encoder.vocabulary
    return {t: int(statistics.frequencies[vocabulary.id(t) or 0]) for t in ("river", "Ġriver")}


def test_new_index(engine: Engine, index: str, model: str, tmp_path: Path) -> None:
    encoder = DocumentEncoder.load(model, device="cpu", backend="none")
    with_word = fill(engine, index, encoder, tmp_path)
    assert engine.index_meta(index).model.leading_space
    assert frequencies(engine, index, encoder) == {"river": 0, "Ġriver": with_word}
    client = SearchClient(engine=engine, index=index)
    found = client.search("river", k=20, explain=True, mode="idf")
    assert list(found.query) == ["Ġriver"] and len(found) == len(DOCUMENTS)
    for hit in found:  # the word is in all texts but the empty one
        expansion = {term.expansion for term in hit.terms if term.token == "Ġriver"}
        assert expansion == {"river" not in str(hit.source["text"])}
    # replaced and deleted documents are taken out as they were counted
    fill(engine, index, encoder, tmp_path)
    assert frequencies(engine, index, encoder) == {"river": 0, "Ġriver": with_word}
    recount(engine, index, encoder, engine.index_meta(index))
    assert frequencies(engine, index, encoder) == {"river": 0, "Ġriver": with_word}
    client.close()


def test_old_index(engine: Engine, index: str, model: str, tmp_path: Path) -> None:
    """It goes on as it was, whoever ingests into it."""
    old = DocumentEncoder.load(model, device="cpu", backend="none", leading_space=False)
    fill(engine, index, old, tmp_path)
    before = frequencies(engine, index, old)
    assert before["river"] > 0
    new = DocumentEncoder.load(model, device="cpu", backend="none")
    fill(engine, index, new, tmp_path, shift=100)
    assert frequencies(engine, index, new) == {t: 2 * n for t, n in before.items()}
    recount(engine, index, new, engine.index_meta(index))
    assert frequencies(engine, index, new) == {t: 2 * n for t, n in before.items()}
    client = SearchClient(engine=engine, index=index)
    assert "river" in client.search("river", mode="idf").query
    client.close()


@pytest.mark.parametrize("spaced", [True, False])
def test_query_encoder_for_the_engine(
    spaced: bool, engine: Engine, index: str, model: str, tmp_path: Path
) -> None:
    """What OpenSearch runs cuts queries as the client does."""
    encoder = DocumentEncoder.load(model, device="cpu", backend="none", leading_space=spaced)
    fill(engine, index, encoder, tmp_path)
    statistics, recorded = index_statistics(engine, index, model)
    assert recorded is spaced
    package = export_opensearch_tokenizer(
        model, tmp_path / "out", statistics=statistics, leading_space=recorded
    )
    with zipfile.ZipFile(package.folder / "query-encoder.zip") as archive:
        tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
        table = json.loads(archive.read("idf.json"))
    client = IdfQueryEncoder.load(model, statistics, leading_space=recorded)
    names = client.vocabulary.features
    for text in ("river", " river", "\n\triver, the", "(river) boats", "日本 river 🙃"):
        ids, weights = client.encode([text]).row(0)
        own = dict(zip((names[i] for i in ids.tolist()), weights.tolist(), strict=True))
        assert engine_terms(tokenizer, table, text) == own
    assert ("Ġriver" in engine_terms(tokenizer, table, "river")) is spaced
