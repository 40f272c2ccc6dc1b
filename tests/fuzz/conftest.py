"""How long the loaders are tried, and the table of what came out.

``SPLADE_OS_FUZZ`` inputs of each kind (default 100), in at most ``SPLADE_OS_FUZZ_SECONDS`` a test
(default 2). The inputs of a number are always the same ones.
"""

from __future__ import annotations

import os
import random
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from splade_os.errors import SpladeError, SpladeWarning
from tests.fuzz.tally import Tally, tallies

INPUTS = int(os.environ.get("SPLADE_OS_FUZZ", "100"))
SECONDS = float(os.environ.get("SPLADE_OS_FUZZ_SECONDS", "2"))
_SHOWN = 5


Make = Callable[[random.Random], Any]
Fuzz = Callable[[str, Make, Callable[[Any], None]], None]


@pytest.fixture
def fuzz() -> Fuzz:
    """Try a loader: ``fuzz(name, make, load)``.

    ``make`` draws an input; ``load`` reads it and compares it with what an oracle reads. It may
    raise `SpladeError`, and nothing else.
    """

    def run(loader: str, make: Make, load: Callable[[Any], None]) -> None:
        tally = Tally(loader)
        tallies.append(tally)
        took = 0
        failures: dict[str, str] = {}
        end = time.monotonic() + SECONDS
        for number in range(INPUTS):
            if time.monotonic() > end:
                break
            value = make(random.Random(f"{loader} {number}"))
            tally.inputs += 1
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", SpladeWarning)
                    load(value)
                took += 1
            except SpladeError as error:
                assert error.message and "\n" not in error.message.strip(), error.message
            except Exception as error:  # whatever it is, it is counted and shown
                tally.uncaught += 1
                *_, frame = traceback.extract_tb(error.__traceback__)
                place = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
                failures.setdefault(place, f"input {number}: {error!s:.300}\n{value!r:.1000}")
        tally.read = took
        shown = "\n\n".join(f"{k}, {v}" for k, v in list(failures.items())[:_SHOWN])
        assert not failures, f"{tally.uncaught} of {tally.inputs} inputs of {loader}:\n{shown}"

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not tallies:
        return
    terminalreporter.write_line("")
    terminalreporter.write_line(f"{'loader':<34}{'inputs':>9}{'read':>9}{'uncaught':>10}")
    for tally in tallies:
        read = "" if tally.read is None else f"{tally.read:,}"
        terminalreporter.write_line(
            f"{tally.loader:<34}{tally.inputs:>9,}{read:>9}{tally.uncaught:>10,}"
        )
