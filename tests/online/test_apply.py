"""`splade-os apply`: the index holds what a plain dict would after the same changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from splade_os import Index
from splade_os.engines import Engine, connect
from splade_os.errors import IngestError
from splade_os.ingest.documents.records import RecordReader, Rejected
from splade_os.ingest.sources import SourceOptions, find_source
from splade_os.ingest.sources.formats import CHANGES
from splade_os.online.change_reader import ChangeReader
from splade_os.online.stream import ApplyReport, apply_changes
from tests.online.test_index import encoded, vector_of

Change = dict[str, Any]
WORDS = ("cat", "dog", "moon", "river")
IDS = st.sampled_from(["1", "2", "3"])
DOCS = st.fixed_dictionaries(
    {"text": st.sampled_from(WORDS)}, optional={"n": st.integers(0, 9), "o": st.just({"a": 1})}
)
FIELDS = st.sampled_from([{"text": "moon"}, {"n": 5}, {"o": {"b": 2}}])
CHANGE: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda i, d: {"op": "upsert", "id": i, "doc": d}, IDS, DOCS),
    st.builds(lambda i, d: {"op": "update", "id": i, "doc": d}, IDS, FIELDS),
    st.builds(lambda i: {"op": "delete", "id": i}, IDS),
)


def native(change: Change) -> str:
    return json.dumps(change) + "\n"


def bulk(change: Change) -> str:
    name = {"upsert": "index"}.get(change["op"], change["op"])
    lines = [{name: {"_id": change["id"], "_index": "whatever"}}]
    if change["op"] != "delete":
        body = {"doc": change["doc"]} if change["op"] == "update" else change["doc"]
        lines.append(body)
    return "".join(json.dumps(line) + "\n" for line in lines)


def documents(change: Change) -> str:
    """An upsert as the document alone, or as an event of Debezium; others as they are."""
    if change["op"] == "update":
        return native(change)
    row = {"_id": change["id"], **change.get("doc", {})}
    if change["op"] == "delete":
        return json.dumps({"payload": {"op": "d", "before": row, "after": None}}) + "\n"
    return json.dumps({"op": "u", "before": None, "after": row} if "n" in row else row) + "\n"


def after(changes: list[Change], docs: dict[str, Any] | None = None) -> dict[str, Any]:
    """The oracle: what a dict of documents holds after the changes."""
    docs = dict(docs or {})
    for change in changes:
        identifier = change["id"]
        if change["op"] == "upsert":
            docs[identifier] = change["doc"]
        elif change["op"] == "delete":
            docs.pop(identifier, None)
        elif identifier in docs:
            merged = {**docs[identifier], **change["doc"]}
            if "o" in change["doc"]:
                merged["o"] = {**docs[identifier].get("o", {}), **change["doc"]["o"]}
            docs[identifier] = merged
    return docs


@pytest.fixture
def apply(engine: Engine, index: str, tiny: Path, tmp_path: Path) -> Callable[..., ApplyReport]:
    """Applies the text of a file."""

    def run(text: str, **more: Any) -> ApplyReport:
        file = tmp_path / "changes.ndjson"
        file.write_text(text)
        with Index(
            index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"]
        ) as opened:
            return apply_changes(
                find_source(str(file), SourceOptions(format=CHANGES)),
                opened,
                reader=RecordReader(text_fields=["text"]),
                dead_letters=tmp_path / "dead.jsonl",
                **more,
            )

    return run


def holds(engine: Engine, index: str) -> dict[str, Any]:
    with Index(index=index, engine=engine) as opened:
        return dict(opened.scan())


@pytest.mark.parametrize("form", [native, bulk, documents])
def test_as_a_dict_would(
    engine: Engine, index: str, apply: Callable[..., ApplyReport], form: Callable[[Change], str]
) -> None:
    @settings(max_examples=4)
    @given(st.lists(CHANGE, max_size=12))
    def check(changes: list[Change]) -> None:
        clean = [{"op": "delete", "id": i} for i in ("1", "2", "3")]
        report = apply("".join(form(change) for change in [*clean, *changes]), begin="restart")
        assert holds(engine, index) == after(changes)
        assert report.read == 3 + len(changes)
        settled = report.created + report.updated + report.deleted + report.absent
        assert settled + report.superseded + report.dead == report.read

    check()


def test_vectors_are_those_of_the_text_as_it_is_now(
    engine: Engine, index: str, apply: Callable[..., ApplyReport], tiny: Path
) -> None:
    apply(
        native({"op": "upsert", "id": "1", "doc": {"text": "cat"}})
        + native({"op": "update", "id": "1", "doc": {"text": "moon"}})
    )
    assert vector_of(engine, index, "1") == encoded(tiny, engine, index, "moon")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("no json", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"op": "upsert", "doc": {"text": "cat"}}', "no id"),
        ('{"text": "cat"}', "no id"),
        ('{"op": "update", "id": "1"}', "'doc' is no object"),
        ('{"op": "update", "id": "1", "doc": {}}', "nothing would change"),
        ('{"op": "delete"}', "no id"),
        ('{"op": "delete", "id": {"a": 1}}', "neither text nor a whole number"),
        ('{"op": "delete", "id": "1", "text": "how to delete"}', "go into 'doc'"),
        ('{"op": "remove", "id": "1"}', "none of upsert, update, delete"),
        ('{"op": ["d"], "id": "1"}', "none of upsert, update, delete"),
        ('{"op": "upsert", "id": "1", "doc": {"body": "cat"}}', "none of the text fields"),
        ('{"index": {"_id": "1"}}', "has no document"),
        ('{"update": {"_id": "1"}}\n{"script": "x"}', "only"),
        ('{"delete": {"_id": "1", "routing": "a"}}', "'routing'"),
        ('{"index": {"_id": "1"}}\n{"text": cat}', "not valid JSON"),
    ],
)
def test_what_is_no_change_is_a_dead_letter(tmp_path: Path, line: str, reason: str) -> None:
    """And nothing else: the change after it is read as if it stood alone."""
    file = tmp_path / "changes.ndjson"
    file.write_text(f'{line}\n{{"delete": {{"_id": "next"}}}}\n')
    items = list(find_source(str(file), SourceOptions(format=CHANGES)).items())
    reader = ChangeReader(RecordReader(text_fields=["text"]))
    read = [reader.read(item, n) for n, item in enumerate(items, 1)]
    assert isinstance(read[0], Rejected) and reason in read[0].reason
    assert len(read) == 2 and not isinstance(read[1], Rejected)


def test_dead_letters_are_applied_again_not_ingested(
    engine: Engine, index: str, apply: Callable[..., ApplyReport], tmp_path: Path
) -> None:
    """A partial update that `retry` took for a document would wipe out the rest of it."""
    change = {"op": "update", "id": "1", "doc": {"n": 5}}
    assert apply(bulk(change)).dead == 1
    (letter,) = map(json.loads, (tmp_path / "dead.jsonl").read_text().splitlines())
    assert letter["record"] == change
    from splade_os.ingest.sources.dead_letters import DeadLetterReader, LetterSource

    (item,) = LetterSource(str(tmp_path / "dead.jsonl")).items()
    again = DeadLetterReader().read(item, 1)
    assert isinstance(again, Rejected) and "splade-os apply" in again.reason
    first = native({"op": "upsert", "id": "1", "doc": {"text": "cat"}})
    report = apply(first + json.dumps(letter["record"]))
    assert (report.dead, holds(engine, index)) == (0, {"1": {"text": "cat", "n": 5}})


def test_a_stream_that_begins_otherwise_is_not_gone_on_with(
    apply: Callable[..., ApplyReport],
) -> None:
    changes: list[Change] = [
        {"op": "upsert", "id": str(n), "doc": {"text": "cat"}} for n in range(300)
    ]

    def stop(report: ApplyReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply("".join(map(native, changes)), on_progress=stop)
    with pytest.raises(IngestError, match="interrupted"):
        apply("".join(map(native, changes)))
    changes[0]["doc"]["text"] = "dog"
    with pytest.raises(IngestError, match=r"not those of before|has changed"):
        apply("".join(map(native, changes)), begin="resume")
    assert apply("".join(map(native, changes)), begin="restart").read == 300


# as a process


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/engine.db"


@pytest.fixture
def running(url: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts `splade-os apply -`, with a pipe for its changes."""
    name, started = f"test-{uuid.uuid4().hex[:8]}", []

    def start(*more: str) -> tuple[subprocess.Popen[str], str]:
        command = [
            sys.executable, "-m", "splade_os", "apply", "-", "--url", url, "--index", name,
            "--text", "text", *more,
        ]  # fmt: skip
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=tmp_path, env={**os.environ, "SPLADE_OS_STATE": str(tmp_path / "state")},
        )  # fmt: skip
        started.append(process)
        return process, name

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it has not come about"
        time.sleep(0.05)


def count(url: str, index: str) -> int:
    with Index(url, index) as opened:
        return opened.count()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_pipe_that_pauses_and_a_process_that_is_stopped(
    running: Callable[..., Any], url: str, number: signal.Signals
) -> None:
    changes = [{"op": "upsert", "id": str(n), "doc": {"text": "cat"}} for n in range(3)]
    changes += [{"op": "delete", "id": "0"}, {"op": "update", "id": "1", "doc": {"n": 1}}]
    process, index = running()
    process.stdin.write("".join(map(native, changes[:3])))
    process.stdin.flush()  # and the pipe stays open
    until(lambda: count(url, index) == 3)
    time.sleep(0.5)  # the position is saved after the batch
    process.send_signal(number)
    code = process.wait(timeout=30)
    again, _ = running("--json", *([] if number == signal.SIGTERM else ["--resume=auto"]))
    if number == signal.SIGTERM:  # what was interrupted is not begun anew unasked
        assert code == 130 and "--resume" in process.stderr.read()
        _, told = again.communicate("".join(map(native, changes)), timeout=60)
        assert again.returncode == 1 and "--resume" in told
        again, _ = running("--json", "--resume")
    told, _ = again.communicate("".join(map(native, changes)), timeout=60)
    assert again.returncode == 0
    report = json.loads(told)
    assert (report["read"], report["created"], report["deleted"], report["dead"]) == (5, 3, 1, 0)
    with Closing(url) as engine:
        assert holds(engine, index) == after(changes)


def test_exit_codes(running: Callable[..., Any]) -> None:
    process, _ = running()
    _, told = process.communicate(native({"op": "update", "id": "9", "doc": {"n": 1}}), timeout=60)
    assert process.returncode == 3 and "no document of this id" in told
    process, _ = running()
    process.communicate(native({"op": "delete", "id": "9"}), timeout=60)
    assert process.returncode == 0  # it is not there, as was asked for


def test_an_index_of_somebody_else_is_not_adopted_on_the_way(
    opensearch_url: str, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from splade_os.cli import cli
    from splade_os.engines.rest.cluster import ClusterEngine
    from splade_os.errors import IndexFormatError

    name = f"test-{uuid.uuid4().hex[:8]}"
    file = tmp_path / "changes.ndjson"
    file.write_text(native({"op": "upsert", "id": "1", "doc": {"text": "cat"}}))
    with Closing(opensearch_url) as engine:
        assert isinstance(engine, ClusterEngine)
        engine.request("PUT", f"/{name}", {})
        try:
            command = ["apply", str(file), "--url", opensearch_url, "--index", name]
            result = CliRunner().invoke(cli, command)
            assert isinstance(result.exception, IndexFormatError)
            assert engine.properties(name) == {}
        finally:
            engine.request("DELETE", f"/{name}", None)


class Closing:
    def __init__(self, url: str) -> None:
        self.engine = connect(url)

    def __enter__(self) -> Engine:
        return self.engine

    def __exit__(self, *error: object) -> None:
        self.engine.close()
