"""What an ingest promises: nothing is lost, and nothing becomes another thing, unsaid."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from splade_os import DocumentEncoder, ingest_documents
from splade_os.cli import cli
from splade_os.engines import Engine, MatchQuery, SearchRequest
from splade_os.errors import EngineError, IngestError, InputError, SpladeError
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.runtime.cancellation import Cancellation
from splade_os.ingest.runtime.retry_policy import RetryPolicy
from splade_os.ingest.state.reasons import Reasons


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> DocumentEncoder:
    return DocumentEncoder.load(str(tiny / "router"), device="cpu")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of its own, and the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def command(url: str, model: Path, *arguments: str) -> Result:
    model_of = [] if "--model" in arguments or "retry" in arguments else ["--model", str(model)]
    done = CliRunner().invoke(cli, [*arguments, "--url", url, *model_of])
    assert done.exception is None or isinstance(done.exception, SystemExit | SpladeError), done
    return done


def checkpoints(state: Path) -> list[Path]:
    return [*(state / "ledgers").glob("*")] if state.exists() else []


def stored(engine: Engine, index: str) -> dict[str, Any]:
    engine.refresh(index)
    return dict(engine.scan(index))


# --- ids


def test_products_with_the_same_title(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    rows = [{"title": "red cat", "price": n, "sku": f"s{n}"} for n in range(5)]
    Path("p.jsonl").write_text(lines([*rows, rows[0]]))
    done = command(engine_url, tiny / "router", "ingest", "p.jsonl", "--index", index, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0, done.stderr  # a record that stands there twice is no loss
    assert (report["created"], report["duplicates"], report["conflicts"]) == (5, 1, 0)
    assert report["hashed"] == 6 and "no id" in done.stderr and "--id" in done.stderr
    assert {d["sku"] for d in stored(engine, index).values()} == {row["sku"] for row in rows}


@pytest.mark.parametrize("window", [2, 7, 512])
def test_two_records_of_one_id(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path, window: int
) -> None:
    """Counted where one waits for the other, and where the other is in the index already."""
    draw = random.Random(window)
    values: list[dict[str, Any]] = [
        {"id": f"d{draw.randrange(10)}", "text": "cat", "n": draw.randrange(3)} for _ in range(60)
    ]
    last: dict[str, int] = {}
    repeated = other = 0
    for value in values:
        repeated += value["id"] in last
        other += last.get(value["id"], value["n"]) != value["n"]
        last[value["id"]] = value["n"]

    def load(**options: Any) -> IngestReport:
        return ingest_documents(
            [RecordReader().check(v, Item(f"t:{i}", value=v), i) for i, v in enumerate(values, 1)],
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=tmp_path / "dead.jsonl",
            options=IngestOptions(window=window, **options),
        )

    start = time.monotonic()
    report = load()
    assert time.monotonic() - start < 20  # nothing waits for a request that is not full
    assert (report.created, report.duplicates) == (len(last), repeated)
    assert report.conflicts == other and report.verified
    # again, where the first of an id may be what is there, and is left alone
    report = load(skip_unchanged=True)
    assert (report.created, report.conflicts) == (0, other) and report.verified
    assert {i: d["n"] for i, d in stored(engine, index).items()} == last


def test_other_records_of_an_id_are_told(
    engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    Path("d.jsonl").write_text(lines([{"sku": "a", "text": "cat"}, {"sku": "a", "text": "dog"}]))
    done = command(
        engine_url, tiny / "router", "ingest", "d.jsonl", "--index", index, "--id", "sku"
    )
    assert done.exit_code == 3 and "other content" in done.stderr, done.stderr


@pytest.mark.parametrize(
    "identifier", ["a\0b", "\0", "a\0", "\u2028", "x'\"y", "\ud800", "🐈", " "]
)
def test_odd_ids(
    engine: Engine, engine_url: str, index: str, encoder: DocumentEncoder, tmp_path: Path,
    identifier: str,
) -> None:  # fmt: skip
    """Indexed and found again, or a dead letter: also where the index is looked into first."""
    values = [{"id": identifier, "text": "cat"}, {"id": "good", "text": "cat"}]
    for times in range(2):
        report = ingest_documents(
            [RecordReader().check(v, Item("t:1", value=v), i) for i, v in enumerate(values, 1)],
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=tmp_path / "dead.jsonl",
        )
        assert report.indexed + report.dead == 2 and report.verified, report.faults
        assert report.indexed == (1 if "\ud800" in identifier else report.indexed)
        assert times == 0 or report.created == 0
    if report.dead == 0:
        assert set(stored(engine, index)) == {identifier, "good"}
        assert set(engine.documents(index, [identifier, "no"])) == {identifier}


# --- sources that break off


@pytest.mark.parametrize("count", [1, 5, 511, 512, 700])
def test_everything_before_a_break_is_indexed(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path, count: int
) -> None:
    def breaks() -> Iterator[Record | Rejected]:
        for i in range(1, count + 1):
            if i % 50 == 5:
                yield Rejected(i, f"t:{i}", "damaged", Item(f"t:{i}", b"damaged"))
            else:
                yield Record(i, f"t:{i}", f"d{i}", "cat", {"n": i})
        raise InputError("the disk is broken")

    with pytest.raises(InputError, match="the disk is broken"):
        ingest_documents(
            breaks(),
            engine=engine,
            index=index,
            encoder=encoder,
            dead_letters=tmp_path / "dead.jsonl",
        )
    bad = {i for i in range(1, count + 1) if i % 50 == 5}
    assert {d["n"] for d in stored(engine, index).values()} == {*range(1, count + 1)} - bad
    dead = tmp_path / "dead.jsonl"
    written = [json.loads(line)["position"] for line in dead.open()] if dead.exists() else []
    assert sorted(written) == sorted(bad)


def test_a_source_that_pauses(
    engine: Engine, index: str, encoder: DocumentEncoder, tmp_path: Path
) -> None:
    """What it gave goes on while it waits."""
    seen: list[int] = []

    def pauses() -> Iterator[Record]:
        yield from (Record(i, f"t:{i}", f"d{i}", "cat", {"n": i}) for i in range(1, 11))
        end = time.monotonic() + 20
        while time.monotonic() < end and not seen:
            time.sleep(0.05)
            if engine.indices(index) and engine.documents(index, ["d10"], ()):
                seen.append(1)
        yield Record(11, "t:11", "d11", "dog", {"n": 11})

    report = ingest_documents(
        pauses(),
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=tmp_path / "dead.jsonl",
        options=IngestOptions(flush_seconds=0.5),
    )
    assert seen and report.created == 11 and report.verified


# --- a typo costs nothing


def test_none_of_the_first_hundred(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    Path("d.jsonl").write_text(lines([{"id": n, "title": "red cat"} for n in range(300)]))
    ingest = ["ingest", "d.jsonl", "--index", index]
    done = command(engine_url, tiny / "router", *ingest, "--text", "titel")
    error = done.exception
    assert isinstance(error, IngestError), done.stderr
    assert "None of the first" in error.message
    assert "d.jsonl:1: none of the text fields titel is there" in error.message
    assert not checkpoints(state) and not engine.indices(f"{index}*")
    assert not [*Path().glob("dead-letters*")]
    done = command(engine_url, tiny / "router", *ingest, "--text", "title")
    assert done.exit_code == 0, done.stderr
    assert engine.count(index) == 300


def test_a_few_that_all_fail(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    """Fewer than a hundred: the end is reached; their reasons are told, and they are kept."""
    rows = [{"id": n, "title": {"x": n}} if n % 3 else {"id": n, "name": "cat"} for n in range(9)]
    Path("d.jsonl").write_text(lines(rows))
    ingest = ["ingest", "d.jsonl", "--index", index, "--json", "--dead-letters", "dead.jsonl"]
    done = command(engine_url, tiny / "router", *ingest)
    report = json.loads(done.stdout)
    assert done.exit_code == 3 and report["dead"] == 9 and report["removed"], done.stderr
    assert sorted(report["reasons"].values()) == [3, 6]
    assert report["first_dead"].startswith("d.jsonl:1: none of the text fields")
    assert "6 x" in done.stderr and "none of the text fields" in done.stderr
    assert not checkpoints(state) and not engine.indices(f"{index}*")
    letters = [json.loads(line) for line in Path("dead.jsonl").read_text().splitlines()]
    for letter in letters:
        letter["record"]["title"] = "mended cat"
    Path("dead.jsonl").write_text(lines(letters))
    done = command(engine_url, tiny / "router", "retry", "dead.jsonl")
    assert done.exit_code == 2 and "--model" in done.stderr
    done = command(engine_url, tiny, "retry", "dead.jsonl", "--model", str(tiny / "router"))
    assert done.exit_code == 0 and engine.count(index) == 9, done.stderr


@pytest.mark.parametrize("why", ["model", "source", "empty", "field type"])
def test_what_is_refused_leaves_nothing(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path, why: str
) -> None:
    Path("d.jsonl").write_text("" if why == "empty" else lines([{"id": 1, "text": "cat"}]))
    Path("broken.json").write_text("[{")
    source = "broken.json" if why == "source" else "d.jsonl"
    more = ["--field-type", "sparse_vector"] if why == "field type" else []
    if why == "model":  # an index of another model
        Path("first.jsonl").write_text(lines([{"id": 1, "text": "cat"}]))
        first = command(engine_url, tiny / "bert", "ingest", "first.jsonl", "--index", index)
        assert first.exit_code == 0
    done = command(engine_url, tiny / "router", "ingest", source, "--index", index, *more)
    assert isinstance(done.exception, SpladeError) == (why != "empty"), done.stderr
    assert not checkpoints(state)
    assert bool(engine.indices(f"{index}*")) == (why == "model")
    done = command(
        engine_url, tiny / ("bert" if why == "model" else "router"), "ingest", "d.jsonl",
        "--index", index,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr


def test_an_index_that_was_there_stays(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    Path("d.jsonl").write_text(lines([{"id": n, "text": "cat"} for n in range(3)]))
    assert (
        command(engine_url, tiny / "router", "ingest", "d.jsonl", "--index", index).exit_code == 0
    )
    Path("e.jsonl").write_text("")
    done = command(engine_url, tiny / "router", "ingest", "e.jsonl", "--index", index)
    assert done.exit_code == 0 and engine.count(index) == 3


def test_an_empty_index_takes_other_fields_and_another_model(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    create = ["index", "create", "--index", index, "--text", "titel,meta.name"]
    assert command(engine_url, tiny / "bert", *create).exit_code == 0
    before = engine.index_meta(index)
    Path("d.jsonl").write_text(lines([{"id": 1, "headline": "red cat", "text": "sun"}]))
    ingest = ["ingest", "d.jsonl", "--index", index, "--text", "headline,meta.title"]
    done = command(engine_url, tiny / "router", *ingest, "--model", str(tiny / "router"))
    assert done.exit_code == 0, (done.stderr, done.exception)
    meta = engine.index_meta(index)
    assert meta.text_fields == ("headline", "meta.title") and meta.model != before.model
    found = engine.search(index, SearchRequest(MatchQuery("red"))).hits
    assert [hit.id for hit in found] == ["1"]  # the new field is one that BM25 finds
    done = command(engine_url, tiny / "router", *ingest, "--text", "text")  # it holds one now
    assert isinstance(done.exception, SpladeError) and "encodes the fields" in str(done.exception)


# --- --resume=auto


def interrupted(engine_url: str, index: str, model: Path, source: str, *more: str) -> None:
    """An ingest of 100 records whose canary finds nothing."""
    Path(source).write_text(lines([{"id": n, "text": f"cat {n}"} for n in range(100)]))
    ingest = ("ingest", source, "--index", index, "--canary", "cat=gone", *more)
    assert command(engine_url, model, *ingest).exit_code == 1


@pytest.mark.parametrize("resume", [["--resume=auto"], ["--resume", "auto"]])
def test_resume_auto(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path, resume: list[str]
) -> None:
    model, ingest = tiny / "router", ["ingest", *resume, "d.jsonl", "--index", index, "--json"]
    Path("d.jsonl").write_text(lines([{"id": 1, "text": "cat"}]))
    done = command(engine_url, model, *ingest)  # nothing is there
    assert done.exit_code == 0, done.stderr
    engine.delete_index(index)

    interrupted(engine_url, index, model, "d.jsonl")
    done = command(engine_url, model, *ingest)  # the same: it goes on
    assert done.exit_code == 0 and "Going on" in done.stderr, done.stderr
    report = json.loads(done.stdout)
    assert (report["created"], report["updated"]) == (100, 0) and engine.count(index) == 100

    interrupted(engine_url, index, model, "d.jsonl")
    Path("d.jsonl").write_text(lines([{"id": 7, "text": "sun"}]))
    done = command(engine_url, model, *ingest[:1], "d.jsonl", "--resume", "--index", index)
    assert isinstance(done.exception, IngestError) and "has changed" in str(done.exception)
    done = command(engine_url, model, *ingest)  # another source: it begins anew
    assert done.exit_code == 0 and "Beginning anew" in done.stderr, done.stderr
    assert json.loads(done.stdout)["read"] == 1 and not checkpoints(state)


def test_resume_takes_no_source_for_its_value(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    Path("d.jsonl").write_text(lines([{"id": 1, "text": "cat"}]))
    ingest = ["ingest", "--resume", "d.jsonl", "--index", index]
    assert command(engine_url, tiny / "router", *ingest).exit_code == 0
    done = command(engine_url, tiny / "router", *ingest, "--restart")
    assert done.exit_code == 2 and "--resume=auto" in done.stderr


def test_resume_with_sync_goes_on_only_where_the_ids_are_known(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    interrupted(engine_url, index, tiny / "router", "d.jsonl")
    ingest = ["ingest", "d.jsonl", "--index", index, "--sync"]
    done = command(engine_url, tiny / "router", *ingest, "--resume")
    assert isinstance(done.exception, IngestError) and "without --sync" in str(done.exception)


# --- what is told


def test_text_fields_that_are_missing(engine_url: str, index: str, tiny: Path, state: Path) -> None:
    rows = [{"id": n, "title": "cat", **({"body": "dog"} if n < 2 else {})} for n in range(10)]
    Path("d.jsonl").write_text(lines(rows))
    done = command(
        engine_url, tiny / "router", "ingest", "d.jsonl", "--index", index, "--json",
        "--text", "title,body,subtitle",
    )  # fmt: skip
    assert done.exit_code == 0
    assert "'subtitle': none of 10 records has text" in done.stderr, done.stderr
    assert "'body': 2 of 10 records have text" in done.stderr and "'title'" not in done.stderr
    assert json.loads(done.stdout)["text_fields"] == {"title": 10, "body": 2, "subtitle": 0}


def test_nested_text_fields_and_join(
    engine: Engine, engine_url: str, index: str, tiny: Path, state: Path
) -> None:
    rows = [{"id": 1, "meta": {"title": "red cat"}, "tags": ["sun", "moon"], "year": 1999}]
    Path("d.jsonl").write_text(lines(rows))
    ingest = ["ingest", "d.jsonl", "--index", index, "--text", "meta.title,tags,year"]
    for join in (" · ", "\\", "\\n", "日本", "\\x"):
        done = command(engine_url, tiny / "router", *ingest, "--join", join)
        assert done.exit_code == 0, (join, done.stderr, done.exception)
        statistics = engine.load_statistics(index)
        assert statistics is not None and statistics.documents == 1
    (document,) = stored(engine, index).values()
    assert document["meta"] == {"title": "red cat"} and document["tags"] == ["sun", "moon"]


@pytest.mark.parametrize("end", ["good", "dead letters", "failed", "no source", "wrong use"])
def test_report_file(engine_url: str, index: str, tiny: Path, state: Path, end: str) -> None:
    rows: list[Any] = [{"id": n, "text": "cat"} for n in range(5)]
    bad = "bad\n" if end in ("dead letters", "failed") else ""
    Path("d.jsonl").write_text(lines(rows) + bad)
    more = {"failed": ["--on-error", "abort"], "wrong use": ["--sync", "--limit", "1"]}.get(end, [])
    done = command(
        engine_url, tiny / "router", "ingest", "no.jsonl" if end == "no source" else "d.jsonl",
        "--index", index, "--report", "r.json", *more,
    )  # fmt: skip
    if end == "wrong use":
        assert done.exit_code == 2 and not Path("r.json").exists()
        return
    report = json.loads(Path("r.json").read_text())
    code = {"good": 0, "dead letters": 3}.get(end, 1)
    assert report["exit_code"] == done.exit_code == code
    assert (report["error"] is None) == (code != 1)
    if end != "no source":
        assert report["read"] == 5 + bool(bad) and report["dead"] == bool(bad)
    assert sorted(path.name for path in Path().glob("*r.json*")) == ["r.json"]


def test_log_as_json(engine_url: str, index: str, tiny: Path, state: Path) -> None:
    rows: list[Any] = [{"text": f"cat {n}"} for n in range(5)]
    Path("d.jsonl").write_text(lines(rows) + "bad\n")
    ingest = ["ingest", "d.jsonl", "--index", index, "--log-format", "json"]
    done = command(engine_url, tiny / "router", *ingest)
    assert done.exit_code == 3, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(datetime.fromisoformat(each["time"]).tzinfo for each in told)
    events = {each["event"]: each for each in told if "event" in each}
    assert {"start", "no_id", "dead_letter", "end"} <= set(events)
    assert events["end"]["created"] == 5 and events["dead_letter"]["level"] == "warning"


def test_retries_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def request() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise EngineError("too busy", status=429)
        return 7

    with caplog.at_level(logging.INFO, "splade_os.ingest"):
        policy = RetryPolicy(engine=None, cancellation=Cancellation(), seconds=30)  # type: ignore[arg-type]
        assert policy.call(request) == 7
    told = [record for record in caplog.records if getattr(record, "event", "") == "retry"]
    assert len(told) == 2 and all("too busy" in record.getMessage() for record in told)


def test_reasons() -> None:
    reasons = Reasons()
    for n in range(50):
        reasons.add(f"a:{n}", f"not valid JSON: line 1 column {n}", None)
        reasons.add(f"b:{n}", f"document with id 'x{n}': value 7", f"x{n}")
    for n in range(100):
        reasons.add("c", "word " + "x" * n, None)
    again = Reasons.unpacked(reasons.packed())
    counts = again.counts()
    assert again.first == "a:0: not valid JSON: line 1 column 0"
    assert (
        counts["not valid JSON: line 1 column 0"] == 50 == counts["document with id 'x0': value 7"]
    )
    assert len(counts) <= 21 and sum(counts.values()) == 200
