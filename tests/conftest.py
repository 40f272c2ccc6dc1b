"""Fixtures: real nodes, engines, tiny models."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one fails no test
hypothesis.settings.load_profile("any machine")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may need the hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for name in [name for name in os.environ if name.startswith("SPLADE_OS_")]:
    if name != "SPLADE_OS_CACHE" and not name.startswith(
        ("SPLADE_OS_TEST_", "SPLADE_OS_FUZZ", "SPLADE_OS_SOAK")
    ):
        del os.environ[name]  # a developer's own settings
_STATE = tempfile.TemporaryDirectory(prefix="splade-os-state-")
os.environ["SPLADE_OS_STATE"] = _STATE.name

from splade_os.engines import Engine, connect  # noqa: E402
from splade_os.engines.rest.cluster import ClusterEngine  # noqa: E402
from splade_os.errors import IndexNotFoundError  # noqa: E402
from splade_os.local import down, up  # noqa: E402
from splade_os.local.artifacts import find_release, missing_bytes  # noqa: E402
from splade_os.local.places import base_dir  # noqa: E402

NEWEST = ("opensearch-3.8.0", "elasticsearch-9.2.0")
OTHERS = ("opensearch-3.6.0", "opensearch-2.19.1", "elasticsearch-8.19.0", "elasticsearch-7.17.29")
MATRIX = NEWEST + (OTHERS if "SPLADE_OS_TEST_MATRIX" in os.environ else ())
"""Servers that the tests of engines and of search run against."""


# Files with few tests that take long: begun first, so that no process is left alone with them.
_LONG = ("gpu_benchmark", "faults", "distributed", "test_local", "serve", "test_resume", "memory")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(part in item.nodeid for part in _LONG))


class Nodes:
    """Real nodes, each started when it is first asked for."""

    def __init__(self) -> None:
        self._urls: dict[str, str] = {}
        self._names: list[str] = []

    def url(self, server: str) -> str:
        if server not in self._urls:
            engine, version = server.split("-")
            name = f"pytest-{os.getpid()}-{engine}-{version.replace('.', '-')}"
            self._names.append(name)
            # ML Commons refuses to work on a heap that is nearly full
            heap = "1g" if version == "3.6.0" else "640m"
            state = up(name=name, engine=engine, version=version, via="jvm", port=0, heap=heap)
            self._urls[server] = state.url
        return self._urls[server]

    def stop(self) -> None:
        for name in self._names:
            down(name, delete_data=True)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    running = Nodes()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def opensearch_url(nodes: Nodes) -> str:
    """A real node: SPLADE_OS_TEST_URL, or one of its own on a free port."""
    return os.environ.get("SPLADE_OS_TEST_URL") or nodes.url(NEWEST[0])


@pytest.fixture(scope="session")
def elasticsearch_url(nodes: Nodes) -> str:
    """A real node: SPLADE_OS_TEST_ELASTICSEARCH_URL, or one of its own on a free port."""
    return os.environ.get("SPLADE_OS_TEST_ELASTICSEARCH_URL") or nodes.url(NEWEST[1])


@pytest.fixture(scope="session")
def plugins_url(nodes: Nodes) -> str:
    """A real node with ML commons and neural-search: SPLADE_OS_TEST_PLUGINS_URL, or one of its
    own, where its artifacts are there already or SPLADE_OS_TEST_PLUGINS=1 allows the download."""
    given = os.environ.get("SPLADE_OS_TEST_PLUGINS_URL")
    if given:
        return given
    release = find_release("opensearch", flavor="plugins")
    missing = missing_bytes(release, base_dir() / "artifacts")
    if missing and "SPLADE_OS_TEST_PLUGINS" not in os.environ:
        pytest.skip(f"{missing / 1e6:.0f} MB of plugins to download: make test-plugins")
    return nodes.url(f"opensearch-{release.version}")


def url_of(server: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """The URL of ``sqlite``, in a folder, or of a server of `MATRIX`."""
    if server == "sqlite":
        return f"sqlite:///{folder}/engine.db"
    if server in NEWEST:
        return str(request.getfixturevalue(f"{server.split('-')[0]}_url"))
    return str(request.getfixturevalue("nodes").url(server))


@pytest.fixture(params=["sqlite", "opensearch"])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/engine.db"
    return str(request.getfixturevalue("opensearch_url"))


@pytest.fixture
def engine(engine_url: str) -> Iterator[Engine]:
    opened = connect(engine_url)
    yield opened
    opened.close()


@pytest.fixture(params=MATRIX)
def cluster_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ClusterEngine]:
    """An engine of every server that is tested, SQLite not among them."""
    opened = ClusterEngine(url_of(request.param, request, tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def index(engine: Engine) -> Iterator[str]:
    """A name that no other test has; what it stands for is removed."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    with contextlib.suppress(IndexNotFoundError):
        engine.delete_index(name)


def stems(engine: Engine) -> bool:
    """Whether BM25 finds "dog" in "dogs": servers without analysis-common compare whole words."""
    if not isinstance(engine, ClusterEngine):
        return True
    return "analysis-common" in (engine.capabilities().modules or ())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models: bert, distilbert, router, and their older layouts."""
    from tests import tiny_models as make

    root = tmp_path_factory.mktemp("tiny")
    make.plain("bert", root / "bert")
    make.plain("distilbert", root / "distilbert")
    make.router(root / "router")
    make.plain_50(root / "bert", root / "bert-50")
    make.plain_50(root / "distilbert", root / "distilbert-50")
    make.router_50(root / "router", root / "router-50")
    make.router_50(root / "router", root / "router-pre", prerelease=True)
    make.router_50(root / "router", root / "router-asym", prerelease=True, asym=True)
    make.idf_json(root / "router", root / "router-json")
    return root
