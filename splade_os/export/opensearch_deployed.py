"""The query encoders that are in a cluster: seen, and removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splade_os.engines.opensearch_ml.ml_commons import MlCommons
from splade_os.engines.opensearch_ml.query_pipeline import read_description
from splade_os.engines.opensearch_ml.search_pipelines import SearchPipelines, new_pipeline, switched
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import DeploymentError, EngineError


@dataclass(frozen=True)
class DeployedEncoder:
    """A query encoder in a cluster.

    Attributes:
        name: of its model group.
        model_id: what a query names; of the newest version that is deployed.
        version: counted by the cluster.
        sha256: of the zip.
        facts: what its package said: ``model``, ``content`` (hash), ``features``, ``idf``,
            ``documents``.
        pipelines: search pipelines that name it.
        older: ids of other versions that are still there.
        fresh: (after a deployment) whether this version was made by it.
    """

    name: str
    model_id: str
    version: int
    sha256: str
    facts: dict[str, str]
    pipelines: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    fresh: bool = False


def deployed_encoders(engine: ClusterEngine) -> list[DeployedEncoder]:
    """The query encoders in a cluster that splade-os put there, by name."""
    ml, pipelines = MlCommons(engine), SearchPipelines(engine)
    bodies = pipelines.all()
    found = []
    for group in sorted(ml.groups(), key=lambda group: group.name):
        facts = read_description(group.description)
        if facts is None:
            continue
        models = ml.models(group.id)
        newest = next((m for m in models if m.deployed), models[0] if models else None)
        if newest is None:
            continue
        ids = {m.id for m in models}
        found.append(
            DeployedEncoder(
                group.name,
                newest.id if newest.deployed else "",
                newest.version,
                newest.sha256,
                facts,
                tuple(sorted(p for p, body in bodies.items() if switched(body, ids, ""))),
                tuple(m.id for m in models if m.id != newest.id),
            )
        )
    return found


def undeploy_encoder(engine: ClusterEngine, name: str, *, force: bool = False) -> list[str]:
    """Remove a query encoder: every version, its group, and pipelines that only serve it.

    Args:
        engine: the cluster.
        name: of the query encoder, or the id of one version that nothing names any more.
        force: also where an index has such a pipeline as its default (it loses it), or where
            a pipeline with other processors names it (they stay).

    Returns:
        What was removed, for people.

    Raises:
        DeploymentError: there is none of that name; or it is in use, and by what.
    """
    ml, pipelines = MlCommons(engine), SearchPipelines(engine)
    group = next((g for g in ml.groups() if g.name == name), None)
    if group is None or read_description(group.description) is None:
        return _undeploy_version(ml, pipelines, name)
    models = ml.models(group.id)
    ids = {m.id for m in models}
    bodies = {p: body for p, body in pipelines.all().items() if switched(body, ids, "")}
    users = {p: pipelines.used_by(p) for p in bodies}
    in_use = sorted({index for indices in users.values() for index in indices})
    if in_use and not force:
        raise DeploymentError(
            f"The query encoder {name} is in use by the index {', '.join(in_use)}.",
            hint="With --force the index loses its default search pipeline.",
        )
    removed = []
    for pipeline, body in bodies.items():
        for index in users[pipeline]:
            pipelines.set_default(index, None)
            removed.append(f"default search pipeline of {index}")
        if _only_ours(body):
            pipelines.delete(pipeline)
            removed.append(f"search pipeline {pipeline}")
    for model in models:
        ml.remove(model.id)
        removed.append(f"version {model.version} ({model.id})")
    ml.delete_group(group.id)
    return removed


def _undeploy_version(ml: MlCommons, pipelines: SearchPipelines, model_id: str) -> list[str]:
    missing = DeploymentError(
        f"There is no query encoder {model_id} of splade-os at {ml.url}.",
        hint="splade-os list shows what there is.",
    )
    try:
        model = ml.model(model_id)
        group = ml.group(model.group)
    except EngineError:
        raise missing from None
    if read_description(group.description) is None:
        raise missing
    used = [p for p, body in pipelines.all().items() if switched(body, {model_id}, "")]
    if used:
        raise DeploymentError(
            f"The version {model_id} is named by the search pipeline {', '.join(sorted(used))}.",
            hint=f"Remove all of it: splade-os undeploy {group.name}",
        )
    ml.remove(model_id)
    if not ml.models(group.id):
        ml.delete_group(group.id)
    return [f"version {model.version} ({model_id})"]


def _only_ours(body: Mapping[str, Any]) -> bool:
    """Whether a pipeline has nothing but what `new_pipeline` writes."""
    ours = new_pipeline("", "", two_phase=True)["request_processors"]
    known = {key for processor in ours for key in processor}
    processors = body.get("request_processors") or []
    others = set(body) - {"description", "request_processors"}
    return not others and all(set(processor) <= known for processor in processors)
