"""Every file of a model folder lost, emptied, cut, or a pointer: said in one sentence, or the same.

No vector may change in silence: either the error names the file (or the folder, where nothing says
that the file should be there) and says what to type, or documents and queries are what they were.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from splade_os.encoding import read_layout
from splade_os.errors import ModelError, SpladeError, SpladeWarning
from tests.encoding import folders
from tests.encoding.folders import Maker
from tests.encoding.test_folders import sides
from tests.encoding.test_slow_tokenizers import MECAB, japanese_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "pointer": lambda file: file.write_bytes(POINTER),
    "page": lambda file: file.write_bytes(b"<!doctype html><html>Sign in</html>\n"),
    "null": lambda file: file.write_bytes(b"null"),
}
MODELS: dict[str, Maker] = {
    "symmetric": lambda tiny, folder: folders.copy(tiny, "bert", folder),
    "inference-free": lambda tiny, folder: folders.copy(tiny, "router", folder),
    "idf.json": lambda tiny, folder: folders.copy(tiny, "router-json", folder),
    "checkpoint": folders.checkpoint_with_table,
    "shards": folders.sharded,
    "pickle": folders.pickled,
    "adapter": folders.adapter,
    "vocabulary": folders.vocabulary_alone,
    "lexical": folders.lexical_of_its_own,
    "normalised": folders.normalised,
    "MeCab": lambda tiny, folder: japanese_model(folder, **MECAB["word"]),
}
# without its table it is a whole symmetric model
_ANOTHER = {"checkpoint": "idf.json missing"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLADE_OS_CACHE", str(tmp_path / "cache"))


def run(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """Documents and queries, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", SpladeWarning)
        return sides(folder), " ".join(str(warning.message) for warning in said)


@pytest.mark.parametrize("model", MODELS)
def test_every_file(tiny: Path, tmp_path: Path, model: str) -> None:
    whole = MODELS[model](tiny, tmp_path / "whole")
    expected, _ = run(whole)
    files = sorted(f.relative_to(whole) for f in whole.rglob("*") if f.is_file())
    faults = []
    for file in files:
        for damage, do in DAMAGES.items():
            folder = tmp_path / "half"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            do(folder / file)
            where = f"{file} {damage}"
            try:
                found, said = run(folder)
            except SpladeError as error:
                # transformers reads that of a slow tokenizer, and names no file
                slow = model == "MeCab" and file.name == "vocab.txt"
                named = str(folder if damage == "missing" or slow else folder / file)
                if named not in str(error) or not error.hint:
                    faults.append(f"{where}: {error}")
            else:
                if str(folder / file) in said or where == _ANOTHER.get(model):
                    continue
                if max(np.abs(m - o).max() for m, o in zip(found, expected, strict=True)) > 1e-5:
                    faults.append(f"{where}: other vectors, and nothing is said")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("place", [".", ".cache/huggingface/download"])
def test_a_download_that_did_not_end(tiny: Path, tmp_path: Path, place: str) -> None:
    folder = folders.copy(tiny, "bert", tmp_path / "model")
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").rename(folder / place / "Zs8=.4d7a.incomplete")
    with pytest.raises(ModelError, match=r"did not end.*Zs8=\.4d7a\.incomplete.*\n.*hf download"):
        run(folder)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no modules\.json and no config\.json") as refused:
        read_layout(tmp_path)
    assert refused.value.hint
