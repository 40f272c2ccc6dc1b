"""Puts a query encoder into a cluster, all of it or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from splade_os.engines import VECTOR_FIELD
from splade_os.engines.opensearch_ml.ml_commons import (
    LOCAL_FILES,
    ONLY_ML_NODES,
    MlCommons,
    ModelGroup,
    RegisteredModel,
)
from splade_os.engines.opensearch_ml.query_pipeline import read_description
from splade_os.engines.opensearch_ml.search_pipelines import (
    SearchPipelines,
    new_pipeline,
    pointed_at,
    switched,
)
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import DeploymentError, EngineError
from splade_os.export.opensearch_checks import (
    check_answer,
    check_default,
    check_index,
    check_users,
)
from splade_os.export.opensearch_deployed import DeployedEncoder
from splade_os.export.opensearch_package import (
    QueryEncoderPackage,
    description,
    register_body,
)

GRACE = 5.0
"""Seconds between the switch to a new version and the end of the old one: a search that was
given the old one has long asked it by then."""


@dataclass(frozen=True)
class SettingChange:
    """A cluster setting that a deployment needs.

    Attributes:
        name, current, wanted: of the setting.
        why: for people.
        temporary: set back when the deployment is through.
    """

    name: str
    current: str
    wanted: str
    why: str
    temporary: bool


def deploy_package(
    package: QueryEncoderPackage,
    engine: ClusterEngine,
    *,
    name: str | None = None,
    pipeline: str | None = None,
    indices: Sequence[str] = (),
    two_phase: bool = False,
    replace: bool = False,
    allow: Callable[[Sequence[SettingChange]], bool] = lambda changes: False,
    report: Callable[[str], None] = lambda step: None,
    timeout: float = 120.0,
) -> DeployedEncoder:
    """Register, upload, deploy, test with one prediction, and point search pipelines at it.

    A version of the same name is replaced without a gap: the new one answers before the first
    pipeline names it, and the old one is kept unless ``replace``. The same zip is not uploaded
    twice. Whatever fails, nothing is left behind: no version, no group, no pipeline, no setting.

    Args:
        package: of `export_opensearch_tokenizer`.
        engine: the cluster.
        name: of the query encoder; default the package's.
        pipeline: search pipeline to create, or to change where it is there; ``None`` = none.
            Pipelines that name an older version are switched in any case.
        indices: get ``pipeline`` as their default; encoded by the model of the package.
        two_phase: (a new pipeline) with the two-phase processor.
        replace: undeploy and delete older versions once nothing names them.
        allow: asked before cluster settings are changed.
        report: told each step.
        timeout: seconds for the deployment itself.

    Raises:
        ModelMismatchError: an index was encoded by another model.
        DeploymentError: the plugin is missing, a setting is not allowed, or the cluster failed;
            with its reason.
    """
    ml, pipelines = MlCommons(engine), SearchPipelines(engine)
    name = name or package.manifest.name
    report("Looking at the cluster")
    ml.require()
    field = VECTOR_FIELD
    for index in indices:
        field = check_index(engine, index, package)
        check_default(pipelines, index, pipeline)
    group = _group(ml, name)
    before = [] if group is None else ml.models(group.id)
    check_users(engine, pipelines, {m.id for m in before}, package)
    model = next((m for m in before if m.deployed and m.sha256 == package.manifest.sha256), None)
    fresh = model is None
    with ExitStack() as undo, ExitStack() as always:
        try:
            if group is None or model is None:
                _settings(ml, allow, undo, always)
                group = group or _new_group(ml, name, package, undo)
                model = _register(ml, group, before, package, report, timeout, undo)
            report("Testing it with a query")
            check_answer(ml, model.id, package)
            old = {m.id for m in before} - {model.id}
            used = _point(pipelines, model.id, old, pipeline, field, two_phase, undo, report)
            for index in indices:
                _set_default(pipelines, index, pipeline, undo)
            if group.description != description(package.manifest):
                ml.describe_group(group.id, description(package.manifest))
                undo.callback(ml.describe_group, group.id, group.description)
        except EngineError as error:
            raise _cleaned(error, undo) from error
        undo.pop_all()
    if replace and old:
        report(f"Waiting {GRACE:.0f} s for searches under way, then removing older versions")
        time.sleep(GRACE)
        for model_id in old:
            ml.remove(model_id)
        old = set()
    facts = read_description(description(package.manifest)) or {}
    return DeployedEncoder(
        name, model.id, model.version, model.sha256, facts, used, tuple(sorted(old)), fresh
    )


def _settings(
    ml: MlCommons,
    allow: Callable[[Sequence[SettingChange]], bool],
    undo: ExitStack,
    always: ExitStack,
) -> None:
    """Make the cluster take and run a model; taken back as the stacks say."""
    changes = []
    local, _, _ = ml.setting(LOCAL_FILES)
    if local != "true":
        why = "to upload the query encoder"
        changes.append(SettingChange(LOCAL_FILES, local, "true", why, temporary=True))
    only, _, _ = ml.setting(ONLY_ML_NODES)
    if only == "true" and not ml.has_ml_nodes():
        why = "no node has the role ml, so that nothing could run"
        changes.append(SettingChange(ONLY_ML_NODES, only, "false", why, temporary=False))
    if not changes:
        return
    if not allow(changes):
        needed = ", ".join(f"{c.name}={c.wanted} ({c.why})" for c in changes)
        raise DeploymentError(
            f"{ml.url} needs other cluster settings: {needed}.",
            hint="Allow it with --yes, or set them yourself and deploy again.",
        )
    for change in changes:
        _, before, scope = ml.setting(change.name)
        (always if change.temporary else undo).callback(
            ml.change_setting, change.name, before, scope
        )
        ml.change_setting(change.name, change.wanted, scope)


def _group(ml: MlCommons, name: str) -> ModelGroup | None:
    """The group of that name, if it is there and ours."""
    group = next((g for g in ml.groups() if g.name == name), None)
    if group is not None and read_description(group.description) is None:
        raise DeploymentError(
            f"The cluster has a model group {name!r} already, which splade-os did not make.",
            hint="Take another name: --name NAME.",
        )
    return group


def _new_group(
    ml: MlCommons, name: str, package: QueryEncoderPackage, undo: ExitStack
) -> ModelGroup:
    group = ml.create_group(name, description(package.manifest))
    undo.callback(ml.delete_group, group.id)
    return group


def _register(
    ml: MlCommons,
    group: ModelGroup,
    before: Sequence[RegisteredModel],
    package: QueryEncoderPackage,
    report: Callable[[str], None],
    timeout: float,
    undo: ExitStack,
) -> RegisteredModel:
    known = {m.id for m in before}

    def remove_new() -> None:  # a request that was sent twice made two
        for model in ml.models(group.id):
            if model.id not in known and model.sha256 == package.manifest.sha256:
                ml.remove(model.id)

    undo.callback(remove_new)
    report(f"Uploading {package.manifest.bytes / 1e6:.1f} MB")
    model_id = ml.register(group.id, {**register_body(package.manifest), "name": group.name})
    ml.upload(model_id, package.chunks())
    report("Deploying it")
    ml.deploy(model_id, timeout=timeout)
    return ml.model(model_id)


def _set_default(
    pipelines: SearchPipelines, index: str, pipeline: str | None, undo: ExitStack
) -> None:
    for concrete, default in pipelines.of_index(index).items():
        if default != pipeline:
            undo.callback(pipelines.set_default, concrete, default)
            pipelines.set_default(concrete, pipeline)


def _point(
    pipelines: SearchPipelines,
    model_id: str,
    old: set[str],
    pipeline: str | None,
    field: str,
    two_phase: bool,
    undo: ExitStack,
    report: Callable[[str], None],
) -> tuple[str, ...]:
    """Point pipelines at a model; the names of those that name it now."""
    bodies = pipelines.all()
    wanted = {name: switched(body, old, model_id) for name, body in bodies.items()}
    if pipeline is not None:
        body = bodies.get(pipeline)
        if body is None:
            wanted[pipeline] = new_pipeline(field, model_id, two_phase=two_phase)
        else:
            body = wanted[pipeline] or body
            wanted[pipeline] = pointed_at(body, field, model_id, two_phase=two_phase)
    for name, changed in wanted.items():
        if changed is None or changed == bodies.get(name):
            continue
        report(f"Pointing the search pipeline {name} at it")
        if name in bodies:
            undo.callback(pipelines.put, name, bodies[name])
        else:
            undo.callback(pipelines.delete, name)
        pipelines.put(name, changed)
    return tuple(sorted(n for n, b in pipelines.all().items() if switched(b, {model_id}, "")))


def _cleaned(error: EngineError, undo: ExitStack) -> DeploymentError:
    """Take everything back; the error to raise, which also says what could not be."""
    message = error.message
    try:
        undo.close()
    except EngineError as second:
        message += f" And what was begun could not all be taken back: {second.message}"
    else:
        message += " Nothing of it is left in the cluster."
    return DeploymentError(message, hint=error.hint)
