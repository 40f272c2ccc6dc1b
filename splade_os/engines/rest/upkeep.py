"""Reading documents, settings and aliases: the same REST calls on OpenSearch and Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from splade_os.engines.base import (
    Cursor,
    IndexLayout,
    IndexListing,
    IndexMeta,
    StoredDocument,
)
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.engines.fields.strategies import strategy_for
from splade_os.engines.load_state import LOAD_STATE, LoadState
from splade_os.engines.rest.answers import complete, expect, incomplete, objects
from splade_os.engines.rest.failures import PERMANENT
from splade_os.engines.rest.layouts import carried, without_ours
from splade_os.engines.rest.server import Steps
from splade_os.engines.rest.steps import ClusterSteps
from splade_os.engines.rest.targets import check_target
from splade_os.engines.rest.views import DEFAULT_WINDOW
from splade_os.errors import EngineError, IndexFormatError, IndexNotFoundError, SettingsError

_KEEP = "5m"  # between two pages of a scan
_ACTIVE = ("STARTED", "RELOCATING")
_PIPELINES = ("default_pipeline", "final_pipeline")
Found = tuple[str, Mapping[str, Any]]
Result = TypeVar("Result")


class RestUpkeep:
    """Part of an engine; ``_call`` sends one request and returns the decoded answer."""

    url: str
    _steps: ClusterSteps

    def _run(self, steps: Steps[Result]) -> Result:
        raise NotImplementedError

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

    def alias_targets(self, alias: str) -> list[str]:
        raise NotImplementedError

    def capabilities(self) -> Capabilities:
        raise NotImplementedError

    def _included(self, fields: Sequence[str] | None) -> Any:
        """The ``_source`` of a request for these fields; ``None`` = all."""
        if fields is not None and not fields:
            return False
        wanted = {} if fields is None else {"includes": list(fields)}
        if self.capabilities().exclude_vectors:  # else Elasticsearch 9.2 leaves vectors out
            return {**wanted, "exclude_vectors": False}
        return wanted or True

    def documents(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, Mapping[str, Any]]:
        found = self.stored(index, ids, fields)
        return {identifier: each.source for identifier, each in found.items()}

    def stored(
        self, index: str, ids: Sequence[str], fields: Sequence[str] | None = None
    ) -> dict[str, StoredDocument]:
        if not ids:
            return {}
        params = {}
        if fields is not None:
            params = {"_source_includes": ",".join(fields)} if fields else {"_source": "false"}
        if params.get("_source") != "false" and self.capabilities().hides_vectors:
            params["_source_exclude_vectors"] = "false"
        body = {"ids": list(dict.fromkeys(ids))}
        answer = self._call("POST", f"/{index}/_mget", body, index=index, params=params)
        for document in answer["docs"]:
            if "error" in document:
                self._unreadable(index, document)
        return {
            d["_id"]: StoredDocument(d.get("_source", {}), (d["_seq_no"], d["_primary_term"]))
            for d in answer["docs"]
            if d.get("found")
        }

    def _unreadable(self, index: str, document: Mapping[str, Any]) -> NoReturn:
        error = document["error"]
        kind, reason = str(error.get("type")), error.get("reason")
        if kind == "index_not_found_exception":
            raise IndexNotFoundError(f"There is no index {index} at {self.url}.")
        raise EngineError(
            f"{self.url} cannot read document {document['_id']} of {index}: {reason}",
            transient=kind not in PERMANENT,  # else its shard is not there: a node starts
        )

    def scan(
        self,
        index: str,
        fields: Sequence[str] | None = None,
        *,
        page: int = 1000,
        filter: Sequence[Mapping[str, Any]] = (),
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        names = self._run(self._steps.concrete(index))
        page = min(page, self._result_window(index, names))
        own = self._run(self._steps.own_parameters())
        body: dict[str, Any] = {"size": page, "_source": self._included(fields)}
        if filter:
            body["query"] = {"bool": {"filter": list(filter)}}
        server = self.capabilities()
        if server.points_in_time:
            yield from self._pages(names, {**body, "track_total_hits": True}, own)
        else:
            yield from self._scroll(names, body, own)

    def _result_window(self, index: str, names: str) -> int:
        try:
            return self._run(self._steps.view(index)).result_window
        except IndexFormatError:  # somebody else's
            path = f"/{names}/_settings/index.max_result_window"
            answer = self._call("GET", path, index=names, params={"flat_settings": "true"})
            windows = (each["settings"].get("index.max_result_window") for each in answer.values())
            return min((int(window) for window in windows if window), default=DEFAULT_WINDOW)

    def _pages(self, names: str, body: dict[str, Any], own: Mapping[str, str]) -> Iterator[Found]:
        """By a point in time: a page whose answer is lost is asked for again."""
        cursor = self._run(self._steps.open_pit(names, {}))
        body["sort"] = self.capabilities().tie_breakers
        read, total = 0, None
        try:
            while True:
                body["pit"] = {"id": cursor.pit, "keep_alive": _KEEP}
                answer = _complete(self._call("POST", "/_search", body, params=own), names)
                cursor = Cursor(answer.get("pit_id", cursor.pit))
                total = int(answer["hits"]["total"]["value"]) if total is None else total
                hits = answer["hits"]["hits"]
                if not hits:
                    break
                body["track_total_hits"] = False
                body["search_after"] = hits[-1]["sort"]
                read += len(hits)
                yield from ((hit["_id"], hit.get("_source", {})) for hit in hits)
        finally:
            self._run(self._steps.close_cursor(cursor))
        self._whole(names, read, total)

    def _scroll(self, names: str, body: dict[str, Any], own: Mapping[str, str]) -> Iterator[Found]:
        """For servers without points in time."""
        params = {**own, "scroll": _KEEP}
        body["sort"] = ["_doc"]
        answer = _complete(
            self._call("POST", f"/{names}/_search", body, index=names, params=params), names
        )
        total, read, scroll = int(answer["hits"]["total"]["value"]), 0, answer["_scroll_id"]
        exact = answer["hits"]["total"].get("relation", "eq") == "eq"
        try:
            while hits := answer["hits"]["hits"]:
                read += len(hits)
                yield from ((hit["_id"], hit.get("_source", {})) for hit in hits)
                # a page cannot be asked for twice, the scroll moves on with every request: what a
                # lost answer takes away is missing in the total
                following = {"scroll": _KEEP, "scroll_id": scroll}
                answer = _complete(self._call("POST", "/_search/scroll", following), names)
                scroll = answer.get("_scroll_id", scroll)
        finally:
            params = {"ignore": "404"}
            self._call("DELETE", "/_search/scroll", {"scroll_id": [scroll]}, params=params)
        self._whole(names, read, total if exact else None)

    def _whole(self, names: str, read: int, total: int | None) -> None:
        if total is not None and read != total:
            raise EngineError(
                f"The scan of {names} is incomplete: {read:,} of {total:,} documents came.",
                hint="Run it again.",
            )

    def check_writable(self, index: str, meta: IndexMeta) -> None:
        answer = self._call("GET", f"/{index}", index=index)
        check_target(index, meta, answer)

    def settings(self, index: str) -> Mapping[str, Any]:
        answer = self._call(
            "GET", f"/{index}/_settings", index=index, params={"flat_settings": "true"}
        )
        if len(answer) != 1:
            raise EngineError(f"{index} stands for {len(answer)} indices; name one of them.")
        settings = next(iter(answer.values()))["settings"]
        return {name.removeprefix("index."): value for name, value in settings.items()}

    def active_copies(self, index: str) -> Sequence[int]:
        if self.capabilities().serverless:
            return ()
        answer = self._call("GET", f"/{index}/_search_shards", index=index)
        shards: list[list[Mapping[str, Any]]] = expect(answer, self.url, "shards", kind=list)
        return [sum(copy.get("state") in _ACTIVE for copy in copies) for copies in shards]

    def layout(self, index: str) -> IndexLayout:
        answer = objects(
            self._call("GET", f"/{index}", index=index, params={"flat_settings": "true"}), self.url
        )
        if len(answer) != 1:
            raise EngineError(f"{index} stands for {len(answer)} indices; name one of them.")
        ((_, body),) = answer.items()
        mapping, record = without_ours(body.get("mappings", {}))
        return IndexLayout(carried(body["settings"], record), mapping)

    def update_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        allowed = self.capabilities().index_settings(settings)
        if allowed:
            self._call("PUT", f"/{index}/_settings", {"index": allowed}, index=index)

    def update_meta(self, index: str, meta: IndexMeta) -> None:
        mapping = self._mapping(index)
        properties = mapping.get("properties", {})
        text = properties.get("text", {"type": "text"})  # with its analyzer and its copy
        body = {
            "_meta": {**mapping.get("_meta", {}), "splade_os": meta.record()},
            "properties": {name: text for name in meta.text_fields if not _maps(properties, name)},
        }
        self._call("PUT", f"/{index}/_mapping", body, index=index)

    def properties(self, index: str) -> Mapping[str, str]:
        return _types(self._mapping(index).get("properties", {}))

    def adopt(self, index: str, meta: IndexMeta) -> None:
        found = self._mapping(index).get("_meta") or {}
        strategy = strategy_for(meta.field_type, self.capabilities())
        lacking = strategy.lacking(self.settings(index))
        if lacking:
            raise SettingsError(
                f"The index {index} lacks what a field of the type {meta.field_type} needs, and an "
                "index takes that only while it is closed.",
                hint=f"POST {index}/_close, PUT {index}/_settings with "
                f"{json.dumps(lacking)}, POST {index}/_open; or --field-type rank_features.",
            )
        body = {
            "_meta": {**found, "splade_os": meta.record()},
            "properties": strategy.adopted(meta),
        }
        self._call("PUT", f"/{index}/_mapping", body, index=index)

    def _mapping(self, index: str) -> Mapping[str, Any]:
        """Of the first index, where a name stands for several."""
        answer = objects(self._call("GET", f"/{index}/_mapping", index=index), self.url)
        mapping: Mapping[str, Any] = expect(answer, self.url, min(answer), "mappings", kind=Mapping)
        return mapping

    def load_state(self, index: str) -> LoadState | None:
        state = self._mapping(index).get("_meta", {}).get(LOAD_STATE)
        try:
            return None if state is None else LoadState.model_validate(state)
        except ValidationError as error:
            raise IndexFormatError(
                f"What {index} says of its loads (_meta.{LOAD_STATE}) is damaged: "
                f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}."
            ) from None

    def save_load_state(self, index: str, state: LoadState) -> None:
        record = self._mapping(index).get("_meta", {})
        body = {"_meta": {**record, LOAD_STATE: state.model_dump(mode="json")}}
        self._call("PUT", f"/{index}/_mapping", body, index=index)

    def indices(self, pattern: str) -> list[str]:
        try:
            return sorted(self._call("GET", f"/{pattern}/_settings/index.uuid"))
        except IndexNotFoundError:  # of a name without a wildcard
            return []

    def guard(self, index: str) -> str | None:
        answer = self._call("GET", f"/{index}", index=index)
        if len(answer) != 1:
            return None
        ((name, found),) = answer.items()
        if name != index:  # the alias may have a routing; it guards as it is
            return index if index in found.get("aliases", {}) else None
        settings = found["settings"]["index"]
        if any(settings.get(kind, "_none") != "_none" for kind in _PIPELINES):
            return None  # a pipeline sees the alias as the document's _index
        alias = f"{index}-load-{blake2b(settings['uuid'].encode(), digest_size=4).hexdigest()}"
        action = {"add": {"index": index, "alias": alias, "is_hidden": True}}
        try:
            self._call("POST", "/_aliases", {"actions": [action]}, index=index)
        except EngineError as error:
            if error.transient:
                raise
            return None
        return alias

    def overview(self) -> list[IndexListing]:
        wanted = "*.aliases,*.mappings._meta.splade_os"
        answer = objects(self._call("GET", "/*", params={"filter_path": wanted}), self.url)
        found = []
        for name, body in sorted(answer.items()):
            record = body.get("mappings", {}).get("_meta", {}).get("splade_os")
            if record is None:
                continue
            try:
                meta: IndexMeta | None = IndexMeta.read(record)
            except ValidationError:
                meta = None
            found.append(IndexListing(name, tuple(sorted(body.get("aliases", {}))), meta))
        return found

    def remove_alias(self, alias: str, index: str) -> None:
        action = {"remove": {"index": index, "alias": alias, "must_exist": False}}
        self._call("POST", "/_aliases", {"actions": [action]}, index=index)

    def point_alias(self, alias: str, index: str) -> None:
        targets = self.alias_targets(alias)
        own: list[Mapping[str, Any]] = []
        if targets:
            answer = self._call("GET", f"/_alias/{alias}", index=alias)
            own = [answer[name]["aliases"][alias] for name in targets if name in answer]
        if any(one != own[0] for one in own[1:]):
            raise EngineError(
                f"The alias {alias} has another filter, routing or flag on each of its indices "
                f"({', '.join(targets)}): what it should have on {index} cannot be known.",
                hint="Make them equal, or point the alias yourself (POST /_aliases).",
            )
        # one request: of two swaps at the same time the later one wins, whatever stood there
        actions: list[dict[str, Any]] = []
        if targets:
            actions.append({"remove": {"index": "*", "alias": alias, "must_exist": False}})
        actions.append({"add": {**(own[0] if own else {}), "index": index, "alias": alias}})
        self._call("POST", "/_aliases", {"actions": actions}, index=index)


def _complete(answer: Mapping[str, Any], names: str) -> Mapping[str, Any]:
    if not complete(answer):
        raise incomplete(answer, f"The scan of {names}")
    return answer


def _types(properties: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Path → type."""
    found: dict[str, str] = {}
    for name, definition in properties.items():
        found[prefix + name] = definition.get("type", "object")
        found |= _types(definition.get("properties", {}), f"{prefix}{name}.")
    return found


def _maps(properties: Mapping[str, Any], path: str) -> bool:
    """Whether a mapping has the field at a path."""
    first, _, rest = path.partition(".")
    if first not in properties or not rest:
        return first in properties
    return _maps(properties[first].get("properties", {}), rest)
