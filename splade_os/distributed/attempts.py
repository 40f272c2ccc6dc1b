"""Documents that end the process that encodes them: found by counting who was at what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from splade_os.ingest.documents.records import Record, Rejected

_PARTS = 8
Key = tuple[int, int]
Item = TypeVar("Item", Record, Rejected, Record | Rejected)
Result = TypeVar("Result")


class Attempts:
    """An actor: how often each window, or part of one, was begun and not ended. Ray repeats the
    task of an actor that has died without end, so that this alone tells a poison document from a
    machine that was taken away."""

    def __init__(self) -> None:
        self._begun: dict[Key, int] = {}

    def begin(self, key: Key) -> int:
        """How often it was begun before."""
        before = self._begun.get(key, 0)
        self._begun[key] = before + 1
        return before

    def end(self, key: Key) -> None:
        """It is through, well or with an error: its process lives."""
        self._begun.pop(key, None)


def guarded(
    attempts: Any,
    most: int,
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Result],
    give_up: Callable[[Item], Result],
) -> list[Result]:
    """Work at items, all at once; if that has ended its process ``most`` times, in parts; and give
    up the one that has done so alone.

    Args:
        attempts: handle of the actor `Attempts`.
    """
    import ray

    if not items:
        return []
    key = items[0].position, len(items)
    if ray.get(attempts.begin.remote(key)) >= most:
        # (it stays begun: whoever is killed in a part comes back here)
        if len(items) == 1:
            ray.get(attempts.end.remote(key))
            return [give_up(items[0])]
        size = -(-len(items) // _PARTS)
        parts = [items[i : i + size] for i in range(0, len(items), size)]
        found = [each for part in parts for each in guarded(attempts, most, part, work, give_up)]
        ray.get(attempts.end.remote(key))
        return found
    try:
        return [work(items)]
    finally:
        ray.get(attempts.end.remote(key))
