"""``model_type: new``: the GTE models that bring their own code run as transformers' ``gte``.

Alibaba-NLP/new-impl (``NewForMaskedLM``) is the same architecture under other names; transformers
renames its tensors itself. What its configuration says is mapped here, and what transformers'
class cannot do is refused by name.

NTK scaling of rotary positions in new-impl divides every frequency by ``f ** (2 / d)`` and
multiplies the base by ``f`` (``d`` = size of a head), whatever the length of a text, which is
linear scaling of another base.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splade_os.errors import ModelError

_THETA = 10_000.0  # new-impl's default; transformers' gte has another
_ONLY = {"layer_norm_type": "layer_norm", "position_embedding_type": "rope"}
_NEVER = ("logn_attention_scale", "logn_attention_clip1")


def as_native_gte(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """The configuration of a GTE model of transformers; any other one as it is.

    Args:
        config: content of ``config.json``; file: for messages.

    Raises:
        ModelError: it asks for what transformers' class does not compute.
    """
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if config.get("model_type") != "new" or not any(str(n).startswith("New") for n in names):
        return config
    for key, value in _ONLY.items():
        if config.get(key, value) != value:
            raise _unsupported(file, key, config[key])
    for key in _NEVER:
        if config.get(key):
            raise _unsupported(file, key, config[key])
    dropped = {"model_type", "rope_scaling", "rope_theta", "auto_map", *_ONLY, *_NEVER}
    native = {key: value for key, value in config.items() if key not in dropped}
    return {**native, "model_type": "gte", "rope_parameters": _positions(config, file)}


def _positions(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    theta, scaling = config.get("rope_theta", _THETA), config.get("rope_scaling")
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    if not isinstance(scaling, Mapping) or scaling.get("type") != "ntk":
        raise _unsupported(file, "rope_scaling", scaling)
    if scaling.get("mixed_b") is not None:
        raise _unsupported(file, "rope_scaling.mixed_b", scaling["mixed_b"])
    try:
        factor = float(scaling.get("factor", 1.0))
        size = int(config["hidden_size"]) // int(config["num_attention_heads"])
        if factor <= 1:  # new-impl scales only what becomes longer
            return {"rope_type": "default", "rope_theta": theta}
        return {
            "rope_type": "linear",
            "factor": factor ** (2 / size),
            "rope_theta": factor * float(theta),
        }
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"{file}: rope_scaling {scaling!r} is not understood: {error}") from None


def _unsupported(file: Path, key: str, value: Any) -> ModelError:
    return ModelError(
        f"{file}: {key} is {value!r}, which transformers' GTE class does not compute; the folder's "
        "own code is never run.",
        hint="Take another model; docs/models.md lists the families that are tested.",
    )
