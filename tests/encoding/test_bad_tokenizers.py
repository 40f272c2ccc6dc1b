"""Tokenizer files that are damaged in any way: one of our errors, or a tokenizer that works."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer.check import check_tokenizer
from splade_os.encoding.tokenizer.load import changes_of
from splade_os.encoding.words import word_tokens
from splade_os.errors import ModelError, SpladeError
from tests.encoding.tiny_tokenizers import make
from tests.tiny_models import change

CONFIG = "tokenizer_config.json"
TEXTS = ["the river bank", "", "日本語 🙃 x[MASK]", "naïve " * 40, "a\x00b"]
JUNK = [
    None,
    True,
    0,
    -1,
    7,
    2**31,
    2**64,
    1e308,
    "",
    "the",
    "left",
    "BPE",
    "\x00",
    "[UNK]",
    [],
    [[]],
    ["a", 1],
    {},
    {"type": "Sequence"},
    {"type": "Replace", "pattern": {"Regex": "("}, "content": ""},
    {"": None},
]
CLASSES = ["BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer", "GemmaTokenizer"]


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("good")
    folders = {name: make(name, root / name) for name in CLASSES}
    for folder in folders.values():
        added = {"4": {"content": "<mask>", "lstrip": True, "special": True}}
        change(folder / CONFIG, added_tokens_decoder=added, strip_accents=None)
    return folders


def use(folder: Path) -> None:
    """All that is done with a tokenizer."""
    changes_of(folder)
    for length, special in ((12, True), (None, False)):
        tokenizer = TextTokenizer(folder, max_length=length, lowercase=True, special_tokens=special)
        tokenizer(TEXTS)
        tokenizer.vocabulary()
        tokenizer.special_affixes()
        tokenizer.to_json()
        words = word_tokens(tokenizer)
        if words is not None:
            words.of(TEXTS[0])
    check_tokenizer(folder)


def places(content: Any) -> list[list[Any]]:
    """The way to every value; of long lists and objects to some."""
    found: list[list[Any]] = [[]]
    if isinstance(content, dict):
        inner: list[Any] = list(content)[:12] + list(content)[-2:]
    elif isinstance(content, list):
        inner = [*range(min(3, len(content)))]
    else:
        return found
    for key in inner:
        found += [[key, *rest] for rest in places(content[key])]
    return found


def mutate(content: Any, where: list[Any], junk: Any, delete: bool) -> Any:
    if not where:
        return deepcopy(junk)
    inner = content
    for key in where[:-1]:
        inner = inner[key]
    if delete:
        del inner[where[-1]]
    else:
        inner[where[-1]] = deepcopy(junk)
    return content


@pytest.mark.parametrize("file", ["tokenizer.json", CONFIG])
@pytest.mark.parametrize("name", CLASSES)
@settings(
    max_examples=600 if "SPLADE_OS_TEST_FULL" in os.environ else 60,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_mutated(
    good: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, name: str, file: str, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("mutated") / "model"
    shutil.copytree(good[name], folder)
    content = json.loads((folder / file).read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        if not isinstance(content, dict | list):
            break
        where = data.draw(st.sampled_from(places(content)))
        content = mutate(content, where, data.draw(st.sampled_from(JUNK)), data.draw(st.booleans()))
    text = json.dumps(content)
    if data.draw(st.integers(0, 9)) == 0:
        text = text[: data.draw(st.integers(0, len(text)))]
    (folder / file).write_text(text)
    try:
        use(folder)
    except SpladeError as error:
        assert str(error).strip()
    finally:
        shutil.rmtree(folder.parent)


@pytest.mark.parametrize("content", ["[]", "3", '"x"', "null", "{", "", "[1, 2", "\x00\x01"])
@pytest.mark.parametrize(
    "file",
    ["tokenizer.json", CONFIG, "special_tokens_map.json", "added_tokens.json", "config.json"],
)
def test_no_object(good: dict[str, Path], tmp_path: Path, file: str, content: str) -> None:
    folder = Path(shutil.copytree(good["BertTokenizer"], tmp_path / "model"))
    change(folder / CONFIG, added_tokens_decoder=None)
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        use(folder)


@pytest.mark.parametrize("file", ["vocab.txt", "vocab.json", "merges.txt"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"[]", b"one\ntwo\n", None])
def test_damaged_vocabulary(
    good: dict[str, Path], tmp_path: Path, file: str, content: bytes | None
) -> None:
    name = "BertTokenizer" if file == "vocab.txt" else "RobertaTokenizer"
    folder = Path(shutil.copytree(good[name], tmp_path / "model"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    if file != "vocab.txt":
        (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
        lines = [" ".join(pair) for pair in model["merges"]]
        (folder / "merges.txt").write_text("\n".join(lines))
    if content is None:
        (folder / file).unlink(missing_ok=True)
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(SpladeError, match=str(folder)):
        use(folder)
        if file == "merges.txt":  # no merges: every character alone
            raise ModelError(str(folder))
