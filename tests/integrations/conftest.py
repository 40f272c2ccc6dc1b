"""These tests run against SQLite and the newest server of each kind. Those of a framework that is
not installed are skipped: ``make test-integrations`` installs all of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import NEWEST, url_of

ENGINES = ("sqlite", *NEWEST)


def framework(name: str) -> ModuleType:
    """The framework, or a skip of the whole file."""
    module: ModuleType = pytest.importorskip(
        name, reason=f"{name} is not installed: make test-integrations"
    )
    return module


@pytest.fixture(params=ENGINES)
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of each engine in turn."""
    return url_of(request.param, request, tmp_path)
