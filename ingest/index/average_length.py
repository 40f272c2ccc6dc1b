"""The average length of the lexical prior: measured on the first documents of a new index."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.lexical import SAMPLE
from splade_os.engines import Engine
from splade_os.errors import EncodingError, IndexNotFoundError
from splade_os.ingest.documents.records import Record, Rejected

_CHARACTERS = 4_000_000
_SECONDS = 2.0  # for a source that trickles

Item = Record | Rejected


def settle(
    engine: Engine,
    index: str,
    encoder: DocumentEncoder,
    records: Iterator[Item],
    halted: Callable[[], bool],
) -> Iterator[Item]:
    """Choose what is left open of the encoder: as the index says, or, where it says nothing yet, by
    the first documents (at most 1,000, or 4 million characters, or those of two seconds).

    Args:
        halted: asked while it waits for documents.

    Returns:
        The same records, those that were read for it included.
    """
    try:
        recorded = engine.index_meta(index).model
    except IndexNotFoundError:
        pass
    else:
        if encoder.identity.difference(recorded, encoder.left_open) is None:
            encoder.adopt(recorded)
            if recorded.average_length or not recorded.lexical_weight:
                return records
    return measure(encoder, records, halted)


def measure(
    encoder: DocumentEncoder, records: Iterator[Item], halted: Callable[[], bool] = lambda: False
) -> Iterator[Item]:
    """Measure the average length on the first documents, where it is left open.

    Returns:
        The same records, those that were read for it included.
    """
    if "average_length" not in encoder.left_open:
        return records
    sample = _Sample(records)
    texts = sample.texts(halted)
    try:
        encoder.measured(texts)
    except EncodingError:  # it will be a dead letter; which one is found by measuring each
        encoder.measured([text for text in texts if _sound(encoder, text)])
    return sample.again()


def _sound(encoder: DocumentEncoder, text: str) -> bool:
    try:
        encoder.tokenize([text])
    except EncodingError:
        return False
    return True


class _Sample:
    """The first records of a source. A thread reads them, so that a source that waits for its next
    record holds nobody up; from then on the records are read where they are needed."""

    def __init__(self, records: Iterator[Item]) -> None:
        self._records = records
        self._read: queue.SimpleQueue[Item | BaseException | None] = queue.SimpleQueue()
        self._taken: list[Item | BaseException | None] = []
        self._enough = threading.Event()

    def texts(self, halted: Callable[[], bool]) -> list[str]:
        """Texts of the sample that will be encoded."""
        threading.Thread(target=self._fill, name="sample", daemon=True).start()
        texts: list[str] = []
        until = time.monotonic() + _SECONDS
        while not halted() and (time.monotonic() < until or not self._taken):
            try:
                item = self._read.get(timeout=0.05)
            except queue.Empty:
                continue
            self._taken.append(item)
            if not isinstance(item, Record | Rejected):
                break
            if isinstance(item, Record) and item.vector is None and item.text:
                texts.append(item.text)
        self._enough.set()
        return texts

    def _fill(self) -> None:
        count = characters = 0
        try:
            while not self._enough.is_set() and count < SAMPLE and characters < _CHARACTERS:
                item = next(self._records, None)
                if item is None:
                    break
                self._read.put(item)
                count += 1
                characters += len(item.text) if isinstance(item, Record) else 0
        except BaseException as error:  # raised again where the records are read
            self._read.put(error)
        else:
            self._read.put(None)

    def again(self) -> Iterator[Item]:
        """All records."""
        for item in self._all_taken():
            if isinstance(item, BaseException):
                raise item
            if item is not None:
                yield item
        yield from self._records

    def _all_taken(self) -> Iterable[Item | BaseException | None]:
        yield from self._taken
        while not self._taken or isinstance(self._taken[-1], Record | Rejected):
            self._taken = [self._read.get()]
            yield from self._taken
