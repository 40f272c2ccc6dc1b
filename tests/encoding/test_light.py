"""The query side loads neither torch nor transformers, and the command line answers at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
import splade_os
from splade_os import SearchClient
from splade_os.encoding import load_query_encoder
rows = load_query_encoder(sys.argv[1]).encode(["the search engine"])
assert rows.nnz > 0
heavy = {"torch", "transformers", "sentence_transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_idf_query_without_torch(tiny: Path) -> None:
    subprocess.run([sys.executable, "-c", CODE, str(tiny / "router")], check=True)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from splade_os.cli import cli; cli(['--help'], standalone_mode=False); "
        "heavy = {'torch', 'numpy', 'pydantic', 'opensearchpy', 'rich'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_public_names() -> None:
    import splade_os

    for name in splade_os.__all__:
        assert getattr(splade_os, name) is not None
    assert set(splade_os.__all__) == {
        "AsyncIndex",
        "DocumentError",
        "DocumentResult",
        "Index",
        "AsyncSearchClient",
        "Cursor",
        "DocumentEncoder",
        "EXACT",
        "Fusion",
        "Hit",
        "IdfTable",
        "IngestOptions",
        "IngestReport",
        "ModelIdentity",
        "QueryPruning",
        "Results",
        "SearchClient",
        "SparseBatch",
        "SpladeError",
        "TwoPhase",
        "__version__",
        "connect",
        "ingest_documents",
        "load_query_encoder",
    }
