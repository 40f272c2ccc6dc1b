"""Keys of ``config.json``: nothing is said of those that people have, and others are named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from splade_os.encoding.config_keys import check_keys
from splade_os.errors import ModelError, SpladeWarning

# as the files of the best-known checkpoints are written, in the words of their times
OLD: dict[str, dict[str, Any]] = {
    "bert": {
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "classifier_dropout": None, "directionality": "bidi", "gradient_checkpointing": False,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12,
        "pad_token_id": 0, "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
        "position_embedding_type": "absolute", "torch_dtype": "float32", "type_vocab_size": 2,
        "transformers_version": "4.6.0.dev0", "use_cache": True, "vocab_size": 30522,
        "_name_or_path": "output/0_MLMTransformer", "output_past": True,
    },
    "distilbert": {
        "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1,
        "hidden_dim": 3072, "max_position_embeddings": 512, "n_heads": 12, "n_layers": 6,
        "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False,
        "tie_weights_": True, "vocab_size": 30522, "output_past": True,
    },
    "roberta": {
        "bos_token_id": 0, "eos_token_id": 2, "position_embedding_type": "absolute",
        "classifier_dropout": None, "use_cache": True, "vocab_size": 50265,
        "torch_dtype": "bfloat16",
        "max_position_embeddings": 514, "type_vocab_size": 1,
    },
    "albert": {
        "classifier_dropout_prob": 0.1, "down_scale_factor": 1, "embedding_size": 128,
        "gap_size": 0, "inner_group_num": 1, "net_structure_type": 0, "num_hidden_groups": 1,
        "num_memory_blocks": 0, "position_embedding_type": "absolute", "vocab_size": 30000,
    },
    "electra": {
        "embedding_size": 128, "summary_activation": "gelu", "summary_last_dropout": 0.1,
        "summary_type": "first", "summary_use_proj": True, "position_embedding_type": "absolute",
    },
    "deberta-v2": {
        "attention_head_size": 64, "conv_act": "gelu", "conv_kernel_size": 3, "hidden_size": 1536,
        "max_relative_positions": -1, "norm_rel_ebd": "layer_norm", "pooler_dropout": 0,
        "pooler_hidden_act": "gelu", "pooler_hidden_size": 1536, "pos_att_type": "p2c|c2p",
        "position_biased_input": False, "position_buckets": 256, "relative_attention": True,
        "share_att_key": True, "type_vocab_size": 0,
    },
    "modernbert": {
        "attention_bias": False, "classifier_activation": "gelu", "classifier_bias": False,
        "classifier_dropout": 0.0, "classifier_pooling": "mean", "cls_token_id": 50281,
        "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0,
        "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        "gradient_checkpointing": False, "hidden_activation": "gelu", "layer_norm_eps": 1e-05,
        "local_attention": 128, "local_rope_theta": 10000.0, "norm_bias": False, "norm_eps": 1e-05,
        "position_embedding_type": "absolute", "reference_compile": True,
        "repad_logits_with_grad": False, "sparse_pred_ignore_index": -100,
        "sparse_prediction": False, "tie_word_embeddings": True, "vocab_size": 50368,
    },
}  # fmt: skip


def check(family: str, content: dict[str, Any]) -> None:
    check_keys(content, CONFIG_MAPPING[family].from_dict(dict(content)), Path("config.json"))


@pytest.mark.parametrize("family", OLD)
def test_nothing_is_said_of_public_checkpoints(family: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SpladeWarning)
        check(family, OLD[family])


def test_nothing_is_said_of_what_transformers_writes() -> None:
    """Every masked-LM family that it has."""
    kinds = [
        kind for kind in AutoModelForMaskedLM._model_mapping if kind.model_type in CONFIG_MAPPING
    ]
    assert len(kinds) > 30
    for kind in kinds:
        content = kind().to_dict()
        with warnings.catch_warnings():
            warnings.simplefilter("error", SpladeWarning)
            check(kind.model_type, content)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra", "albert", "ernie", "mpnet"])
@pytest.mark.parametrize("value", ["relative_key", "relative_key_query", "alibi", "rotary"])
def test_other_positions(family: str, value: str) -> None:
    """Computed by transformers before 5 and by code of folders; by these classes no more."""
    with pytest.raises(ModelError, match=f"position_embedding_type is '{value}'"):
        check(family, {"position_embedding_type": value})


def test_an_unknown_key_is_said_by_name() -> None:
    with pytest.warns(SpladeWarning, match=r"turbo, boost are not known to transformers' BertCon"):
        check("bert", {"turbo": 1, "boost": {"a": 2}, "quiet": False})
