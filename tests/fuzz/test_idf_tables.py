"""IDF tables in each of their forms, damaged: what is read is what json, str.split and safetensors
read."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save

from splade_os.encoding.idf import IdfTable
from splade_os.errors import ModelError
from splade_os.vocabulary import Vocabulary
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import change, damage

TOKENS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "red",
    "sun",
    "\u6771",
    "##s",
    "a.b",
    "\x85",
    "\u2028",
]
VOCABULARY = Vocabulary(TOKENS, special_ids=frozenset(range(4)))
TABLE = {token: 0.5 + i for i, token in enumerate(TOKENS[4:])}
JSON = json.dumps(TABLE, ensure_ascii=False).encode()
LINES = "".join(f"{token}\t{weight}\n" for token, weight in TABLE.items()).encode()


def expected(table: dict[str, Any]) -> list[float]:
    return [float(np.float32(table.get(token, 0))) for token in TOKENS]


def test_json(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "idf.json"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = IdfTable.from_file(file, VOCABULARY)
        assert found.weights.tolist() == expected(json.loads(data))

    fuzz("IDF table (JSON)", lambda chance: damage(JSON, chance), load)


def test_values(fuzz: Fuzz) -> None:
    def load(table: Any) -> None:
        if isinstance(table, dict):
            found = IdfTable.from_tokens(table, VOCABULARY, "table")
            assert found.weights.tolist() == expected(table)

    fuzz("IDF table (values)", lambda chance: change(TABLE, chance), load)


def test_lines(tmp_path: Path, fuzz: Fuzz) -> None:
    file = tmp_path / "query_token_weights.txt"

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = IdfTable.from_file(file, VOCABULARY)
        lines = [line for line in data.decode().split("\n") if line.encode().strip()]
        pairs = [line.removesuffix("\r").rpartition("\t") for line in lines]
        assert found.weights.tolist() == expected({t: float(w) for t, _, w in pairs})

    fuzz("IDF table (lines)", lambda chance: damage(LINES, chance), load)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_safetensors(tmp_path: Path, fuzz: Fuzz, dtype: str) -> None:
    file = tmp_path / "model.safetensors"
    weights = torch.linspace(0, 8, len(TOKENS)).to(getattr(torch, dtype))
    packed = save({"weight": weights})

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = IdfTable.from_file(file, VOCABULARY)
        theirs = load_tensors(data)["weight"].reshape(-1).float()
        assert found.weights.tolist() == theirs.tolist()

    load(packed)
    fuzz(f"IDF table ({dtype})", lambda chance: damage(packed, chance), load)


@pytest.mark.parametrize("form", ["npy", "npz"])
def test_arrays(tmp_path: Path, fuzz: Fuzz, form: str) -> None:
    file = tmp_path / f"w.{form}"
    weights = np.linspace(0.5, 8, len(TOKENS), dtype=np.float32)
    packed = io.BytesIO()
    np.save(packed, weights) if form == "npy" else np.savez(packed, weights=weights)

    def load(data: bytes) -> None:
        file.write_bytes(data)
        found = IdfTable.from_file(file, VOCABULARY)
        theirs = np.load(io.BytesIO(data), allow_pickle=False)
        array = theirs[theirs.files[0]] if form == "npz" else theirs
        assert found.weights.tolist() == array.astype(np.float32).reshape(-1).tolist()

    load(packed.getvalue())
    fuzz(f"IDF table ({form})", lambda chance: damage(packed.getvalue(), chance), load)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("nosuch.txt", None, "nosuch.txt cannot be read: No such file"),
        ("folder.json", "folder", "folder.json cannot be read: Is a directory"),
        ("a.txt", b"red\t1\nsun\t\xe4\n", r"a\.txt:2 is not a token"),
        ("a.txt", b"red\t1\n\xe4\t1\n", r"a\.txt:2 is not UTF-8"),
        ("a.txt", b"red\tnan\n", "the weight of token 'red' is nan"),
        ("a.json", b'{"red": 1e300}', "the weight of token 'red' is 1e"),
        ("a.json", b'{"rot": 1, "blau": 2}', "none of its 2 tokens is one of the model's 11"),
        ("a.npz", b"PK\x03\x04", "cannot be read"),
        ("a.safetensors", save({"weight": torch.ones(20, dtype=torch.int8)}), "is of type I8"),
        ("a.safetensors", save({"other": torch.ones(20)}), "no tensor 'weight' but other"),
        ("a.safetensors", save({"weight": torch.ones(3)}), "3 weights for 11 tokens"),
    ],
)
def test_a_wrong_table(tmp_path: Path, name: str, data: bytes | str | None, message: str) -> None:
    file = tmp_path / name
    if data == "folder":
        file.mkdir()
    elif isinstance(data, bytes):
        file.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        IdfTable.from_file(file, VOCABULARY)


def test_the_same_weights_in_every_form(tmp_path: Path) -> None:
    """Random tables, as a fuzzed one is seldom whole."""
    chance = random.Random(1)
    for _ in range(20):
        table = {token: chance.choice((0, 1, chance.random() * 64)) for token in TOKENS}
        weights = torch.tensor(list(table.values()), dtype=torch.float32)
        for name, data in (
            ("a.json", json.dumps(table).encode()),
            ("a.txt", "".join(f"{t}\t{w!r}\r\n" for t, w in table.items()).encode()),
            ("a.safetensors", save({"weight": weights})),
        ):
            (tmp_path / name).write_bytes(data)
            found = IdfTable.from_file(tmp_path / name, VOCABULARY)
            np.testing.assert_array_equal(found.weights, weights.numpy())
