"""Reading documents, settings and aliases: the same REST calls on OpenSearch and Elasticsearch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from splade_os.engines.base import IndexMeta
from splade_os.engines.fields.capabilities import Capabilities
from splade_os.errors import EngineError, IndexNotFoundError

_KEEP = "5m"  # between two pages of a scan


class RestUpkeep:
    """Part of an engine; ``_call`` sends one request and returns the decoded answer."""

    url: str

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
        if not ids:
            return {}
        params = {}
        if fields is not None:
            params = {"_source_includes": ",".join(fields)} if fields else {"_source": "false"}
        body = {"ids": list(dict.fromkeys(ids))}
        answer = self._call("POST", f"/{index}/_mget", body, index=index, params=params)
        for document in answer["docs"]:
            if "error" in document:
                if document["error"].get("type") == "index_not_found_exception":
                    raise IndexNotFoundError(f"There is no index {index} at {self.url}.")
                raise EngineError(
                    f"{self.url} cannot read document {document['_id']} of {index}: "
                    f"{document['error'].get('reason')}",
                    transient=True,  # its shard is not there, e.g. while a node starts
                )
        return {d["_id"]: d.get("_source", {}) for d in answer["docs"] if d.get("found")}

    def scan(
        self, index: str, fields: Sequence[str] | None = None, *, page: int = 1000
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        body: dict[str, Any] = {"size": page, "sort": ["_doc"]}
        body["_source"] = self._included(fields)
        answer = self._call(
            "POST", f"/{index}/_search", body, index=index, params={"scroll": _KEEP}
        )
        scroll = answer["_scroll_id"]
        try:
            while hits := answer["hits"]["hits"]:
                if answer["_shards"]["failed"]:
                    raise EngineError(f"The scan of {index} is incomplete: a shard failed.")
                yield from ((hit["_id"], hit.get("_source", {})) for hit in hits)
                # a page cannot be asked for twice: the scroll moves on with every request
                answer = self._call(
                    "POST", "/_search/scroll", {"scroll": _KEEP, "scroll_id": scroll}
                )
                scroll = answer.get("_scroll_id", scroll)
        finally:
            params = {"ignore": 404}
            self._call("DELETE", "/_search/scroll", {"scroll_id": [scroll]}, params=params)

    def settings(self, index: str) -> Mapping[str, Any]:
        answer = self._call(
            "GET", f"/{index}/_settings", index=index, params={"flat_settings": "true"}
        )
        if len(answer) != 1:
            raise EngineError(f"{index} stands for {len(answer)} indices; name one of them.")
        settings = next(iter(answer.values()))["settings"]
        return {name.removeprefix("index."): value for name, value in settings.items()}

    def update_settings(self, index: str, settings: Mapping[str, Any]) -> None:
        allowed = self.capabilities().index_settings(settings)
        if allowed:
            self._call("PUT", f"/{index}/_settings", {"index": allowed}, index=index)

    def update_meta(self, index: str, meta: IndexMeta) -> None:
        answer = self._call("GET", f"/{index}/_mapping", index=index)
        mapping = next(iter(answer.values()))["mappings"]
        properties = mapping.get("properties", {})
        text = properties.get("text", {"type": "text"})  # with its analyzer and its copy
        body = {
            "_meta": {**mapping.get("_meta", {}), "splade_os": meta.model_dump(mode="json")},
            "properties": {name: text for name in meta.text_fields if not _maps(properties, name)},
        }
        self._call("PUT", f"/{index}/_mapping", body, index=index)

    def indices(self, pattern: str) -> list[str]:
        return sorted(self._call("GET", f"/{pattern}/_settings/index.uuid"))

    def point_alias(self, alias: str, index: str) -> None:
        actions: list[dict[str, Any]] = [
            {"remove": {"index": old, "alias": alias}}
            for old in self.alias_targets(alias)
            if old != index
        ]
        actions.append({"add": {"index": index, "alias": alias}})
        self._call("POST", "/_aliases", {"actions": actions}, index=index)


def _maps(properties: Mapping[str, Any], path: str) -> bool:
    """Whether a mapping has the field at a path."""
    first, _, rest = path.partition(".")
    if first not in properties or not rest:
        return first in properties
    return _maps(properties[first].get("properties", {}), rest)
