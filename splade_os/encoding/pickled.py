"""``pytorch_model.bin`` → safetensors, once, without running anything of the file.

``torch.load(weights_only=True)`` builds tensors and plain containers and refuses every other
name that a pickle asks for: https://docs.pytorch.org/docs/stable/notes/serialization.html
(since torch 2.6; the extra asks for a later one).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import orjson

from splade_os.encoding.downloaded import AGAIN, refuse_pointer
from splade_os.encoding.file_hash import file_hash
from splade_os.encoding.weights import PICKLED, SAFETENSORS, named_files
from splade_os.encoding.weights_cache import cached_weights
from splade_os.errors import MissingExtraError, ModelError

_FORMAT = 1  # of what is written; another one is another key
_ZIP = b"PK\x03\x04"  # only files in torch's format since 1.6 can be mapped


def converted(folder: Path, name: str = PICKLED) -> Path:
    """The folder in the cache with the weights of ``folder`` as safetensors.

    Args:
        name: ``pytorch_model.bin``, whose shards count as well.

    Raises:
        ModelError: a file is damaged, or holds anything but tensors.
        MissingExtraError: torch is not installed, and they are not in the cache yet.
    """
    files = named_files(folder, name)
    for file in files:
        refuse_pointer(file)
    key = hashlib.sha256(f"pickled {_FORMAT}\n".encode())
    for file in files:
        key.update(f"{file.name} {file_hash(file)}\n".encode())
    return cached_weights(key.hexdigest(), partial(_convert, files))


def _convert(files: list[Path], target: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise MissingExtraError(f"Reading {files[0].name}", "torch") from None
    places: dict[str, str] = {}
    size = 0
    for file in files:  # shard by shard, so that no more than one is in memory
        tensors = _tensors(file)
        name = SAFETENSORS
        if len(files) > 1:
            name = file.with_suffix(".safetensors").name.removeprefix("pytorch_")
        # each with memory of its own: safetensors knows no tied ones
        own = {key: tensor.detach().contiguous().clone() for key, tensor in tensors.items()}
        save_file(own, target / name, metadata={"format": "pt"})
        places |= dict.fromkeys(own, name)
        size += sum(tensor.nbytes for tensor in own.values())
    if len(files) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (target / f"{SAFETENSORS}.index.json").write_bytes(orjson.dumps(index))


def _tensors(file: Path) -> dict[str, Any]:
    import torch

    with file.open("rb") as handle:
        mapped = handle.read(len(_ZIP)) == _ZIP
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about protocols of pickle
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        what = f"asks for {asked[1]}" if asked else "is damaged, or no file of torch"
        raise ModelError(
            f"{file} {what}: only tensors are read from a pickle, and nothing of it was run.",
            hint=f"If it is the model's own file: {AGAIN} Else take a copy in safetensors.",
        ) from None
    except Exception as error:  # only torch runs here, and it raises what a damaged file meets
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{file} is damaged or cut short: {reason}", hint=AGAIN) from None
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{file} holds a {type(content).__name__}, no table of tensors.")
    for name, tensor in content.items():
        plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided
        if not isinstance(name, str) or not plain or tensor.is_quantized or tensor.is_complex():
            raise ModelError(
                f"{file}: {name} is a {type(tensor).__name__} that safetensors cannot hold.",
                hint="Save the model's state_dict alone, with plain tensors.",
            )
    return content
