"""Going on where a load ended: only with the same job, the same source, and its own letters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from splade_os import DocumentEncoder
from splade_os.engines import Engine, connect
from splade_os.errors import IngestError
from splade_os.ingest.documents.records import Item, RecordReader, Rejected
from splade_os.ingest.load import load_source
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.report import IngestReport
from splade_os.ingest.state.checkpoint import Checkpoint
from splade_os.ingest.state.dead_letters import DeadLetters

COUNT = 3_000
Load = Callable[..., IngestReport]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = connect(f"sqlite:///{tmp_path}/engine.db")
    yield opened
    opened.close()


@pytest.fixture
def load(engine: Engine, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads docs.jsonl; ``stop`` = interrupt it when as many records are read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLADE_OS_STATE", str(tmp_path / "state"))
    encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu", backend="none")

    def run(source: str = "docs.jsonl", *, stop: int = 0, **more: Any) -> IngestReport:
        def progress(report: IngestReport) -> None:
            if stop and report.indexed >= stop:
                raise KeyboardInterrupt

        # one request at a time: what is through is all that was sent, but for the last ones
        options = IngestOptions(
            **more.pop("options", {}), window=16, max_documents=16, concurrency=1
        )
        return load_source(
            source, engine=engine, target="x", encoder=encoder, options=options,
            reader=RecordReader(vectors=True), on_progress=progress, **more,
        )  # fmt: skip

    return run


def rows(count: int = COUNT, said: str = "cat") -> list[str]:
    return [
        json.dumps({"id": f"d{n}", "text": said * 9, "n": n, "vector": {said: 1.0}})
        for n in range(count)
    ]


def write(lines: list[str]) -> None:
    Path("docs.jsonl").write_text("\n".join(lines) + "\n")


def interrupt(load: Load, **more: Any) -> int:
    """How many records are through: fewer than were indexed, and each time others."""
    with pytest.raises(KeyboardInterrupt):
        load(stop=1000, **more)
    (file,) = Path("state/ledgers").glob("*.sqlite")
    with closing(Checkpoint(file)) as checkpoint:
        assert 0 < checkpoint.done < COUNT
        return checkpoint.done


@pytest.mark.parametrize("first", [True, False])
def test_a_line_that_was_edited(load: Load, first: bool) -> None:
    """Of the same length, far behind the first bytes: it would never be indexed."""
    write(rows())
    through = interrupt(load)
    line = 0 if first else through - 1
    write(
        [*(lines := rows())[:line], lines[line].replace("cat" * 9, "dog" * 9), *lines[line + 1 :]]
    )
    with pytest.raises(IngestError, match=r"not those of before|has changed"):
        load(begin="resume")
    assert load(begin="restart").verified


def test_standard_input(load: Load, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """The same again goes on; anything else is refused, and nothing of it is skipped."""

    def feed(lines: list[str]) -> None:
        data = io.BytesIO(("\n".join(lines) + "\n").encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data))

    feed(rows())
    fewer = interrupt(load, source="-") - 1
    for other in (rows(said="dog"), rows(fewer)):
        feed(other)
        with pytest.raises(IngestError, match=rf"not those of before|has {fewer:,} records"):
            load("-", begin="resume")
    feed(rows())
    assert load("-", begin="resume").verified and engine.count("x") == COUNT


@pytest.mark.parametrize("first", [True, False])
def test_sync_that_was_not_there_all_the_time(load: Load, engine: Engine, first: bool) -> None:
    """Nothing is deleted by a load that has not seen all ids itself."""
    write(rows())
    interrupt(load, options={"sync": first})
    with pytest.raises(IngestError, match="--sync"):
        load(begin="resume", options={"sync": not first})
    assert load(begin="resume", options={"sync": first}).deleted == 0
    assert engine.count("x") == COUNT
    write(rows()[:2000])
    assert load(options={"sync": True}).deleted == 1000


def test_another_reader_of_terms(load: Load) -> None:
    write(rows())
    interrupt(load)
    with pytest.raises(IngestError, match="with term statistics"):
        load(begin="resume", options={"count_terms": False})


def rejected(position: int) -> Rejected:
    return Rejected(position, f"f:{position}", "damaged", Item("f", b"x" * 500))


def letters(file: Path) -> list[tuple[str, int]]:
    found = map(json.loads, file.read_text().splitlines())
    return sorted((letter["run"], letter["position"]) for letter in found)


def test_a_file_of_letters_of_several_processes(tmp_path: Path) -> None:
    """Whole lines of each; what one takes back is its own, wherever it stands."""
    file = tmp_path / "dead.jsonl"

    def fill(run: str) -> None:
        with DeadLetters(file, "x", run) as dead:
            for position in range(1, 301):
                dead.reject(rejected(position))
                if not position % 50:
                    dead.save()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, "abcd"))
    assert letters(file) == [(run, n) for run in "abcd" for n in range(1, 301)]
    with file.open("ab") as handle:
        handle.write(b'{"position": 301, "run": "b", "reas')  # killed
    with DeadLetters(file, "x", "b") as dead:
        dead.forget(range(1, 101))
        dead.reject(rejected(999))
    expected = [(run, n) for run in "acd" for n in range(1, 301)]
    assert letters(file) == sorted([*expected, *(("b", n) for n in range(1, 101)), ("b", 999)])
    for run in "abcd":
        DeadLetters(file, "x", run).forget()
    assert not file.exists()


def test_half_a_line_of_another_process(tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    file.write_bytes(b'{"position": 301, "run": "b", "reas')
    with DeadLetters(file, "x", "a") as dead:
        dead.reject(rejected(1))
    first, second = file.read_bytes().splitlines()
    assert json.loads(second)["position"] == 1 and first.endswith(b"reas")


def test_a_letter_that_was_mended_in_place(load: Load, tmp_path: Path) -> None:
    """A resumed load leaves what it has settled as the user made it."""
    damaged = ["not json", *rows()]
    write(damaged)
    interrupt(load, dead_letters="dead.jsonl")
    letter = json.loads(Path("dead.jsonl").read_text())
    letter["record"] = {"id": "mended", "text": "a longer text than there was"}
    mended = json.dumps(letter, separators=(",", ":")) + "\n"
    Path("dead.jsonl").write_text(mended)
    assert load(begin="resume", dead_letters="dead.jsonl").dead == 1
    assert Path("dead.jsonl").read_text() == mended
