"""Folders that were not downloaded whole: what gives it away, and what to type."""

from __future__ import annotations

from pathlib import Path

from splade_os.errors import ModelError

AGAIN = "Download it again: hf download NAME --local-dir FOLDER (git lfs pull in a clone)."
_LFS = b"version https://git-lfs.github.com/spec/"
_PARTS = ("*.incomplete", ".cache/huggingface/download/**/*.incomplete")


def refuse_pointer(file: Path) -> None:
    """Refuse what a clone without git LFS has in the place of a large file.

    Raises:
        ModelError: naming it.
    """
    with file.open("rb") as handle:
        if handle.read(len(_LFS)) == _LFS:
            raise ModelError(
                f"{file} is a pointer of git LFS: the file itself was not downloaded.", hint=AGAIN
            )


def missing(file: Path, what: str = "") -> ModelError:
    """The error for a file that a folder should have.

    Args:
        what: what it is missing for, behind a colon.
    """
    reason = unfinished(file.parent) or (f": {what}" if what else "")
    return ModelError(f"{file} is missing{reason}.", hint=AGAIN)


def unfinished(folder: Path) -> str:
    """What to say of a folder whose download did not end; nothing of others."""
    parts = [part for pattern in _PARTS for part in folder.glob(pattern)]
    return f": the download of the folder did not end ({parts[0].name})" if parts else ""
