"""Bulk requests → outcomes. Only what the cluster refused for now is sent again; nothing is
written twice."""

from __future__ import annotations

import time
from collections.abc import Sequence

from splade_os.engines import Outcome
from splade_os.errors import (
    AuthorizationError,
    EngineError,
    EngineUnavailableError,
    IndexNotFoundError,
    IngestError,
)
from splade_os.ingest.documents.stamps import stored_stamp
from splade_os.ingest.runtime.queues import BoundedQueue
from splade_os.ingest.runtime.retry_policy import RETRYABLE, RetryLaterError
from splade_os.ingest.stages.context import StageContext
from splade_os.ingest.stages.items import BulkItem, BulkRequest, BulkResult, Event

_OF_TARGET = (
    "cluster_block_exception",
    "index_closed_exception",
    "index_not_found_exception",
    "routing_missing_exception",
    "security_exception",
    "no write index is defined",
    "can't execute a single index op",
    "op_type of create are allowed in data streams",
)
"""Reasons that are those of the target or the user, whatever the document: all would fail."""
_CONFLICT = 409
_TOO_LARGE = 413
_SPLIT = frozenset({400, 403, 406, 411, _TOO_LARGE, 415, 422})
"""Refusals of a whole request, by an engine or a gateway, that one document may be the cause of."""
_UNSEEN = 3  # times that a document is sent which is said to exist, and is not there


class SendStage:
    """Sends bulk requests, several at a time.

    A document that the run believes to be new is sent as ``create``. If the engine says that
    it exists, the stored mark (`splade_os.ingest.documents.stamps`) tells why: it is our own
    write whose answer was lost, or an id that occurs twice in the source (the later one wins),
    or somebody else's; only then it is overwritten.

    Args:
        context: of the stages.

    Attributes:
        begun: requests so far.
        guard: the alias that they go through (`Engine.guard`).
    """

    def __init__(self, context: StageContext) -> None:
        self._engine, self._index = context.engine, context.index
        self._check_index = context.check_index
        self._limiter, self._retry_policy = context.limiter, context.retry_policy
        self._run, self._hash_field = context.stamper.run, context.meta.hash_field
        self._aborted, self._several = context.cancellation.aborted, context.several
        self.begun = 0
        self.guard: str | None = None

    def run(self, requests: BoundedQueue[BulkRequest], events: BoundedQueue[Event]) -> None:
        """Send until no more requests come."""
        for request in requests:
            self.begun += 1
            events.put(self.send(request.items))

    def send(self, items: list[BulkItem]) -> BulkResult:
        """Send until every item has its final outcome.

        Raises:
            IngestError: the cluster did not take it for too long, or takes no writes at all.
            EngineError: it refused the whole request.
        """
        start = time.monotonic()
        result = BulkResult(items, [Outcome(p.record.id, 0) for p in items])
        remaining = list(range(len(items)))
        rounds = 0
        while remaining:
            if rounds:  # deleted in between, or hidden
                self._aborted.wait(0.2 * rounds)
            rounds += 1
            self.deliver(remaining, result)
            conflicts = [
                i
                for i in remaining
                if result.outcomes[i].status == _CONFLICT
                and (items[i].guarded or items[i].lines.startswith(b'{"create"'))
            ]
            last = rounds >= _UNSEEN
            remaining = self._resolve(conflicts, result, last=last) if conflicts else []
        result.seconds = time.monotonic() - start
        return result

    def deliver(self, wanted: list[int], result: BulkResult) -> None:
        """Every item of ``wanted`` gets an outcome that is not "later"."""
        open_ = wanted
        first = True

        def attempt() -> bool:
            """Whether the request has to be split."""
            nonlocal open_, first
            result.retries += not first
            first = False
            body = b"".join([result.items[i].lines for i in open_])
            with self._limiter.slot():
                sent = time.monotonic()
                try:
                    if self.guard is None:
                        self._check_index()
                    answers = self._engine.bulk(self._index, body, attempts=1, guard=self.guard)
                except EngineUnavailableError as error:
                    self._limiter.pushed_back(sent)
                    raise RetryLaterError(error.message) from error
                except EngineError as error:
                    return self._refused(error, open_, len(body), sent, result)
            if len(answers) != len(open_):
                raise EngineError(
                    f"{self._engine.url} answered {len(answers)} of {len(open_)} actions of a "
                    "bulk request."
                )
            for i, outcome in zip(open_, answers, strict=True):
                result.outcomes[i] = _as_asked(outcome, result.items[i].record.id)
            blocked = next((o for o in answers if _is_of_target(o)), None)
            if blocked is not None:
                self._check_index()
                raise IngestError(
                    f"{self._index} takes no documents: {blocked.reason}",
                    hint="Every document would fail like this one (a full disk blocks an index, "
                    "too). What was acknowledged is saved: when it is mended, run the same command "
                    "with --resume.",
                )
            open_ = [i for i in open_ if result.outcomes[i].status in RETRYABLE]
            if open_:
                self._limiter.pushed_back(sent)
                raise RetryLaterError(
                    f"{result.outcomes[open_[0]].reason} ({len(open_):,} documents)"
                )
            self._limiter.answered(time.monotonic() - sent)
            return False

        if self._retry_policy.until_done(attempt):
            middle = len(open_) // 2
            for half in (open_[:middle], open_[middle:]):
                self.deliver(half, result)

    def _refused(
        self, error: EngineError, open_: Sequence[int], size: int, sent: float, result: BulkResult
    ) -> bool:
        """The whole request was refused: what now? ``True`` = send it in halves."""
        if error.status in RETRYABLE:
            self._limiter.pushed_back(sent)
            raise RetryLaterError(error.message) from error
        forbidden = isinstance(error, AuthorizationError)
        if isinstance(error, IndexNotFoundError):
            self._check_index()
        if error.status not in _SPLIT or forbidden or _names_target(error.message):
            raise error
        if error.status == _TOO_LARGE:
            self._limiter.too_large(size)
        if len(open_) > 1:
            return True
        (culprit,) = open_
        identifier = result.items[culprit].record.id
        result.outcomes[culprit] = Outcome(identifier, error.status, None, error.message)
        return False

    def _resolve(self, conflicts: list[int], result: BulkResult, *, last: bool) -> list[int]:
        """Documents that exist although they were thought new; returns those to send again.

        Args:
            last: what is not there now will not be there the next time either.
        """
        items, outcomes = result.items, result.outcomes
        ids = [items[i].record.id for i in conflicts]
        fields = [self._hash_field]
        stored = self._retry_policy.call(lambda: self._engine.stored(self._index, ids, fields))
        again: list[int] = []
        for i in conflicts:
            item, identifier = items[i], items[i].record.id
            found = stored.get(identifier)
            if found is None:
                if not last:
                    again.append(i)
                    continue
                outcomes[i] = Outcome(
                    identifier,
                    _CONFLICT,
                    None,
                    "the cluster says that it exists, and there is no document of this id: an "
                    "ingest pipeline of the cluster sets its _id, or the user may not see it",
                )
                continue
            mark = stored_stamp(found.source, self._hash_field)
            if mark is not None and mark.run == self._run:
                if mark.position == item.stamp.position:  # our own write; its answer was lost
                    outcomes[i], item.stamp = Outcome(identifier, 201, "created"), mark
                    if mark.update:
                        outcomes[i] = Outcome(identifier, 200, "updated")
                    continue
                result.duplicates.add(i)
                if not mark.same_document(item.first or item.stamp):
                    result.conflicts.add(i)
                if mark.position > item.stamp.position:  # a later record of this id is there
                    item.tokens = None
                    outcomes[i] = Outcome(identifier, 200, "updated")
                    continue
            # another writer of this run may have a document of this id, too
            item.update(found.version if self._several else None)
            again.append(i)
        return again


def _as_asked(outcome: Outcome, identifier: str) -> Outcome:
    """A document that was written under another id was not written."""
    if not outcome.ok or outcome.id == identifier:
        return outcome
    reason = f"the cluster's ingest pipeline wrote it under another id: {outcome.id}"
    return Outcome(identifier, outcome.status, None, reason)


def _is_of_target(outcome: Outcome) -> bool:
    return not outcome.ok and _names_target(outcome.reason or "")


def _names_target(reason: str) -> bool:
    return any(name in reason for name in _OF_TARGET)
