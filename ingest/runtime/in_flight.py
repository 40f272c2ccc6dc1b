"""No id twice under way: requests overtake each other, so the later record could lose."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from splade_os.ingest.documents.records import Record
from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation

_TICK = 0.2
_MOST = 20_000  # records that may wait; then the reader does
_MOST_BYTES = 64_000_000  # of memory that they may take


@dataclass(slots=True)
class Admitted:
    """A record whose turn it is, and earlier ones of its id that it superseded as they waited."""

    record: Record
    superseded: list[Record] = field(default_factory=list)


class InFlightIds:
    """Holds back a record while another one of its id is under way. Of several that wait, only
    the last one goes."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._under_way: set[str] = set()
        self._held: dict[str, Admitted] = {}
        self._waiting = self._bytes = 0
        self._released = threading.Condition()

    @property
    def held(self) -> bool:
        """Whether records wait for others of their id."""
        return bool(self._held)

    def admit(self, records: Iterable[Record]) -> list[Admitted]:
        """Those that may go now: held ones whose time has come, and of ``records`` those whose
        id is not under way.

        Raises:
            AbortedError: the cancellation was aborted.
        """
        ready: list[Admitted] = []
        with self._released:
            while (
                self._waiting > _MOST or self._bytes > _MOST_BYTES
            ) and self._held.keys() <= self._under_way:
                self._wait()
            for identifier in [i for i in self._held if i not in self._under_way]:
                turn = self._held.pop(identifier)
                self._waiting -= 1 + len(turn.superseded)
                self._bytes -= sum(each.memory() for each in (turn.record, *turn.superseded))
                self._under_way.add(identifier)
                ready.append(turn)
            for record in records:
                if record.id not in self._under_way:
                    self._under_way.add(record.id)
                    ready.append(Admitted(record))
                    continue
                self._waiting += 1
                self._bytes += record.memory()
                turn = self._held.setdefault(record.id, Admitted(record))
                if turn.record is not record:
                    turn.superseded.append(turn.record)
                    turn.record = record
        return ready

    def release(self, identifiers: Iterable[str]) -> None:
        """It is known what became of these."""
        with self._released:
            self._under_way.difference_update(identifiers)
            self._released.notify_all()

    def wait(self) -> bool:
        """Wait until a held record may go; ``False`` if none is held.

        Raises:
            AbortedError: the cancellation was aborted.
        """
        with self._released:
            while self._held and self._held.keys() <= self._under_way:
                self._wait()
            return bool(self._held)

    def _wait(self) -> None:
        if self._cancellation.aborted.is_set():
            raise AbortedError
        self._released.wait(_TICK)
