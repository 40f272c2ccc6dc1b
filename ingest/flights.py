"""No id twice under way: requests overtake each other, so the later record could lose."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from splade_os.ingest.channel import AbortedError, Flow
from splade_os.ingest.records import Record

_TICK = 0.2


class Flights:
    """Holds back a record while another one of its id is under way. Of several that wait, the
    last one stays, so that what waits is never more than what is under way."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._under_way: set[str] = set()
        self._held: dict[str, Record] = {}
        self._landed = threading.Condition()

    def admit(self, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
        """Records that may go now (those of ``records``, and held ones whose time has come),
        and those that were overtaken while they waited."""
        ready: list[Record] = []
        overtaken: list[Record] = []
        with self._landed:
            for identifier in [i for i in self._held if i not in self._under_way]:
                ready.append(self._held.pop(identifier))
                self._under_way.add(identifier)
            for record in records:
                if record.id not in self._under_way:
                    self._under_way.add(record.id)
                    ready.append(record)
                    continue
                earlier = self._held.pop(record.id, None)
                if earlier is not None:
                    overtaken.append(earlier)
                self._held[record.id] = record
        return ready, overtaken

    def land(self, identifiers: Iterable[str]) -> None:
        """It is known what became of these."""
        with self._landed:
            self._under_way.difference_update(identifiers)
            self._landed.notify_all()

    def wait(self) -> bool:
        """Wait until a held record may go; ``False`` if none is held.

        Raises:
            AbortedError: the flow was aborted.
        """
        with self._landed:
            while self._held and self._held.keys() <= self._under_way:
                if self._flow.aborted.is_set():
                    raise AbortedError
                self._landed.wait(_TICK)
            return bool(self._held)
