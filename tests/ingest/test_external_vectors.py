"""Vectors that documents bring: the index says what made them, or that nobody said so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splade_os import DocumentEncoder, SearchClient
from splade_os.cli import cli
from splade_os.encoding.external import ExternalVectors
from splade_os.engines import Engine, connect
from splade_os.errors import ModelMismatchError, SettingsError
from splade_os.features import truncate
from splade_os.identity import EXTERNAL
from splade_os.ingest.index.target import new_meta
from tests.conftest import NEWEST, url_of

VECTORS: list[dict[str, float]] = [
    {"cat": 1.5, "no token of any model": 0.25, "a.b": 2.0, "": 1.0},
    {"日本": 3.0, "cat": 0.5},
    {"dog": 1.0},
    {},
]


@pytest.fixture(params=["sqlite", *NEWEST])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = connect(url_of(request.param, request, tmp_path))
    yield opened
    opened.close()


def ingest(url: str, index: str, file: Path, *more: str) -> tuple[Result, dict[str, Any]]:
    dead = file.with_suffix(".dead")
    done = CliRunner().invoke(
        cli,
        ["ingest", str(file), "--url", url, "--index", index, "--text", "text", "--json",
         "--dead-letters", str(dead), *more],
    )  # fmt: skip
    return done, json.loads(done.stdout) if done.stdout else {}


def write(folder: Path, name: str = "vectors.jsonl", vectors: Any = VECTORS) -> Path:
    rows = [{"id": f"d{i}", "text": "some words", "vector": v} for i, v in enumerate(vectors)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def dot(query: dict[str, float], vector: dict[str, float]) -> float:
    import numpy as np

    return sum(
        weight * float(truncate(np.array([vector[token]], np.float32))[0])
        for token, weight in query.items()
        if token in vector
    )


def test_without_a_model_the_index_says_external(
    engine: Engine, index: str, tiny: Path, tmp_path: Path
) -> None:
    file = write(tmp_path)
    done, report = ingest(engine.url, index, file, "--vectors")
    assert done.exit_code == 0, done.stderr
    assert (report["created"], report["empty"], report["dead"]) == (4, 1, 0)
    assert "no model is named" in done.stderr
    meta = engine.index_meta(index)
    assert (meta.model.name, meta.model.content_hash) == (EXTERNAL, "")
    assert engine.load_statistics(index) is None
    client = SearchClient(engine=engine, index=index)
    query = {"cat": 2.0, "a.b": 1.0, "日本": 0.5, "": 3.0}
    expected = {f"d{i}": dot(query, v) for i, v in enumerate(VECTORS) if dot(query, v)}
    found = client.search(query, mode="raw", explain=True)
    assert {hit.id: hit.score for hit in found.hits} == pytest.approx(expected, rel=1e-5)
    assert {term.token for term in found.hits[0].terms} == set(query) & set(VECTORS[0])
    assert len(client.search("words", mode="bm25").hits) == 4
    for mode in ("idf", "encoder", "hybrid"):
        for model in (None, str(tiny / "router"), "starter"):
            with pytest.raises(ModelMismatchError, match="came from outside"):
                SearchClient(engine=engine, index=index, model=model).search("cat", mode=mode)  # type: ignore[arg-type]
    # it goes on: the same again, more of them, and less
    again, told = ingest(engine.url, index, file, "--vectors", "--skip-unchanged")
    assert (again.exit_code, told["unchanged"]) == (0, 4)
    fewer = write(tmp_path, "fewer.jsonl", [{"cat": 9.0}, {"new": 1.0}])
    gone, told = ingest(engine.url, index, fewer, "--vectors", "--sync")
    assert (gone.exit_code, told["updated"], told["deleted"]) == (0, 2, 2)
    # text does not belong there
    text = tmp_path / "text.jsonl"
    text.write_text('{"id": "t", "text": "cat"}\n')
    for more in ((), ("--model", str(tiny / "bert")), ("--model", str(tiny / "bert"), "--vectors")):
        refused, _ = ingest(engine.url, index, text, "--restart", *more)
        assert "came from outside" in str(refused.exception), more
    shown = CliRunner().invoke(cli, ["index", "show", "--index", index, "--url", engine.url])
    assert EXTERNAL in shown.stdout


def test_dry_run(tmp_path: Path) -> None:
    done, told = ingest(
        f"sqlite:///{tmp_path}/e.db", "x", write(tmp_path), "--vectors", "--dry-run"
    )
    assert (done.exit_code, told["dead"], told["meta"]["model"]["name"]) == (0, 0, EXTERNAL)


def test_a_named_model_needs_no_weights(
    engine: Engine, index: str, tiny: Path, tmp_path: Path
) -> None:
    bare = copytree(tiny / "router", tmp_path / "router")
    for weights in (bare / "document_0_Transformer").glob("*.safetensors"):
        weights.unlink()
    file = write(tmp_path, vectors=[{"cat": 1.5}, {"dog": 2.0}, {"unheard of": 1.0}])
    done, report = ingest(engine.url, index, file, "--vectors", "--model", str(bare))
    assert (done.exit_code, report["created"], report["dead"]) == (3, 2, 1), done.stderr
    model = engine.index_meta(index).model
    assert (model.name, model.content_hash) == (str(bare), "")
    assert [h.id for h in SearchClient(engine=engine, index=index).search("cat").hits] == ["d0"]
    # the same model, now with its weights, by the same name; and another one
    copytree(tiny / "router", bare, dirs_exist_ok=True)
    client = SearchClient(engine=engine, index=index)
    assert client.search("the cat", mode="encoder").query
    text = tmp_path / "text.jsonl"
    text.write_text('{"id": "t", "text": "cat"}\n')
    assert ingest(engine.url, index, text)[0].exit_code == 0
    for other in ("bert", "router"):
        refused, _ = ingest(engine.url, index, text, "--restart", "--model", str(tiny / other))
        assert isinstance(refused.exception, ModelMismatchError), other
        with pytest.raises(ModelMismatchError):
            SearchClient(engine=engine, index=index, model=str(tiny / other)).search(
                "cat", mode="encoder"
            )


def test_into_the_index_of_a_model(tiny: Path, tmp_path: Path) -> None:
    """It names its model, so that the vectors are taken for that model's, and this is said."""
    url = f"sqlite:///{tmp_path}/e.db"
    text = tmp_path / "text.jsonl"
    text.write_text('{"id": "t", "text": "cat"}\n')
    assert ingest(url, "x", text, "--model", str(tiny / "bert"))[0].exit_code == 0
    file = write(tmp_path, vectors=[{"cat": 1.5}])
    done, report = ingest(url, "x", file, "--vectors")
    assert (done.exit_code, report["created"]) == (0, 1)
    assert f"taken for those of {tiny / 'bert'}" in done.stderr
    engine = connect(url)
    with pytest.raises(ModelMismatchError, match="--model"):
        from splade_os.ingest.index.target import ensure_index

        ensure_index(engine, "x", ExternalVectors().identity, ("text",))
    engine.close()


def test_dead_letters_of_an_external_index_are_tried_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/e.db"
    file = write(tmp_path, vectors=[{"cat": 1.5}, {"dog": -1.0}])
    done, report = ingest(url, "x", file, "--vectors")
    assert (done.exit_code, report["dead"]) == (3, 1)
    dead = file.with_suffix(".dead")
    letter = json.loads(dead.read_text())
    letter["record"]["vector"]["dog"] = 1.0
    dead.write_text(json.dumps(letter) + "\n")
    again = CliRunner().invoke(cli, ["retry", str(dead), "--url", url, "--json"])
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["created"] == 1


def test_token_ids_need_a_model(tiny: Path) -> None:
    class Seismic:
        def field_types(self) -> list[str]:
            return ["sparse_vector"]

        def feature_naming(self, field_type: str) -> str:
            return "token-id"

    engine: Any = Seismic()
    with pytest.raises(SettingsError, match="no model is named"):
        new_meta(engine, ExternalVectors().identity, ("text",))
    assert new_meta(engine, DocumentEncoder.load(str(tiny / "bert"), backend="none").identity, ())
