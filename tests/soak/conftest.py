"""Random operations for `SPLADE_OS_SOAK_SECONDS` on each engine: seconds by default, long by
`make soak`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import NEWEST, url_of


@pytest.fixture(params=["sqlite", *NEWEST])
def engine_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request.param, request, tmp_path)


@pytest.fixture
def rounds() -> Iterator[int]:
    """Numbers of operations, until the time is over."""
    end = time.monotonic() + float(os.environ.get("SPLADE_OS_SOAK_SECONDS", "5"))

    def numbers() -> Iterator[int]:
        number = 0
        while time.monotonic() < end:
            yield number
            number += 1

    return numbers()


@pytest.fixture
def seed() -> int:
    """Of all that is random: ``SPLADE_OS_SOAK_SEED``, or another one each time; printed."""
    chosen = int(os.environ.get("SPLADE_OS_SOAK_SEED") or time.time_ns() % 2**32)
    print(f"SPLADE_OS_SOAK_SEED={chosen}")
    return chosen
