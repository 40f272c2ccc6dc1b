"""Tiny models without a table whose tokenizers keep the space in front of a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SparseEncoder
from transformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from tests.encoding import spaced_tokenizers


def symmetric(shape: str, folder: Path) -> Path:
    """A tiny model without a table: granite's kind, or ModernBERT's."""
    made = spaced_tokenizers.tokenizer(shape)
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), spaced_tokenizers.SPECIAL, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=48,
        cls_token="<s>",
        sep_token="</s>",
        **{f"{key}_token": token for key, token in names.items()},
    )
    common: dict[str, Any] = {
        "vocab_size": made.get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "initializer_range": 0.3,
    }
    torch.manual_seed(3)
    if shape == "modernbert":
        config = ModernBertConfig(**common, cls_token_id=0, sep_token_id=2)
        model: Any = ModernBertForMaskedLM(config)
    else:
        model = RobertaForMaskedLM(RobertaConfig(**common))
    bias = model.get_output_embeddings().bias
    torch.nn.init.normal_(bias, -2.0, 1.0)
    checkpoint = folder.with_name(folder.name + "-mlm")
    model.eval().save_pretrained(checkpoint)
    fast.save_pretrained(checkpoint)
    SparseEncoder(str(checkpoint), device="cpu").save_pretrained(str(folder))
    return folder
