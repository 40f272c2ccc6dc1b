"""Busy nodes, lost answers, proxies: nothing is lost, nothing is written twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from splade_os.engines import Engine
from tests.conftest import NEWEST, Nodes
from tests.faults.loads import FULL, check_index, make_load
from tests.faults.proxy import Fate, FaultyProxy
from tests.faults.test_kill import engine  # noqa: F401

COUNT = 20_000 if FULL else 3_000


@pytest.fixture(params=NEWEST if FULL else NEWEST[:1])
def engine_url(request: pytest.FixtureRequest, nodes: Nodes) -> str:
    return nodes.url(request.param)


@pytest.mark.parametrize("fault", ["429", "503", "drop before", "drop after", "late"])
def test_faults(
    engine: Engine,  # noqa: F811
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
    fault: Fate,
) -> None:
    load = make_load(tiny / "router", tmp_path, COUNT)

    def fate(number: int, size: int) -> Fate:
        return fault if number % 4 == 1 and number < 20 else "pass"

    with FaultyProxy(engine_url, fate) as proxy:
        more = ["--max-bytes", "100000"]
        more += ["--timeout", "1"] if fault == "late" else []
        code, report, talk = load.run(proxy.url, index, *more)
    assert code == 0, talk
    assert fault in [seen for seen, _ in proxy.seen]
    assert (report["created"], report["updated"], report["dead"]) == (COUNT, 0, 0)
    assert report["duplicates"] == 0 and report["retries"] > 0
    check_index(engine, index, load)


def test_requests_that_are_too_large(
    engine: Engine,  # noqa: F811
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
) -> None:
    load = make_load(tiny / "router", tmp_path, COUNT)
    with FaultyProxy(engine_url, lambda n, size: "413" if size > 100_000 else "pass") as proxy:
        code, report, talk = load.run(proxy.url, index, "--max-bytes", "1000000")
    assert code == 0, talk
    assert report["created"] == COUNT and report["dead"] == 0
    taken = [size for seen, size in proxy.seen if seen == "pass"]
    refused = [size for seen, size in proxy.seen if seen == "413"]
    assert max(taken) <= 100_000 < min(refused)
    assert len(refused) < len(taken)
    check_index(engine, index, load)


def test_an_end_of_patience(
    engine: Engine,  # noqa: F811
    engine_url: str,
    index: str,
    tiny: Path,
    tmp_path: Path,
) -> None:
    load = make_load(tiny / "router", tmp_path, COUNT)
    broken = True

    def fate(number: int, size: int) -> Fate:
        return "503" if broken and number > 3 else "pass"

    with FaultyProxy(engine_url, fate) as proxy:
        more = ("--max-bytes", "100000", "--patience", "2")
        code, _, talk = load.run(proxy.url, index, *more)
        assert code == 1 and "has not taken a request for 2 s" in talk and "--resume" in talk
        broken = False
        code, report, talk = load.run(proxy.url, index, *more, "--resume")
    assert code == 0, talk
    assert report["created"] == COUNT
    check_index(engine, index, load)
