"""Which files a folder or a glob stands for, and what of it is not read."""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from splade_os.errors import InputError
from splade_os.ingest.sources.base import Skipped
from splade_os.ingest.sources.compression import COMPRESSIONS
from splade_os.ingest.sources.formats import FORMATS, format_of_name

_BEIR_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_BEIR_OTHERS = ("corpus.jsonl.gz", "queries.jsonl", "queries.jsonl.gz", "qrels")
_MARKERS = (
    "_SUCCESS",
    "_metadata",
    "_common_metadata",
    ".DS_Store",
    ".gitattributes",
    ".gitignore",
)
_NO_DOCUMENTS = ("readme", "license", "licence", "notice", "changelog", "provenance")
_HIDDEN = (".", "_")  # as Hadoop and Spark have it


@dataclass
class Found:
    """Files to be read, and the rest; ``name``: what they are called, if not by the folder."""

    name: str | None = None
    files: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def is_stream(file: str) -> bool:
    """Whether it can be read only once: a pipe (also ``/dev/stdin``, ``<(...)``)."""
    if file == "-":
        return True
    try:
        mode = Path(file).stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def files_of_folder(folder: Path, any_suffix: bool) -> Found:
    """The corpus of a BEIR collection, else every file with the suffix of a format, or without
    any suffix, in the folder and those in it.

    Args:
        any_suffix: the format is known: files without a suffix are of it.

    Raises:
        InputError: there is none, or the folder cannot be read.
    """
    for name in _BEIR_CORPUS:
        if (folder / name).is_file():
            found = Found(str(folder / name), [str(folder / name)])
            for other in _children(folder, found):
                if other.name != name:
                    beir = other.name in _BEIR_OTHERS or _is_harmless(other)
                    found.skipped.append(
                        Skipped(str(other), f"only {name} of a BEIR collection is read", beir)
                    )
            return found
    found = Found()
    _walk(folder, any_suffix, found)
    found.files.sort(key=lambda file: Path(file).parts)
    if not found.files:
        shown = "".join(f"\n  {skipped}" for skipped in found.skipped[:5])
        raise InputError(
            f"The folder {folder} holds no {' or '.join(_BEIR_CORPUS)}, and no other file that "
            f"can be read.{shown}",
            hint=f"Formats: {', '.join(FORMATS)} (also {', '.join(COMPRESSIONS)}); files without "
            "a suffix are read if their content tells, or with --format.",
        )
    return found


def files_of_glob(pattern: str) -> Found:
    """The files that a glob matches.

    Raises:
        InputError: there is none.
    """
    found = Found()
    for match in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        path = Path(match)
        if path.is_file() or is_stream(match):
            found.files.append(match)
        elif path.is_dir():
            if "**" not in pattern:  # else the folder's own files match, too
                found.skipped.append(Skipped(match, "a folder, where the glob is to name files"))
        else:
            found.skipped.append(Skipped(match, "a link to nothing"))
    for folder in _folders_of(pattern):
        if not os.access(folder, os.R_OK | os.X_OK):
            found.skipped.append(Skipped(folder, "the folder cannot be read: permission denied"))
    if not found.files:
        shown = "; ".join(str(skipped) for skipped in found.skipped[:5])
        raise InputError(
            f"There is no source {pattern}.{shown and f' Left out: {shown}.'}",
            hint="Name a file, a folder, a glob or -.",
        )
    return found


def _walk(folder: Path, any_suffix: bool, found: Found) -> None:
    for path in _children(folder, found):
        reason = _reason(path, any_suffix)
        if reason is not None:
            found.skipped.append(Skipped(str(path), reason, _is_harmless(path)))
        elif path.is_dir():
            _walk(path, any_suffix, found)
        else:
            found.files.append(str(path))


def _children(folder: Path, found: Found) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        found.skipped.append(Skipped(str(folder), f"the folder cannot be read: {error.strerror}"))
        return []


def _reason(path: Path, any_suffix: bool) -> str | None:
    """Why a file or folder is not read, if it is not."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link to nothing: {error.strerror}" if path.is_symlink() else str(error.strerror)
    if stat.S_ISDIR(mode):
        return "a link to a folder is not followed" if path.is_symlink() else None
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder"
    if path.name.startswith(_HIDDEN):
        return "hidden by its name, as what begins with a dot or an underscore"
    if format_of_name(path.name) is not None:
        return None
    if not path.stem.partition(".")[2] and (not path.suffix or path.suffix in COMPRESSIONS):
        if any_suffix or _tells(path):
            return None
        return "no suffix, and its content does not tell its format"
    return f"the suffix {path.suffix} is that of no format"


def _tells(path: Path) -> bool:
    from splade_os.ingest.sources.files import content_format

    return content_format(str(path)) is not None


def _is_harmless(path: Path) -> bool:
    if path.name in _MARKERS or path.suffix == ".crc":
        return True
    if path.name.lower().split(".")[0] in _NO_DOCUMENTS and format_of_name(path.name) is None:
        return True
    return path.is_file() and not path.stat().st_size


def _folders_of(pattern: str) -> list[str]:
    """Every folder in which the glob looks for something."""
    folder = os.path.dirname(pattern)  # noqa: PTH120
    if not folder or not glob.has_magic(pattern):
        return []
    above = _folders_of(folder) if glob.has_magic(folder) else []
    here = glob.glob(folder, recursive=True) or [folder]  # noqa: PTH207
    return [*above, *(each for each in here if os.path.isdir(each))]  # noqa: PTH112
