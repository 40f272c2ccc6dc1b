"""The weights of a transformer's folder: whether they are there, whole, and in which files.

Everything that reads weights comes through here. What is read in the end is always safetensors:
``model.safetensors`` or its shards as they lie; ``pytorch_model.bin`` converted once into the
cache (`splade_os.encoding.pickled`); a PEFT adapter merged with its base into the cache
(`splade_os.encoding.adapters`).
"""

from __future__ import annotations

from pathlib import Path

import orjson
from safetensors import SafetensorError, safe_open

from splade_os.encoding.downloaded import AGAIN, missing, refuse_pointer, unfinished
from splade_os.errors import ModelError

SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_INDEX = ".index.json"  # behind the name of the whole file, where there are shards


def has_weights(folder: Path) -> bool:
    """Whether a transformer's folder holds weights, whole or not."""
    return _has(folder, SAFETENSORS) or _has(folder, PICKLED) or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds a PEFT adapter, alone or beside a whole model."""
    return (folder / ADAPTER).is_file()


def weights_folder(folder: Path) -> Path:
    """The folder with ``model.safetensors``, or its shards and their index: this one, or one in
    the cache, made now where it is not there yet.

    Raises:
        ModelError: there are no weights, or they are damaged, incomplete or no plain tensors.
        MissingExtraError: torch, or peft, is needed to make them and not installed.
    """
    if is_adapter(folder):
        from splade_os.encoding.adapters import merged

        return merged(folder)
    return plain_weights_folder(folder)


def plain_weights_folder(folder: Path) -> Path:
    """As `weights_folder`, of what an adapter lies beside."""
    if _has(folder, SAFETENSORS):
        for file in named_files(folder, SAFETENSORS):
            check_safetensors(file)
        return folder
    if _has(folder, PICKLED):
        from splade_os.encoding.pickled import converted

        return converted(folder)
    raise ModelError(
        f"{folder} has no weights, neither {SAFETENSORS} nor {PICKLED}{unfinished(folder)}.",
        hint=AGAIN,
    )


def hashed_files(folder: Path) -> list[Path]:
    """What a transformer's content hash is made of: all safetensors, as they are read.

    Of an adapter, base and adapter: what is merged from them may differ in the last bit from
    machine to machine.

    Raises:
        ModelError, MissingExtraError: see `weights_folder`.
    """
    if not is_adapter(folder):
        return sorted(weights_folder(folder).glob("*.safetensors"))
    from splade_os.encoding.adapters import adapter_weights, base_folder

    base = base_folder(folder)
    files = sorted(plain_weights_folder(base).glob("*.safetensors"))
    return files if base == folder else [*files, adapter_weights(folder)]


def named_files(folder: Path, name: str) -> list[Path]:
    """``model.safetensors`` (or ``pytorch_model.bin``), or the shards that its index names.

    Raises:
        ModelError: a shard is missing, or the index is damaged.
    """
    if (folder / name).is_file():
        return [folder / name]
    index = folder / (name + _INDEX)
    try:
        shards = sorted(set(orjson.loads(index.read_bytes())["weight_map"].values()))
        files = [folder / shard for shard in shards]
        whole = all(Path(shard).name == shard for shard in shards)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: {error}.", hint=AGAIN) from None
    if not files or not whole:
        raise ModelError(f"{index} names no files of its folder.", hint=AGAIN)
    for file in files:
        if not file.is_file():
            raise missing(file, f"{index.name} names it")
    return files


def check_safetensors(file: Path) -> None:
    """Refuse a file that is cut short or no safetensors, before a library fails over it.

    Raises:
        ModelError: naming it.
    """
    refuse_pointer(file)
    try:
        with safe_open(file, "np"):
            pass
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is damaged or cut short: {error}.", hint=AGAIN) from None


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (folder / (name + _INDEX)).is_file()
