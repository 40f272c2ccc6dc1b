"""PEFT adapters (LoRA and its like), as sentence-transformers saves them: merged with their base.

The folder holds ``adapter_config.json`` and ``adapter_model.safetensors``. The base lies beside
them, or else is what the configuration names: a folder, or a name on the hub.
"""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from splade_os.encoding.file_hash import file_hash
from splade_os.encoding.hub import download, is_hub_name
from splade_os.encoding.module_config import read_object
from splade_os.encoding.weights import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    check_safetensors,
    is_adapter,
    plain_weights_folder,
)
from splade_os.encoding.weights_cache import cached_weights
from splade_os.errors import MissingExtraError, ModelError

_FORMAT = 1  # of what is written; another one is another key


def base_folder(folder: Path, *, weights: bool = True) -> Path:
    """Where the configuration of a transformer lies: in its folder, or in that of its base.

    Args:
        weights: download those of a base on the hub as well.

    Raises:
        ModelError: the base cannot be found.
    """
    if (folder / "config.json").is_file() or not is_adapter(folder):
        return folder
    file = folder / ADAPTER
    name = read_object(file).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(
            f"{file}: base_model_name_or_path is {name!r}, no folder or hub name: it does not name "
            "the model it belongs to.",
            hint="Write the folder or hub name of that model there.",
        )
    path = Path(name).expanduser()
    try:
        if not path.is_dir():
            if not is_hub_name(name):
                raise ModelError(f"There is no folder {name}.")
            path = download(name, weights=weights)
    except ModelError as error:
        raise ModelError(
            f"{folder} is an adapter of the model {name} ({file.name}), which is not to be had "
            f"here. {error.message}",
            hint=f"Put that model here, and its folder into base_model_name_or_path of {file}.",
        ) from error
    if is_adapter(path) and not (path / "config.json").is_file():
        raise ModelError(f"{folder} is an adapter of an adapter, {path}: merge that one first.")
    return path


def adapter_weights(folder: Path) -> Path:
    """The file with the weights of an adapter.

    Raises:
        ModelError: there is none in safetensors, or it is damaged.
    """
    file = folder / ADAPTER_WEIGHTS
    if not file.is_file():
        raise ModelError(
            f"{folder} is an adapter without {ADAPTER_WEIGHTS}; a pickled one is never read.",
            hint="Save the adapter again with peft, in safetensors.",
        )
    check_safetensors(file)
    return file


def merged(folder: Path) -> Path:
    """The folder in the cache with the weights of a base and its adapter, merged.

    Raises:
        ModelError: one of them is missing or damaged, or they do not belong together.
        MissingExtraError: torch or peft is not installed, and they are not in the cache yet.
    """
    own = adapter_weights(folder)
    base = base_folder(folder)
    key = hashlib.sha256(f"merged {_FORMAT}\n".encode())
    files = [folder / ADAPTER, own, base / "config.json"]
    for file in [*files, *sorted(plain_weights_folder(base).glob("*.safetensors"))]:
        if file.is_file():
            key.update(f"{file.name} {file_hash(file)}\n".encode())
    return cached_weights(key.hexdigest(), partial(_merge, base, folder))


def _merge(base: Path, folder: Path, target: Path) -> None:
    try:
        from peft import PeftModel
        from transformers import AutoModelForMaskedLM
    except ImportError:
        raise MissingExtraError(f"Merging the adapter {folder}", "lora") from None
    from splade_os.encoding.checkpoint import load_plain

    model = load_plain(AutoModelForMaskedLM, base).model
    try:
        whole = PeftModel.from_pretrained(model, folder, local_files_only=True)
        whole = whole.merge_and_unload(safe_merge=True)
    except Exception as error:  # only peft runs here, on an adapter that may fit another model
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"The adapter {folder} does not fit its base {base}: {reason}",
            hint=f"Check base_model_name_or_path in {folder / ADAPTER}.",
        ) from error
    whole.save_pretrained(target)
    for file in target.iterdir():  # its configuration is the base's
        if file.suffix != ".safetensors" and not file.name.endswith(".safetensors.index.json"):
            file.unlink()
