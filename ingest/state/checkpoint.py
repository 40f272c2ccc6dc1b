"""The checkpoint of an ingest: how far it is, on disk, so that a killed one goes on."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from splade_os.errors import IngestError
from splade_os.identity import ModelIdentity
from splade_os.ingest.state.progress import OffsetTracker, Progress
from splade_os.ingest.state.reasons import Reasons
from splade_os.settings import private_file, state_dir
from splade_os.statistics import TermStatistics

_FORMAT = 1


class Job(BaseModel):
    """What an ingest does: to go on with it, all of this must be the same.

    Attributes:
        url, target: cluster, and index or alias.
        source: as the user named it.
        selection: offset, limit and shard.
        fingerprint: of the source's content.
        reader: how records are made of it.
        model: what encodes them.
        alias: the target is one, for which an index of its own is built.
        count_terms: the terms are counted.
        sync: what the source lacks is deleted at the end, so the ids are noted from the beginning.
    """

    model_config = ConfigDict(frozen=True)

    url: str
    target: str
    source: str
    selection: dict[str, Any]
    fingerprint: str
    reader: dict[str, Any]
    model: ModelIdentity
    alias: bool = False
    count_terms: bool = True
    sync: bool = False

    @property
    def name(self) -> str:
        """The same on every machine: whoever takes it up again is known by it."""
        return _digest(*self._key())

    def _key(self) -> tuple[str, ...]:
        selection = orjson.dumps(self.selection, option=orjson.OPT_SORT_KEYS).decode()
        return self.target, self.source, selection

    def file(self) -> Path:
        """Where its checkpoint lies: one for each cluster, kind of target, target, source and
        selection."""
        name = _digest(self.url, *self._key())
        kind = "-alias" if self.alias else ""
        return state_dir() / "ledgers" / f"{safe_name(self.target)}{kind}-{name}.sqlite"

    @contextmanager
    def checkpoint(self) -> Iterator[Checkpoint]:
        """Its checkpoint, closed at the end. That of a load into an alias lay elsewhere once."""
        file = self.file()
        old = self.model_copy(update={"alias": False}).file()
        if self.alias and old.is_file() and not file.is_file():
            with closing(Checkpoint(old)) as before:
                ours = before.index != self.target
            if ours:
                old.rename(file)
        checkpoint = Checkpoint(file)
        try:
            yield checkpoint
        finally:
            checkpoint.close()

    def difference(self, other: Job) -> str | None:
        """What has changed from this one to ``other``, in words."""
        if self.fingerprint != other.fingerprint:
            return f"the content of {self.source} has changed"
        # the index says those itself (`DocumentEncoder.adopt`)
        model = self.model.difference(other.model, frozenset({"average_length", "whole_text"}))
        if model:
            return f"another model: {model}"
        # as JSON: a tuple comes back from the file as a list
        readers = [orjson.loads(orjson.dumps(job.reader)) for job in (self, other)]
        for name, mine in readers[0].items():
            theirs = readers[1].get(name)
            if mine != theirs:
                return f"{name.replace('_', ' ')} was {mine!r} and is {theirs!r}"
        if other.sync and not self.sync:
            return "it was begun without --sync, so it is not known which ids the source has"
        if other.sync != self.sync:
            return "it was begun with --sync"
        if other.count_terms != self.count_terms:
            return f"it was begun {'with' if self.count_terms else 'without'} term statistics"
        return None


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def safe_name(name: str) -> str:
    """Part of a file's name, from a name of the user's: no path, and not too long."""
    return re.sub(r"[^\w.-]", "_", name)[:40]


class Checkpoint:
    """An SQLite file; in memory if none is named (then the ingest cannot be resumed).

    Args:
        file: made if it is missing.

    Attributes:
        job: that it was begun for.
        run: name of the run, in the mark of every document that it writes.
        index: that is written to: behind the alias, if the target is one.
        uuid: of that index; ``None`` = not known yet.
        count_before: documents in it before the run.
        resumed: it was begun by an earlier process.

    Raises:
        IngestError: another process has it open, or it is damaged.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        try:
            if file is not None:
                private_file(file)
            self._db = sqlite3.connect(file or ":memory:", timeout=0.5, check_same_thread=False)
            self._db.isolation_level = None  # transactions are ours
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode = WAL")
            # after a power cut the last commits may be gone, which costs only a look at what
            # the index holds already
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value)")
            self._db.execute("CREATE TABLE IF NOT EXISTS seen (id INTEGER PRIMARY KEY)")
            self._db.execute("COMMIT")
        except (sqlite3.OperationalError, OSError) as error:
            if "locked" in str(error):
                raise IngestError(
                    f"Another process is at this ingest: it holds the checkpoint {file}.",
                    hint="Wait for it, or stop it first.",
                ) from None
            raise IngestError(
                f"The checkpoint {file} cannot be opened: {error}",
                hint="Free some space, or name a folder that may be written to with "
                "SPLADE_OS_STATE.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        begun = self._get("job")
        try:
            self.job = None if begun is None else Job.model_validate_json(begun)
        except ValidationError as error:
            raise self._damaged(f"{error.error_count()} wrong values in its job") from error
        self.run = str(self._get("run") or "")
        self.index = str(self._get("index") or "")
        self.uuid: str | None = self._get("uuid")
        self.count_before = int(self._get("count_before") or 0)
        self.dead_letters = self._get("dead_letters")
        self.resumed = self.job is not None

    @property
    def name(self) -> str:
        """Of the job, on whatever machine; of the run, where nobody comes back to it."""
        return self.run if self.job is None else self.job.name

    @property
    def done(self) -> int:
        """Records at the beginning of the source that need not be read again."""
        return int(self._get("mark") or 0)

    def begin(self, job: Job | None, index: str, dead_letters: Path) -> None:
        """A new run; whatever was there is forgotten.

        Args:
            job: ``None`` if it shall not be resumed.
            index: that is written to (behind the alias, if the target is one).
        """
        self.job, self.index, self.dead_letters = job, index, str(dead_letters)
        self.run = secrets.token_hex(4)
        self.count_before, self.uuid = 0, None
        self.resumed = False
        try:
            dead_letters.is_file()
        except OSError as error:  # e.g. a name that is too long
            raise IngestError(
                f"{dead_letters} cannot be a file of dead letters: {error.strerror}.",
                hint="Name another file with --dead-letters.",
            ) from error
        with self._transaction():
            self._db.execute("DELETE FROM state")
            self._db.execute("DELETE FROM seen")
            self._set("format", _FORMAT)
            self._set("job", None if job is None else job.model_dump_json())
            self._set("run", self.run)
            self._set("index", index)
            self._set("dead_letters", self.dead_letters)
            self._set("begun", datetime.now(UTC).isoformat(timespec="seconds"))

    def describe(self) -> str:
        """How far it is, for people."""
        return f"begun {self._get('begun')}, {self.done:,} records are through"

    def set_uuid(self, uuid: str | None) -> None:
        """The index that is written to is this one; ``None`` = there is none now."""
        with self._transaction():
            self._set("uuid", uuid)
        self.uuid = uuid

    def set_count_before(self, count: int) -> None:
        """Documents in the index before the run."""
        if self._get("count_before") is None:
            with self._transaction():
                self._set("count_before", count)
            self.count_before = count

    @property
    def made_index(self) -> bool:
        """Whether the index was not there when the ingest began."""
        return bool(self._get("made_index"))

    def set_made_index(self) -> None:
        """The index was not there."""
        with self._transaction():
            self._set("made_index", 1)

    @property
    def indexed(self) -> int:
        """Records that are known to be in the index."""
        counters = orjson.loads(self._get("counters") or b"{}")
        return sum(counters.get(name, 0) for name in ("created", "updated", "unchanged"))

    @property
    def fresh(self) -> bool:
        """Whether nothing is known of the index yet."""
        return self._get("count_before") is None

    def load(self, width: int) -> Progress:
        """How far it is; ``width`` is the size of the vocabulary."""
        progress = Progress(TermStatistics.empty(width), TermStatistics.empty(width))
        if self._get("mark") is None:
            return progress
        hashes = self._get("hashes")
        progress.positions = OffsetTracker.unpacked(
            int(self._get("mark")), self._get("above"), hashes, self._get("digest")
        )
        progress.counters.update(orjson.loads(self._get("counters")))
        for name in ("created", "updated"):
            counted = self._get(f"counted_{name}")
            if counted is not None:  # a ledger of before is counted anew at the end
                documents, tokens = orjson.loads(counted)
                frequencies = np.frombuffer(self._get(f"frequencies_{name}"), "<i8")
                statistics = TermStatistics(documents, tokens, frequencies.astype(np.int64))
                setattr(progress, name, statistics)
        progress.empty = orjson.loads(self._get("empty") or "[0,0]")
        progress.nameless = int(self._get("nameless"))
        progress.noted = int(self._get("noted") or 0)
        progress.reasons = Reasons.unpacked(self._get("reasons"))
        return progress

    def save(self, progress: Progress, seen: Iterable[int] = ()) -> None:
        """All in one transaction; ``seen``: hashes of ids that the source has."""
        counted = {"created": progress.created, "updated": progress.updated}
        with self._transaction():
            self._set("mark", progress.positions.mark)
            above, hashes = progress.positions.packed()
            self._set("above", above)
            self._set("hashes", hashes)
            self._set("digest", progress.positions.digest)
            self._set("counters", orjson.dumps(progress.counters))
            for name, statistics in counted.items():  # as they are: twice a second
                numbers = [statistics.documents, statistics.tokens]
                self._set(f"counted_{name}", orjson.dumps(numbers))
                self._set(f"frequencies_{name}", statistics.frequencies.astype("<i8").tobytes())
            self._set("empty", orjson.dumps(progress.empty))
            self._set("noted", progress.noted)
            self._set("nameless", progress.nameless)
            self._set("reasons", progress.reasons.packed())
            self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", ((i,) for i in seen))

    def has_seen(self, ids: Iterable[int]) -> set[int]:
        """Those of the hashes that were saved as seen."""
        text = orjson.dumps(list(ids)).decode()
        rows = self._db.execute(
            "SELECT id FROM seen WHERE id IN (SELECT value FROM json_each(?))", (text,)
        )
        return {row[0] for row in rows}

    def finish(self) -> None:
        """The ingest is through: there is nothing to go on with."""
        self.close()
        if self.file is not None:
            for end in ("", "-wal", "-shm"):
                self.file.with_name(self.file.name + end).unlink(missing_ok=True)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise IngestError(
                f"The checkpoint {self.file} cannot be written: {error}",
                hint="Free some space; then run the same command with --resume.",
            ) from error

    def _damaged(self, reason: object) -> IngestError:
        return IngestError(
            f"The checkpoint {self.file} is damaged: {reason}",
            hint=f"Delete it, and begin anew: rm '{self.file}'",
        )

    def _get(self, name: str) -> Any:
        try:
            row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        return None if row is None else row[0]

    def _set(self, name: str, value: Any) -> None:
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))
