"""Documents one by one, on every engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from splade_os import DocumentEncoder, Index
from splade_os.engines import Engine, IndexLayout
from splade_os.engines.documents import DocumentRenderer
from splade_os.errors import EngineError, InputError, SettingsError
from splade_os.features import truncate
from splade_os.online.results import DocumentError
from splade_os.statistics import TermStatistics, total
from tests.tiny_models import TEXTS


@pytest.fixture
def products(engine: Engine, index: str, tiny: Path) -> Iterator[Index]:
    opened = Index(index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"])
    yield opened
    opened.close()


def vector_of(engine: Engine, index: str, id: str) -> dict[str, float]:
    meta = engine.index_meta(index)
    return as_stored(engine.documents(index, [id])[id][meta.field])


def as_stored(vector: dict[str, float]) -> dict[str, float]:
    """As the engine keeps it: Elasticsearch gives back what its postings hold."""
    weights = truncate(np.array([*vector.values()], np.float32))
    return dict(zip(vector, weights.tolist(), strict=True))


def encoded(tiny: Path, engine: Engine, index: str, text: str) -> dict[str, float]:
    """What the whole pipeline writes for a text, by the encoder and the renderer alone."""
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    meta = engine.index_meta(index)
    batch = encoder.encode_content([text])
    renderer = DocumentRenderer.for_index(encoder.vocabulary, meta)
    (lines,) = renderer.render_many([("x", {})], batch)
    assert isinstance(lines, bytes)
    return as_stored(orjson.loads(lines.split(b"\n")[1])[meta.field])


def test_the_index_is_deleted_under_it(
    products: Index, engine: Engine, tiny: Path, index: str
) -> None:
    """It is made anew as it was, not by the engine without a mapping."""
    products.upsert([{"id": "1", "text": "red cat"}])
    meta = engine.index_meta(index)
    engine.delete_index(index)
    (result,) = products.upsert([{"id": "2", "text": "blue cat"}])
    assert result.result == "created" and engine.index_meta(index) == meta
    assert [hit.id for hit in products.search("cat", mode="bm25")] == ["2"]
    engine.delete_index(index)
    gone = products.update("2", {"text": "green cat"}, on_error="return")
    assert gone.result == "not_found" and not engine.indices(f"{index}*")


def test_the_alias_moves_under_it(engine: Engine, tiny: Path, index: str) -> None:
    """What it writes goes where the name leads, and the next search finds it there."""
    names = [f"{index}-1", f"{index}-2"]
    model = str(tiny / "router")
    for name in names:
        with Index(index=name, engine=engine, model=model, text_fields=["text"]) as made:
            made.upsert([{"id": "0", "text": "a dog"}])
    try:
        engine.point_alias(index, names[0])
        with Index(index=index, engine=engine, model=model) as products:
            products.upsert([{"id": "1", "text": "red cat"}])
            engine.point_alias(index, names[1])
            products.upsert([{"id": "2", "text": "blue cat"}])
            assert [hit.id for hit in products.search("cat", mode="bm25")] == ["2"]
        assert [sorted(engine.documents(name, ["0", "1", "2"])) for name in names] == [
            ["0", "1"],
            ["0", "2"],
        ]
    finally:
        for name in names:
            engine.delete_index(name)


def test_the_first_page_of_the_readme(engine: Engine, index: str) -> None:
    products = Index(index=index, engine=engine)
    assert products.count() == 0 and products.get("1") is None
    shoe = {"id": "1", "title": "Red shoe", "content": "for running", "price": 10}
    (result,) = products.upsert([shoe])
    assert (result.id, result.result) == ("1", "created")
    assert engine.index_meta(index).text_fields == ("title", "content")
    changed = products.update("1", {"price": 12})
    assert changed.result == "updated"
    assert products.search("red footwear")[0].id == "1"
    assert products.get("1") == {**shoe, "price": 12}
    assert products.count() == 1
    assert [r.result for r in products.delete(["1", "2"])] == ["deleted", "not_found"]
    assert products.count() == 0 and len(products.search("red footwear")) == 0
    products.close()


def test_update_encodes_again_only_if_the_text_changes(
    products: Index, engine: Engine, index: str, tiny: Path
) -> None:
    products.upsert({"id": "1", "text": "cat dog", "stock": {"here": 1, "there": 2}})
    before = vector_of(engine, index, "1")
    products.update("1", {"stock": {"here": 5}})
    assert vector_of(engine, index, "1") == before == encoded(tiny, engine, index, "cat dog")
    assert (products.get("1") or {})["stock"] == {"here": 5, "there": 2}
    products.update("1", {"text": "moon"})
    assert vector_of(engine, index, "1") == encoded(tiny, engine, index, "moon")
    assert [hit.id for hit in products.search("moon", mode="bm25")] == ["1"]
    assert len(products.search("dog", mode="bm25")) == 0


def test_results_of_documents_that_cannot_be(products: Index) -> None:
    good, bad = {"id": "a", "text": "cat"}, {"id": "b", "text": {"no": "text"}}
    with pytest.raises(DocumentError, match="1 of 3 documents could not be written: b: ") as raised:
        products.upsert([good, bad, {"id": "c", "text": "dog"}])
    assert [each.result for each in raised.value.results] == ["created", "failed", "created"]
    results = products.upsert([good, "text", {"text": "moon"}], on_error="return")  # type: ignore[list-item]
    assert [each.result for each in results] == ["updated", "failed", "created"]
    assert products.count() == 3
    own = {"id": "d", "text": "x", products.target().field: 1}
    (refused,) = products.upsert(own, on_error="return")
    assert refused.result == "failed" and "writes itself" in str(refused.reason)
    with pytest.raises(DocumentError, match="could not be updated: nobody: there is no such"):
        products.update("nobody", {"text": "x"})
    with pytest.raises(DocumentError, match="writes itself"):
        products.update("a", {products.target().hash_field: "x"})
    with pytest.raises(InputError, match="on_error='maybe'"):
        products.upsert(good, on_error="maybe")  # type: ignore[arg-type]


def test_several_changes_of_one_document_keep_their_order(products: Index) -> None:
    many = [{"id": "1", "text": f"cat {word}"} for word in ("dog", "moon", "sun")]
    assert [r.result for r in products.upsert(many)] == ["created", "updated", "updated"]
    assert (products.get("1") or {})["text"] == "cat sun"


def test_statistics_follow(products: Index, engine: Engine, index: str, tiny: Path) -> None:
    """After every close they are those of a count of what is there."""
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu")
    rng = np.random.default_rng(1)
    there: dict[str, str] = {}
    for _ in range(3):
        writer = Index(index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"])
        for _ in range(15):
            id, text = str(rng.integers(8)), str(rng.choice(TEXTS))
            match rng.integers(3):
                case 0:
                    writer.upsert({"id": id, "text": text})
                    there[id] = text
                case 1 if id in there:
                    writer.update(id, {"text": text})
                    there[id] = text
                case _:
                    writer.delete(id)
                    there.pop(id, None)
        writer.close()
        expected = TermStatistics.empty(encoder.identity.vocabulary_size)
        texts = [text for text in there.values() if text]
        expected.count_many([encoder.counted(ids) for ids in encoder.tokenize(texts)])
        whole = total(engine.counts(index))
        assert whole is not None
        np.testing.assert_array_equal(whole.statistics.frequencies, expected.frequencies)
        assert (whole.statistics.documents, whole.empty) == (len(texts), len(there) - len(texts))


def test_many_threads(engine: Engine, index: str, tiny: Path) -> None:
    products = Index(index=index, engine=engine, model=str(tiny / "router"))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(5):
                products.upsert({"id": f"{number}-{i}", "text": f"cat {number}"})
                products.update("shared", {f"by_{number}": i})
        except BaseException as error:
            failures.append(error)

    products.upsert({"id": "shared", "text": "moon"})
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert products.count() == 41
    shared = products.get("shared") or {}
    assert {shared[f"by_{n}"] for n in range(8)} == {4}  # no change was lost
    products.close()
    with pytest.raises(EngineError, match="closed"):
        products.upsert({"id": "x", "text": "cat"})


def test_a_change_of_somebody_else_is_not_overwritten(
    products: Index, engine: Engine, index: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    products.upsert({"id": "1", "text": "cat", "price": 1})
    stored, faster = engine.stored, [{"text": "sun", "price": 7}]

    def slow(*args: Any, **options: Any) -> Any:
        found = stored(*args, **options)
        if faster:  # between our reading and our writing
            other = Index(index=index, engine=engine, model=str(tiny / "router"))
            monkeypatch.setattr(engine, "stored", stored)
            other.update("1", faster.pop())
            other.close()
        return found

    monkeypatch.setattr(engine, "stored", slow)
    products.update("1", {"colour": "red"})
    assert not faster
    assert products.get("1") == {"id": "1", "text": "sun", "price": 7, "colour": "red"}
    assert vector_of(engine, index, "1") == encoded(tiny, engine, index, "sun")


def test_what_others_wrote_is_enriched(
    products: Index, engine: Engine, index: str, tiny: Path
) -> None:
    texts = {"1": "cat", "2": "dog moon", "3": "sun"}
    products.upsert([{"id": id, "text": text} for id, text in texts.items()])
    # somebody who knows nothing of vectors: a new document, and a changed text
    engine.bulk(index, b'{"index":{"_id":"4"}}\n{"text":"river"}\n')
    engine.bulk(index, b'{"update":{"_id":"1"}}\n{"doc":{"text":"winter","n":1}}\n')
    assert products.enrich() == {"updated": 2, "unchanged": 2}
    assert products.enrich() == {"unchanged": 4}
    for id, text in (("4", "river"), ("1", "winter"), ("2", "dog moon")):
        assert vector_of(engine, index, id) == encoded(tiny, engine, index, text)
    assert products.get("1") == {"id": "1", "text": "winter", "n": 1}
    assert products.enrich(["4", "nobody"]) == {"unchanged": 1, "not_found": 1}


def test_documents_bring_their_vectors(products: Index, engine: Engine, index: str) -> None:
    given = {"id": "1", "text": "red cat", "vector": {"moon": 1.5, "cat": 0.5}}
    (written,) = products.upsert(given, vectors=True)
    assert written.result == "created"
    assert products.get("1") == {"id": "1", "text": "red cat"}
    (hit,) = products.search({"moon": 2.0}, mode="raw")
    assert hit.score == 3.0
    refused = [{"id": "2", "text": "x"}, {"id": "3", "text": "x", "vector": {"no such": 1.0}}]
    results = products.upsert(refused, vectors=True, on_error="return")
    assert [each.result for each in results] == ["failed", "failed"]
    assert "vector" in (results[0].reason or "") and "no such" in (results[1].reason or "")


def test_a_new_index_has_the_given_layout(engine: Engine, index: str, tiny: Path) -> None:
    if engine.url.startswith("sqlite"):
        pytest.skip("a file maps nothing")
    properties = {"text": {"type": "text"}, "kind": {"type": "keyword"}}
    layout = IndexLayout({"number_of_replicas": 0}, {"properties": properties})
    model = str(tiny / "router")
    with Index(
        index=index, engine=engine, model=model, text_fields=["text"], layout=layout
    ) as made:
        made.upsert({"id": "1", "text": "red cat", "kind": "a"})
        assert [id for id, _ in made.scan(filter=[{"term": {"kind": "a"}}])] == ["1"]
        assert not list(made.scan(filter=[{"term": {"kind": "b"}}]))
    assert engine.properties(index)["kind"] == "keyword"


def test_a_mistake_is_told(engine: Engine, index: str) -> None:
    with pytest.raises(SettingsError, match="Which index"):
        Index(engine=engine)
    with pytest.raises(SettingsError, match=r"text_fields=\['title'\]"):
        Index(index=index, engine=engine, text_fields="title")
    with pytest.raises(InputError, match="hold text"):
        Index(index=index, engine=engine).upsert({"id": "1", "price": 3})
