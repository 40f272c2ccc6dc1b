"""A model with MeCab's words: trained, exported, loaded: the same ids and vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from transformers import AutoTokenizer

from splade_os.encoding import DocumentEncoder, load_query_encoder
from splade_os.export.onnx import export_onnx
from splade_os.export.sentence_transformers import export_sentence_transformers
from splade_os.training import train
from splade_os.training.recipe import Recipe
from tests.encoding.test_slow_tokenizers import MECAB, japanese_model

TEXTS = [
    "東京大学の研究は日本語の文書検索エンジン",
    "大学",
    "日本の文書",
    "東京の研究",
    "検索エンジンの文書",
    "日本語",
    "文書検索の研究",
    "エンジンは日本の大学",
]


@pytest.mark.parametrize("kind", MECAB)
def test_trained(kind: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    base = japanese_model(tmp_path / "base", **MECAB[kind])
    data = tmp_path / "pairs.jsonl"
    rows = [{"query": a, "positive": a + b} for a in TEXTS for b in TEXTS if a != b]
    data.write_text("\n".join(json.dumps(row) for row in rows))
    changes = {"data.train": str(data), "regularisers": {}, "training.learning_rate": 3e-3}
    folder = train(recipe("gooaq", str(base), ["positive"], **changes)).folder
    exported = export_sentence_transformers(str(folder), tmp_path / "exported")
    export_onnx(str(folder), tmp_path / "onnx")
    oracle = AutoTokenizer.from_pretrained(base)
    expected = oracle(TEXTS).input_ids
    assert len({tuple(ids) for ids in expected}) > 4
    theirs = SparseEncoder(str(folder), device="cpu")
    documents = theirs.encode_document(TEXTS).to_dense().numpy()
    queries = theirs.encode_query(TEXTS).to_dense().numpy()
    before = DocumentEncoder.load(str(base), device="cpu").encode(TEXTS).to_dense()
    assert np.abs(documents - before).max() > 1e-3
    for made in (folder, exported, tmp_path / "onnx"):
        encoder = DocumentEncoder.load(str(made), device="cpu")
        assert [ids.tolist() for ids in encoder.tokenize(TEXTS)] == expected
        np.testing.assert_allclose(encoder.encode(TEXTS).to_dense(), documents, atol=1e-4)
        asked = load_query_encoder(str(made), "encoder", device="cpu").encode(TEXTS)
        np.testing.assert_allclose(asked.to_dense(), queries, atol=1e-4)
