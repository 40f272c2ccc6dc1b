"""An index names its model by name and content hash; an IDF query needs no weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder, SearchClient, connect, ingest_documents
from splade_os.cli import cli
from splade_os.encoding import file_hash, resolve
from splade_os.encoding.resolve import content_hash, resolve_model
from splade_os.engines import Engine
from splade_os.errors import ModelError, ModelMismatchError
from splade_os.export.index_statistics import index_statistics
from splade_os.ingest.documents.records import Record
from tests import tiny_models

QUERY = " ".join(tiny_models._WORDS)  # something of it is in every vector
TEXTS = ["the cat reads", "the dog and the moon", "a small river"]


@pytest.fixture
def engine_url(tmp_path: Path) -> str:
    """What is decided here is decided before an engine is asked."""
    return f"sqlite:///{tmp_path}/engine.db"


def fill(engine: Engine, model: Path) -> str:
    """An index by a model; its content hash."""
    encoder = DocumentEncoder.load(str(model), device="cpu")
    records = [Record(i, "test", f"d{i}", text, {"text": text}) for i, text in enumerate(TEXTS, 1)]
    ingest_documents(
        records, engine=engine, index="docs", encoder=encoder, dead_letters=Path("never.jsonl")
    )
    return encoder.identity.content_hash


def without_weights(model: Path, copy: Path) -> Path:
    """What a host that only searches needs: the query side, tokenizers and small files."""
    shutil.copytree(model, copy)
    for file in copy.rglob("*.safetensors"):
        if not file.parent.name.startswith("query_"):
            file.unlink()
    return copy


@pytest.mark.parametrize("kind", ["router", "bert"])
def test_idf_query_without_weights(kind: str, engine: Engine, tiny: Path, tmp_path: Path) -> None:
    """From another folder, of which only the query side is there: same hits, same scores."""
    fill(engine, tiny / kind)
    whole = SearchClient(engine=engine, index="docs").search(QUERY, explain=True, mode="idf")
    bare = str(without_weights(tiny / kind, tmp_path / "bare"))
    client = SearchClient(engine=engine, index="docs", model=bare)
    found = client.search(QUERY, explain=True, mode="idf")
    assert len(found) > 0
    assert [(hit.id, hit.score) for hit in found] == [(hit.id, hit.score) for hit in whole]
    assert index_statistics(engine, "docs", bare)[0].documents == len(TEXTS)
    with pytest.raises(ModelError, match="safetensors"):
        client.search("cat", mode="encoder")


def test_no_hash_over_weights(
    engine: Engine, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the model that the index names; not even where they are."""
    fill(engine, tiny / "router")
    read: list[Path] = []
    real = file_hash._hash.__wrapped__

    def noted(file: Path, *stamp: int) -> str:
        read.append(file)
        return real(file, *stamp)

    monkeypatch.setattr(file_hash, "_hash", noted)
    assert SearchClient(engine=engine, index="docs").search(QUERY, mode="idf")
    assert {file.parent.name for file in read} == {"query_0_SparseStaticEmbedding"}


def test_another_query_side_is_refused(engine: Engine, tiny: Path, tmp_path: Path) -> None:
    """Without weights a tokenizer or a table that is not the index's is another model."""
    fill(engine, tiny / "router")
    bare = without_weights(tiny / "router", tmp_path / "bare")
    table = tiny_models.change_table(bare, tmp_path / "table", slice(40, 50), 3.0)
    tokenizer = without_weights(tiny / "router", tmp_path / "tokenizer")
    file = tokenizer / "query_0_SparseStaticEmbedding" / "tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))
    for other in (table, tokenizer):
        with pytest.raises(ModelMismatchError, match="another tokenizer or table"):
            SearchClient(engine=engine, index="docs", model=str(other)).search("cat", mode="idf")
    with pytest.raises(ModelMismatchError, match="content hash"):
        SearchClient(engine=engine, index="docs", model=str(tiny / "bert")).search(
            "cat", mode="idf"
        )


@pytest.mark.parametrize("mode", ["idf", "encoder"])
def test_the_path_is_not_on_this_machine(
    mode: str, engine: Engine, tiny: Path, tmp_path: Path
) -> None:
    """The message says which model is wanted and how to know it; doing so works."""
    there = tmp_path / "there" / "my-splade"
    shutil.copytree(tiny / "router", there)
    short = fill(engine, there)[:12]
    here = tmp_path / "here"
    there.rename(here)
    with pytest.raises(ModelError) as error:
        SearchClient(engine=engine, index="docs").search("cat", mode=mode)  # type: ignore[arg-type]
    text = str(error.value)
    assert "The index docs was encoded with the model" in text and str(there) in text
    assert f"content hash {short}" in text and "--model FOLDER" in text
    shown = CliRunner().invoke(cli, ["model", "show", str(here)]).output
    assert short in shown
    client = SearchClient(engine=engine, index="docs", model=str(here))
    assert client.search(QUERY, mode=mode)  # type: ignore[arg-type]


def test_ingest_says_it_too(engine: Engine, engine_url: str, tiny: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    shutil.copytree(tiny / "bert", there)
    short = fill(engine, there)[:12]
    engine.close()
    shutil.rmtree(there)
    file = tmp_path / "more.jsonl"
    file.write_text('{"_id": "x", "text": "cat"}\n')
    command = ["ingest", str(file), "--index", "docs", "--url", engine_url]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code and f"content hash {short}" in str(done.exception) + done.output
    found = connect(engine_url).index_meta("docs").model
    assert found.content_hash.startswith(short) and found.name == str(there)


def test_query_side_of_the_hub(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """Of a hub model an IDF query downloads the table and the small files."""
    asked: list[list[str]] = []

    def snapshot(name: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tiny / "router")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    resolve_model("org/name", weights=False)
    resolve_model("org/name")
    assert "*.safetensors" not in asked[0] and "query_*/*.safetensors" in asked[0]
    assert "*.safetensors" in asked[1]


def test_an_index_without_the_note(engine: Engine, tiny: Path) -> None:
    """Indices of before hold no hash of the query side: the weights tell."""
    fill(engine, tiny / "router")
    old = engine.index_meta("docs").model.model_copy(update={"query_hash": ""})
    found = resolve_model(str(tiny / "router"))
    assert not resolve.same_queries(found, old)
    assert old.difference(DocumentEncoder.load(str(tiny / "router")).identity) is None
    assert content_hash(tiny / "router" / "document_0_Transformer") == old.content_hash
