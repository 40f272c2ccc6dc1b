"""Model folders of the Hugging Face hub, downloaded once into the hub's own cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from splade_os.encoding.tokenizer.files import SENTENCEPIECE
from splade_os.encoding.weights import has_weights
from splade_os.errors import ModelError

# What a model needs; never code, or another framework's copy.
_VOCABULARIES = ["vocab.txt", "merges.txt", *SENTENCEPIECE]
_PATTERNS = ["*.json", "*.safetensors", *_VOCABULARIES]
_QUERY_PATTERNS = ["*.json", "query_*/*.safetensors", *_VOCABULARIES]  # the table of an IDF query
_PICKLED = "pytorch_model*.bin"
_IGNORED = ["onnx/*", "openvino/*", "checkpoint-*"]


def is_hub_name(name: str) -> bool:
    """Whether it looks like ``org/model``."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def download(name: str, *, weights: bool = True) -> Path:
    """The folder of a repository (``HF_HUB_OFFLINE=1`` uses only what is there).

    ``pytorch_model.bin`` is fetched only for a transformer that has no safetensors.

    Args:
        weights: of transformers as well; an IDF query does without.

    Raises:
        ModelError: the hub does not have it, or cannot be reached.
    """
    patterns = _PATTERNS if weights else _QUERY_PATTERNS
    folder = _snapshot(name, patterns)
    pickled = [part + _PICKLED for part in _without_weights(folder)] if weights else []
    return _snapshot(name, [*patterns, *pickled]) if pickled else folder


def _without_weights(folder: Path) -> Iterator[str]:
    """Paths, with their slash, of the transformers of a repository that have no safetensors."""
    for file in folder.rglob("config.json"):
        try:
            config = orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError:
            continue  # whoever reads the layout names it
        if isinstance(config, dict) and "model_type" in config and not has_weights(file.parent):
            inside = file.parent.relative_to(folder).as_posix()
            yield "" if inside == "." else f"{inside}/"


def _snapshot(name: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=list(patterns), ignore_patterns=_IGNORED)
        )
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The model {name} is neither a folder nor to be had from the Hugging Face hub: "
            f"{reason}",
            hint="Check the name and the network, or copy the model folder here and name it.",
        ) from error
