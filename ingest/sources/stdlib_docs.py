"""Real text that every machine has: the docstrings of the Python standard library."""

from __future__ import annotations

import ast
import inspect
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Literal

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Item
from splade_os.ingest.sources.base import SourceOptions

_SKIPPED_FOLDERS = {
    "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo",
    "ensurepip", "encodings", "pydoc_data", "__pycache__", "lib-dynload", "_pyrepl",
}  # fmt: skip
# Modules written in C have their docstrings only at run time; these are safe to import.
_COMPILED = ("builtins", "itertools", "math", "time", "zlib", "binascii", "array", "sys")
_SHORTEST = 60  # characters; below, a docstring says no more than the name does
_CUT = 500  # characters of text per document: the first paragraphs

Document = dict[str, str]


class StdlibSource:
    """The documents of `stdlib_documents`."""

    name = "python:stdlib"
    unit: Literal["documents"] = "documents"
    total: int | None = None
    repeatable = True

    def __init__(self) -> None:
        self.done = 0

    def fingerprint(self) -> str:
        return f"{self.name} {sys.version}"

    def items(self, skip: int = 0) -> Iterator[Item]:
        for number, document in enumerate(stdlib_documents(), 1):
            self.done = number
            if number > skip:
                yield Item(f"{self.name}:{number}", value=document)


def open_stdlib(rest: str, options: SourceOptions) -> StdlibSource:
    """``python:stdlib``; there is nothing else.

    Raises:
        InputError: something else.
    """
    del options
    if rest != "stdlib":
        raise InputError(f"There is no source python:{rest}.", hint="Only python:stdlib.")
    return StdlibSource()


def stdlib_documents() -> Iterator[Document]:
    """One document per public module, class and function that says what it does.

    Each has ``_id`` (qualified name), ``title``, ``module``, ``signature`` and ``text``; the
    order is the same on every run of one Python version.
    """
    seen: set[str] = set()
    for document in (*_from_source(), *_from_compiled()):
        if document["_id"] not in seen and len(document["text"]) >= _SHORTEST:
            seen.add(document["_id"])
            yield document


def _from_source() -> Iterator[Document]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        if _SKIPPED_FOLDERS.intersection(parts):
            continue
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if parts[0] not in sys.stdlib_module_names or any(p.startswith("_") for p in parts):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # old escape sequences in the library itself
                tree = ast.parse(file.read_bytes())
        except (SyntaxError, OSError, ValueError):
            continue
        yield from _walk(tree, ".".join(parts), ".".join(parts))


def _walk(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    name: str,
    module: str,
) -> Iterator[Document]:
    text = ast.get_docstring(node)
    if text:
        signature = ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            signature = f"{node.name}({ast.unparse(node.args)})"
        yield _document(name, module, signature, text)
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(
                child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ) and not child.name.startswith("_"):
                yield from _walk(child, f"{name}.{child.name}", module)


def _from_compiled() -> Iterator[Document]:
    for name in _COMPILED:
        module = import_module(name)
        for attribute, value in sorted(vars(module).items()):
            if attribute.startswith("_") or not callable(value):
                continue
            text = inspect.getdoc(value)
            if text and getattr(value, "__module__", name) == name:
                title = attribute if name == "builtins" else f"{name}.{attribute}"
                yield _document(title, name, "", text)


def _document(name: str, module: str, signature: str, text: str) -> Document:
    text = " ".join(text.split())
    if len(text) > _CUT:
        text = text[:_CUT].rsplit(" ", 1)[0] + " ..."
    return {"_id": name, "title": name, "module": module, "signature": signature, "text": text}
