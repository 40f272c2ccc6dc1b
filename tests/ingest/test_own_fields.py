"""No field name is taken: what splade-os writes itself has names of its own in every index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from splade_os import DocumentEncoder, SearchClient, ingest_documents, mappings
from splade_os.cli import cli
from splade_os.engines import Engine, IndexMeta, connect
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.engines.sqlite.engine import SQLiteEngine
from splade_os.errors import IndexFormatError, SettingsError
from splade_os.ingest.documents.records import Item, RecordReader
from splade_os.ingest.index.target import new_meta
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from tests.conftest import NEWEST, url_of

# names that earlier versions took, and names that others give to such fields
ORDINARY = [
    "content", "splade", "splade_hash", "splade_os", "vector", "hash", "score", "meta", "_score_",
    "embedding", "sparse", "tokens", "body", "id",
]  # fmt: skip
NEW = ("splade_os_vector", "splade_os_content", "splade_os_hash")


@pytest.fixture(params=["sqlite", *NEWEST])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    opened = connect(url_of(request.param, request, tmp_path))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "router"), device="cpu")


def ingest(
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    documents: list[Mapping[str, Any]],
    folder: Path,
    text: tuple[str, ...] = ("title", "text"),
    **options: Any,
) -> IngestReport:
    reader = RecordReader(text_fields=text, id_field="_id")
    records = (
        reader.check(dict(document), Item(f"test:{i}", value=dict(document)), i)
        for i, document in enumerate(documents, 1)
    )
    return ingest_documents(
        records,
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=folder / "dead.jsonl",
        text_fields=text,
        options=IngestOptions(**options),
    )


def dead_letters(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "dead.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("text", [("content",), ("splade", "splade_hash"), ("title", "text")])
def test_ordinary_names_are_the_documents_own(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path, text: tuple[str, ...]
) -> None:
    values = dict.fromkeys(ORDINARY, "river") | dict.fromkeys(text, "the cat")
    documents = [{"_id": f"d{i}", **values} for i in range(3)]
    report = ingest(engine, index, encoder, documents, tmp_path, text)
    assert (report.created, report.dead, report.verified) == (3, 0, True)
    stored = engine.documents(index, ["d1"])["d1"]
    meta = engine.index_meta(index)
    assert {k: v for k, v in stored.items() if k not in meta.own_fields} == values
    client = SearchClient(engine=engine, index=index, model=encoder.identity.name)
    for mode in ("encoder", "bm25"):
        hits = client.search("the cat", mode=mode, explain=mode != "bm25").hits  # type: ignore[arg-type]
        assert {hit.id for hit in hits} == {"d0", "d1", "d2"}, mode
        assert hits[0].source == values, mode
    assert not client.search("river", mode="bm25").hits  # what is not encoded is not copied
    again = ingest(engine, index, encoder, documents[:2], tmp_path, text, skip_unchanged=True)
    assert again.unchanged == 2
    gone = ingest(engine, index, encoder, documents[1:], tmp_path, text, sync=True)
    assert (gone.deleted, engine.count(index)) == (1, 2)


def test_a_real_clash_is_one_dead_letter_that_says_the_cure(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    own = sorted(new_meta(engine, encoder.identity, ("text",)).own_fields)
    documents = [{"_id": name, "text": "the cat", name: "x"} for name in own]
    documents.append({"_id": "good", "text": "the cat"})
    report = ingest(engine, index, encoder, documents, tmp_path)
    assert (report.created, report.dead) == (1, 3)
    for name, letter in zip(own, dead_letters(tmp_path), strict=True):
        assert repr(name) in letter["reason"]
        assert f"--drop {name}" in letter["reason"]
        assert f"--rename {name}=" in letter["reason"]


def test_names_can_be_chosen(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    values = {"text": "the cat", "splade_os_vector": "x", "splade_os_content": "river"}
    documents = [{"_id": "d", **values}]
    names = {"vector_field": "weights", "content_field": "everything"}
    report = ingest(engine, index, encoder, documents, tmp_path, **names)
    assert (report.created, report.dead, report.verified) == (1, 0, True)
    meta = engine.index_meta(index)
    assert (meta.field, meta.content_field) == ("weights", "everything")
    assert engine.documents(index, ["d"], ["weights"])["d"]["weights"]
    client = SearchClient(engine=engine, index=index, model=encoder.identity.name)
    for mode in ("encoder", "bm25"):
        assert [hit.source for hit in client.search("the cat", mode=mode).hits] == [values], mode  # type: ignore[arg-type]
    for name in names:
        with pytest.raises(IndexFormatError, match=name.replace("_", "-")):
            ingest(engine, index, encoder, documents, tmp_path, **{name: "another"})


@pytest.mark.parametrize(
    "names",
    [
        {"vector_field": "text"},
        {"content_field": "title"},
        {"content_field": "body"},
        {"vector_field": "same", "content_field": "same"},
        {"vector_field": "splade_os_hash"},
        {"vector_field": "a.b"},
        {"vector_field": "_source"},
        {"content_field": "a*"},
        {"content_field": " "},
    ],
)
def test_names_that_cannot_be(
    encoder: DocumentEncoder, tmp_path: Path, names: dict[str, str]
) -> None:
    engine = SQLiteEngine(tmp_path / "e.db")
    documents = [{"_id": "d", "body": "the cat"}]
    with pytest.raises(SettingsError, match=r"--(vector|content)-field"):
        ingest(engine, "x", encoder, documents, tmp_path, ("body",), **names)
    assert not engine.indices("*")
    engine.close()


def test_an_encoded_field_with_our_name_is_told_at_the_start(
    encoder: DocumentEncoder, tmp_path: Path
) -> None:
    engine = SQLiteEngine(tmp_path / "e.db")
    text = ("splade_os_content",)
    documents = [{"_id": "d", text[0]: "the cat"}]
    with pytest.raises(SettingsError, match="splade_os_content") as told:
        ingest(engine, "x", encoder, documents, tmp_path, text)
    assert "--content-field" in str(told.value.hint)
    report = ingest(engine, "x", encoder, documents, tmp_path, text, content_field="all_text")
    assert report.created == 1
    engine.close()


def make_old_index(engine: Engine, index: str, encoder: DocumentEncoder) -> None:
    """As an earlier version made it: its record names the vectors' field alone."""
    meta = new_meta(engine, encoder.identity, ("title", "text"))
    old = meta.model_copy(
        update={"field": "splade", "content_field": "content", "hash_field": "splade_hash"}
    )
    record = old.model_dump(mode="json", exclude={"content_field", "hash_field"})
    if isinstance(engine, SQLiteEngine):
        engine.create_index(index, old)
        engine._db.execute(
            "UPDATE indices SET meta = ? WHERE name = ?", (orjson.dumps(record).decode(), index)
        )
        return
    assert isinstance(engine, ClusterEngine)
    text = {"type": "text", "copy_to": "content"}
    body = {
        "mappings": {
            "_meta": {"splade_os": record},
            "properties": {
                "splade": {"type": old.field_type},
                "splade_hash": {"type": "keyword", "index": False, "doc_values": False},
                "title": text,
                "text": text,
                "content": {"type": "text"},
            },
        }
    }
    engine.request("PUT", f"/{index}", body)


def test_old_indices_go_on(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    make_old_index(engine, index, encoder)
    meta = engine.index_meta(index)
    assert meta.own_fields == {"splade", "content", "splade_hash"}
    values = {"text": "the cat", "splade_os_vector": "mine"}
    documents = [{"_id": f"d{i}", **values} for i in range(3)]
    report = ingest(engine, index, encoder, documents, tmp_path)
    assert (report.created, report.dead, report.verified) == (3, 0, True)
    stored = engine.documents(index, ["d1"], [*values, "splade", "splade_hash", *NEW])["d1"]
    assert set(stored) == {*values, "splade", "splade_hash"}
    client = SearchClient(engine=engine, index=index, model=encoder.identity.name)
    for mode in ("encoder", "bm25"):
        hits = client.search("the cat", mode=mode).hits  # type: ignore[arg-type]
        assert {hit.id for hit in hits} == {"d0", "d1", "d2"}, mode
        assert hits[0].source == values, mode
    assert ingest(engine, index, encoder, documents, tmp_path, skip_unchanged=True).unchanged == 3
    clashes = [{"_id": name, "text": "cat", name: "x"} for name in meta.own_fields]
    assert ingest(engine, index, encoder, clashes, tmp_path).dead == 3


def test_literal_bodies_hold_every_own_field() -> None:
    for distribution in ("opensearch", "elasticsearch"):
        for field_type in ("rank_features", "sparse_vector"):
            properties = mappings.load(distribution, field_type)["mappings"]["properties"]
            model = {"field", "content_field", "hash_field"}
            own = {IndexMeta.model_fields[name].default for name in model}
            assert set(properties) == own | set(mappings.TEXT_FIELDS)


def test_copying_an_index_leaves_only_its_own_fields_out(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    make_old_index(engine, index, encoder)
    values = {"text": "the cat", "body": "river"}
    ingest(engine, index, encoder, [{"_id": "d", **values}], tmp_path)
    copy = f"{index}-copy"
    try:
        done = CliRunner().invoke(
            cli,
            ["ingest", f"index:{index}", "--index", copy, "--url", engine.url, "--model",
             encoder.identity.name, "--dead-letters", str(tmp_path / "none.jsonl")],
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        own = engine.index_meta(copy).own_fields
        stored = engine.documents(copy, ["d"])["d"]
        assert {k: v for k, v in stored.items() if k not in own} == values
    finally:
        engine.delete_index(copy)
