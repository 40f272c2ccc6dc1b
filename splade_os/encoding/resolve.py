"""From a model's name to its folder, and from a folder to its hash."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from splade_os.encoding.checkpoint import native_config
from splade_os.encoding.file_hash import file_hash
from splade_os.encoding.hub import download, is_hub_name
from splade_os.encoding.layout import SpladePart, StaticPart, read_layout
from splade_os.encoding.positions import scaled_positions
from splade_os.encoding.tokenizer.files import TokenizerFiles
from splade_os.encoding.tokenizer.load import changes_of
from splade_os.encoding.weights import has_weights, hashed_files
from splade_os.errors import ModelError
from splade_os.identity import ModelIdentity, short_hash

STARTER = "starter"
_log = logging.getLogger("splade_os.encoding")


@dataclass(frozen=True)
class FoundModel:
    """Where a model lies.

    Attributes:
        folder: local folder.
        name: how a client finds it again: ``starter``, a hub name, or an absolute path.
        revision: commit on the hub, or ``None``.
    """

    folder: Path
    name: str
    revision: str | None = None


def resolve_model(model: str | os.PathLike[str], *, weights: bool = True) -> FoundModel:
    """Find a model: ``starter``, a folder, or a name on the Hugging Face hub.

    The starter comes with the package; a hub model is downloaded once into the hub's own
    cache (``HF_HUB_OFFLINE=1`` uses only what is there).

    Args:
        weights: download the transformer's as well; an IDF query does without.

    Raises:
        ModelError: no such folder, and the hub does not have it or cannot be reached.
    """
    model = os.fspath(model)
    path = Path(model).expanduser()
    if path.is_dir():
        if model == STARTER or is_hub_name(model):
            _say_shadowed(model, path)
        return FoundModel(path, str(path.resolve()))
    if model == STARTER:
        return FoundModel(starter_folder(), STARTER)
    if not is_hub_name(model):
        raise ModelError(
            f"There is no model folder {model}.",
            hint="Name a folder, a hub name like org/model, or 'starter'.",
        )
    folder = download(model, weights=weights)
    return FoundModel(folder, model, revision=folder.name)


@cache
def _say_shadowed(model: str, path: Path) -> None:
    """Once: a folder that happens to lie here is taken for what may mean something else."""
    other = "that of the package" if model == STARTER else "that of the Hugging Face hub"
    _log.warning(
        "The model %s is the folder %s, not %s. Write ./%s where that is meant.",
        model, path.resolve(), other, model,
    )  # fmt: skip


def resolve_recorded(recorded: ModelIdentity, index: str, *, weights: bool = True) -> FoundModel:
    """Find the model of an index by the name that the index holds.

    Raises:
        ModelError: it is not on this machine; the message says how to know the right one.
    """
    try:
        if recorded.name == STARTER:  # indices name folders in full: none here is meant
            return FoundModel(starter_folder(), STARTER)
        return resolve_model(recorded.name, weights=weights)
    except ModelError as error:
        short = short_hash(recorded.content_hash)
        raise ModelError(
            f"The index {index} was encoded with the model {recorded.name} (content hash {short}), "
            f"which is not to be had here. {error.message}",
            hint="Name the folder where that model lies on this machine: --model FOLDER (model= in "
            f"Python). splade-os model show FOLDER prints the content hash {short}... of the right "
            "one.",
        ) from error


def starter_folder() -> Path:
    """Where the package holds the starter."""
    return Path(__file__).parents[1] / "models" / STARTER


def content_hash(folder: Path) -> str:
    """SHA-256 over the weights and the tokenizer of one transformer folder.

    Configuration files are left out: saving a model again changes their version stamps, and
    what they say that matters stands in `ModelIdentity`. What they say of token ids, and the
    vocabulary does not, is part of the hash; so are scaled positions (`scaled_positions`).

    Raises:
        ModelError: no weights, or damaged ones; no tokenizer that can be read.
        MissingExtraError: what they are made from is pickled or an adapter, and torch or peft is
            not installed.
    """
    plain = _hash([*hashed_files(folder), *_tokenizer(folder)])
    scaled = scaled_positions(native_config(folder))
    return hashlib.sha256(f"{plain} positions ".encode() + scaled).hexdigest() if scaled else plain


def model_hash(part: SpladePart) -> str:
    """`content_hash` of a transformer, and of what stands behind its pooling, if anything does.

    Raises:
        ModelError, MissingExtraError: see `content_hash`.
    """
    plain = content_hash(part.folder)
    if not part.steps:
        return plain
    whole = hashlib.sha256(plain.encode())
    for step in part.steps:
        own = file_hash(step.weights) if isinstance(step, StaticPart) else "unit length"
        whole.update(f" {own}".encode())
    return whole.hexdigest()


def query_hash(part: SpladePart | StaticPart) -> str:
    """SHA-256 over what IDF queries of a model are made of: the tokenizer of its query side, and
    the table, if it has one. Needs no weights of a transformer."""
    table = [part.weights] if isinstance(part, StaticPart) else []
    return _hash([*_tokenizer(part.folder), *table])


def same_queries(found: FoundModel, recorded: ModelIdentity) -> bool:
    """Whether a model's IDF queries are those of an index's model, as far as that can be known
    without its weights: by its name, or where it has no weights that could tell another one."""
    layout = read_layout(found.folder)
    if not recorded.query_hash or query_hash(layout.query) != recorded.query_hash:
        return False
    return found.name == recorded.name or not has_weights(layout.document.folder)


def _tokenizer(folder: Path) -> list[Path]:
    """The files of a vocabulary."""
    return TokenizerFiles(folder).vocabulary


def _hash(files: list[Path]) -> str:
    """SHA-256 over files, and over what else decides token ids where a vocabulary is among them.
    Where that is nothing, as in most folders, the hash is that of the files alone."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.name} {file_hash(file)}\n".encode())
    folders = {file.parent for file in files if file in _tokenizer(file.parent)}
    for folder in sorted(folders):
        changes = changes_of(folder)
        if changes:
            whole.update(b"tokenizer " + changes + b"\n")
    return whole.hexdigest()
