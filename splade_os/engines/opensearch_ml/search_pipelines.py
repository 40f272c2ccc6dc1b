"""Search pipelines: where a cluster keeps which model encodes the queries of a field.

A query that names no model gets it from the processor ``neural_query_enricher`` of its
pipeline. To point that processor at another model is one atomic change of the cluster state:
every query is encoded by the one or by the other.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from splade_os import mappings
from splade_os.engines.opensearch_ml.ml_commons import Requests

_ENRICHER = "neural_query_enricher"
_BY_FIELD = "neural_field_default_id"
_DEFAULT = "default_model_id"
_TWO_PHASE = "neural_sparse_two_phase_processor"
DEFAULT_PIPELINE = "index.search.default_pipeline"


class SearchPipelines:
    """The search pipelines of one cluster."""

    def __init__(self, engine: Requests) -> None:
        self._engine = engine

    def all(self) -> dict[str, dict[str, Any]]:
        """Every pipeline, by name."""
        answer = self._engine.request("GET", "/_search/pipeline", params={"ignore": 404})
        return {} if answer.get("status") == 404 else dict(answer)  # there is none at all

    def put(self, name: str, body: Mapping[str, Any]) -> None:
        """Create or replace a pipeline."""
        self._engine.request("PUT", f"/_search/pipeline/{name}", dict(body))

    def delete(self, name: str) -> None:
        """Delete a pipeline."""
        self._engine.request("DELETE", f"/_search/pipeline/{name}")

    def of_index(self, index: str) -> dict[str, str | None]:
        """Default pipeline of an index, or of each index behind an alias; ``None`` = none."""
        params = {"flat_settings": "true"}
        answer = self._engine.request("GET", f"/{index}/_settings", params=params)
        return {
            name: named(body["settings"].get(DEFAULT_PIPELINE)) for name, body in answer.items()
        }

    def set_default(self, index: str, name: str | None) -> None:
        """Make a pipeline the default of an index; ``None`` takes it back."""
        self._engine.request("PUT", f"/{index}/_settings", {DEFAULT_PIPELINE: name})

    def used_by(self, name: str) -> list[str]:
        """The indices whose default pipeline it is."""
        return sorted(index for index, default in self.of_index("*,-.*").items() if default == name)


def named(default: str | None) -> str | None:
    """The pipeline that the setting ``index.search.default_pipeline`` names, if any."""
    return None if default in (None, "_none") else default


def new_pipeline(field: str, model_id: str, *, two_phase: bool = False) -> dict[str, Any]:
    """The body of a pipeline whose queries of ``field`` a model encodes."""
    name = "search_pipeline_two_phase" if two_phase else "search_pipeline"
    body = mappings.load("opensearch", name)
    body["request_processors"][0][_ENRICHER][_BY_FIELD] = {field: model_id}
    return body


def pointed_at(
    body: Mapping[str, Any], field: str, model_id: str, *, two_phase: bool = False
) -> dict[str, Any]:
    """A pipeline, its other processors as they are, in which a model encodes ``field``."""
    changed = copy.deepcopy(dict(body))
    processors = changed.setdefault("request_processors", [])
    enricher = next((p[_ENRICHER] for p in processors if _ENRICHER in p), None)
    if enricher is None:
        enricher = {}
        processors.insert(0, {_ENRICHER: enricher})
    enricher.setdefault(_BY_FIELD, {})[field] = model_id
    if two_phase and not any(_TWO_PHASE in processor for processor in processors):
        processors.append(new_pipeline(field, model_id, two_phase=True)["request_processors"][1])
    return changed


def switched(body: Mapping[str, Any], old: Collection[str], model_id: str) -> dict[str, Any] | None:
    """A pipeline with ``model_id`` wherever it names one of ``old``; ``None`` if nowhere."""
    changed = copy.deepcopy(dict(body))
    found = False
    for processor in changed.get("request_processors", []):
        enricher = processor.get(_ENRICHER, {})
        if enricher.get(_DEFAULT) in old:
            enricher[_DEFAULT], found = model_id, True
        for field, current in enricher.get(_BY_FIELD, {}).items():
            if current in old:
                enricher[_BY_FIELD][field], found = model_id, True
    return changed if found else None


def model_of(body: Mapping[str, Any], field: str) -> str | None:
    """The model that encodes queries of ``field`` in a pipeline, or ``None``."""
    for processor in body.get("request_processors", []):
        enricher = processor.get(_ENRICHER)
        if enricher is not None:
            model = enricher.get(_BY_FIELD, {}).get(field) or enricher.get(_DEFAULT)
            return None if model is None else str(model)
    return None
