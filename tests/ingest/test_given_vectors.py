"""A weight is a finite number; anything else is named, and costs its own document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splade_os.errors import InputError
from splade_os.ingest.documents.given_vectors import vector_of, vectors_of
from splade_os.ingest.documents.records import Record, RecordReader
from splade_os.ingest.sources import find_source, read_source

IDS = {"cat": 3, "dog": 1, "sun": 2}
BAD: list[tuple[Any, str]] = [
    ([1], "no number"),
    ([1.0, 2.0], "no number"),
    ({"a": 1}, "no number"),
    ("1.5", "no number"),
    ("x", "no number"),
    (None, "no number"),
    (True, "no number"),
    (False, "no number"),
    (10**400, "400 digits"),
    (-(10**400), "digits"),
    (float("nan"), "finite"),
    (float("inf"), "finite"),
    (1e39, "finite"),
    (-1, "negative"),
    (-1e-30, "negative"),
]


@pytest.mark.parametrize(("weight", "words"), BAD, ids=[f"{i}" for i in range(len(BAD))])
@pytest.mark.parametrize("others", [{}, {"sun": 2.5}, {"sun": 1, "dog": 1.0}])
def test_weights_that_are_none(weight: Any, words: str, others: dict[str, Any]) -> None:
    vector = {**others, "cat": weight}
    with pytest.raises(InputError, match=words) as caught:
        vector_of(vector, IDS)
    assert "'cat'" in caught.value.message and len(caught.value.message) < 200
    with pytest.raises((InputError, TypeError, ValueError)):
        vectors_of([{"sun": 1.0}, vector, {"dog": 2}], IDS)


@pytest.mark.parametrize(
    "vector",
    [
        {},
        {"cat": 1, "dog": 2.5, "sun": 0.5},
        {"cat": 0, "dog": 0.0, "sun": -0.0},
        {"cat": 1e-50, "dog": 3},
        {"cat": 3.4e38, "sun": 2**70},
        {"cat": np.float32(1.5), "dog": np.int64(3)},
    ],
)
def test_weights(vector: dict[str, Any]) -> None:
    ids, values = vector_of(vector, IDS)
    expected = sorted((IDS[t], np.float32(w)) for t, w in vector.items() if np.float32(w) > 0)
    assert list(zip(ids.tolist(), values, strict=True)) == expected
    assert ids.dtype == np.int32 and values.dtype == np.float32


def test_a_term_that_the_vocabulary_lacks() -> None:
    with pytest.raises(InputError, match="'moon'"):
        vector_of({"cat": 1.0, "moon": 2.0}, IDS)


def test_numbers_that_json_lines_do_not_have(tmp_path: Path) -> None:
    file = tmp_path / "vectors.jsonl"
    weights = ["1", "NaN", "1" * 400, "1e400", "2.5"]
    file.write_text(
        "".join(f'{{"id":"{i}","vector":{{"cat":{w}}}}}\n' for i, w in enumerate(weights))
    )
    found = list(read_source(find_source(str(file)), RecordReader(vectors=True)))
    assert [r.id for r in found if isinstance(r, Record)] == ["0", "4"] and len(found) == 5


def test_ids_that_end_with_nul(tmp_path: Path, tiny: Path) -> None:
    from splade_os.encoding import DocumentEncoder
    from splade_os.ingest.documents.vector_files import write_npz

    names = ["a", "b\0", "\0\0", "Ünï\0c"]
    records = [Record(i, "x", name, "cat", {}) for i, name in enumerate(names, 1)]
    encoder = DocumentEncoder.load(str(tiny / "router"))
    write_npz(tmp_path / "v.npz", records, encoder, lambda where, reason: None)
    found = np.load(tmp_path / "v.npz")
    pairs = zip(found["ids"], found["id_lengths"].tolist(), strict=True)
    assert [str(name).ljust(length, "\0") for name, length in pairs] == names
