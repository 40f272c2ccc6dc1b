"""Files that other tools export: documents and ids are those that the other tool had, or the
reason says what the file is and what to type."""

from __future__ import annotations

import json
import logging
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_os.errors import InputError
from splade_os.identity import ModelIdentity
from splade_os.ingest.documents.envelopes import opened
from splade_os.ingest.documents.json_form import parse_document
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.documents.stamps import Stamper
from splade_os.ingest.sources import SourceOptions, find_source, read_source
from splade_os.ingest.sources.dead_letters import DeadLetterReader, open_dead_letters
from splade_os.ingest.state.dead_letters import DeadLetters

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "title": "Red shoe", "text": "warm", "price": 12, "tags": ["x", "y"]},
    {"_id": "b", "text": 'a {brace} and "index": {}', "meta": {"n": None}},
    {"_id": "7", "id": "other", "text": "an id of its own beside it"},
]


def sources(document: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in document.items() if k != "_id"}


def hit(document: dict[str, Any]) -> dict[str, Any]:
    named = {"_index": "old", "_type": "_doc", "_id": document["_id"], "_score": 1.5}
    return {**named, "_source": sources(document), "sort": [3]}


def bulk(documents: list[dict[str, Any]], operation: str = "index") -> list[Any]:
    lines: list[Any] = []
    for document in documents:
        lines += [{operation: {"_index": "old", "_id": document["_id"]}}, sources(document)]
    return lines


IDENTITY = ModelIdentity(
    name="m", content_hash="c", activation="relu", pooling="max", max_length=9, vocabulary_size=9
)

EXPORTS: dict[str, list[Any]] = {
    "elasticdump": [hit(d) for d in DOCUMENTS],
    "hits without a score": [
        {"_id": d["_id"], "_source": sources(d)} for d in DOCUMENTS
    ],
    "hits beside their fields": [
        {"_index": "old", "_score": None, "_version": 3, **d} for d in DOCUMENTS
    ],
    "bulk, index": bulk(DOCUMENTS),
    "bulk, create": bulk(DOCUMENTS, "create"),
    "mongoexport": [
        {"_id": {"$oid": d["_id"]}, **sources(d)} if d["_id"] != "7"
        else {"_id": {"$numberLong": "7"}, **sources(d)}
        for d in DOCUMENTS
    ],
}  # fmt: skip


def read(file: Path, **options: Any) -> list[Record | Rejected]:
    return list(read_source(find_source(str(file)), RecordReader(**options)))


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.ndjson", "lines.json", "indented.json", "array.json", "part-0"]
)
@pytest.mark.parametrize("export", EXPORTS)
def test_documents_and_ids_of_an_export(tmp_path: Path, export: str, name: str) -> None:
    values, file = EXPORTS[export], tmp_path / name
    if name == "array.json":
        if export.startswith("bulk"):
            pytest.skip("no array is a file for the bulk API")
        file.write_text(json.dumps(values))
    else:
        indent = 2 if name == "indented.json" else None
        file.write_text("\n".join(json.dumps(value, indent=indent) for value in values) + "\n")
    found = read(file)
    assert [(r.id, dict(r.source)) for r in found if isinstance(r, Record)] == [
        (d["_id"], sources(d)) for d in DOCUMENTS
    ]
    assert [r.position for r in found] == [1, 2, 3]


def test_exports_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, bulk(DOCUMENTS))))
    with caplog.at_level(logging.WARNING, "splade_os.ingest"):
        read(file)
    assert "a.jsonl is read as a file for the bulk API" in caplog.text
    file.write_text("\n".join(map(json.dumps, [*EXPORTS["elasticdump"], DOCUMENTS[0]])))
    kinds = [r.export for r in read(file) if isinstance(r, Record)]
    assert kinds == ["hits of a search"] * 3 + [None]


@pytest.mark.parametrize(
    ("lines", "dead"),
    [
        (["{damaged", *bulk(DOCUMENTS)], {1: "not valid JSON"}),
        ([*bulk(DOCUMENTS), {"index": {}}], {4: "'index' has no document"}),
        ([{"index": {}}, *bulk(DOCUMENTS)], {1: "'index' has no document"}),
        ([{"delete": {"_id": "z"}}, *bulk(DOCUMENTS)], {1: "a deletion"}),
        ([*bulk(DOCUMENTS), {"update": {"_id": "z"}}, {"doc": {"text": "x"}}], {4: "an update"}),
        ([*bulk(DOCUMENTS), {"text": "x"}], {4: "no action"}),
        ([*bulk(DOCUMENTS), {"index": {"_id": "z"}}, "{damaged"], {4: "not valid JSON"}),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_bulk_file(
    tmp_path: Path, lines: list[Any], dead: dict[int, str]
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + "\n")
    found = read(file)
    reasons = {r.position: r.reason for r in found if isinstance(r, Rejected)}
    assert reasons.keys() == dead.keys()
    assert all(words in reasons[position] for position, words in dead.items())
    assert [r.id for r in found if isinstance(r, Record)] == [d["_id"] for d in DOCUMENTS]


def test_documents_that_look_like_exports(tmp_path: Path) -> None:
    """What is somebody's own stays what it is."""
    documents: list[dict[str, Any]] = [
        {"_id": "1", "text": "x", "index": {"_id": "2"}},
        {"_id": "2", "text": "x", "schema": {"$ref": "#/a", "$id": "u"}, "price": {"$": 3}},
        {"_id": "3", "text": "x", "when": {"$date": [1]}, "n": {"$numberLong": 3}},
        {"_id": "4", "text": "x", "source": {"_source": {"a": 1}}, "_rev": "1-a"},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join(map(json.dumps, documents)))
    found = read(file)
    assert [dict(r.source) for r in found if isinstance(r, Record)] == [
        sources(d) for d in documents
    ]
    assert [r.export for r in found if isinstance(r, Record)] == [None] * 4


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        # the pairs of the specification, canonical, relaxed and of version 1
        ({"$oid": "57e193d7a9cc81b4027498b5"}, "57e193d7a9cc81b4027498b5"),
        ({"$numberInt": "-2147483648"}, -2147483648),
        ({"$numberLong": "9223372036854775807"}, 9223372036854775807),
        ({"$numberDouble": "-1.5"}, -1.5),
        ({"$numberDouble": "NaN"}, None),
        ({"$numberDecimal": "1.23456789012345678901234567890123"},
         "1.23456789012345678901234567890123"),
        ({"$date": {"$numberLong": "1356351330501"}}, "2012-12-24T12:15:30.501Z"),
        ({"$date": {"$numberLong": "-284643869501"}}, "1960-12-24T12:15:30.499Z"),
        ({"$date": "2012-12-24T12:15:30.501Z"}, "2012-12-24T12:15:30.501Z"),
        ({"$date": 1356351330501}, "2012-12-24T12:15:30.501Z"),
        ({"$binary": {"base64": "/o0=", "subType": "00"}}, "/o0="),
        ({"$binary": "/o0=", "$type": "00"}, "/o0="),
        ({"$binary": {"base64": "c//SZESzTGmQ6OfR38A11A==", "subType": "04"}},
         "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
        ({"$uuid": "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"},
         "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
        ({"$timestamp": {"t": 1356351330, "i": 1}}, "2012-12-24T12:15:30Z"),
        ({"$symbol": "abc"}, "abc"),
        ({"$undefined": True}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["field", "object", "array"])
def test_extended_json(value: Any, plain: Any, place: str) -> None:
    layouts = {"field": lambda x: x, "object": lambda x: {"a": {"b": x}}, "array": lambda x: [1, x]}
    layout = layouts[place]
    reader = RecordReader()
    document = {"_id": {"$oid": "5f"}, "text": "x", "v": layout(value)}

    found = reader.check(document, Item("x"), 1)
    assert isinstance(found, Record) and found.id == "5f"
    assert found.source["v"] == layout(plain)
    assert found.export == "MongoDB's Extended JSON"


def test_dates_of_extended_json_are_those_of_python() -> None:
    chance = random.Random(3)

    for _ in range(200):
        ms = chance.randrange(-(10**13), 10**13)
        document, _ = opened({"x": {"$date": {"$numberLong": str(ms)}}})
        assert datetime.fromisoformat(document["x"]).timestamp() == pytest.approx(ms / 1000)
        assert datetime.fromisoformat(document["x"]).tzinfo == UTC


def test_a_hit_in_the_dead_letters_is_replayed(tmp_path: Path) -> None:
    file, letters = tmp_path / "a.jsonl", tmp_path / "dead.jsonl"
    values = [*EXPORTS["elasticdump"], *EXPORTS["mongoexport"]]
    file.write_text("\n".join(map(json.dumps, values)))
    found = read(file)
    with DeadLetters(letters, "products") as dead:
        for record in found:
            assert isinstance(record, Record)
            dead.fail(record, "refused")
        dead.save()

    again = read_source(open_dead_letters(str(letters), SourceOptions()), DeadLetterReader())
    assert [(r.id, dict(r.source)) for r in again if isinstance(r, Record)] == [
        (r.id, dict(r.source)) for r in found if isinstance(r, Record)
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"took": 3, "hits": {"total": {"value": 2}, "hits": [hit(d) for d in DOCUMENTS]}},
         r"this is the answer of a search, hits.hits holds 3 objects.*jq -c '.hits.hits\[\]' FILE"),
        ({"responseHeader": {"status": 0}, "response": {"numFound": 1, "docs": DOCUMENTS}},
         r"answer of Solr.*jq -c '.response.docs\[\]'"),
        ({"total_rows": 2, "offset": 0, "rows": [{"id": "a", "key": "a", "doc": DOCUMENTS[0]}]},
         r"listing of CouchDB.*jq -c '.rows\[\].doc'"),
        ({"data": {"items": {"nodes": DOCUMENTS}}}, r"data.items.nodes holds 3 objects"),
        ({"docs": DOCUMENTS}, r"jq -c '.docs\[\]'"),
        ({"k1": {"title": "a"}, "k2": {"title": "b", "x": 1}}, r"jq -c 'to_entries\[\] \|"),
        (json.loads(pandas.DataFrame({"text": ["a", "b"]}).to_json()),
         r"orient='records', lines=True"),
        ({"Item": {"id": {"S": "1"}, "title": {"S": "Red"}}}, r"it has Item.title.S: --text Item"),
        ({"payload": {"after": {"text": "x"}}}, r"it has payload.after.text: --text payload"),
        ({"attributes": {}, "references": [], "type": "search"}, "it has attributes, references"),
        ({}, "it has no field"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_what_is_no_document_says_where_they_are(
    tmp_path: Path, value: Any, words: str, name: str
) -> None:
    file = tmp_path / name
    file.write_text(json.dumps(value))
    (found,) = read(file)
    assert isinstance(found, Rejected) and re.search(words, found.reason), found.reason


# --- what JSON parsers change unsaid ------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "a:", '"', "é", "\\", "x y", ""])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.text(max_size=4), st.sampled_from(['":', ' :', '"a":', "\t:"]),
    st.integers(-(2**70), 2**70), st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1]),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
BLANKS = st.sampled_from(["", "", "", " ", "\t", "\n", " \r\n "])


@st.composite
def json_texts(draw: st.DrawFn, depth: int = 0) -> str:
    """JSON with blanks wherever they may stand, and keys that may stand twice."""
    kind = draw(st.integers(0, 1 if depth > 2 else 3)) if depth else 2
    if kind < 2:
        scalar = draw(SCALARS)
        return json.dumps(scalar, ensure_ascii=draw(st.booleans()))
    inner = draw(st.integers(0, 70 if depth == 1 and draw(st.integers(0, 20)) == 20 else 3))
    if kind == 3:
        parts = [draw(json_texts(depth + 1)) for _ in range(inner)]
        opening, closing = "[]"
    else:
        parts = [
            json.dumps(draw(KEYS)) + draw(BLANKS) + ":" + draw(BLANKS) + draw(json_texts(depth + 1))
            for _ in range(inner)
        ]
        opening, closing = "{}"
    return opening + draw(BLANKS) + ("," + draw(BLANKS)).join(parts) + draw(BLANKS) + closing


class TwiceError(Exception):
    pass


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise TwiceError
    return dict(pairs)


@given(json_texts())
def test_nothing_of_a_document_is_changed_or_dropped(text: str) -> None:
    """As Python's parser reads it, which keeps every digit; a key that stands twice is refused."""
    try:
        expected = json.loads(text, object_pairs_hook=once)
    except TwiceError:
        with pytest.raises(ValueError, match="stands twice in an object"):
            parse_document(text.encode())
        return
    found = parse_document(text.encode())
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "array.json"])
def test_damaged_by_a_parser_is_a_dead_letter(tmp_path: Path, name: str) -> None:
    lines = [
        '{"_id": "1", "text": "one", "text": "two"}',
        '{"_id": "2", "text": "x", "meta": {"a": 1, "a": 1}}',
        '{"_id": "3", "text": "x", "n": 1}',
    ]
    file = tmp_path / name
    file.write_text("[" + ",\n".join(lines) + "]" if name == "array.json" else "\n".join(lines))
    first, second, third = read(file)
    assert isinstance(first, Rejected) and "'text' stands twice" in first.reason
    assert first.original() == lines[0]  # both values are still there
    assert isinstance(second, Rejected) and "'a' stands twice" in second.reason
    assert isinstance(third, Record)
    assert orjson.dumps(dict(third.source)) == b'{"text":"x","n":1}'


def test_a_number_that_no_engine_stores_exactly(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"_id": "1", "text": "x", "a": {"n": [1, 18446744073709551616]}}')
    (record,) = read(file)
    assert isinstance(record, Record) and record.source["a"] == {"n": [1, 2**64]}
    with pytest.raises(
        InputError, match=r"Document 1 .*'a\.n' holds a whole number of more than 64"
    ):
        Stamper(IDENTITY, "0" * 8).of(record)
