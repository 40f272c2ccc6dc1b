"""Histories: loads, kills at any line, resumed, other files, aliases, rollbacks, what others do.

Whatever happened before, an index holds what the sources say, and an alias stands for a whole
index. The model is a dictionary of what may stand in each index: after a kill a document may be
the old or the new one. Each load is a process of its own, and dies, where it shall, at the n-th
line that it executes of the package. SPLADE_OS_SOAK_SECONDS makes it last that long.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from splade_os import DocumentEncoder
from splade_os.engines import Engine, connect
from splade_os.errors import IndexNotFoundError, SpladeError
from splade_os.ingest.documents.records import RecordReader
from splade_os.ingest.index.aliases import generations, roll_back
from splade_os.ingest.load import AliasOptions, load_source
from splade_os.ingest.options import IngestOptions

SOAK = float(os.environ.get("SPLADE_OS_SOAK_SECONDS", "0"))
KILLED, REFUSED, UNVERIFIED = 9, 1, 5
_MOST_SECONDS = 30.0  # of a load of some documents
WORDS = ("cat", "dog", "sun", "moon")
INDEX, ALIAS = "x", "a"
Rows = dict[str, str | None]
"""Id → word of its text; ``None`` = a document that cannot be indexed."""


def kill_at(line: int) -> None:
    """The process dies at the n-th line of the package that it executes, in whatever thread."""
    lines = count(1)

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if "/ingest/" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(lines) >= line:
            os._exit(KILLED)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


def in_a_process(work: Callable[[], None]) -> int:
    """Exit code of a fork that does it. One that waits for a lock which another thread held as it
    was forked never ends: it is killed, as others are."""
    child = os.fork()
    if child:
        end = time.monotonic() + _MOST_SECONDS
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return KILLED
            time.sleep(0.002)
        return os.waitstatus_to_exitcode(ended[1])
    code = 70  # any other error, a fault of ours
    warnings.simplefilter("ignore")  # of builds that are left behind, as they should be
    try:
        work()
        code = 0
    except SpladeError as error:
        Path("refused").write_text(str(error))
        code = REFUSED
    except BaseException as error:
        Path("refused").write_text(repr(error))
    finally:
        os._exit(code)


class Histories(RuleBasedStateMachine):
    model: Path
    url: str = ""
    encoder: DocumentEncoder

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        os.chdir(self.folder)
        os.environ["SPLADE_OS_STATE"] = str(self.folder / "state")
        self.engine: Engine = connect(f"sqlite:///{self.folder}/engine.db")
        self.may: dict[str, set[str | None]] = {}  # what stands in INDEX
        self.builds: list[Rows] = []  # what an index behind ALIAS may hold, as a whole
        self.live: list[Rows] | None = None  # what the alias may stand for; None = for nothing yet

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()
            os.chdir("/")
            shutil.rmtree(self.folder)

    def load(
        self, rows: Rows, target: str, file: str, begin: Any, kill: int | None, **more: Any
    ) -> int:
        lines = [
            json.dumps({"id": i, "text": word or "cat", "vector": {word or "no such token": 1.0}})
            for i, word in rows.items()
        ]
        Path(file).write_text("\n".join(lines) + "\n")
        alias = AliasOptions(min_documents=0.5) if target == ALIAS else None

        def work() -> None:
            if kill:
                kill_at(kill)
            report = load_source(
                file,
                engine=connect(self.engine.url),
                target=target,
                encoder=self.encoder,
                alias=alias,
                reader=RecordReader(vectors=True),
                options=IngestOptions(
                    window=4, max_documents=4, concurrency=2, unusable=None, **more
                ),
                begin=begin,
                dead_letters=f"{file}.dead",
            )
            if not (report.verified or report.removed):
                os._exit(UNVERIFIED)  # others have deleted what it had counted

        code = in_a_process(work)
        note(f"{code} {Path('refused').read_text() if code in (1, 70) else ''}")
        assert code in (0, KILLED, REFUSED, UNVERIFIED), Path("refused").read_text()
        return code

    sources = st.dictionaries(
        st.integers(0, 11).map(lambda n: f"d{n}"), st.sampled_from(WORDS), min_size=1, max_size=12
    )
    files = st.sampled_from(["one.jsonl", "two.jsonl"])
    begins = st.sampled_from(["new", "resume", "auto", "restart"])
    kills = st.one_of(st.none(), st.integers(1, 6_000))

    @rule(
        rows=sources, file=files, begin=begins, kill=kills, sync=st.booleans(), skip=st.booleans()
    )
    def load_index(
        self, rows: Rows, file: str, begin: str, kill: int | None, sync: bool, skip: bool
    ) -> None:
        before = self.held(INDEX)
        code = self.load(rows, INDEX, file, begin, kill, sync=sync, skip_unchanged=skip)
        if code == 0:
            # a load that goes on does not write again what it has settled: others may have since
            went_on = begin in ("resume", "auto")
            for i, word in rows.items():
                old = self.may.get(i, set()) if went_on else set()
                self.may[i] = {word} | (old & {before.get(i)} if went_on else set())
            for i in self.may.keys() - rows.keys() if sync else ():
                self.may[i] = {None}
        else:
            # what is there, or what was written before it ended
            for i in self.may.keys() | rows.keys():
                new = {rows[i]} if i in rows else {None} if sync else set()
                self.may[i] = self.may.get(i, {None}) | new

    @rule(rows=sources, file=files, begin=begins, kill=kills, bad=st.booleans())
    def load_alias(self, rows: Rows, file: str, begin: str, kill: int | None, bad: bool) -> None:
        wanted = {**rows, "bad": None} if bad else rows
        code = self.load(wanted, ALIAS, file, begin, kill)
        assert code != 0 or not bad
        if code == 0:
            self.live = [rows]
        elif code == KILLED and not bad:
            self.live = [*(self.live or [{}]), rows]
        if not bad:
            self.builds.append(rows)

    @rule()
    def go_back(self) -> None:
        try:
            roll_back(self.engine, ALIAS)
        except SpladeError:
            return
        self.live = list(self.builds)

    @rule(n=st.integers(0, 11))
    def others_delete(self, n: int) -> None:
        try:
            self.engine.bulk(INDEX, b'{"delete":{"_id":"d%d"}}\n' % n)
        except IndexNotFoundError:
            return
        self.may[f"d{n}"] = {None}

    @rule()
    def others_delete_the_index(self) -> None:
        try:
            self.engine.delete_index(INDEX)
        except IndexNotFoundError:
            return
        self.may = {}

    @rule()
    def lose_the_state_folder(self) -> None:
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def held(self, target: str) -> Rows:
        try:
            found = dict(self.engine.scan(target, ["text"]))
        except IndexNotFoundError:
            return {}
        return {i: fields["text"] for i, fields in found.items()}

    @invariant()
    def the_index_holds_what_the_sources_say(self) -> None:
        held = self.held(INDEX) if hasattr(self, "engine") else {}
        for i in held.keys() | getattr(self, "may", {}).keys():
            assert held.get(i) in self.may.get(i, {None}), (i, held.get(i), self.may.get(i))

    @invariant()
    def the_alias_stands_for_a_whole_index(self) -> None:
        if not hasattr(self, "engine"):
            return
        targets = self.engine.alias_targets(ALIAS)
        assert len(targets) <= 1
        if targets:
            assert targets[0] in generations(self.engine, ALIAS)
            assert self.held(ALIAS) in (self.live or [])
        else:
            assert self.live is None or {} in self.live


@pytest.mark.timeout(max(240, SOAK + 240))
def test_histories(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLADE_OS_STATE", os.environ["SPLADE_OS_STATE"])  # put back at the end
    Histories.encoder = DocumentEncoder.load(str(tiny / "router"), device="cpu", backend="none")
    folder, until = Path.cwd(), time.monotonic() + SOAK
    try:
        while True:
            run_machine(
                Histories,
                settings=settings(
                    max_examples=100 if SOAK else 6,
                    stateful_step_count=12,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
            if time.monotonic() >= until:
                break
    finally:
        os.chdir(folder)
