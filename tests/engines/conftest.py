"""These tests run against SQLite, the newest server of each kind, and with
SPLADE_OS_TEST_MATRIX=1 against every server that can be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MATRIX, url_of

pytest.register_assert_rewrite("tests.engines.contract")


@pytest.fixture(params=["sqlite", *MATRIX])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each engine in turn."""
    return url_of(request.param, request, tmp_path)
