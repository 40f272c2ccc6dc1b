"""The tables of docs/models.md against what `test_folders` runs and refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.encoding.test_folders import REFUSED, RUN

DOCS = Path(__file__).parents[2] / "docs" / "models.md"
_LINE = re.compile(r"^\| (?P<name>.+?) \|(?P<real>.*?)\|(?P<run>.*?)\|(?P<refused>.*)\|$", re.M)
_TEST = re.compile(r"`([^`]+)`")


def lines() -> dict[str, tuple[str, str, str]]:
    found = {}
    for line in _LINE.finditer(DOCS.read_text()):
        cells = (line["real"].strip(), line["run"].strip(), line["refused"].strip())
        if cells[1] != "by layout" and set(line["name"]) != {"-"}:
            assert line["name"] not in found
            found[line["name"]] = cells
    return found


@pytest.mark.parametrize("name", lines())
def test_every_line_is_tested(name: str) -> None:
    """By folders that run, or by folders that are refused, and then it says why."""
    real, run, refused = lines()[name]
    assert not real, "no test runs public weights"
    assert bool(run) != bool(refused)
    if run:
        tests = _TEST.findall(run)
        assert tests and set(tests) <= set(RUN)
    else:
        reason, _, tests_of = refused.rpartition(" (")
        tests = _TEST.findall(tests_of)
        assert reason and tests and set(tests) <= set(REFUSED)


def test_every_test_has_a_line() -> None:
    named = {test for cells in lines().values() for cell in cells for test in _TEST.findall(cell)}
    assert {*RUN, *REFUSED} <= named


def test_no_name_is_both() -> None:
    assert not set(RUN) & set(REFUSED)
    assert len(lines()) > 30
