"""One table in every form that it may have, and what is none."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from splade_os.encoding.idf import IdfTable
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.errors import ModelError
from splade_os.vectors import Weights
from splade_os.vocabulary import Vocabulary

TOKENS = ["[PAD]", "cat", "a\u2028b", "tab\tbed", "日本", *(f"t{i}" for i in range(60))]
VOCABULARY = Vocabulary(TOKENS, {0})


def numpy(weights: Weights) -> bytes:
    stream = io.BytesIO()
    np.save(stream, weights)
    return stream.getvalue()


def archive(**arrays: Weights) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def lines(weights: Weights) -> bytes:
    return "".join(f"{t}\t{w!r}\n" for t, w in zip(TOKENS, weights.tolist(), strict=True)).encode()


FORMS: dict[str, Callable[[Weights], bytes]] = {
    "idf.json": lambda w: json.dumps(dict(zip(TOKENS, w.tolist(), strict=True))).encode(),
    "w.txt": lines,
    "w.tsv": lines,
    "model.safetensors": lambda w: save({"weight": w}),
    "w.npy": numpy,
    "w.NPZ": lambda w: archive(arr_0=w),
    "several.npz": lambda w: archive(idf=w, counts=np.arange(3)),
    "column.npy": lambda w: numpy(w[:, None].astype(np.float64)),
}


@pytest.mark.parametrize("name", [*FORMS, *(f"{name}.gz" for name in FORMS)])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_forms(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(2, 3, len(TOKENS)).astype(np.float32)
    data = FORMS[name.removesuffix(".gz")](weights)
    file = tmp_path_factory.mktemp("forms") / name
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    np.testing.assert_array_equal(IdfTable.from_file(file, VOCABULARY).weights, weights)


@pytest.mark.parametrize("name", FORMS)
@settings(max_examples=40)
@given(data=st.data())
def test_damaged(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    """Cut, changed in some bytes, or gzipped and then cut: ours, naming the file, or a table."""
    whole = bytearray(FORMS[name](np.linspace(0.1, 9, len(TOKENS), dtype=np.float32)))
    zipped = data.draw(st.booleans())
    if zipped:
        whole = bytearray(gzip.compress(bytes(whole)))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(0, len(whole)))]
    file = tmp_path_factory.mktemp("damaged") / (f"{name}.gz" if zipped else name)
    file.write_bytes(whole)
    try:
        table = IdfTable.from_file(file, VOCABULARY)
    except ModelError as error:
        assert str(file) in str(error)
    else:
        assert len(table.weights) == len(TOKENS) and np.isfinite(table.weights).all()


def _header(text: bytes) -> bytes:
    """A .npy file with this header: numpy hands what is no dictionary to ``tokenize``."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


WRONG: dict[str, tuple[str, bytes, str]] = {
    "rows": ("w.npy", numpy(np.ones((5, 13), np.float32)), r"shape \(5, 13\)"),
    "words": ("w.npy", numpy(np.array(["a"] * 65)), "no row of numbers"),
    "objects": ("w.npy", pickle.dumps([1.0] * 65), "cannot be read"),
    "no name": ("w.npz", archive(a=np.ones(65), b=np.ones(65)), "2 arrays .a, b."),
    "none": ("w.npz", archive(), "0 arrays"),
    "few": ("w.npy", numpy(np.ones(9, np.float32)), "9 weights for 65 tokens"),
    "infinite": ("w.npy", numpy(np.full(65, 1e300)), "weight of token 0 is inf"),
    "header": ("w.npy", _header(b"{'descr': '<f4', 'shape': (65,"), "cannot be read"),
    "header of bytes": ("w.npy", _header(b"\0{\xff"), "cannot be read"),
    "pickle": ("w.pt", pickle.dumps({"cat": 1.0}), "is a pickle"),
    "no gzip": ("idf.json.gz", b"{}", "damaged or cut short"),
    "list": ("idf.json", b"[1.0]", "not a JSON object"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_table(tmp_path: Path, kind: str) -> None:
    name, data, message = WRONG[kind]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError, match=message) as refused:
        IdfTable.from_file(tmp_path / name, VOCABULARY)
    assert str(tmp_path / name) in str(refused.value)


def test_as_the_source_of_queries(tiny: Path, tmp_path: Path) -> None:
    """`--idf FILE` of a NumPy array: what the same table gives in JSON."""
    encoder = IdfQueryEncoder.load(str(tiny / "router"))
    weights = encoder.table.weights * 3
    np.save(tmp_path / "table.npy", weights)
    got = IdfQueryEncoder.load(str(tiny / "router"), source=tmp_path / "table.npy")
    expected = torch.from_numpy(encoder.encode(["a red cat"]).to_dense()) * 3
    np.testing.assert_allclose(got.encode(["a red cat"]).to_dense(), expected, rtol=1e-6)
