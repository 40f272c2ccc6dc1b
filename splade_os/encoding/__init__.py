"""Text in, `SparseBatch` out. Torch is imported only by what needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splade_os.encoding.document import DocumentEncoder as DocumentEncoder
    from splade_os.encoding.idf import IdfTable as IdfTable
    from splade_os.encoding.layout import ModelLayout as ModelLayout
    from splade_os.encoding.layout import read_layout as read_layout
    from splade_os.encoding.query import QueryEncoder as QueryEncoder
    from splade_os.encoding.query import load_query_encoder as load_query_encoder
    from splade_os.encoding.resolve import resolve_model as resolve_model

_HOMES = {
    "DocumentEncoder": "document",
    "IdfTable": "idf",
    "ModelLayout": "layout",
    "QueryEncoder": "query",
    "load_query_encoder": "query",
    "read_layout": "layout",
    "resolve_model": "resolve",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
