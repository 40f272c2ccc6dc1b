"""Files of IDF tables, in the forms in which people have them."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from safetensors import SafetensorError, deserialize

from splade_os.encoding.downloaded import AGAIN, refuse_pointer
from splade_os.errors import ModelError
from splade_os.vectors import Weights

FORMS = (
    "a JSON object of token and weight (idf.json), lines of token, tab and weight "
    "(query_token_weights.txt, .tsv), safetensors with a tensor 'weight', or one array of weights "
    "of NumPy (.npy, .npz), any of them also with gzip (.gz)"
)
_HINT = f"{AGAIN} An IDF table is {FORMS}."
_LARGEST = 1 << 30  # bytes, unpacked: a vocabulary of a million takes 4 MB
_NAMES = ("weight", "weights", "idf")


def read_table(file: Path) -> dict[str, Any] | Weights:
    """Weights by token, or in the order of the vocabulary ``(V,)``.

    Raises:
        ModelError: the file is missing or damaged, or in no form that is known.
    """
    try:
        refuse_pointer(file)
        data = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"The IDF table {file} cannot be read: {reason}.") from None
    name = file.name.lower()
    if name.endswith(".gz"):
        data, name = _unzipped(data, file), name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix == ".json":
        return _parse_json(data, file)
    if suffix in (".txt", ".tsv"):
        return _parse_lines(data, file)
    if suffix in (".npy", ".npz"):
        return _parse_numpy(data, file)
    if suffix in (".pt", ".pth", ".pkl", ".bin"):
        raise ModelError(
            f"{file} is a pickle, and no file that is named as a table is ever unpickled.",
            hint=f"Save it as one of these: {FORMS}.",
        )
    return _parse_safetensors(data, file)


def _unzipped(data: bytes, file: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as stream:
            plain = stream.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"{file} is damaged or cut short: {error}.", hint=_HINT) from None
    if len(plain) > _LARGEST:
        raise ModelError(f"{file} holds more than {_LARGEST >> 30} GiB: no table of weights.")
    return plain


def _parse_numpy(data: bytes, file: Path) -> Weights:
    """One array, or of several the one that is called as a table is."""
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            members = zipfile.ZipFile(io.BytesIO(data)).infolist()
            if sum(member.file_size for member in members) > _LARGEST:
                raise ModelError(f"{file} holds more than {_LARGEST >> 30} GiB: no table.")
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        found = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except ModelError:
        raise
    except Exception as error:  # numpy's parser, and tokenize, ast and zipfile below it, raise any
        raise ModelError(f"{file} cannot be read: {error}", hint=_HINT) from None
    named = [found[name] for name in _NAMES if name in found]
    if not named and len(found) != 1:
        raise ModelError(
            f"{file} holds {len(found)} arrays ({', '.join(sorted(found)[:5])}), and none of them "
            f"is called {', '.join(_NAMES)}."
        )
    array: npt.NDArray[Any] = named[0] if named else next(iter(found.values()))
    if array.dtype.kind not in "fiu" or array.size != max(array.shape, default=0):
        raise ModelError(
            f"{file} holds an array of {array.dtype} and shape {array.shape}, no row of numbers."
        )
    with np.errstate(over="ignore"):  # what float32 lacks becomes infinite, and is refused
        return array.reshape(-1).astype(np.float32)


def _parse_json(data: bytes, file: Path) -> dict[str, Any]:
    try:
        table = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{file} is not valid JSON: {error}", hint=_HINT) from None
    if not isinstance(table, dict):
        raise ModelError(f"{file} is not a JSON object of token and weight.", hint=_HINT)
    return table


def _parse_lines(data: bytes, file: Path) -> dict[str, float]:
    table = {}
    # only \n ends a line: some tokens are what str.splitlines takes for line ends
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            token, weight = line.removesuffix(b"\r").rsplit(b"\t", 1)
            table[token.decode()] = float(weight)
        except UnicodeDecodeError:
            raise ModelError(f"{file}:{number} is not UTF-8.", hint=_HINT) from None
        except ValueError:
            raise ModelError(
                f"{file}:{number} is not a token, a tab and a weight.", hint=_HINT
            ) from None
    return table


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _parse_safetensors(data: bytes, file: Path) -> Weights:
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise ModelError(
            f"{file} holds no readable tensor 'weight': {error}",
            hint=_HINT,
        ) from None
    if "weight" not in tensors:
        raise ModelError(f"{file} holds no tensor 'weight' but {', '.join(tensors) or 'nothing'}.")
    tensor = tensors["weight"]
    if tensor["dtype"] not in _DTYPES:
        raise ModelError(
            f"{file}: the tensor 'weight' is of type {tensor['dtype']}; it must be one of "
            f"{', '.join(_DTYPES)}."
        )
    raw = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # what float32 lacks becomes infinite, and is refused
        return raw.astype(np.float32)
