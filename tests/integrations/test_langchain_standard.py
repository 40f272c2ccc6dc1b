"""The standard tests that LangChain has for its integrations (langchain-tests), as they stand.

In the mode ``encoder``: they want every document for a query of one word, and short texts share
terms by expansion alone.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from splade_os import SearchClient
from splade_os.engines import Engine
from tests.integrations.conftest import framework

framework("langchain_tests")
from langchain_core.retrievers import BaseRetriever  # noqa: E402
from langchain_core.vectorstores import VectorStore  # noqa: E402
from langchain_tests.integration_tests import (  # noqa: E402
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)

from splade_os.integrations.langchain import SpladeRetriever, SpladeVectorStore  # noqa: E402


@pytest.fixture(autouse=True)
def freed() -> Iterator[None]:
    """Each of these hundred tests loads the model, which is in cycles of references: Python, which
    knows nothing of the 100 MB behind it, would keep those of the whole run."""
    yield
    gc.collect()


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, engine: Engine, index: str) -> Iterator[VectorStore]:
        store = SpladeVectorStore(index=index, engine=engine, mode="encoder")
        yield store
        store.passages.close()


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def documents(self, engine: Engine, index: str) -> Iterator[None]:
        store = SpladeVectorStore(index=index, engine=engine)
        store.add_texts([f"red shoe {i}" for i in range(5)])
        store.passages.documents.refresh()
        self.client = SearchClient(index=index, engine=engine)
        yield
        store.passages.close()

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return SpladeRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"client": self.client}

    @property
    def retriever_query_example(self) -> str:
        return "red shoe"
