"""SQLite does what the clusters do for what it has, or refuses; it is many readers' at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from splade_os import connect
from splade_os.engines import Engine, IndexMeta, MatchQuery, SearchRequest, TermsQuery
from splade_os.engines.sqlite.engine import SQLiteEngine
from splade_os.engines.sqlite.filters import compile_filter
from splade_os.errors import EngineError, EngineTimeoutError, IndexExistsError, IndexNotFoundError
from splade_os.features import truncate
from splade_os.identity import ModelIdentity
from splade_os.vocabulary import FEATURE_NAMING

FIELDS: list[dict[str, Any]] = [
    {"n": 1, "word": "red", "flag": True, "day": "2024-05-01", "tags": ["a", "b"]},
    {"n": 2, "word": "1", "flag": False, "day": "2020-01-01", "tags": ["b"]},
    {"n": 10, "word": "blue", "day": "2099-01-01", "deep": {"x": 5}},
    {"f": 2.5, "tags": []},
    {},
]
FILTERS: list[dict[str, Any]] = [
    {"term": {"n": 1}}, {"term": {"n": "1"}}, {"term": {"n": {"value": 2}}},
    {"terms": {"n": [1, "10"]}}, {"term": {"flag": True}}, {"term": {"flag": "true"}},
    {"term": {"word.keyword": "red"}}, {"term": {"word.keyword": 1}},
    {"range": {"n": {"gte": 2}}}, {"range": {"n": {"gt": "1", "lt": "10"}}},
    {"range": {"n": {"gte": None, "lte": 2}}}, {"range": {"day": {"gte": "now-1y"}}},
    {"range": {"day": {"gte": "2024-01-01||/y"}}}, {"range": {"day.keyword": {"lt": "2024-01-01"}}},
    {"exists": {"field": "tags"}}, {"exists": {"field": "deep.x"}}, {"exists": {"field": "no"}},
    {"ids": {"values": ["0", "4", "absent"]}}, {"ids": {"values": [["1"]]}},
    {"term": {"f": "2.5"}}, {"range": {"f": {"gt": 2, "lt": 3}}},
    {"terms": {"n": [[1]]}}, {"term": {"n": [1]}},
    *({"bool": {"should": [{"term": {"n": 1}}, {"term": {"flag": True}}, {"term": {"n": 2}},
                           {"exists": {"field": "word"}}], "minimum_should_match": least}}
      for least in (0, 1, "2", "75%", "50%", "-25%", -2, "2<75%", "many")),
    {"bool": {"must_not": [{"ids": {"values": ["1"]}}], "filter": {"exists": {"field": "n"}}}},
]  # fmt: skip


def new_meta() -> IndexMeta:
    model = ModelIdentity(
        name="test", content_hash="0", activation="relu", pooling="max", max_length=9,
        vocabulary_size=9,
    )  # fmt: skip
    return IndexMeta(
        splade_os="0", model=model, feature_naming=FEATURE_NAMING, text_fields=("text",)
    )


def body(vectors: list[Any], fields: list[dict[str, Any]], meta: IndexMeta) -> bytes:
    lines = []
    for number, (vector, other) in enumerate(zip(vectors, fields, strict=True)):
        lines.append(json.dumps({"index": {"_id": str(number)}}))
        lines.append(json.dumps({meta.field: vector, **other}))
    return ("\n".join(lines) + "\n").encode()


def request(k: int = 10, **options: Any) -> SearchRequest:
    query = TermsQuery(("red",), np.array([1.0], np.float32))
    return SearchRequest(query, k, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def engine(file: Path) -> Iterator[SQLiteEngine]:
    opened = SQLiteEngine(file)
    yield opened
    opened.close()


def filled(engine: Engine, index: str, count: int) -> list[str]:
    """Documents with falling scores; their ids, best first."""
    meta = new_meta()
    engine.create_index(index, meta)
    fields = [{"text": f"red fox {i}", "even": i % 2 == 0, "n": i} for i in range(count)]
    engine.bulk(index, body([{"red": float(count - i)} for i in range(count)], fields, meta))
    return [str(i) for i in range(count)]


@pytest.mark.parametrize("clause", FILTERS, ids=json.dumps)
def test_a_filter_means_what_it_means_on_a_cluster(
    clause: dict[str, Any], both: tuple[Engine, str, SQLiteEngine]
) -> None:
    """The same ids, or a refusal by SQLite in a sentence; never another answer."""
    cluster, index, engine = both
    try:
        theirs: set[str] | None = {
            h.id for h in cluster.search(index, request(filter=[clause])).hits
        }
    except EngineError:
        theirs = None
    local = json.loads(json.dumps(clause).replace(".keyword", ""))
    try:
        ours = {h.id for h in engine.search("x", request(filter=[local])).hits}
    except EngineError as error:
        assert theirs is None or "understand" in str(error)
        return
    assert ours == theirs


@pytest.fixture(scope="module")
def both(
    opensearch_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, str, SQLiteEngine]]:
    cluster, engine = connect(opensearch_url), SQLiteEngine(tmp_path_factory.mktemp("s") / "x.db")
    index, meta = f"test-sqlite-{os.getpid()}", new_meta()
    lines = body([{"red": 1.0 + i} for i in range(len(FIELDS))], FIELDS, meta)
    try:
        for one, name in ((cluster, index), (engine, "x")):
            one.create_index(name, meta)
            assert all(outcome.ok for outcome in one.bulk(name, lines))
            one.refresh(name)
        yield cluster, index, engine
    finally:
        cluster.delete_index(index)
        engine.close()


@pytest.mark.parametrize(
    "vector",
    [{"red": 1e39}, {"red": -1}, {"red": 0}, {"red": "0.1"}, {"red": True}, {"red": None},
     {"red": 3.4e38}, {"red": "much"}, [1]],
    ids=str,
)  # fmt: skip
def test_the_same_documents_are_refused(
    vector: Any, both: tuple[Engine, str, SQLiteEngine]
) -> None:
    cluster, index, engine = both
    line = body([vector], [{}], new_meta()).replace(b'"_id": "0"', b'"_id": "tried"')
    ours, theirs = engine.bulk("x", line)[0], cluster.bulk(index, line)[0]
    for one, name in ((cluster, index), (engine, "x")):
        one.bulk(name, b'{"delete":{"_id":"tried"}}\n')
        one.refresh(name)
    assert ours.ok == theirs.ok, (ours, theirs)


def test_a_line_that_is_no_action(engine: SQLiteEngine) -> None:
    engine.create_index("x", new_meta())
    for line in (b"[1]\n", b'{"index":[1]}\n{}\n', b'{"index":{}}\n{}\n', b"no\n", b"{}\n"):
        with pytest.raises(EngineError, match="Malformed"):
            engine.bulk("x", line)
    assert not engine.bulk("x", b'{"index":{"_id":"1"}}\n[1]\n')[0].ok


def test_filter_pages_and_totals_against_brute_force(engine: SQLiteEngine) -> None:
    ids = filled(engine, "x", 50)
    even = [i for i in ids if int(i) % 2 == 0]
    for clause, expected in (
        ([{"term": {"even": True}}], even),
        ([{"ids": {"values": ["40", "3"]}}], ["3", "40"]),
        ([{"ids": {"values": ["40", "3"]}}, {"term": {"even": True}}], ["40"]),
        ([], ids),
    ):
        for offset in (0, 7, 24, 60):
            found = engine.search("x", request(5, filter=clause, offset=offset, total=True))
            assert [hit.id for hit in found.hits] == expected[offset : offset + 5]
            assert not found.hits or found.total == len(expected)
    match = SearchRequest(MatchQuery("fox"), 3, highlight=True)
    assert all(hit.matched_words == ("fox",) for hit in engine.search("x", match).hits)


VALUES = st.sampled_from(
    [
        1,
        2,
        "1",
        "2.0",
        2.5,
        True,
        "true",
        "True",
        "x" * 150,
        "b",
        2**70,
        None,
        {"n": 1},
        [1, "b"],
        [],
    ]
)
FIELD = st.sampled_from(["n", "word", "deep.n", "text", "a.b", "deep"])
OPTION = st.sampled_from([1, 2, "1", "2.0", 2.5, True, "TRUE", "x" * 150, "b", 2**70, -1])
LEAF = st.one_of(
    st.builds(lambda f, v: {"term": {f: v}}, FIELD, OPTION),
    st.builds(lambda f, v: {"terms": {f: v}}, FIELD, st.lists(OPTION, max_size=3)),
    st.builds(lambda f, b: {"range": {f: b}}, FIELD,
              st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]),
                              OPTION | st.none(), max_size=2)),
    st.builds(lambda f: {"exists": {"field": f}}, FIELD),
    st.just({"ids": {"values": ["0", "3"]}}),
)  # fmt: skip
CLAUSE = st.recursive(
    LEAF,
    lambda inner: st.builds(
        lambda parts, least: {"bool": {**parts, "minimum_should_match": least}},
        st.dictionaries(
            st.sampled_from(["filter", "must", "must_not", "should"]),
            st.lists(inner, max_size=2),
            max_size=3,
        ),
        st.integers(0, 2),
    ),
    max_leaves=4,
)
DOCUMENT = st.dictionaries(st.sampled_from(["n", "word", "deep", "text", "a.b"]), VALUES)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{"word": [1, "b"]}], [], [{"range": {"word": {"lt": True}}}])
@given(
    documents=st.lists(DOCUMENT, min_size=1, max_size=8),
    written=st.lists(DOCUMENT, max_size=3),
    clauses=st.lists(CLAUSE, min_size=1, max_size=2),
)
def test_the_index_over_fields_hides_no_document(
    tmp_path: Path,
    documents: list[dict[str, Any]],
    written: list[dict[str, Any]],
    clauses: list[dict[str, Any]],
) -> None:
    """A filter finds what it says of each document, also after some were written again."""
    engine, meta, index = SQLiteEngine(tmp_path / "x.db"), new_meta(), uuid4().hex
    engine.create_index(index, meta)
    for some in filter(None, (documents, written, documents[:1])):
        vectors = [{"red": float(9 - i)} for i in range(len(some))]
        assert all(o.ok for o in engine.bulk(index, body(vectors, some, meta)))
    engine.bulk(index, b'{"delete":{"_id":"1"}}\n')
    now = {str(i): source for i, source in enumerate(documents)}
    now |= {str(i): source for i, source in enumerate(written)}
    now["0"] = documents[0]
    now.pop("1", None)
    keep, ids = compile_filter(clauses)
    expected = [
        i
        for i, source in now.items()
        if (ids is None or i in ids) and (keep is None or keep(json.dumps(source).encode(), i))
    ]
    found = engine.search(index, request(20, filter=clauses, total=True))
    assert sorted(hit.id for hit in found.hits) == sorted(expected)
    assert found.total == len(expected)
    engine.delete_index(index)
    assert not engine._db.execute("SELECT count(*) FROM field_values").fetchone()[0]
    engine.close()


def test_a_search_ends_in_the_time_that_it_is_given(engine: SQLiteEngine) -> None:
    ids = filled(engine, "x", 3000)
    with pytest.raises(EngineTimeoutError, match="--search-timeout"):
        engine.search("x", request(3000, total=True, timeout=1e-9))
    assert [hit.id for hit in engine.search("x", request(5, timeout=60)).hits] == ids[:5]


def test_a_search_makes_nothing(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path}/mistyped/x.db")
    with pytest.raises(IndexNotFoundError):
        engine.search("x", request())
    assert engine.indices("*") == [] and not list(tmp_path.iterdir())  # type: ignore[attr-defined]
    other = connect(f"sqlite:///{tmp_path}/mistyped/x.db")
    ids = filled(other, "x", 3)
    assert [hit.id for hit in engine.search("x", request()).hits] == ids  # it is there now


def test_threads_search_beside_each_other_and_a_writer(engine: SQLiteEngine) -> None:
    ids, errors, meta = filled(engine, "x", 40), [], new_meta()

    def search() -> None:
        try:
            for _ in range(10):
                hits = engine.search("x", request(5, filter=[{"term": {"even": True}}])).hits
                assert [hit.id for hit in hits] == ids[:10:2]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(16)]
    with engine._transaction():  # a writer in the middle of its work holds nobody up
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not errors and not any(thread.is_alive() for thread in threads)
    engine.bulk("x", body([{"red": 99.0}], [{"even": True}], meta))
    assert engine.search("x", request(1)).hits[0].id == "0"


def test_a_scan_is_one_view(engine: SQLiteEngine) -> None:
    ids, meta = filled(engine, "x", 10), new_meta()
    scan = engine.scan("x", ["n"], page=2)
    seen = [next(scan)[0]]
    engine.bulk("x", body([{"red": 1.0}, {"red": 2.0}], [{"n": 0}, {"n": 1}], meta))
    engine.bulk("x", b'{"delete":{"_id":"9"}}\n')
    assert seen + [identifier for identifier, _ in scan] == ids


def test_a_name_is_an_index_or_an_alias(engine: SQLiteEngine) -> None:
    filled(engine, "x", 1)
    engine.point_alias("al", "x")
    with pytest.raises(IndexExistsError, match="alias"):
        engine.create_index("al", new_meta())


def _as_nobody(file: str, answer: Any) -> None:
    os.setgid(pwd.getpwnam("nobody").pw_gid)
    os.setuid(pwd.getpwnam("nobody").pw_uid)
    try:
        reader = connect(f"sqlite:///{file}")
        found = [hit.id for hit in reader.search("x", request()).hits]
        try:
            reader.delete_index("x")
        except EngineError:
            answer.put(found)
    except Exception as error:
        answer.put(repr(error))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user, who may only read")
def test_a_file_that_may_only_be_read_is_searched() -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        file = Path(folder) / "x.db"
        writer = SQLiteEngine(file)
        ids = filled(writer, "x", 3)
        writer.close()
        file.parent.chmod(0o755)
        file.chmod(0o444)
        context = multiprocessing.get_context("fork")
        answer = context.Queue()
        process = context.Process(target=_as_nobody, args=(str(file), answer))
        process.start()
        assert answer.get(timeout=30) == ids
        process.join()


def test_weights_are_those_of_feature_field(engine: SQLiteEngine) -> None:
    filled(engine, "x", 1)
    engine.bulk("x", body([{"red": 1.2345}], [{}], new_meta()))
    (hit,) = engine.search("x", request()).hits
    assert hit.score == truncate(np.array([1.2345], np.float32))[0]


def test_a_filter_that_only_the_last_documents_pass(engine: SQLiteEngine) -> None:
    ids = filled(engine, "x", 2100)
    clause = [{"range": {"n": {"gte": 2050}}}]
    found = engine.search("x", request(5, filter=clause, offset=2))
    assert [hit.id for hit in found.hits] == ids[2052:2057]
    mixed = [{"terms": {"n": [3, 2099]}}]
    assert [hit.id for hit in engine.search("x", request(filter=mixed)).hits] == ["3", "2099"]


def test_a_file_that_another_program_writes_to(tmp_path: Path) -> None:
    """It is put off, as a busy cluster is: an ingest tries again, and loses nothing."""
    engine = connect(f"sqlite:///{tmp_path}/engine.db")
    engine.create_index("x", new_meta())
    body = b'{"index":{"_id":"1"}}\n{"text":"cat"}\n'
    engine.bulk("x", body)
    assert isinstance(engine, SQLiteEngine)
    engine._connections.of_thread(write=True).connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(tmp_path / "engine.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(EngineError, match="locked") as caught:
        engine.bulk("x", body)
    assert caught.value.transient
    other.execute("COMMIT")
    assert engine.bulk("x", body)[0].ok
    engine.close()
