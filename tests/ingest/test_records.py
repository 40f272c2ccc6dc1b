"""Records: ids, text fields, what is stored; dead letters of anything, and their replay."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splade_os.ingest.documents.json_form import from_json, to_json
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected, parse_json
from splade_os.ingest.sources import find_source, read_source
from splade_os.ingest.sources.dead_letters import DeadLetterReader
from splade_os.ingest.state.dead_letters import DeadLetters
from splade_os.text_fields import selected, stored_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
DOCUMENTS = st.dictionaries(st.text() | st.sampled_from(["title", "text", "a"]), JSON, max_size=5)
ANYTHING = st.recursive(
    JSON
    | st.text(st.characters())  # halves of surrogate pairs, too
    | st.integers() | st.floats() | st.binary() | st.decimals() | st.datetimes() | st.dates()
    | st.timedeltas() | st.uuids() | st.complex_numbers() | st.just(object()),
    lambda inner: st.lists(inner, max_size=3)
    | st.tuples(inner)
    | st.sets(st.integers() | st.text(), max_size=3)
    | st.dictionaries(st.text() | st.integers() | st.binary() | st.none(), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


def record_of(value: Any, reader: RecordReader | None = None) -> Record:
    found = (reader or RecordReader()).check(value, Item("t:1", value=value), 1)
    assert isinstance(found, Record), found
    return found


def rejected(value: Any, reader: RecordReader | None = None) -> str:
    found = (reader or RecordReader()).check(value, Item("t:1", value=value), 1)
    assert isinstance(found, Rejected), found
    return found.reason


@given(DOCUMENTS, DOCUMENTS)
def test_ids_are_of_the_whole_record(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal ids where Python's json says equal records, and only there."""
    for value in (one, other):
        value.pop("_id", None), value.pop("id", None)
        value["text"] = "the same"
        value.pop("title", None)
    texts = [json.dumps(value, sort_keys=True) for value in (one, other)]
    records = [record_of(value) for value in (one, other)]
    assert (records[0].id == records[1].id) == (texts[0] == texts[1])
    assert records[0].same_content(records[1]) == (texts[0] == texts[1])
    shuffled = [*one.items()]
    random.Random(0).shuffle(shuffled)
    assert record_of(dict(shuffled)).id == records[0].id


def test_where_the_border_between_texts_is_makes_another_record() -> None:
    one, other = {"title": "a b", "text": "c"}, {"title": "a", "text": "b c"}
    assert record_of(one).text == record_of(other).text
    assert record_of(one).id != record_of(other).id


@pytest.mark.parametrize(
    ("fields", "value", "text"),
    [
        ("meta.title,tags", {"meta": {"title": "x"}, "tags": ["y", "z"]}, "x|y|z"),
        ("meta.title", {"meta.title": "flat", "meta": {"title": "nested"}}, "flat"),
        ("a.b.c", {"a.b": {"c": "x"}}, "x"),
        ("a.b.c", {"a": {"b.c": "x"}}, "x"),
        ("a.b", {"a": [{"b": "x"}, {"c": 1}, {"b": ["y", None, "z"]}]}, "x|y|z"),
        ("n", {"n": 7}, "7"),
        ("n", {"n": 1.5}, "1.5"),
        ("n", {"n": Decimal("12.50")}, "12.50"),
        ("n", {"n": [1, [2, ["x"]], ""]}, "1|2|x"),
        ("n,text", {"n": math.nan, "text": "x"}, "x"),
        ("n", {"n": date(2024, 2, 29)}, "2024-02-29"),
        ("n", {"n": datetime(2024, 2, 29, tzinfo=UTC)}, "2024-02-29T00:00:00+00:00"),
        ("n", {"n": None}, ""),
        ("n", {"n": []}, ""),
        ("a.n", {"a": {"n": None}}, ""),
    ],
)
def test_text_fields(fields: str, value: dict[str, Any], text: str) -> None:
    names = tuple(fields.split(","))
    record = record_of(value, RecordReader(names, join="|"))
    assert record.text == text
    # what is read back of the index has the same words
    assert stored_text(record.source, names) == text.replace("|", " ")
    assert stored_text(selected(record.source, names), names) == text.replace("|", " ")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"text": {"en": "x"}}, "an object, not text (a field in it: text.en)"),
        ({"text": True}, "'text' is bool"),
        ({"text": ["x", {"y": 1}]}, "an object"),
        ({"text": b"x"}, "'text' is bytes"),
        ({"body": "x"}, "none of the text fields title, text is there"),
        ({"text": "x", "id": 1.5}, "the id 1.5 is neither"),
        ({"text": "x", "id": ["y" * 100]}, "yyy... is neither"),
    ],
)
def test_what_is_no_text(value: dict[str, Any], words: str) -> None:
    assert words in rejected(value)


def test_which_text_fields_are_there() -> None:
    reader = RecordReader(("a", "b.c", "d"))
    assert record_of({"a": "x", "b": {"c": "y"}, "d": ""}, reader).present == 0b011
    assert record_of({"d": ["x"]}, reader).present == 0b100


def test_ids_by_path() -> None:
    reader = RecordReader(("text",), "meta.sku")
    assert record_of({"text": "x", "meta": {"sku": 7}}, reader).id == "7"
    assert "missing" in rejected({"text": "x", "meta": {}}, reader)
    assert "2 values" in rejected({"text": "x", "meta": [{"sku": 7}, {"sku": 8}]}, reader)


def test_renaming_onto_a_field_that_is_there() -> None:
    reader = RecordReader(rename={"title": "text"})
    assert "stored as 'text'" in rejected({"title": "a", "text": "b"}, reader)
    assert record_of({"title": "a"}, reader).source == {"text": "a"}
    swapped = RecordReader(rename={"title": "text", "text": "title"})
    assert record_of({"title": "a", "text": "b"}, swapped).source == {"text": "a", "title": "b"}
    both = RecordReader(rename={"title": "text"}, drop=("text",))
    assert record_of({"title": "a", "text": "b"}, both).source == {"text": "a"}
    nested = RecordReader(("meta.title",), rename={"meta": "info"})
    assert nested.stored_text_fields == ("info.title",)


@given(ANYTHING)
def test_anything_has_a_json_form(value: Any) -> None:
    from_json(to_json(value))
    from_json(to_json(value, sort_keys=True))


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("value", [2**20_000, -(2**64), Broken()], ids=["huge", "large", "odd"])
def test_values_that_cannot_be_written(value: Any) -> None:
    for holder in (value, [value], {value}, {value: value}, {"a": {"b": (value,)}}):
        assert from_json(to_json(holder, sort_keys=True))


@given(JSON)
def test_json_is_kept(value: Any) -> None:
    assert from_json(to_json(value)) == json.loads(json.dumps(value))


def deep(depth: int, array: bool = False) -> Any:
    value: Any = "end"
    for _ in range(depth):
        value = [value] if array else {"a": value}
    return value


def letters_of(folder: Path, found: list[Record | Rejected]) -> list[Record | Rejected]:
    """Written to dead letters, and read as `splade-os retry` reads them."""
    file = folder / "dead.jsonl"
    file.unlink(missing_ok=True)
    with DeadLetters(file, "products") as letters:
        for each in found:
            if isinstance(each, Record):
                letters.fail(each, "no reason", 400)
            else:
                letters.reject(each)
        letters.save()
    assert len(file.read_bytes().splitlines()) == len(found)
    return list(read_source(find_source(f"dead:{file}"), DeadLetterReader(("x",))))


@example(value={}, text=-(2**63) - 1)  # orjson reads it back as a float
@example(value={"n": 2**70}, text="cat")
@example(value={}, text=[2**2000, math.inf, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")])
@given(value=st.dictionaries(st.text(), ANYTHING, max_size=4), text=ANYTHING)
def test_dead_letters_of_anything(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any], text: Any
) -> None:
    value = {**value, "text": text}
    found = RecordReader().check(value, Item("t:1", value=value), 1)
    (again,) = letters_of(tmp_path_factory.mktemp("letters"), [found])
    if isinstance(found, Record):
        # an id that is made is made of the record's JSON form; one that is there is kept
        assert isinstance(again, Record) and again.id == found.id
        assert again.text == _mended(found.text)


def _mended(text: str) -> str:
    """Two halves that meet are one character in JSON."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(value=DOCUMENTS)
def test_documents_are_replayed_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]
) -> None:
    value.pop("id", None), value.pop("_id", None)
    value["title"] = "a title"
    value["text"] = "cat"
    line = json.dumps(value).encode()
    found = RecordReader().read(Item("t:1", line, decode=parse_json), 1)
    assert isinstance(found, Record)
    (again,) = letters_of(tmp_path_factory.mktemp("letters"), [found])
    assert isinstance(again, Record)
    assert (again.id, again.text, again.source) == (found.id, found.text, found.source)


@pytest.mark.parametrize(
    "depth", [1, 100, 199, 200, 201, 250, 253, 254, 255, 300, 900, *range(985, 1030)]
)
@pytest.mark.parametrize("array", [True, False])
def test_deep_documents(tmp_path: Path, depth: int, array: bool) -> None:
    value = {"id": "d", "text": "cat", "x": deep(depth - 1, array)}
    open_, close = ("[", "]") if array else ('{"a":', "}")
    line = f'{{"id":"d","text":"cat","x":{open_ * (depth - 1)}"end"{close * (depth - 1)}}}'
    items = [Item("t:1", line.encode(), decode=parse_json), Item("t:2", value=value)]
    found = [RecordReader().read(item, i) for i, item in enumerate(items, 1)]
    again = letters_of(tmp_path, found)
    for before, after in zip(found, again, strict=True):
        if isinstance(before, Record) and depth <= 1024:
            assert isinstance(after, Record) and after.id == "d" and after.text == "cat"
            assert to_json(after.source) == to_json(before.source)


def test_what_holds_itself(tmp_path: Path) -> None:
    value: dict[str, Any] = {"id": "d", "text": "cat"}
    value["self"] = [value, value]
    (again,) = letters_of(tmp_path, [record_of(value)])
    assert isinstance(again, Record) and again.id == "d"


def test_numpy_values(tmp_path: Path) -> None:
    value = {"id": "d", "text": "cat", "n": np.int64(3), "v": np.array([1.0, 2.0], np.float32)}
    (again,) = letters_of(tmp_path, [record_of(value)])
    assert isinstance(again, Record) and again.source["v"] == [1, 2] and again.source["n"] == 3


@given(raw=st.binary())
def test_bytes_of_damaged_lines_are_kept(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    """A byte that is no UTF-8 does not become U+FFFD when the dead letter is tried again."""
    raw = b'{"id": "d", "text": "' + raw.replace(b"\n", b"").replace(b"\r", b"") + b'"}'
    item = Item("t:1", raw, decode=parse_json)
    found = RecordReader().read(item, 1)
    (again,) = letters_of(tmp_path_factory.mktemp("letters"), [found])
    assert isinstance(again, Record) == isinstance(found, Record)
    if isinstance(found, Record) and isinstance(again, Record):
        assert again.source == found.source
    else:
        assert isinstance(again, Rejected) and again.item.raw == raw


def test_long_records_are_kept_whole(tmp_path: Path) -> None:
    raw = json.dumps({"id": "d", "text": {"a": "x" * 3_000_000}}).encode()
    found = RecordReader().read(Item("t:1", raw, decode=parse_json), 1)
    assert isinstance(found, Rejected)
    (again,) = letters_of(tmp_path, [found])
    assert isinstance(again, Rejected) and again.item.value == json.loads(raw)


LETTER = {
    "position": 1, "where": "a.jsonl:1", "index": "products", "id": "a", "status": 400,
    "reason": "r", "record": {"id": "a", "text": "cat"},
    "reader": {"text_fields": ["title", "text"], "id_field": None, "join": " ", "keep": None,
               "drop": [], "rename": {}, "vectors": False},
}  # fmt: skip


def mutations() -> Iterator[bytes]:
    """Letters as somebody's editor, or a damaged disk, leaves them."""
    draw = random.Random(7)
    odd: list[Any] = [None, 0, 1.5, True, "", "x", [], [1], {}, {"a": 1}, [["a"]], {"a": None}]
    for name in LETTER:
        for value in odd:
            yield json.dumps({**LETTER, name: value}).encode()
        yield json.dumps({k: v for k, v in LETTER.items() if k != name}).encode()
    reader = LETTER["reader"]
    assert isinstance(reader, dict)
    for name in [*reader, "more"]:
        for value in odd:
            yield json.dumps({**LETTER, "reader": {**reader, name: value}}).encode()
    line = json.dumps(LETTER).encode()
    for _ in range(1000):
        damaged = bytearray(line)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(damaged))
            match draw.randrange(3):
                case 0:
                    damaged[place] = draw.randrange(256)
                case 1:
                    del damaged[place : place + draw.randint(1, 20)]
                case _:
                    damaged[place:place] = draw.choice([b'"', b"{", b"]", b"\\ud800", b"1e999"])
        yield bytes(damaged).replace(b"\n", b" ")
    for value in [deep(n) for n in (150, 260, 900)]:
        yield to_json({**LETTER, "record": value})
    yield b"[" * 100_000


def test_edited_and_damaged_letters(tmp_path: Path) -> None:
    """Each is a record or a dead letter again, which can be written and read again."""
    lines = list(mutations())
    (tmp_path / "edited.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    source = find_source(f"dead:{tmp_path / 'edited.jsonl'}")
    found = list(read_source(source, DeadLetterReader(("title", "text"))))
    assert len(found) == sum(not line.isspace() for line in lines)
    assert len(letters_of(tmp_path, found)) == len(found)
