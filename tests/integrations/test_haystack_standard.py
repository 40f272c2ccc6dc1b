"""The tests that Haystack has for document stores (its mixins), as they stand.

Documents are compared in any order: an engine has none. What ``write_documents`` does with the
policy ``NONE`` each store says itself: ours overwrites.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import pytest

from splade_os.errors import IndexNotFoundError
from tests.conftest import url_of
from tests.integrations.conftest import ENGINES, framework

framework("haystack")
from haystack import Document  # noqa: E402
from haystack.document_stores.types import DuplicatePolicy  # noqa: E402
from haystack.testing import document_store as standard  # noqa: E402
from haystack.testing import document_store_async as standard_async  # noqa: E402

from splade_os.integrations.haystack import SpladeDocumentStore  # noqa: E402


@pytest.fixture(scope="module", params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return url_of(request.param, request, tmp_path_factory.mktemp("haystack"))


@pytest.fixture(scope="module")
def opened(url: str) -> Iterator[SpladeDocumentStore]:
    """One for all tests: each of them loading the model would take minutes."""
    store = SpladeDocumentStore(url, f"test-{uuid.uuid4().hex[:12]}")
    yield store
    store.passages.documents.close()
    with contextlib.suppress(IndexNotFoundError):
        store.passages.engine.delete_index(store.passages.name)
    store.passages.close()


class TestDocumentStore(
    standard.DocumentStoreBaseExtendedTests
    if hasattr(standard, "DocumentStoreBaseExtendedTests")
    else standard.DocumentStoreBaseTests
):
    @pytest.fixture
    def document_store(self, opened: SpladeDocumentStore) -> SpladeDocumentStore:
        opened.delete_all_documents()
        return opened

    @staticmethod
    def assert_documents_are_equal(received: list[Document], expected: list[Document]) -> None:
        by_id = sorted(received, key=lambda d: d.id), sorted(expected, key=lambda d: d.id)
        assert by_id[0] == by_id[1]

    def test_write_documents(self, document_store: SpladeDocumentStore) -> None:
        old, new = (Document(id="1", content=text) for text in ("old", "new"))
        assert document_store.write_documents([old]) == 1
        assert document_store.write_documents([new], DuplicatePolicy.NONE) == 1
        self.assert_documents_are_equal(document_store.filter_documents(), [new])


class TestAsync(
    standard_async.CountDocumentsAsyncTest,
    standard_async.WriteDocumentsAsyncTest,
    standard_async.DeleteDocumentsAsyncTest,
    standard_async.FilterDocumentsAsyncTest,
):
    document_store = TestDocumentStore.document_store
    assert_documents_are_equal = staticmethod(TestDocumentStore.assert_documents_are_equal)

    async def test_write_documents_async(self, document_store: SpladeDocumentStore) -> None:
        assert await document_store.write_documents_async([Document(id="1", content="x")]) == 1
        assert await document_store.count_documents_async() == 1
