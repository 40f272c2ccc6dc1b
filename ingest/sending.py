"""Bulk requests → outcomes. Only what was put off is sent again; nothing is written twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from splade_os.engines import HASH_FIELD, Engine, Outcome
from splade_os.errors import EngineError, EngineUnavailableError, IngestError
from splade_os.ingest.channel import Channel, Flow
from splade_os.ingest.digests import stored_digest
from splade_os.ingest.parcel import Bulk, Event, Parcel, Settled
from splade_os.ingest.patience import PUT_OFF, NotYetError, Patience
from splade_os.ingest.throttle import Throttle
from splade_os.vectors import Ids

_BLOCKS = ("cluster_block_exception", "index_closed_exception", "index_not_found_exception")
_CONFLICT = 409
_TOO_LARGE = 413
_MALFORMED = 400

Tokens = Callable[[Sequence[str]], list[Ids | None]]


class Sender:
    """Sends bulk requests, several at a time.

    A document that the run believes to be new is sent as ``create``. If the engine says that
    it exists, the stored mark (`splade_os.ingest.digests`) tells why: it is our own write whose
    answer was lost, or an id that occurs twice in the source (the later one wins), or somebody
    else's; only then it is overwritten.

    Args:
        engine, index: where to.
        flow, throttle, patience: of the ingest.
        run: its name.
        text_fields: of the index.
        tokens: texts → token ids, for the term statistics of what is overwritten.
    """

    def __init__(
        self,
        engine: Engine,
        index: str,
        *,
        flow: Flow,
        throttle: Throttle,
        patience: Patience,
        run: str,
        text_fields: Sequence[str],
        tokens: Tokens,
    ) -> None:
        self._engine, self._index, self._flow = engine, index, flow
        self._throttle, self._patience, self._run = throttle, patience, run
        self._text_fields, self._tokens = tuple(text_fields), tokens

    def work(self, bulks: Channel[Bulk], events: Channel[Event]) -> None:
        """Send until no more bulks come."""
        for bulk in bulks:
            events.put(self.send(bulk.parcels))

    def send(self, parcels: list[Parcel]) -> Settled:
        """Send until every parcel has its final outcome.

        Raises:
            IngestError: the cluster did not take it for too long, or takes no writes at all.
            EngineError: it refused the whole request.
        """
        start = time.monotonic()
        settled = Settled(parcels, [Outcome(p.record.id, 0) for p in parcels])
        remaining = list(range(len(parcels)))
        while remaining:
            self._deliver(remaining, settled)
            conflicts = [
                i
                for i in remaining
                if settled.outcomes[i].status == _CONFLICT
                and parcels[i].lines.startswith(b'{"create"')
            ]
            remaining = self._resolve(conflicts, settled) if conflicts else []
        settled.seconds = time.monotonic() - start
        return settled

    def _deliver(self, wanted: list[int], settled: Settled) -> None:
        """Every parcel of ``wanted`` gets an outcome that is not "later"."""
        open_ = wanted
        first = True

        def attempt() -> bool:
            """Whether the request has to be split."""
            nonlocal open_, first
            settled.retries += not first
            first = False
            body = b"".join([settled.parcels[i].lines for i in open_])
            with self._throttle.slot():
                sent = time.monotonic()
                try:
                    answers = self._engine.bulk(self._index, body, attempts=1)
                except EngineUnavailableError as error:
                    self._throttle.pushed_back(sent)
                    raise NotYetError(error.message) from error
                except EngineError as error:
                    return self._refused(error, open_, len(body), sent, settled)
            if len(answers) != len(open_):
                raise EngineError(
                    f"{self._engine.url} answered {len(answers)} of {len(open_)} actions of a "
                    "bulk request."
                )
            for i, outcome in zip(open_, answers, strict=True):
                settled.outcomes[i] = outcome
            blocked = next((o for o in answers if _is_block(o)), None)
            if blocked is not None:
                raise IngestError(
                    f"{self._index} takes no documents: {blocked.reason}",
                    hint="Often the disk is full. What was acknowledged is saved: when it is "
                    "mended, run the same command with --resume.",
                )
            open_ = [i for i in open_ if settled.outcomes[i].status in PUT_OFF]
            if open_:
                self._throttle.pushed_back(sent)
                raise NotYetError(f"{settled.outcomes[open_[0]].reason} ({len(open_):,} documents)")
            self._throttle.answered(time.monotonic() - sent)
            return False

        if self._patience.until_done(attempt):
            middle = len(open_) // 2
            for half in (open_[:middle], open_[middle:]):
                self._deliver(half, settled)

    def _refused(
        self, error: EngineError, open_: Sequence[int], size: int, sent: float, settled: Settled
    ) -> bool:
        """The whole request was refused: what now? ``True`` = send it in halves."""
        if error.status in PUT_OFF:
            self._throttle.pushed_back(sent)
            raise NotYetError(error.message) from error
        if error.status not in (_TOO_LARGE, _MALFORMED) or _names_block(error.message):
            raise error
        if error.status == _TOO_LARGE:
            self._throttle.too_large(size)
        if len(open_) > 1:
            return True
        (culprit,) = open_
        identifier = settled.parcels[culprit].record.id
        settled.outcomes[culprit] = Outcome(identifier, error.status, None, error.message)
        return False

    def _resolve(self, conflicts: list[int], settled: Settled) -> list[int]:
        """Documents that exist although they were thought new; returns those to send again."""
        parcels, outcomes = settled.parcels, settled.outcomes
        ids = [parcels[i].record.id for i in conflicts]
        stored = self._patience.call(
            lambda: self._engine.documents(self._index, ids, [HASH_FIELD, *self._text_fields])
        )
        again: list[int] = []
        for i in conflicts:
            parcel, identifier = parcels[i], parcels[i].record.id
            found = stored.get(identifier)
            if found is None:  # deleted in between
                again.append(i)
                continue
            mark = stored_digest(found)
            if mark is not None and mark.run == self._run:
                if mark.position == parcel.digest.position:  # our own write; its answer was lost
                    outcomes[i], parcel.digest = Outcome(identifier, 201, "created"), mark
                    if mark.update:  # what it replaced is not known any more
                        parcel.tokens = None
                        outcomes[i] = Outcome(identifier, 200, "updated")
                    continue
                settled.duplicates.add(i)
                if mark.position > parcel.digest.position:  # a later record of this id is there
                    parcel.tokens = None
                    outcomes[i] = Outcome(identifier, 200, "updated")
                    continue
            (parcel.replaces,) = self._tokens([stored_text(found, self._text_fields)])
            parcel.update()
            again.append(i)
        return again


def stored_text(document: Mapping[str, Any], fields: Sequence[str]) -> str:
    """The text of a document as it is stored."""
    return " ".join(str(document[name]) for name in fields if document.get(name))


def _is_block(outcome: Outcome) -> bool:
    return not outcome.ok and _names_block(outcome.reason or "")


def _names_block(reason: str) -> bool:
    return any(name in reason for name in _BLOCKS)
