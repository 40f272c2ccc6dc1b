"""Without its framework, a module says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import sys
sys.modules["{package}"] = None  # as if it were not installed
from splade_os.errors import MissingExtraError
try:
    import splade_os.integrations.{module}
except MissingExtraError as error:
    print(error.hint)
"""


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("haystack", "haystack", ""),
        ("langchain", "langchain_core", ""),
        ("langchain_qdrant", "langchain_qdrant", "langchain-qdrant"),
        ("llama_index", "llama_index", "llama-index"),
        ("mcp", "mcp", ""),
        ("mteb", "mteb", ""),
        ("pyterrier", "pyterrier", ""),
        ("sentence_transformers", "sentence_transformers", "sentence-transformers"),
    ],
)
def test_it_says_what_to_install(module: str, package: str, extra: str) -> None:
    script = _SCRIPT.format(module=module, package=package)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == f"Install them: pip install 'splade-os[{extra or module}]'\n", done
