"""What the stages of one ingest share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from splade_os.encoding import DocumentEncoder
from splade_os.engines import Engine, IndexMeta
from splade_os.ingest.documents.stamps import Stamper
from splade_os.ingest.options import IngestOptions
from splade_os.ingest.runtime.cancellation import Cancellation
from splade_os.ingest.runtime.in_flight import InFlightIds
from splade_os.ingest.runtime.limiter import AdaptiveLimiter
from splade_os.ingest.runtime.retry_policy import RetryPolicy


@dataclass(frozen=True)
class StageContext:
    """What the stages of one ingest share.

    Attributes:
        encoder, engine, index, meta: what encodes, and where to.
        look_up: ask the index for every document first, because it may hold some already.
        several: other processes write documents of this run, so that one of the same id may come
            between any two requests.
        resumed: of such a run: an earlier process of it was killed, and what it wrote is not sent
            again.
        check_index: whether the index is still the one that it was. Asked before every request
            that no alias guards: the engine would make a missing index anew, without its mapping.
    """

    encoder: DocumentEncoder
    engine: Engine
    index: str
    meta: IndexMeta
    options: IngestOptions
    stamper: Stamper
    cancellation: Cancellation
    retry_policy: RetryPolicy
    limiter: AdaptiveLimiter
    in_flight: InFlightIds
    look_up: bool
    several: bool = False
    resumed: bool = False
    check_index: Callable[[], None] = lambda: None
