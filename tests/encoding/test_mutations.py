"""Whatever the JSON files of a model folder hold, no error but ours reaches a user."""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.errors import SpladeError
from tests import tiny_models
from tests.encoding import folders

VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 3, 10**30, 1e300, "", "x", "relu", "../..", "/etc", [], ["a"],
    [[1]], {}, {"a": 1}, {"text": None}, {"query": 3}, [None], "\ud7ff", "a/b",
]  # fmt: skip
KEYS = ["path", "type", "architectures", "prompts", "model_type", "weight_map", "text", "surprise"]
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")  # theirs are mutated where they are read


@pytest.fixture(scope="module")
def models(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("mutated")
    return {
        "bert": Path(shutil.copytree(tiny / "bert", root / "bert")),
        "router": Path(shutil.copytree(tiny / "router", root / "router")),
        "adapter": folders.adapter(tiny, root / "adapter"),
        "gte": folders.new_gte()(tiny, root / "gte"),
        "lengths": folders.bert(
            folders.SBERT,
            query_length=5,
            tokenizer_args={"model_max_length": 9},
            processing_kwargs={"text": {"max_length": 8}, "common": {}},
        )(tiny, root / "lengths"),
        "lexical": folders.lexical_of_its_own(tiny, root / "lexical"),
        "normalised": folders.normalised_router(tiny, root / "normalised"),
        "table": tiny_models.idf_json(tiny / "router", root / "table"),
    }


def places(content: Any) -> list[tuple[Any, ...]]:
    """The way to every value in a JSON document."""
    found: list[tuple[Any, ...]] = [()]
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            found += [(key, *rest) for rest in places(content[key])]
    return found


def put(content: Any, way: tuple[Any, ...], value: Any) -> Any:
    if not way:
        return value
    content[way[0]] = put(content[way[0]], way[1:], value)
    return content


@given(data=st.data())
@settings(
    max_examples=4000 if "SPLADE_OS_TEST_FULL" in os.environ else 120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_files_of_a_model(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: st.DataObject
) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(models[data.draw(st.sampled_from(sorted(models)))], folder)
    files = sorted(f for f in folder.rglob("*.json") if f.name not in _TOKENIZERS)
    file = data.draw(st.sampled_from(files))
    content = orjson.loads(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 2))):
        way = data.draw(st.sampled_from(places(content)))
        value = copy.deepcopy(data.draw(st.sampled_from(VALUES)))  # it is changed itself
        if data.draw(st.booleans()):
            value = {data.draw(st.sampled_from(KEYS)): value}
        content = put(content, way, value)
    text = json.dumps(content).encode()
    cut = data.draw(st.integers(0, len(text))) if data.draw(st.integers(0, 9)) == 0 else len(text)
    file.write_bytes(text[:cut])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for load in (
            lambda: DocumentEncoder.load(str(folder), device="cpu").encode(["a cat", ""]),
            lambda: load_query_encoder(str(folder), "idf").encode(["a cat"]),
            lambda: load_query_encoder(str(folder), "encoder").encode(["a cat"]),
        ):
            try:
                load()
            except SpladeError as error:
                assert str(error).strip()
