"""SPLADE for OpenSearch and Elasticsearch, from the client side.

Importing this package loads neither torch nor a client of an engine: every public name is
imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from splade_os.encoding.document import DocumentEncoder as DocumentEncoder
    from splade_os.encoding.idf import IdfTable as IdfTable
    from splade_os.encoding.query import load_query_encoder as load_query_encoder
    from splade_os.engines import Cursor as Cursor
    from splade_os.engines import TwoPhase as TwoPhase
    from splade_os.engines import connect as connect
    from splade_os.errors import SpladeError as SpladeError
    from splade_os.identity import ModelIdentity as ModelIdentity
    from splade_os.ingest.pipeline import IngestOptions as IngestOptions
    from splade_os.ingest.pipeline import IngestReport as IngestReport
    from splade_os.ingest.pipeline import ingest_documents as ingest_documents
    from splade_os.online.async_index import AsyncIndex as AsyncIndex
    from splade_os.online.index import Index as Index
    from splade_os.online.results import DocumentError as DocumentError
    from splade_os.online.results import DocumentResult as DocumentResult
    from splade_os.search.async_client import AsyncSearchClient as AsyncSearchClient
    from splade_os.search.client import SearchClient as SearchClient
    from splade_os.search.options import EXACT as EXACT
    from splade_os.search.options import Fusion as Fusion
    from splade_os.search.options import QueryPruning as QueryPruning
    from splade_os.search.results import Hit as Hit
    from splade_os.search.results import Results as Results
    from splade_os.vectors import SparseBatch as SparseBatch

_HOMES = {
    "AsyncIndex": "splade_os.online.async_index:AsyncIndex",
    "AsyncSearchClient": "splade_os.search.async_client:AsyncSearchClient",
    "Cursor": "splade_os.engines:Cursor",
    "DocumentEncoder": "splade_os.encoding.document:DocumentEncoder",
    "DocumentError": "splade_os.online.results:DocumentError",
    "DocumentResult": "splade_os.online.results:DocumentResult",
    "EXACT": "splade_os.search.options:EXACT",
    "Fusion": "splade_os.search.options:Fusion",
    "Hit": "splade_os.search.results:Hit",
    "IdfTable": "splade_os.encoding.idf:IdfTable",
    "Index": "splade_os.online.index:Index",
    "IngestOptions": "splade_os.ingest.pipeline:IngestOptions",
    "IngestReport": "splade_os.ingest.pipeline:IngestReport",
    "ModelIdentity": "splade_os.identity:ModelIdentity",
    "QueryPruning": "splade_os.search.options:QueryPruning",
    "Results": "splade_os.search.results:Results",
    "SearchClient": "splade_os.search.client:SearchClient",
    "SparseBatch": "splade_os.vectors:SparseBatch",
    "SpladeError": "splade_os.errors:SpladeError",
    "TwoPhase": "splade_os.engines:TwoPhase",
    "connect": "splade_os.engines:connect",
    "ingest_documents": "splade_os.ingest.pipeline:ingest_documents",
    "load_query_encoder": "splade_os.encoding.query:load_query_encoder",
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
