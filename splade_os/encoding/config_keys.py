"""What a ``config.json`` asks for and transformers' class does not compute: refused, or said.

transformers keeps a key that its configuration class does not know, and no line of the model reads
it: BERT with relative positions or ALiBi would run, and give other vectors than it was trained for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import re
import warnings
from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from splade_os.errors import ModelError, SpladeWarning

# what code of a folder, or an older transformers, computes with a key, and the values that ask for
# what every class does
_ORDINARY: dict[str, Collection[Any]] = {
    "alibi_starting_size": (0,),
    "attention_type": ("original_full", "full", "sdpa", "eager"),
    "embedding_scale": (1, 1.0),
    "feed_forward_type": ("original", "mlp"),
    "layer_norm_type": ("layer_norm",),
    "logn_attention_clip1": (False,),
    "logn_attention_scale": (False,),
    "parallel_block": (False,),
    "position_embedding_type": ("absolute",),
    "prenorm": (False,),
    "use_alibi": (False,),
    "use_bfloat16": (False,),
    "use_rms_norm": (False,),
}
_POSITIONS = ("rope", "rotary")  # of the families whose class has rotary ones
_HARMLESS = {
    # of transformers itself, and of earlier versions of it
    "attn_implementation", "auto_map", "gradient_checkpointing", "model_type", "output_attentions",
    "output_past", "pruned_heads", "tie_weights_", "tie_word_embeddings", "tokenizer_class",
    "torch_dtype", "torchscript", "transformers_version", "use_cache", "use_return_dict",
    # sizes, with which tensors would not fit; ModernBERT's files say its ``norm_eps`` twice
    "hidden_size", "intermediate_size", "layer_norm_eps", "num_attention_heads",
    "num_hidden_layers",
    # tokens of a tokenizer, which knows them itself
    "bos_token_id", "cls_token_id", "eos_token_id", "mask_token_id", "pad_token_id",
    "sep_token_id", "unk_token_id",
    # of heads and losses that are not run
    "classifier_activation", "classifier_bias", "classifier_dropout", "classifier_pooling",
    "directionality", "finetuning_task", "pooler_dropout", "pooler_fc_size", "pooler_hidden_act",
    "pooler_hidden_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
    "pooler_size_per_head", "pooler_type", "qa_dropout", "seq_classif_dropout",
    "sentence_transformers", "summary_activation", "summary_last_dropout", "summary_type",
    "summary_use_proj", "layer_norm_training", "language", "name", "vocab_type",
    # how fast, and in what memory
    "deterministic_flash_attn", "reference_compile", "repad_logits_with_grad",
    "use_flash_attn", "use_memory_efficient_attention", "use_xformers", "unpad_inputs",
    "pack_qkv", "fused_bias_fc", "fused_dropout_add_ln", "fused_mlp", "pad_vocab_size_multiple",
    "sparse_pred_ignore_index", "sparse_prediction", "max_trained_positions",
    # written by the scripts that made a checkpoint, and never read
    "down_scale_factor", "gap_size", "net_structure_type", "num_memory_blocks",
    "sinusoidal_pos_embds", "output_hidden_states", "id2label", "label2id", "num_labels",
}  # fmt: skip


def refuse_quantised(content: Mapping[str, Any], file: Path) -> None:
    """Weights that are not what the class computes with.

    Raises:
        ModelError: the file says that they are stored so.
    """
    if content.get("quantization_config"):
        raise ModelError(
            f"{file}: quantization_config says that the weights are stored quantised, which "
            "splade-os does not read.",
            hint="Take the model as it was before: its weights in float32, bf16 or fp16.",
        )


def check_keys(content: Mapping[str, Any], config: Any, file: Path) -> None:
    """Look at every key that a configuration class of transformers does not know.

    Args:
        content: of the file; config: made of it.

    Raises:
        ModelError: a key asks for what the class does not compute.
    """
    kind = type(config)
    known = _known(kind)
    # what it has under another name, or made something else of, is no attribute of it
    strange = [key for key in content if key in vars(config) and key not in known]
    source = _source(kind) if strange else ""
    strange = [
        key
        for key in strange
        if not key.startswith("_") and not re.search(rf"\b{re.escape(key)}\b", source)
    ]
    for key in strange:
        value = content[key]
        if key not in _ORDINARY or value is None or value in _ORDINARY[key]:
            continue
        if value in _POSITIONS and known & {"rope_parameters", "rope_theta"}:
            continue
        raise ModelError(
            f"{file}: {key} is {value!r}, which transformers' {kind.__name__} does not know, so "
            "that the model would run without it and give other vectors than it was trained for.",
            hint="Take another model: docs/models.md lists families. Code of a folder is never "
            "run.",
        )
    silent = [key for key in strange if key not in _HARMLESS and key not in _ORDINARY]
    unread = [key for key in silent if content[key] not in (None, False, {}, [])]
    if unread:
        warnings.warn(
            f"{file}: {', '.join(unread)} {'is' if len(unread) == 1 else 'are'} not known to "
            f"transformers' {kind.__name__} and without effect. If the model was trained with "
            f"{'it' if len(unread) == 1 else 'them'}, vectors may be others.",
            SpladeWarning,
            stacklevel=2,
        )


def unread_tensor(unexpected: Collection[str], model: Any) -> str | None:
    """The first tensor of a body that the model has no place for, among those that a checkpoint
    holds beside its own; heads of other tasks and what is computed anew do not count."""
    body = f"{model.base_model_prefix}."
    idle = ("pooler", "position_ids", "token_type_ids", "inv_freq", "adapter")
    found = [n for n in unexpected if n.startswith(body) and not any(i in n for i in idle)]
    return min(found, default=None)


def _source(kind: Any) -> str:
    """Of its module and of that of its models, which read some keys that it does not declare."""
    names = (kind.__module__, kind.__module__.replace("configuration_", "modeling_"))
    return "".join(inspect.getsource(import_module(name)) for name in names)


def _known(kind: Any) -> set[str]:
    """Its parameters, and what it sets itself."""
    known = set(getattr(kind, "attribute_map", {})) | set(inspect.signature(kind).parameters)
    for base in kind.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
    if dataclasses.is_dataclass(kind):
        known |= {field.name for field in dataclasses.fields(kind)}
    with contextlib.suppress(TypeError, ValueError):  # one that has no defaults
        known |= set(vars(kind()))
    return known
