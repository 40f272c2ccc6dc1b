"""A search says how much of its query took part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SparseEncoder
from transformers import AutoTokenizer

from splade_os import EXACT, QueryPruning, SearchClient, TwoPhase
from splade_os.cli import cli
from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.engines import Engine
from splade_os.search.options import DEFAULT_PRUNING
from splade_os.search.results import UsedTerms
from tests import tiny_models
from tests.search.test_search import WORDS, fill

LONG = " ".join(WORDS)


@pytest.mark.parametrize("name", ["bert", "router"])
def test_encoder(engine: Engine, engine_url: str, index: str, tiny: Path, name: str) -> None:
    """sentence-transformers knows how many terms the query has."""
    fill(engine, index, tiny / name, 20)
    client = SearchClient(engine=engine, index=index)
    oracle = SparseEncoder(str(tiny / name), device="cpu")
    encode = oracle.encode_document if name == "router" else oracle.encode_query
    whole = int((encode([LONG]).to_dense().numpy() > 0).sum())
    (default,) = DEFAULT_PRUNING.values()
    assert default.top and default.two_phase
    results = client.search(LONG, mode="encoder", explain=True)
    kept = min(whole, default.top)
    heaviest = int(default.two_phase.first)
    assert kept > heaviest and results.used == UsedTerms(
        kept, whole, heaviest, default.two_phase.window, results.used.tokens_cut
    )
    assert len(results.query) == kept and f"{kept} of {whole} terms" in str(results.used)
    assert results.to_dict()["used"]["of"] == whole and str(results.used) in results._repr_html_()
    exact = client.search(LONG, mode="encoder", query_pruning=EXACT).used
    assert (exact.terms, exact.of, exact.finding, exact.window) == (whole, whole, whole, None)
    place = ["--url", engine_url, "--index", index]
    for flags in ([], ["--explain"]):
        done = CliRunner().invoke(cli, ["search", LONG, *place, "--mode", "encoder", *flags])
        assert f"query: {kept} of {whole} terms; the {heaviest} heaviest find" in done.stderr
    client.close()


def test_idf(engine: Engine, engine_url: str, index: str, tiny: Path) -> None:
    fill(engine, index, tiny / "router", 20)
    client = SearchClient(engine=engine, index=index)
    text = "the cat and the dog read"
    whole = client.search(text, mode="idf").used
    assert whole.terms == whole.of == whole.finding == len(set(text.split())) and not whole.cut
    pruned = client.search(text, query_pruning=QueryPruning(top=2), mode="idf").used
    assert (pruned.terms, pruned.of) == (2, whole.of) and pruned.cut
    two = client.search(
        text, 7, query_pruning=QueryPruning(two_phase=TwoPhase(1, 7)), mode="idf"
    ).used
    assert (two.terms, two.finding, two.window) == (whole.of, 1, 7) and two.cut
    hybrid = client.search(text, mode="hybrid", query_pruning=QueryPruning(top=3)).used
    assert (hybrid.terms, hybrid.of) == (3, whole.of)
    assert client.search(text, mode="bm25").used == UsedTerms()
    assert client.search("", mode="idf").used == UsedTerms()
    place = ["--url", engine_url, "--index", index]
    plain = CliRunner().invoke(cli, ["search", text, *place])
    assert "terms" not in plain.stderr
    said = CliRunner().invoke(cli, ["search", text, *place, "--top-terms", "2"])
    assert f"query: 2 of {whole.of} terms (--exact" in said.stderr
    said = CliRunner().invoke(cli, ["search", text, *place, "--explain"])
    assert f"query: {whole.of} of {whole.of} terms." in said.stderr
    client.close()


@pytest.mark.parametrize("name", ["bert", "router"])
def test_a_text_that_is_cut(engine: Engine, index: str, tiny: Path, name: str) -> None:
    """transformers' tokenizer without a limit knows how long it is; idf, where no model runs, cuts
    nothing."""
    mode = "encoder"
    fill(engine, index, tiny / name, 20)
    client = SearchClient(engine=engine, index=index)
    text = "cat dog moon " * 40
    folder = tiny / name / ("document_0_Transformer" if name == "router" else "")
    whole = len(AutoTokenizer.from_pretrained(folder)(
        text, truncation=False, add_special_tokens=True)["input_ids"])  # fmt: skip
    results = client.search(text, mode=mode)  # type: ignore[arg-type]
    assert results.used.tokens_cut == whole - tiny_models.MAX_LENGTH
    assert results.used.cut and "behind the maximum length" in str(results.used)
    (other,) = client.search_many([text], mode=mode)  # type: ignore[arg-type]
    assert other.used == results.used  # type: ignore[union-attr]
    assert client.search("cat dog", mode=mode).used.tokens_cut == 0  # type: ignore[arg-type]
    late = client.search(f"{text} river", mode="idf")
    assert late.used.tokens_cut == 0 and "river" in late.query
    client.close()


@pytest.fixture(scope="module")
def encoders(tiny: Path) -> list[IdfQueryEncoder | DocumentEncoder]:
    return [
        IdfQueryEncoder.load(str(tiny / "router")),
        DocumentEncoder.load(str(tiny / "bert"), device="cpu", side="query"),
    ]


@given(texts=st.lists(st.lists(st.sampled_from([*WORDS, "☃", "Ünï", "."]), max_size=90)))
def test_any_length(encoders: list[IdfQueryEncoder], texts: list[list[str]]) -> None:
    joined = [" ".join(words) for words in texts]
    for encoder in encoders:
        cut = encoder.tokens_cut(joined)
        lengths = np.array([len(ids) for ids in encoder.tokenize(joined)])
        assert len(cut) == len(joined)
        for n, length in zip(cut, lengths, strict=True):
            assert n >= 0 and (n == 0 or length == tiny_models.MAX_LENGTH)
