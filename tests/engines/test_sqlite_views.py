"""A scan of an SQLite file is one view of it, whatever others write; files of before are read."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os import SearchClient
from splade_os.engines import Cursor, SearchRequest, SumQuery, TermsQuery
from splade_os.engines.base import MatchQuery
from splade_os.engines.sqlite import connections, views
from splade_os.engines.sqlite.engine import SQLiteEngine
from splade_os.errors import EngineError
from splade_os.features import truncate
from tests.engines.test_sqlite import body, new_meta
from tests.search.test_service import in_child

WORDS = ["red", "blue", "fox", "a\x00b", "a\x00c", "é"]
Vectors = dict[str, dict[str, float]]


class Written:
    """An index, and what was written into it."""

    def __init__(self, engine: SQLiteEngine, seed: int = 0) -> None:
        self.engine, self.random = engine, random.Random(seed)
        self.vectors: Vectors = {}
        self.fields: dict[str, dict[str, Any]] = {}
        engine.create_index("x", new_meta())

    def write(self, ids: range, engine: SQLiteEngine | None = None) -> None:
        for i in ids:
            words = self.random.sample(WORDS, self.random.randint(1, len(WORDS)))
            self.vectors[str(i)] = {w: self.random.choice([0.5, 1, 2.0001]) for w in words}
            self.fields[str(i)] = {"n": self.random.randrange(10), "text": " ".join(words)}
        lines = body(
            [self.vectors[str(i)] for i in ids], [self.fields[str(i)] for i in ids], new_meta()
        )
        for place, i in reversed(list(enumerate(ids))):
            lines = lines.replace(b'{"_id": "%d"}' % place, b'{"_id": "#%d"}' % i)
        lines = lines.replace(b'"#', b'"')
        assert all(o.ok for o in (engine or self.engine).bulk("x", lines))

    def delete(self, ids: range) -> None:
        self.engine.bulk("x", b"".join(b'{"delete":{"_id":"%d"}}\n' % i for i in ids))
        for i in ids:
            del self.vectors[str(i)], self.fields[str(i)]

    def expected(self, query: dict[str, float], least: int = 0) -> dict[str, float]:
        found = {}
        for identifier, vector in self.vectors.items():
            shared = [w for w in query if w in vector]
            if shared and self.fields[identifier]["n"] >= least:
                stored = truncate(np.array([vector[w] for w in shared], np.float32))
                found[identifier] = float(
                    sum(
                        s * np.float64(np.float32(query[w]))
                        for s, w in zip(stored, shared, strict=True)
                    )
                )
        return found


def terms(query: dict[str, float]) -> TermsQuery:
    return TermsQuery(list(query), np.array(list(query.values()), np.float32))


def same(found: list[tuple[str, float]], expected: dict[str, float]) -> None:
    assert len(found) == len(expected) and dict(found).keys() == expected.keys()
    np.testing.assert_allclose([s for _, s in found], sorted(expected.values())[::-1], rtol=1e-6)
    for identifier, score in found:
        assert score == pytest.approx(expected[identifier], rel=1e-6)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SQLiteEngine]:
    opened = SQLiteEngine(tmp_path / "x.db")
    yield opened
    opened.close()


QUERY = {"red": 1.5, "fox": 0.25, "a\x00c": 3.0, "absent": 1.0}


def pages(engine: SQLiteEngine, k: int, between: Any, **options: Any) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    cursor: Cursor | None = Cursor()
    while cursor is not None:
        response = engine.search("x", SearchRequest(terms(QUERY), k, after=cursor, **options))
        found += [(hit.id, hit.score) for hit in response.hits]
        cursor = response.following
        between()
    return found


@pytest.mark.parametrize("least", [0, 5])
@pytest.mark.parametrize("other", ["the same engine", "another one"])
def test_pages_are_one_view(engine: SQLiteEngine, least: int, other: str) -> None:
    """Documents written, changed and deleted between the pages change nothing; nor does the index,
    deleted and made anew."""
    index = Written(engine)
    index.write(range(200))
    writer = engine if other == "the same engine" else SQLiteEngine(engine.path)
    clause = [{"range": {"n": {"gte": least}}}] if least else []
    expected, step = index.expected(QUERY, least), iter(range(1000))

    def write() -> None:
        match next(step):
            case 0:
                index.write(range(50, 250), writer)
            case 1:
                index.delete(range(0, 40))
            case 2:
                writer.delete_index("x")
                writer.create_index("x", new_meta())

    same(pages(engine, 7, write, filter=clause), expected)
    assert not engine._views._open
    assert engine.count("x") == 0


def test_a_scan_holds_no_writer_up(engine: SQLiteEngine) -> None:
    """Writers of other threads go on while pages are read, and none of it is seen."""
    index = Written(engine)
    index.write(range(300))
    expected = index.expected(QUERY)
    waited: list[float] = []
    stop = threading.Event()

    def write() -> None:
        other, number = SQLiteEngine(engine.path), 0
        while not stop.is_set():
            start = time.monotonic()
            other.bulk("x", body([{"red": 9.0}], [{"n": number}], new_meta()))
            waited.append(time.monotonic() - start)
            number += 1
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not waited:
            time.sleep(0.001)
        expected["0"] = 9.0 * 1.5
        same(pages(engine, 2, lambda: None), expected)
    finally:
        stop.set()
        thread.join(60)
    assert max(waited) < 10  # a lock is waited for 30 s


def test_a_file_without_a_write_ahead_log_is_copied(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has none, a reader would hold writers up."""
    index = Written(engine)
    index.write(range(60))
    engine.close()
    (sqlite3.connect(engine.path)).execute("PRAGMA journal_mode = DELETE")
    connect = sqlite3.connect

    def without_shared_memory(file: str, *arguments: Any, **options: Any) -> sqlite3.Connection:
        if file and not file.startswith(("file:", ":")):
            file, options["uri"] = f"file:{file}?vfs=unix-dotfile", True
        return connect(file, *arguments, **options)

    monkeypatch.setattr(connections.sqlite3, "connect", without_shared_memory)
    again = index.engine = SQLiteEngine(engine.path)
    expected = index.expected(QUERY)
    scan, seen = again.scan("x", [], page=10), set()
    seen.add(next(scan)[0])
    same(pages(again, 7, lambda: index.write(range(20, 80))), expected)
    seen |= {identifier for identifier, _ in scan}
    assert seen == {str(i) for i in range(60)}
    again.close()


def test_views_that_nobody_needs_are_closed(
    engine: SQLiteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Written(engine)
    index.write(range(30))

    def open_one() -> Cursor:
        found = engine.search("x", SearchRequest(terms(QUERY), 2, after=Cursor()))
        assert found.following is not None
        return found.following

    with pytest.raises(EngineError):
        engine.search("x", SearchRequest(terms(QUERY), 2, after=Cursor(), filter=[{"no": {}}]))
    assert not engine._views._open
    left = open_one()
    engine.close_cursor(left)
    engine.close_cursor(left)
    with pytest.raises(EngineError, match="gone"):
        engine.search("x", SearchRequest(terms(QUERY), 2, after=left))
    forgotten = open_one()
    monkeypatch.setattr(views, "KEEP_ALIVE", -1.0)
    engine.search("x", SearchRequest(terms(QUERY), 2))
    assert forgotten.pit not in engine._views._open
    monkeypatch.undo()
    theirs = open_one()

    def in_fork() -> str:
        with pytest.raises(EngineError, match="another process"):
            engine.search("x", SearchRequest(terms(QUERY), 2, after=theirs))
        return "refused"

    assert in_child(in_fork) == "refused"
    assert engine.search("x", SearchRequest(terms(QUERY), 2, after=theirs)).hits
    with SearchClient(engine=engine, index="x", check_model=False) as client:
        before = set(engine._views._open)
        for _ in client.scan({"red": 1.0}, "raw", page=2):
            break
        assert set(engine._views._open) == before


def test_a_scan_takes_memory_for_a_page(engine: SQLiteEngine) -> None:
    """Not for the texts of the index."""
    engine.create_index("x", new_meta())
    count, text = 1500, "word " * 1000
    for start in range(0, count, 100):
        lines = body([{"red": 1.0 + i} for i in range(100)], [{"text": text}] * 100, new_meta())
        for i in reversed(range(100)):
            lines = lines.replace(b'"_id": "%d"' % i, b'"_id": "%d"' % (start + 1000 + i))
        engine.bulk("x", lines)
    with SearchClient(engine=engine, index="x", check_model=False) as client:
        tracemalloc.start()
        assert sum(1 for _ in client.scan({"red": 1.0}, "raw", page=20)) == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 3_000_000 < count * len(text)


def unpacked(file: Path) -> None:
    """Make a file what earlier versions made: a row for each posting."""
    db = sqlite3.connect(file)
    for number, block, feature, blob in db.execute(
        "SELECT in_index, block, feature, postings FROM posting_blocks"
    ).fetchall():
        for place, bucket in np.frombuffer(blob, "<u2").reshape(-1, 2).tolist():
            weight = float(np.uint32(bucket << 15).view(np.float32))
            row = (number, feature, block * 1024 + place, weight)
            db.execute("INSERT INTO postings VALUES (?, ?, ?, ?)", row)
    for table in ("posting_blocks", "with_posting_blocks", "states"):
        db.execute(f"DROP TABLE {table}")
    db.commit()
    db.close()


def test_a_file_of_before_is_searched_and_written(engine: SQLiteEngine) -> None:
    index = Written(engine)
    index.write(range(1500))
    engine.close()
    unpacked(engine.path)
    again = index.engine = SQLiteEngine(engine.path)
    clause = [{"range": {"n": {"gte": 5}}}]

    def check() -> None:
        for least, filters in ((0, []), (5, clause)):
            request = SearchRequest(terms(QUERY), 2000, filter=filters, total=True)
            found = again.search("x", request)
            expected = index.expected(QUERY, least)
            same([(hit.id, hit.score) for hit in found.hits], expected)
            assert found.total == len(expected)

    check()
    index.write(range(1400, 1600))
    check()
    index.delete(range(100, 300))
    check()
    assert not again._db.execute("SELECT count(*) FROM postings").fetchone()[0]
    again.close()


def test_random_writes_against_brute_force(engine: SQLiteEngine) -> None:
    """Writes, changes and deletions over several blocks, with filters that few, many, none pass."""
    index, draw = Written(engine, 7), random.Random(7)
    index.write(range(2500))
    for number in range(12):
        start = draw.randrange(2400)
        if number % 3 == 2:
            present = [i for i in range(start, start + 60) if str(i) in index.vectors]
            if present:
                index.delete(range(present[0], present[0] + 1))
        else:
            index.write(range(start, start + draw.randint(1, 50)))
        least, k, offset = draw.randrange(11), draw.randint(1, 40), draw.randrange(30)
        expected = index.expected(QUERY, least)
        clause = [{"range": {"n": {"gte": least}}}]
        for total in (False, True):
            request = SearchRequest(terms(QUERY), k, filter=clause, offset=offset, total=total)
            found = engine.search("x", request)
            ranking = sorted(expected.values(), reverse=True)[offset : offset + k]
            np.testing.assert_allclose([hit.score for hit in found.hits], ranking, rtol=1e-6)
            assert all(expected[hit.id] == pytest.approx(hit.score) for hit in found.hits)
            assert found.total == (len(expected) if total else None)
        both = SumQuery(terms(QUERY), MatchQuery("blue", 2.0))
        summed = engine.search("x", SearchRequest(both, 3000)).hits
        words = engine.search("x", SearchRequest(MatchQuery("blue"), 3000)).hits
        parts = index.expected(QUERY)
        for hit in words:
            parts[hit.id] = parts.get(hit.id, 0.0) + 2 * hit.score
        same([(hit.id, hit.score) for hit in summed], parts)


def test_what_a_filter_kept_is_of_one_state(engine: SQLiteEngine) -> None:
    """The same filter again finds what was written since, by this engine and by others."""
    index = Written(engine)
    index.write(range(400))
    other = SQLiteEngine(engine.path)
    clause = [{"bool": {"must_not": [{"term": {"n": 3}}], "filter": [{"term": {"n": 7}}]}}]
    for round_, writer in enumerate((engine, other, engine, other)):
        for total in (True, False):
            found = engine.search("x", SearchRequest(terms(QUERY), 500, filter=clause, total=total))
            expected = {i for i in index.expected(QUERY) if index.fields[i]["n"] == 7}
            assert {hit.id for hit in found.hits} == expected
        index.write(range(round_ * 100, round_ * 100 + 60), writer)
    other.close()
