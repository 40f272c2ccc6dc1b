"""Query encoders inside a real OpenSearch 3.6 with ML commons and neural-search."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from splade_os import (
    AsyncSearchClient,
    DocumentEncoder,
    Results,
    SearchClient,
    ingest_documents,
    mappings,
)
from splade_os.cli import cli
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import QueryPipeline, SearchRequest, SearchResponse, TextQuery, connect
from splade_os.engines.opensearch_ml.ml_commons import LOCAL_FILES, ONLY_ML_NODES, MlCommons
from splade_os.engines.opensearch_ml.search_pipelines import SearchPipelines, new_pipeline
from splade_os.engines.rest.cluster import ClusterEngine
from splade_os.errors import (
    DeploymentError,
    EngineError,
    ModelMismatchError,
    SettingsError,
    SpladeWarning,
)
from splade_os.export.opensearch_deploy import deploy_package
from splade_os.export.opensearch_deployed import deployed_encoders, undeploy_encoder
from splade_os.export.opensearch_package import QueryEncoderPackage
from splade_os.export.opensearch_tokenizer import export_opensearch_tokenizer
from splade_os.ingest.documents.records import Record
from splade_os.ingest.index.aliases import swap
from splade_os.search.options import EXACT
from splade_os.statistics import TermStatistics
from tests import tiny_models

WORDS = [w for w in tiny_models.vocabulary() if w.isalpha() and len(w) > 2]
TEXTS = [*tiny_models.TEXTS, "a.b... c.", "[CLS] cat [UNK] ☃", "\u241b dog", "Ü\x00n\x07 🙃cat"]


@pytest.fixture
def cluster(plugins_url: str) -> Iterator[ClusterEngine]:
    """A cluster with nothing in it, in its default settings; whatever is in it is removed."""
    engine = ClusterEngine(plugins_url)
    default_settings(engine)
    yield engine
    ml, pipelines = MlCommons(engine), SearchPipelines(engine)
    for index in pipelines.of_index("*,-.*"):
        engine.request("DELETE", f"/{index}")
    for name in pipelines.all():
        pipelines.delete(name)
    for group in ml.groups():
        for model in ml.models(group.id):
            ml.remove(model.id)
        ml.delete_group(group.id)
    default_settings(engine)
    engine.close()


def default_settings(engine: ClusterEngine) -> None:
    for scope in ("persistent", "transient"):
        engine.request("PUT", "/_cluster/settings", {scope: {"plugins.ml_commons.*": None}})


@pytest.fixture
def package(tiny: Path, tmp_path: Path) -> QueryEncoderPackage:
    return export_opensearch_tokenizer(str(tiny / "router"), tmp_path / "package", name="tiny")


def other_table(tiny: Path, folder: Path) -> QueryEncoderPackage:
    frequencies = np.arange(len(tiny_models.vocabulary())) % 30 + 1
    return export_opensearch_tokenizer(
        str(tiny / "router"), folder, name="tiny", statistics=TermStatistics(50, 500, frequencies)
    )


def yes(changes: object) -> bool:
    return True


def fill(
    engine: ClusterEngine,
    model: Path,
    index: str = "docs",
    count: int = 80,
    field_type: str = "rank_features",
    **options: bool,
) -> None:
    random = np.random.default_rng(1)
    texts = [" ".join(random.choice(WORDS, random.integers(3, 12))) for _ in range(count)]
    records = [
        Record(i, f"test:{i}", f"d{i}", text, {"text": text}) for i, text in enumerate(texts, 1)
    ]
    encoder = DocumentEncoder.load(str(model), device="cpu", **options)  # type: ignore[arg-type]
    ingest_documents(
        records,
        engine=engine,
        index=index,
        encoder=encoder,
        dead_letters=Path("never.jsonl"),
        field_type=field_type,
    )


def search(engine: ClusterEngine, text: str, index: str = "docs", **clause: str) -> list[Any]:
    """As any client in any language would: plain text."""
    query = {"neural_sparse": {"splade_os_vector": {"query_text": text, **clause}}}
    body = {"query": query, "size": 100, "_source": False}
    request = urllib.request.Request(
        f"{engine.url}/{index}/_search",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        hits = json.load(answer)["hits"]["hits"]
    return [(hit["_id"], hit["_score"]) for hit in hits]


def left_behind(engine: ClusterEngine) -> list[Any]:
    ml = MlCommons(engine)
    groups = ml.groups()
    models = [model for group in groups for model in ml.models(group.id)]
    answer = engine.request("GET", "/_cluster/settings", params={"flat_settings": "true"})
    found = {k: v for k, v in answer["persistent"].items() if k in {LOCAL_FILES, ONLY_ML_NODES}}
    chunks = engine.request("POST", "/.plugins-ml-model/_count", params={"ignore": 404})
    return [
        *groups,
        *models,
        *SearchPipelines(engine).all(),
        *found,
        *([1] * chunks.get("count", 0)),
    ]


def expected_terms(package: QueryEncoderPackage, model: Path, texts: list[str]) -> list[Any]:
    encoder = IdfQueryEncoder.load(str(model))
    names = encoder.vocabulary.features
    return [
        {names[i]: pytest.approx(w, rel=1e-6) for i, w in zip(ids.tolist(), ws.tolist())}  # noqa: B905
        for ids, ws in encoder.encode(texts)
    ]


def test_terms_and_weights_are_those_of_the_client(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    deployed = deploy_package(package, cluster, pipeline="tiny", allow=yes)
    assert deployed.fresh and deployed.pipelines == ("tiny",)
    random = np.random.default_rng(5)
    blanks = [" ", "", "."]
    texts = [
        *TEXTS,
        *(
            random.choice(blanks).join(map(str, random.choice(tiny_models.vocabulary(), n)))
            for n in random.integers(1, 120, 200)
        ),
    ]
    got = MlCommons(cluster).encode(deployed.model_id, texts)
    assert got == expected_terms(package, tiny / "router", texts)


def test_plain_text_finds_what_was_ingested(cluster: ClusterEngine, tiny: Path) -> None:
    """export, deploy, list, undeploy as a user types them; hits and scores are the client's."""
    fill(cluster, tiny / "bert")
    out = str(tiny.parent / f"package-{uuid.uuid4().hex}")
    place = ["--url", cluster.url]
    done = run("export", str(tiny / "bert"), "--to", "opensearch-tokenizer", "--out", out,
               "--index", "docs", "--name", "own", *place)  # fmt: skip
    assert done.exit_code == 0 and "IDF of the index docs (80 documents)" in done.stderr
    refused = run("deploy", out, *place, input="n\n")
    assert ONLY_ML_NODES in refused.stderr and isinstance(refused.exception, DeploymentError)
    assert not left_behind(cluster)
    done = run("deploy", out, *place, "--index", "docs", "--yes")
    assert done.exit_code == 0, done.output
    model_id = done.stdout.strip()
    client = SearchClient(engine=cluster, index="docs")
    for text in ("the search engine", "cat. dog", "red sun and green moon in a river"):
        expected = [
            (hit.id, pytest.approx(hit.score, rel=1e-5))
            for hit in client.search(text, 80, mode="idf")
        ]
        assert expected and sorted(search(cluster, text)) == sorted(expected)
        assert sorted(search(cluster, text, model_id=model_id)) == sorted(expected)
    settings = MlCommons(cluster).setting(LOCAL_FILES)
    assert settings == ("false", None, "persistent")  # set back
    [listed] = json.loads(run("list", *place, "--json").stdout)
    assert (listed["name"], listed["model_id"], listed["pipelines"]) == ("own", model_id, ["own"])
    assert listed["facts"]["documents"] == "80"
    assert "own" in run("list", *place).stdout
    used = run("undeploy", "own", *place, "--yes")
    assert isinstance(used.exception, DeploymentError) and "docs" in str(used.exception)
    done = run("undeploy", "own", *place, "--yes", "--force")
    assert done.exit_code == 0 and "default search pipeline of docs" in done.stderr
    assert "No query encoder" in run("list", *place).stderr
    assert left_behind(cluster) == [ONLY_ML_NODES]


def run(*arguments: str, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(arguments), input=input)


def test_text_queries_name_their_pipeline(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    fill(cluster, tiny / "router")
    with pytest.raises(DeploymentError, match="No query encoder is deployed") as caught:
        cluster.query_pipeline("docs")
    assert "--index docs" in str(caught.value)
    deployed = deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    found = cluster.query_pipeline("docs")
    assert found == QueryPipeline("tiny", deployed.model_id, package.manifest.content_hash)
    query = TextQuery("the cat and the search engine", "tiny")
    request = SearchRequest(query, 80, source=())
    hits = [(hit.id, hit.score) for hit in cluster.search("docs", request).hits]
    assert hits and sorted(hits) == sorted(search(cluster, query.text))
    only = SearchRequest(query, 80, filter=[{"ids": {"values": [hits[3][0]]}}])
    [hit] = cluster.search("docs", only).hits
    assert (hit.id, hit.score) == hits[3] and hit.source["text"]
    [first, second] = cluster.search_many("docs", [request, only])
    assert isinstance(first, SearchResponse) and isinstance(second, SearchResponse)
    assert [h.id for h in first.hits] == [i for i, _ in hits] and len(second.hits) == 1
    SearchPipelines(cluster).put("tiny", {"request_processors": []})
    with pytest.raises(DeploymentError, match="names no model for the field splade"):
        cluster.query_pipeline("docs")


def test_mode_engine(cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path) -> None:
    """Hits, scores, filters and pages are those of mode idf with the same table."""
    fill(cluster, tiny / "router")
    client = SearchClient(engine=cluster, index="docs", idf="model")
    with pytest.raises(DeploymentError, match="splade-os deploy PACKAGE --index docs"):
        client.search("cat", mode="engine")
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    for text in ("the search engine", "cat. dog", " ".join(WORDS)):
        expected = client.search(text, 80, mode="idf")
        found = client.search(text, 80, "engine")
        assert len(found) and same(found, expected)
        assert "search pipeline tiny" in found.weights_from and not found.query
    wanted = {"ids": {"values": [hit.id for hit in expected][::3]}}
    found = client.search(text, 5, "engine", filter=wanted, offset=2, total=True)
    assert same(found, client.search(text, 5, filter=wanted, offset=2, mode="idf"))
    assert found.total == len(wanted["ids"]["values"])
    pages = list(client.scan(text, mode="engine"))
    assert {hit.id for hit in pages} == {hit.id for hit in client.search(text, 80, mode="idf")}
    both = client.search_many(["cat", " ", "dog"], 80, "engine")
    assert (
        same(both[0], client.search("cat", 80, mode="idf"))
        and both[1].reason == "The query is empty."
    )
    [body] = client.build("cat", mode="engine")
    assert json.loads(body)["search_pipeline"] == "tiny"
    done = run("search", "cat", "--mode", "engine", "--index", "docs", "--url", cluster.url,
               "--json")  # fmt: skip
    assert [h["id"] for h in json.loads(done.stdout)["hits"]] == [
        h.id for h in client.search("cat", 10, mode="idf")
    ]
    for options in ({"explain": True}, {"query_pruning": EXACT}):
        with pytest.raises(SettingsError, match="the cluster alone"):
            client.search("cat", mode="engine", **options)


def test_bodies_that_a_person_can_send(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    """What `mappings` holds, by hand: pipeline and index template, then plain text."""
    deployed = deploy_package(package, cluster, allow=yes)
    template = mappings.load("opensearch", "index_template")
    mapping = mappings.load("opensearch", "rank_features")
    assert template["template"]["mappings"] == mapping["mappings"]
    [weights] = expected_terms(package, tiny / "router", ["a cat"])
    try:
        cluster.request("PUT", "/_index_template/splade", template)
        for name in ("search_pipeline", "search_pipeline_two_phase"):
            body = json.dumps(mappings.load("opensearch", name))
            body = body.replace("MODEL_ID", deployed.model_id)
            cluster.request("PUT", "/_search/pipeline/splade-os", json.loads(body))
            document = {"text": "any", "splade_os_vector": {"cat": 1.5, "dog": 2}}
            path = "/splade-docs-1/_doc/1"
            cluster.request("PUT", path, document, params={"refresh": "true"})
            [(_, score)] = search(cluster, "a cat", "splade-docs-1")
            assert score / 1.5 == weights["cat"]
    finally:
        cluster.request("DELETE", "/_index_template/splade")


def test_alias_keeps_its_query_encoder(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    """Swapped to a new index of the same model; one of another model is told of."""
    fill(cluster, tiny / "router", index="a-1")
    cluster.point_alias("a", "a-1")
    deploy_package(package, cluster, pipeline="tiny", indices=["a"], allow=yes)
    fill(cluster, tiny / "router", index="a-2", count=40)
    swap(cluster, "a", "a-2", keep=1)
    client = SearchClient(engine=cluster, index="a")
    assert 0 < len(client.search(" ".join(WORDS), 80, "engine")) <= 40
    fill(cluster, tiny / "bert", index="a-3", count=5)
    with pytest.warns(SpladeWarning, match="deploy PACKAGE --index a-3"):
        swap(cluster, "a", "a-3", keep=1)


def test_features_that_are_token_ids(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    """On a SEISMIC field OpenSearch asks the same tokenizer for ids instead of names."""
    fill(cluster, tiny / "router", field_type="sparse_vector")
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    client = SearchClient(engine=cluster, index="docs", idf="model")
    for text in ("the search engine", "cat. dog", " ".join(WORDS)):
        expected = client.search(text, 80, mode="idf")
        assert len(expected) and same(client.search(text, 80, "engine"), expected)


def test_mode_engine_from_asyncio(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    fill(cluster, tiny / "router")
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)

    async def ask() -> Results:
        async with AsyncSearchClient(cluster.url, "docs") as client:
            return await client.search("the search engine", 80, "engine")

    client = SearchClient(engine=cluster, index="docs", idf="model")
    assert same(asyncio.run(ask()), client.search("the search engine", 80, mode="idf"))


def same(one: Results, two: Results) -> bool:
    scores = {hit.id: pytest.approx(hit.score, rel=1e-5) for hit in two}
    return {hit.id: hit.score for hit in one} == scores


def test_mode_engine_knows_whose_model_it_is(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    """A pipeline that somebody pointed at another model is refused, and a switch is noticed."""
    fill(cluster, tiny / "bert", index="others")
    deployed = deploy_package(package, cluster, pipeline="tiny", allow=yes)
    pipelines = SearchPipelines(cluster)
    pipelines.set_default("others", "tiny")
    client = SearchClient(engine=cluster, index="others")
    with pytest.raises(ModelMismatchError, match="did not deploy for such an index"):
        client.search("cat", mode="engine")
    client = SearchClient(engine=cluster, index="others", check_model=False)
    assert len(client.search(" ".join(WORDS), 80, "engine"))
    pipelines.put("renamed", new_pipeline("splade", deployed.model_id))
    pipelines.set_default("others", "renamed")
    pipelines.delete("tiny")
    with pytest.raises(EngineError, match="tiny is not defined"):
        client.search("cat", mode="engine")
    assert len(client.search(" ".join(WORDS), 80, "engine"))


def test_queries_without_a_term_find_nothing(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    fill(cluster, tiny / "router", count=5)
    deploy_package(other_table(tiny, tmp_path / "o"), cluster, pipeline="t", indices=["docs"],
                   allow=yes)  # fmt: skip
    client = SearchClient(engine=cluster, index="docs")
    assert not len(client.search("日本 ☃", mode="engine"))
    assert search(cluster, "日本 ☃") == [] and search(cluster, "cat dog sun moon red fast slow")


def test_redeployment_takes_effect_and_loses_no_query(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    fill(cluster, tiny / "router")
    first = deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    second = other_table(tiny, tmp_path / "second")
    text = "the search engine finds a cat"
    before = dict(search(cluster, text))
    stop, answers, failures = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(dict(search(cluster, text)))
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        deployed = deploy_package(second, cluster, pipeline="tiny", replace=True, allow=yes)
        after = dict(search(cluster, text))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures and len(answers) > 100
    assert deployed.version == first.version + 1 and not deployed.older
    assert after != before
    assert all(answer in (before, after) for answer in answers)
    assert answers[0] == before and answers[-1] == after
    again = deploy_package(second, cluster, pipeline="tiny", indices=["docs"])
    assert not again.fresh and again.model_id == deployed.model_id


def test_older_version_is_kept_until_told(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    fill(cluster, tiny / "router")
    first = deploy_package(package, cluster, pipeline="tiny", allow=yes)
    second = deploy_package(other_table(tiny, tmp_path / "o"), cluster, pipeline="tiny", allow=yes)
    assert second.older == (first.model_id,)
    assert search(cluster, " ".join(WORDS), model_id=first.model_id)
    with pytest.raises(DeploymentError, match="named by the search pipeline tiny"):
        undeploy_encoder(cluster, second.model_id)
    assert undeploy_encoder(cluster, first.model_id)
    [left] = deployed_encoders(cluster)
    assert left.model_id == second.model_id and not left.older
    with pytest.raises(DeploymentError, match="There is no query encoder"):
        undeploy_encoder(cluster, first.model_id)


def test_two_phases(cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path) -> None:
    """The heavy terms decide what is found, all of them how it is scored."""
    fill(cluster, tiny / "router")
    text = " ".join(WORDS)
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    exact = dict(search(cluster, text))
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], two_phase=True)
    processors = SearchPipelines(cluster).all()["tiny"]["request_processors"]
    assert "neural_sparse_two_phase_processor" in processors[1]
    found = search(cluster, text)
    assert found
    for identifier, score in found:
        assert score == pytest.approx(exact[identifier], rel=1e-5)


def test_pipelines_of_others_are_kept(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    fill(cluster, tiny / "router", count=5)
    pipelines = SearchPipelines(cluster)
    filtered = {"filter_query": {"query": {"match_all": {}}}}
    pipelines.put("theirs", {"request_processors": [filtered]})
    pipelines.set_default("docs", "theirs")
    with pytest.raises(DeploymentError, match="default search pipeline theirs") as caught:
        deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    assert "--pipeline theirs" in str(caught.value) and left_behind(cluster) == ["theirs"]
    deploy_package(package, cluster, pipeline="theirs", indices=["docs"], allow=yes)
    assert filtered in pipelines.all()["theirs"]["request_processors"]
    changed = deploy_package(other_table(tiny, tmp_path / "o"), cluster, allow=yes)
    body = pipelines.all()["theirs"]
    assert filtered in body["request_processors"] and changed.model_id in json.dumps(body)
    undeploy_encoder(cluster, "tiny", force=True)
    assert "theirs" in pipelines.all()


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("plugins.ml_commons.jvm_heap_memory_threshold", "1", "Memory Circuit Breaker"),
        ("plugins.ml_commons.disk_free_space_threshold", "900000gb", "Disk Circuit Breaker"),
        ("plugins.ml_commons.max_model_on_node", "0", "max local model per node"),
    ],
)
def test_breakers_leave_nothing(
    cluster: ClusterEngine, package: QueryEncoderPackage, setting: str, value: str, why: str
) -> None:
    cluster.request("PUT", "/_cluster/settings", {"persistent": {setting: value}})
    with pytest.raises(DeploymentError, match=why) as caught:
        deploy_package(package, cluster, pipeline="tiny", allow=yes)
    assert setting in str(caught.value) and "Nothing of it is left" in str(caught.value)
    assert not left_behind(cluster)


def test_wrong_hash_leaves_nothing(cluster: ClusterEngine, package: QueryEncoderPackage) -> None:
    other = package.manifest.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DeploymentError, match="model content changed"):
        deploy_package(QueryEncoderPackage(package.folder, other), cluster, allow=yes)
    assert not left_behind(cluster)


def test_wrong_answer_leaves_nothing(cluster: ClusterEngine, package: QueryEncoderPackage) -> None:
    probe = package.manifest.probe.model_copy(update={"terms": {"cat": 1.0}})
    other = package.manifest.model_copy(update={"probe": probe})
    with pytest.raises(DeploymentError, match=r"encodes .* differently"):
        deploy_package(QueryEncoderPackage(package.folder, other), cluster, allow=yes)
    assert not left_behind(cluster)


def test_interrupted_leaves_nothing(cluster: ClusterEngine, package: QueryEncoderPackage) -> None:
    def interrupt(step: str) -> None:
        if step.startswith("Testing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy_package(package, cluster, pipeline="tiny", allow=yes, report=interrupt)
    assert not left_behind(cluster)


def test_failed_redeployment_changes_nothing(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    fill(cluster, tiny / "router")
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    before = search(cluster, "the cat")
    second = other_table(tiny, tmp_path / "second")
    broken = second.manifest.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(DeploymentError):
        deploy_package(QueryEncoderPackage(second.folder, broken), cluster, pipeline="tiny",
                       allow=yes)  # fmt: skip
    assert search(cluster, "the cat") == before
    assert len(deployed_encoders(cluster)) == 1 and not deployed_encoders(cluster)[0].older


def test_name_of_another_models_encoder(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path, tmp_path: Path
) -> None:
    """A name stands for one model, as long as an index is searched by it."""
    fill(cluster, tiny / "router", count=5)
    deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    width = len(tiny_models.vocabulary())
    other = export_opensearch_tokenizer(
        str(tiny / "bert"),
        tmp_path / "other",
        name="tiny",
        statistics=TermStatistics(40, 400, np.arange(width) % 40),
    )
    with pytest.raises(ModelMismatchError, match="The index docs was encoded with"):
        deploy_package(other, cluster, pipeline="tiny", allow=yes)
    [left] = deployed_encoders(cluster)
    assert left.sha256 == package.manifest.sha256 and not left.older


def test_what_is_refused_before_anything_is_sent(
    cluster: ClusterEngine, package: QueryEncoderPackage, tiny: Path
) -> None:
    fill(cluster, tiny / "bert", count=5)
    with pytest.raises(ModelMismatchError, match="content hash"):
        deploy_package(package, cluster, pipeline="tiny", indices=["docs"], allow=yes)
    with pytest.raises(DeploymentError, match=f"{ONLY_ML_NODES}=false"):
        deploy_package(package, cluster)
    fill(cluster, tiny / "router", index="folded", count=5, fold_idf=True)
    with pytest.raises(ModelMismatchError, match="hold the IDF already"):
        deploy_package(package, cluster, pipeline="tiny", indices=["folded"], allow=yes)
    with pytest.raises(DeploymentError, match="SQLite encodes no queries"):
        connect(f"sqlite:///{tiny}/x.db").query_pipeline("docs")
    ml = MlCommons(cluster)
    group = ml.create_group("tiny", "of somebody else")
    with pytest.raises(DeploymentError, match="splade-os did not make"):
        deploy_package(package, cluster, allow=yes)
    with pytest.raises(DeploymentError, match="There is no query encoder"):
        undeploy_encoder(cluster, "tiny")
    assert [g.id for g in ml.groups()] == [group.id]


def test_cluster_without_the_plugins(opensearch_url: str, package: QueryEncoderPackage) -> None:
    done = run("deploy", str(package.folder), "--url", opensearch_url, "--yes")
    assert isinstance(done.exception, DeploymentError)
    assert "lacks the plugin" in str(done.exception) and "fold" in str(done.exception)
    done = run("deploy", str(package.folder), "--url", "sqlite:///x.db", "--yes")
    assert isinstance(done.exception, DeploymentError)
