"""Token ids are those of transformers' AutoTokenizer, whatever the files of a folder say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from splade_os.encoding.tokenization import TextTokenizer
from splade_os.encoding.tokenizer import check
from splade_os.encoding.tokenizer.check import PROBES, check_tokenizer
from splade_os.encoding.tokenizer.files import TokenizerFiles
from splade_os.encoding.tokenizer.load import changes_of
from splade_os.errors import ModelError
from tests.encoding.tiny_tokenizers import CLASSES, make, merges, vocabulary
from tests.tiny_models import change

CONFIG = "tokenizer_config.json"
# changes of tokenizer_config.json that give other ids in some class
CASES: list[dict[str, Any]] = [
    {"do_lower_case": True, "keep_accents": True},
    {"do_lower_case": False, "keep_accents": False},
    {"strip_accents": True},
    {"strip_accents": False},
    {"tokenize_chinese_chars": False, "split_by_punct": True, "unk_id": 3},
    {"add_prefix_space": True},
    {"add_prefix_space": False},
    {"truncation_side": "left"},
    {"split_special_tokens": True},
    {"mask_token": "<the mask>", "image_token": "town"},
    {"mask_token": {"__type": "AddedToken", "content": "x", "lstrip": True}},
    {"cls_token": "x", "additional_special_tokens": ["river bank"]},
    {"unk_token": "x", "extra_special_tokens": ["bank", "<new>"]},
    {"extra_special_tokens": {"image_token": "river"}},
    {"added_tokens_decoder": {}},
    {
        "added_tokens_decoder": {
            "5": {"content": "river", "lstrip": True},
            "900": {"content": "Old Town"},
        }
    },
    {"tokenizer_class": "PreTrainedTokenizerFast"},
    {"tokenizer_class": None},
    {
        "trim_offsets": False,
        "clean_up_tokenization_spaces": True,
        "add_bos_token": True,
        "add_eos_token": False,
        "padding_side": "left",
        "legacy": True,
        "model_max_length": 17,
    },
]
ALIKE = ("DistilBertTokenizer", "ElectraTokenizer", "LongformerTokenizer")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {name: make(name, root / name) for name in CLASSES}


def ours(folder: Path, texts: list[str], length: int | None, special: bool) -> list[list[int]]:
    tokenizer = TextTokenizer(folder, max_length=length, lowercase=False, special_tokens=special)
    return [row.tolist() for row in tokenizer(texts)]


def theirs(tokenizer: Any, texts: list[str], length: int | None, special: bool) -> list[list[int]]:
    ids = tokenizer(
        texts, truncation=length is not None, max_length=length, add_special_tokens=special
    )["input_ids"]
    if not special:  # queries by table: padding counts for nothing
        ids = [[i for i in row if i != tokenizer.pad_token_id] for row in ids]
    return list(ids)


def assert_same(folder: Path, texts: Sequence[str] = PROBES) -> list[list[int]]:
    oracle = AutoTokenizer.from_pretrained(folder)
    for length, special in ((24, False), (None, True), (24, True)):
        ids = theirs(oracle, list(texts), length, special)
        assert ours(folder, list(texts), length, special) == ids
    check_tokenizer(folder)
    return ids


@pytest.mark.parametrize("name", CLASSES)
def test_as_saved(folders: dict[str, Path], name: str) -> None:
    """Consistent files: same ids, and nothing is added to the hash that an index recorded."""
    assert_same(folders[name])
    if name != "RemBertTokenizer":  # saved without its special tokens, loaded with them
        assert changes_of(folders[name]) == b""


@pytest.mark.parametrize("changed", CASES, ids=lambda case: "-".join(case))
@pytest.mark.parametrize("name", [name for name in CLASSES if name not in ALIKE])
def test_configuration_wins(
    folders: dict[str, Path], tmp_path: Path, name: str, changed: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "model"))
    change(folder / CONFIG, **changed)
    ids, before = assert_same(folder), assert_same(folders[name])
    ties = PROBES.index("x" * 130)  # of two ways to cut it that weigh the same, any may win
    if ids[:ties] != before[:ties]:
        assert changes_of(folder) != changes_of(folders[name]), "nobody would notice other ids"


@pytest.mark.parametrize("name", ["BertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer"])
@settings(max_examples=60)
@given(texts=st.lists(st.text(max_size=60), max_size=4))
def test_any_text(folders: dict[str, Path], name: str, texts: list[str]) -> None:
    given = [*texts, "x"]  # transformers takes no empty list
    assert ours(folders[name], given, 24, True) == theirs(_oracle(folders[name]), given, 24, True)


@cache
def _oracle(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("name", ["BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer"])
@pytest.mark.parametrize("changed", [{}, *CASES[:4], {"truncation_side": "left"}], ids=str)
def test_vocabulary_of_words_alone(
    folders: dict[str, Path], tmp_path: Path, name: str, changed: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    tokens = sorted(vocabulary(name).items(), key=lambda entry: entry[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in tokens))
    change(folder / CONFIG, **changed)
    assert_same(folder)


@pytest.mark.parametrize("name", ["RobertaTokenizer", "DebertaTokenizer", "GPT2Tokenizer"])
@pytest.mark.parametrize("changed", [{}, {"add_prefix_space": True}], ids=str)
def test_vocabulary_and_merges_alone(
    folders: dict[str, Path], tmp_path: Path, name: str, changed: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(folders[name], tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary(name)))
    lines = [f"{left} {right}\n" for left, right in merges(name)]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(lines))
    change(folder / CONFIG, **changed)
    assert_same(folder)
    assert content_hash_names(folder) == ["vocab.json", "merges.txt"]


def content_hash_names(folder: Path) -> list[str]:
    return [file.name for file in TokenizerFiles(folder).vocabulary]


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.txt"])
def test_unknown_class(folders: dict[str, Path], tmp_path: Path, files: str) -> None:
    folder = Path(shutil.copytree(folders["BertTokenizer"], tmp_path / "model"))
    if files == "vocab.txt":
        (folder / "tokenizer.json").unlink()
        (folder / files).write_text("\n".join(vocabulary("BertTokenizer")))
    change(folder / CONFIG, tokenizer_class="GrandTokenizerFast")
    with pytest.raises(ModelError, match="names the tokenizer class GrandTokenizer"):
        TextTokenizer(folder, max_length=9, lowercase=False, special_tokens=True)


def test_difference_refuses(folders: dict[str, Path], tmp_path: Path) -> None:
    """What nobody thought of is caught by the texts: here a file that changes after it was read."""
    folder = Path(shutil.copytree(folders["BertTokenizer"], tmp_path / "model"))
    theirs_of = check.make
    assert theirs_of
    with pytest.MonkeyPatch.context() as patch:
        other = folders["RobertaTokenizer"]
        patch.setattr(check, "make", lambda _files: theirs_of(TokenizerFiles(other)))
        with pytest.raises(ModelError, match=r"First difference: text 'The quick.*token 0") as told:
            check.check_tokenizer(folder)
    assert str(folder) in str(told.value)
