"""int8: the same text has the same vector, whatever it is encoded beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from splade_os.encoding.onnx_backend import OnnxBackend, graph_file
from splade_os.encoding.resolve import starter_folder
from splade_os.export.onnx import export_onnx
from splade_os.vectors import Ids
from tests.tiny_models import masked_lm, tokenizer, vocabulary

_FAMILIES = {
    "bert": {},
    "distilbert": {},
    "roberta": {"type_vocab_size": 1},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8},
    "albert": {"embedding_size": 16},
    "nomic_bert": {},
    "electra": {"embedding_size": 16},
    "mpnet": {},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
}


@pytest.fixture(scope="module", params=["starter", *_FAMILIES, "bert:sum"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = starter_folder() / "document_0_Transformer"
    if request.param != "starter":
        family, _, pooling = request.param.partition(":")
        place = tmp_path_factory.mktemp(family)
        folder = place / "onnx"
        checks = export_onnx(
            str(_checkpoint(family, place / "model")),
            folder,
            activation="log1p_relu",
            pooling=pooling or "max",
        )
        assert checks[1].mean_error < 0.1  # random weights; trained ones are nearer
    graph = graph_file(folder, "int8")
    assert graph is not None
    return OnnxBackend(graph, "int8")


def _checkpoint(family: str, folder: Path) -> Path:
    if family in ("bert", "distilbert"):
        return masked_lm(family, folder)
    torch.manual_seed(7)
    config = transformers.AutoConfig.for_model(
        family,
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
        pad_token_id=0,
        **_FAMILIES[family],
    )
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer(folder).save_pretrained(folder)
    return folder


def _texts() -> list[Ids]:
    """64 texts of 1 to 48 tokens."""
    random = np.random.default_rng(0)
    lengths = [1, 2, 3, 48, *random.integers(3, 30, 60)]
    return [random.integers(1, len(vocabulary()), n).astype(np.int32) for n in lengths]


def test_same_vector_in_every_batch(backend: OnnxBackend) -> None:
    texts = _texts()
    alone = np.concatenate([backend.encode([text], None).to_dense() for text in texts])
    together = backend.encode(texts, None).to_dense()
    reversed_ = backend.encode(texts[::-1], None).to_dense()[::-1]
    by_length = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    for order in np.array_split(np.array(by_length), 7):
        got = backend.encode([texts[n] for n in order], None).to_dense()
        _same(got, alone[order])
    _same(together, alone)
    _same(reversed_, alone)
    longest = texts[3]
    for n, text in enumerate(texts[:9]):
        _same(backend.encode([longest, text], None).to_dense()[1], alone[n])


def _same(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-5)
