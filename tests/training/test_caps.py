"""Caps per source and per template of questions: the first rows of each, in their order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splade_os.errors import InputError, SettingsError
from splade_os.training.data import load_rows
from splade_os.training.recipe import DataPart

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["What is the outlook for", "who was", "What is the"]),
        st.sampled_from(["a", "b", "c d"]),
        st.sampled_from(["medquad", "tldr"]),
    ),
    min_size=1,
    max_size=30,
)


def written(folder: Path, rows: list[tuple[str, str, str]]) -> str:
    file = folder / "rows.jsonl"
    file.write_bytes(
        b"\n".join(
            orjson.dumps({"query": f"{start} {end}", "positive": str(i), "source": source})
            for i, (start, end, source) in enumerate(rows)
        )
    )
    return str(file)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, source=st.integers(1, 6), template=st.integers(1, 4))
def test_caps(rows: list[tuple[str, str, str]], source: int, template: int, tmp_path: Path) -> None:
    part = DataPart(
        train=written(tmp_path, rows), shuffle_seed=None, held_out=0,
        most_per={"source": source}, most_per_template=template,
    )  # fmt: skip
    found, _ = load_rows(part)
    sources: Counter[str] = Counter()
    templates: Counter[str] = Counter()
    expected = []
    for start, end, name in rows:
        sources[name] += 1
        if sources[name] > source:
            continue
        words = " ".join(f"{start} {end}".lower().split()[:4])
        templates[words] += 1
        if templates[words] <= template:
            expected.append(f"{start} {end}")
    assert [found[i].query for i in range(len(found))] == expected


def test_wrong_caps(tmp_path: Path) -> None:
    file = written(tmp_path, [("who was", "a", "x")])
    with pytest.raises(InputError, match="no column colour"):
        load_rows(DataPart(train=file, held_out=0, most_per={"colour": 3}))
    with pytest.raises(SettingsError, match="the queries are ids"):
        load_rows(DataPart(train=file, held_out=0, queries=file, most_per_template=3))
