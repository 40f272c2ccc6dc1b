"""What is in flight is bounded by the bytes that it takes, not by the number of documents."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splade_os.encoding.tokenization import _slices
from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item, Record
from splade_os.ingest.runtime.cancellation import AbortedError, Cancellation
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.runtime.windows import WindowReader

SIZES = st.lists(st.integers(1, 50), max_size=60)


@settings(max_examples=60)
@given(sizes=SIZES, most=st.integers(1, 60), count=st.integers(1, 9))
def test_a_queue(sizes: list[int], most: int, count: int) -> None:
    """It takes what there is room for at once, and gives it back in its order."""
    queue = BoundedQueue[int](Cancellation(), count, most, lambda size: size)
    waiting: list[int] = []
    for size in sizes:
        while waiting and (len(waiting) >= count or sum(waiting) + size > most):
            assert queue.get() == waiting.pop(0)
        queue.put(size)  # hangs, where it sees no room
        waiting.append(size)
        assert len(queue) == len(waiting)
    queue.close()
    assert [*queue] == waiting
    assert queue.waiting() is None


@pytest.mark.parametrize(("size", "most"), [(100, 10), (1, 1_000_000), (1, 0)])
def test_a_full_queue_waits_and_ends(size: int, most: int) -> None:
    cancellation = Cancellation()
    queue = BoundedQueue[bytes](cancellation, size, most, len)
    queue.put(b"x" * 1000)  # one always may
    ended: list[BaseException] = []

    def put() -> None:
        try:
            queue.put(b"y")
        except AbortedError as error:
            ended.append(error)

    blocked = threading.Thread(target=put)
    blocked.start()
    blocked.join(0.3)
    assert blocked.is_alive() and len(queue) == 1
    cancellation.abort(InputError("enough"))
    blocked.join(60)
    assert ended
    with pytest.raises(AbortedError):
        queue.put(b"z")


@settings(max_examples=40)
@given(sizes=SIZES, most=st.integers(1, 60), count=st.integers(1, 9))
def test_windows(sizes: list[int], most: int, count: int) -> None:
    reader = WindowReader[int](Cancellation(), count, most, lambda size: size)
    windows = [*reader.windows(iter(sizes))]
    assert [size for window in windows for size in window] == sizes
    for window in windows:
        assert len(window) <= count
        assert sum(window[:-1]) < most  # full with the one that crosses the line


@settings(max_examples=60)
@given(sizes=st.lists(st.integers(0, 1_500_000), max_size=12))
def test_texts_are_cut_some_at_a_time(sizes: list[int]) -> None:
    texts = ["x" * size for size in sizes]
    slices = [*_slices(texts)]
    assert [text for some in slices for text in some] == texts
    assert all(len(some) == 1 or sum(map(len, some)) <= 1_000_000 for some in slices)


@pytest.mark.parametrize("letter", ["a", "\xe4", "\u6771", "\U0001f600"])
def test_memory_of_a_record(letter: str) -> None:
    """Not less than what Python allocates for it, and not a multiple."""
    import tracemalloc

    import orjson

    raw = orjson.dumps({"_id": "1", "text": letter * 300_000})
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    item = Item("a:1", bytes(bytearray(raw)))
    value = orjson.loads(raw)
    record = Record(1, "a:1", "1", value["text"] + " ", value, item=item)
    orjson.dumps([record.text, record.source])  # Python keeps the UTF-8 of what was written
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.9 * taken <= record.memory() <= 1.7 * taken
    without = Record(1, "a:1", "1", record.text, value)
    assert 0.9 * (taken - len(raw)) <= without.memory() <= 1.7 * taken


_LOAD = """
import resource, sys
from splade_os import DocumentEncoder, ingest_documents
from splade_os.engines import connect
from splade_os.ingest.documents.records import Record
from pathlib import Path

folder, model, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
text = "red sun blue sea " * 65_000

def records():
    for i in range(1, count + 1):
        one = f"{i} {text}"
        yield Record(i, f"s:{i}", str(i), one, {"text": one})

encoder = DocumentEncoder.load(model)
report = ingest_documents(records(), engine=connect(f"sqlite:///{folder}/{count}.db"),
    index="large", encoder=encoder, dead_letters=folder / "dead.jsonl")
assert report.created == count, report
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_large_documents(tmp_path: Path, tiny: Path) -> None:
    """16 documents of 1.1 MB took 700 MB more than one did: a window of them was tokenised at once,
    and every queue held as many as of small ones."""

    def peak(count: int) -> int:
        command = [sys.executable, "-c", _LOAD, str(tmp_path), str(tiny / "bert"), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
        assert not done.returncode, done.stderr
        return int(done.stdout.splitlines()[-1])

    assert peak(16) - peak(1) < 430  # MB
