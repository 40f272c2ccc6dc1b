"""These tests run against SQLite, the newest server of each kind, and with
SPLADE_OS_TEST_MATRIX=1 against every server that can be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MATRIX, NEWEST, Nodes


@pytest.fixture(params=["sqlite", *MATRIX])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path, nodes: Nodes) -> str:
    """The URL of each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/engine.db"
    if request.param in NEWEST:
        return str(request.getfixturevalue(f"{request.param.split('-')[0]}_url"))
    return nodes.url(request.param)
