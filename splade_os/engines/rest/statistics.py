"""Term statistics of indices, in a companion index: one document per index."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from splade_os import mappings
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.errors import EngineError, IndexExistsError, IndexNotFoundError
from splade_os.statistics import TermStatistics

STATISTICS_INDEX = "splade-os-statistics"
_OWN = {"pipeline": "_none"}  # a template may give every new index one
_TICKETS = 1000  # of the last additions, that are remembered
_ATTEMPTS = 20


class RestStatistics:
    """Part of an engine, that which writes; ``_call`` sends one request and returns the answer."""

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        index: str | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        raise NotImplementedError

    def capabilities(self) -> Capabilities:
        raise NotImplementedError

    def save_statistics(self, index: str, statistics: TermStatistics) -> None:
        self._ensure_companion()
        name = self._concrete(index)
        self._call(
            "PUT",
            f"/{STATISTICS_INDEX}/_doc/{name}",
            _document(name, statistics, []),
            params=_OWN,
        )

    def add_statistics(self, index: str, delta: TermStatistics, ticket: str) -> bool:
        name = self._concrete(index)
        path = f"/{STATISTICS_INDEX}/_doc/{name}"

        def attempt() -> bool | None:
            answer = self._call("GET", path, params={"ignore": 404})
            if not answer.get("found"):
                return False
            source = answer["_source"]
            tickets = source.get("tickets", [])
            if ticket in tickets:
                return True
            document = _document(
                name, statistics_of(source) + delta, [*tickets, ticket][-_TICKETS:]
            )
            seen = {
                **_OWN,
                "if_seq_no": answer["_seq_no"],
                "if_primary_term": answer["_primary_term"],
            }
            try:
                self._call("PUT", path, document, params={**seen, **_OWN})
            except EngineError as error:
                if error.status == 409:  # somebody else added in between
                    return None
                raise
            return True

        policy = Retrying(
            retry=retry_if_result(lambda done: done is None),
            wait=wait_random_exponential(multiplier=0.05, max=5),
            stop=stop_after_attempt(_ATTEMPTS),
        )
        return bool(policy(attempt))

    def _delete_statistics(self, index: str) -> None:
        self._call("DELETE", f"/{STATISTICS_INDEX}/_doc/{index}", params={"ignore": 404})

    def _ensure_companion(self) -> None:
        try:
            self._call("GET", f"/{STATISTICS_INDEX}/_settings", index=STATISTICS_INDEX)
        except IndexNotFoundError:
            body = mappings.load("opensearch", "statistics")
            settings = body["settings"]["index"]
            body["settings"]["index"] = self.capabilities().index_settings(settings)
            with suppress(IndexExistsError):  # another process was faster
                self._call("PUT", f"/{STATISTICS_INDEX}", body, index=STATISTICS_INDEX)

    def _concrete(self, index: str) -> str:
        """The index behind an alias (the first, if it stands for several)."""
        return str(min(self._call("GET", f"/{index}/_settings/index.uuid", index=index)))


def _document(name: str, statistics: TermStatistics, tickets: list[str]) -> dict[str, Any]:
    used = np.flatnonzero(statistics.frequencies)
    return {
        "index": name,
        "documents": statistics.documents,
        "tokens": statistics.tokens,
        "width": len(statistics.frequencies),
        "frequencies": {"ids": used.tolist(), "df": statistics.frequencies[used].tolist()},
        "tickets": tickets,
    }


def statistics_of(source: Mapping[str, Any]) -> TermStatistics:
    """The statistics in a document of the companion index."""
    frequencies = np.zeros(source["width"], np.int64)
    frequencies[source["frequencies"]["ids"]] = source["frequencies"]["df"]
    return TermStatistics(source["documents"], source["tokens"], frequencies)
