"""An index into whose documents the IDF is folded: queries are bare tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder

from splade_os import EXACT, SearchClient
from splade_os.engines import Engine
from splade_os.errors import ModelMismatchError, SettingsError
from splade_os.features import truncate
from tests import tiny_models
from tests.search.test_search import WORDS, fill, records


def test_scores_are_those_of_weighted_queries(engine: Engine, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router", fold_idf=True)
    client = SearchClient(engine=engine, index=index)
    oracle = SparseEncoder(str(tiny / "router"), device="cpu")
    documents = oracle.encode_document([record.text for record in records(60)]).to_dense().numpy()
    table = np.zeros(documents.shape[1], np.float32)
    for text in ("the search engine", "cat and dog in the red sun", " ".join(WORDS)):
        query = oracle.encode_query([text]).to_dense().numpy()[0]
        table[query > 0] = query[query > 0]  # presence times weight: the table itself
        stored = truncate((documents * table)[:, query > 0]).sum(1)
        results = client.search(text, 60, mode="idf")
        assert set(results.query.values()) == {1.0}
        assert len(results) == (stored > 0).sum() > 0
        for hit in results:
            row = int(hit.id[1:]) - 1
            assert hit.score == pytest.approx(stored[row], rel=1e-4)
            # what another index gives, but for the 8 bits of precision of a stored weight
            assert hit.score == pytest.approx(float(documents[row] @ query), rel=2**-7)


def test_what_would_count_the_idf_twice(engine: Engine, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router", count=5, fold_idf=True)
    with pytest.raises(SettingsError, match=r"hold the IDF already.*count twice"):
        SearchClient(engine=engine, index=index).search("cat", mode="encoder")
    with pytest.raises(SettingsError, match="with another table"):
        SearchClient(engine=engine, index=index, idf="index").search("cat", mode="idf")
    with pytest.raises(ModelMismatchError, match="fold idf"):
        fill(engine, index, tiny / "router", count=5)


def test_other_table(engine: Engine, index: str, tiny: Path, tmp_path: Path) -> None:
    fill(engine, index, tiny / "router", count=5, fold_idf=True)
    other = tiny_models.change_table(tiny / "router", tmp_path / "other", slice(9, 10), 2.5)
    with pytest.raises(ModelMismatchError, match="Another IDF table"):
        SearchClient(engine=engine, index=index, model=str(other)).search("cat", mode="idf")
    unchecked = SearchClient(engine=engine, index=index, model=str(other), check_model=False)
    assert not unchecked.search(" ".join(WORDS), query_pruning=EXACT, mode="idf").reason
