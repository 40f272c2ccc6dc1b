"""ML Commons, OpenSearch's plugin for models, as far as a query encoder needs it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from splade_os.errors import DeploymentError, EngineError

ONLY_ML_NODES = "plugins.ml_commons.only_run_on_ml_node"
LOCAL_FILES = "plugins.ml_commons.allow_registering_model_via_local_file"
_BASE = "/_plugins/_ml"
_PLUGINS = ("opensearch-ml", "opensearch-neural-search")
_MOST = 1000  # groups, and models of a group, that are looked at
_INTERVAL = 0.2  # seconds between two looks at a task

# what ML Commons says → what to do about it
_HINTS = {
    "no eligible node": f"No node may run models. Give one the role ml, or set {ONLY_ML_NODES} to "
    "false.",
    "Memory Circuit Breaker": "The heap of a node is fuller than "
    "plugins.ml_commons.jvm_heap_memory_threshold (85 %) allows. Queries fail as well while it "
    "is: give the nodes more heap, or raise the setting.",
    "Disk Circuit Breaker": "A node has less free disk than "
    "plugins.ml_commons.disk_free_space_threshold (5 GB) asks for: free some, or lower it.",
    "model content changed": "The zip that arrived is not the one whose SHA-256 was registered: "
    "export again, and look for a proxy that changes bodies.",
    "allow_registering_model_via_local_file": f"Set {LOCAL_FILES} to true.",
    "Model not ready yet": "After a restart the cluster takes some seconds to load its models; if "
    "it lasts, deploy again.",
    "max local model per node": "Undeploy one (splade-os list shows ours), or raise "
    "plugins.ml_commons.max_model_on_node (10).",
}


class Requests(Protocol):
    """An engine that takes any request, such as `ClusterEngine`."""

    url: str

    def request(
        self, method: str, path: str, body: Any = None, *, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Send one request; the parsed answer."""


@dataclass(frozen=True)
class ModelGroup:
    """All versions of a model: ``name`` is unique in a cluster."""

    id: str
    name: str
    description: str


@dataclass(frozen=True)
class RegisteredModel:
    """One version.

    Attributes:
        id: what a query names.
        group: id of its `ModelGroup`.
        version: counted from 1 by the cluster.
        state: ``DEPLOYED``, ``REGISTERED``, ``DEPLOY_FAILED`` ...
        sha256: of its zip.
        created_ms: milliseconds since 1970.
        workers: number of nodes that have it loaded.
    """

    id: str
    group: str
    version: int
    state: str
    sha256: str
    created_ms: int
    workers: int

    @property
    def deployed(self) -> bool:
        """Whether it answers, on some node at least."""
        return self.state in {"DEPLOYED", "PARTIALLY_DEPLOYED"}


class MlCommons:
    """Registers, deploys and asks models of one cluster.

    Every method raises `EngineError` with the cluster's reason.
    """

    def __init__(self, engine: Requests) -> None:
        self._engine = engine
        self.url = engine.url

    def require(self) -> None:
        """Raise unless ML Commons and neural-search are installed.

        Raises:
            DeploymentError: naming what is missing, and the ways that work without.
        """
        rows = self._engine.request("GET", "/_cat/plugins", params={"format": "json"})
        have = {row["component"] for row in rows}
        missing = [name for name in _PLUGINS if not have & {name, name.removeprefix("opensearch-")}]
        if missing:
            raise DeploymentError(
                f"{self.url} lacks the plugin {' and '.join(missing)}: it cannot encode queries "
                "itself.",
                hint="Let the client encode them (mode idf needs no plugin), or fold the IDF into "
                "the documents: splade-os ingest --fold-idf.",
            )

    def setting(self, name: str) -> tuple[str, str | None, str]:
        """Effective value of a cluster setting, the value set by somebody (or ``None``), and
        the scope that decides, ``persistent`` or ``transient``."""
        params = {"include_defaults": "true", "flat_settings": "true"}
        answer = self._engine.request("GET", "/_cluster/settings", params=params)
        for scope in ("transient", "persistent"):
            if name in answer[scope]:
                return str(answer[scope][name]), str(answer[scope][name]), scope
        return str(answer["defaults"].get(name, "")), None, "persistent"

    def change_setting(self, name: str, value: str | None, scope: str = "persistent") -> None:
        """Set a cluster setting; ``None`` takes it back."""
        self._engine.request("PUT", "/_cluster/settings", {scope: {name: value}})

    def has_ml_nodes(self) -> bool:
        """Whether a node has the role ``ml``."""
        params = {"filter_path": "nodes.*.roles"}
        answer = self._engine.request("GET", "/_nodes", params=params)
        return any("ml" in node.get("roles", []) for node in answer.get("nodes", {}).values())

    def groups(self) -> list[ModelGroup]:
        """All model groups that this user may see."""
        body = {"query": {"match_all": {}}, "size": _MOST}
        answer = self._engine.request("POST", f"{_BASE}/model_groups/_search", body)
        return [
            ModelGroup(hit["_id"], hit["_source"]["name"], hit["_source"].get("description", ""))
            for hit in answer["hits"]["hits"]
        ]

    def group(self, group_id: str) -> ModelGroup:
        """One model group."""
        answer = self._engine.request("GET", f"{_BASE}/model_groups/{group_id}")
        return ModelGroup(group_id, answer["name"], answer.get("description", ""))

    def create_group(self, name: str, description: str) -> ModelGroup:
        """Make an empty model group."""
        body = {"name": name, "description": description}
        answer = self._engine.request("POST", f"{_BASE}/model_groups/_register", body)
        return ModelGroup(answer["model_group_id"], name, description)

    def describe_group(self, group_id: str, description: str) -> None:
        """Replace a group's description."""
        body = {"description": description}
        self._engine.request("PUT", f"{_BASE}/model_groups/{group_id}", body)

    def delete_group(self, group_id: str) -> None:
        """Delete an empty group."""
        path = f"{_BASE}/model_groups/{group_id}"
        # a version that was just deleted still counts for a moment
        _until(lambda: self._engine.request("DELETE", path), "associated model versions")

    def models(self, group_id: str) -> list[RegisteredModel]:
        """The versions in a group, newest first."""
        query = {
            "filter": [{"term": {"model_group_id": group_id}}],
            "must_not": [{"exists": {"field": "chunk_number"}}],  # chunks lie beside the models
        }
        body = {"query": {"bool": query}, "size": _MOST}
        answer = self._engine.request("POST", f"{_BASE}/models/_search", body)
        found = [_model(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]]
        return sorted(found, key=lambda model: -model.version)

    def model(self, model_id: str) -> RegisteredModel:
        """One version."""
        return _model(model_id, self._engine.request("GET", f"{_BASE}/models/{model_id}"))

    def register(self, group_id: str, body: Mapping[str, Any]) -> str:
        """Announce a version (body of ``_register_meta``); its id. Its content follows."""
        whole = {**body, "model_group_id": group_id}
        with hinted():
            answer = self._engine.request("POST", f"{_BASE}/models/_register_meta", whole)
        return str(answer["model_id"])

    def upload(self, model_id: str, chunks: Sequence[bytes]) -> None:
        """Send the content of a version, part by part."""
        for number, chunk in enumerate(chunks):
            path = f"{_BASE}/models/{model_id}/upload_chunk/{number}"
            with hinted():
                self._engine.request("POST", path, chunk)

    def deploy(
        self, model_id: str, *, timeout: float = 120.0, wait: Callable[[float], None] = time.sleep
    ) -> None:
        """Load a version on the nodes and wait until it answers.

        Args:
            model_id: of a version that is registered.
            timeout: seconds.
            wait: called between two looks at the task.

        Raises:
            DeploymentError: the cluster refused or failed, and its reason.
        """
        with hinted():
            answer = self._engine.request("POST", f"{_BASE}/models/{model_id}/_deploy")
        deadline = time.monotonic() + timeout
        while True:
            task = self._engine.request("GET", f"{_BASE}/tasks/{answer['task_id']}")
            state = task.get("state")
            if state == "COMPLETED":
                return
            if state not in {"CREATED", "RUNNING"}:
                reason = str(task.get("error") or f"the task ended as {state}")
                raise DeploymentError(f"{self.url} did not deploy it: {reason}", hint=_hint(reason))
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"{self.url} has not deployed it within {timeout:.0f} s.",
                    hint="Look at the cluster's load and log.",
                )
            wait(_INTERVAL)

    def encode(self, model_id: str, texts: Sequence[str]) -> list[dict[str, float]]:
        """What the cluster makes of texts: term → weight of each."""
        with hinted():
            answer = self._engine.request(
                "POST",
                f"{_BASE}/_predict/sparse_encoding/{model_id}",
                {"text_docs": list(texts)},
            )
        return [
            result["output"][0]["dataAsMap"]["response"][0]
            for result in answer["inference_results"]
        ]

    def undeploy(self, model_id: str) -> None:
        """Unload a version from every node."""
        self._engine.request("POST", f"{_BASE}/models/{model_id}/_undeploy")

    def delete(self, model_id: str) -> None:
        """Delete a version that is not deployed, and its content."""
        self._engine.request("DELETE", f"{_BASE}/models/{model_id}")

    def remove(self, model_id: str) -> None:
        """Undeploy and delete one version, in whatever state it is."""
        self.undeploy(model_id)
        # the recorded state follows the nodes a moment later
        _until(lambda: self.delete(model_id), "Try undeploy model first")


def _until(send: Callable[[], Any], sign: str, *, timeout: float = 30.0) -> None:
    """Send until the cluster no longer refuses with ``sign``."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            send()
        except EngineError as error:
            if sign not in error.message or time.monotonic() > deadline:
                raise
            time.sleep(_INTERVAL)
        else:
            return


def _model(model_id: str, source: Mapping[str, Any]) -> RegisteredModel:
    return RegisteredModel(
        id=model_id,
        group=str(source.get("model_group_id", "")),
        version=int(source.get("model_version", 0)),
        state=str(source.get("model_state", "")),
        sha256=str(source.get("model_content_hash_value", "")),
        created_ms=int(source.get("created_time", 0)),
        workers=int(source.get("current_worker_node_count", 0)),
    )


@contextmanager
def hinted() -> Iterator[None]:
    """An `EngineError` whose reason we know becomes a `DeploymentError` with a hint."""
    try:
        yield
    except EngineError as error:
        hint = _hint(error.message)
        if hint is None or isinstance(error, DeploymentError):
            raise
        raise DeploymentError(error.message, hint=hint) from error


def _hint(reason: str) -> str | None:
    lowered = reason.lower()
    return next((hint for sign, hint in _HINTS.items() if sign.lower() in lowered), None)
