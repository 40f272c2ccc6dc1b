"""Tiny random masked-LM models of many families, made by transformers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from splade_os.encoding.layout import SpladePart
from splade_os.vectors import Ids

VOCABULARY, POSITIONS = 211, 66
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.3,
}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8}
_LOW = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "roberta": {},
    "xlm-roberta": {},
    "camembert": {},
    "modernbert": {
        **_LOW,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
    },
    "mpnet": {},
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": _RELATIVE,
    "nomic_bert": {},
    "gte": {},
    "ernie": {},
    # nobody wrote a line for these
    "deberta": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "megatron-bert": {},
    "roformer": {"embedding_size": 32},
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 24},
    "data2vec-text": {},
    "eurobert": _LOW,
}
"""``model_type`` → what its configuration has beside the common part."""


def make(family: str, folder: Path, own: dict[str, Any] | None = None) -> Path:
    """A checkpoint with a head whose bias leaves some of the terms at zero.

    ``own``: of its configuration, for a family that is not in `FAMILIES`.
    """
    own = FAMILIES[family] if own is None else own
    config = AutoConfig.for_model(family, **{**_COMMON, **own})
    torch.manual_seed(5)
    model = AutoModelForMaskedLM.from_config(config).eval()
    bias = getattr(model.get_output_embeddings(), "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias, -1.0, 1.0)
    model.save_pretrained(folder)
    return folder


def part(folder: Path, family: str, pooling: str = "max", activation: str = "relu") -> SpladePart:
    return SpladePart(folder, family, POSITIONS, False, activation, pooling)


def texts(pad_id: int, seed: int = 0) -> list[Ids]:
    """Token ids of texts of unlike length, none of them padding."""
    random = np.random.default_rng(seed)
    ids = np.array([i for i in range(4, VOCABULARY) if i != pad_id], np.int32)
    return [random.choice(ids, n) for n in (17, 1, 5, 30, 2, 9)]


def naive(folder: Path, tokens: list[Ids], pooling: str) -> np.ndarray:
    """Weights ``(B, V)`` as SPLADE defines them, from the logits that transformers gives each
    text alone."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32).eval()
    reduce: Callable[..., Any] = torch.amax if pooling == "max" else torch.sum
    rows = []
    with torch.no_grad():
        for ids in tokens:
            logits = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0]
            rows.append(reduce(torch.log1p(torch.relu(logits)), 0))
    return torch.stack(rows).numpy()
