"""What a deployment makes sure of: that queries, documents and the cluster belong together."""

from __future__ import annotations

import math
from contextlib import suppress

from splade_os.engines.opensearch_ml.ml_commons import MlCommons
from splade_os.engines.opensearch_ml.query_pipeline import check_searchable
from splade_os.engines.opensearch_ml.search_pipelines import SearchPipelines, switched
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import DeploymentError, IndexFormatError, ModelMismatchError
from splade_os.export.opensearch_package import QueryEncoderPackage
from splade_os.vocabulary import TOKEN_IDS

_TOLERANCE = 1e-6  # relative; floats go through JSON


def check_answer(ml: MlCommons, model_id: str, package: QueryEncoderPackage) -> None:
    """Raise unless the cluster encodes the package's probe as splade-os does."""
    probe = package.manifest.probe
    [got] = ml.encode(model_id, [probe.text])
    same = got.keys() == probe.terms.keys() and all(
        math.isclose(got[term], weight, rel_tol=_TOLERANCE) for term, weight in probe.terms.items()
    )
    if not same:
        wrong = sorted(
            t for t in got.keys() | probe.terms.keys() if got.get(t) != probe.terms.get(t)
        )
        raise DeploymentError(
            f"The cluster encodes {probe.text!r} differently than splade-os does; first term: "
            f"{wrong[0]!r}, {got.get(wrong[0])} instead of {probe.terms.get(wrong[0])}.",
            hint="This OpenSearch treats tokenizers in a way that is not known yet: please "
            "report its version.",
        )


def check_index(engine: ClusterEngine, index: str, package: QueryEncoderPackage) -> str:
    """The vector field of an index that the package may search."""
    meta, manifest = engine.index_meta(index), package.manifest
    naming = meta.feature_naming
    if naming == TOKEN_IDS:  # SEISMIC: OpenSearch asks the tokenizer for ids by itself
        naming = manifest.feature_naming
    for what, has, needs in (
        ("content hash", manifest.content_hash, meta.model.content_hash),
        ("feature naming", manifest.feature_naming, naming),
    ):
        if has != needs:
            raise ModelMismatchError(
                f"The index {index} was encoded with the model {meta.model.name}, and the query "
                f"encoder of {manifest.model} is not for it: {what} {has!r} against {needs!r}.",
                hint="Export the query encoder of the index's own model.",
            )
    check_searchable(index, meta)
    if meta.model.fold_idf:
        raise ModelMismatchError(
            f"The documents of {index} hold the IDF already (--fold-idf): queries with weights "
            "would count it twice.",
            hint="Search it in mode idf, or ingest into another index without --fold-idf.",
        )
    return meta.field


def check_users(
    engine: ClusterEngine, pipelines: SearchPipelines, old: set[str], package: QueryEncoderPackage
) -> None:
    """The indices whose pipelines are about to be switched are for this package as well."""
    for name, body in pipelines.all().items():
        if switched(body, old, "") is None:
            continue
        for index in pipelines.used_by(name):
            with suppress(IndexFormatError):  # none of ours
                check_index(engine, index, package)


def check_default(pipelines: SearchPipelines, index: str, pipeline: str | None) -> None:
    """Raise where an index has the default pipeline of somebody else."""
    for concrete, default in pipelines.of_index(index).items():
        if default is not None and default != pipeline:
            raise DeploymentError(
                f"The index {concrete} has the default search pipeline {default} already.",
                hint=f"Let that one name the query encoder, beside what it does: --pipeline "
                f"{default}",
            )
