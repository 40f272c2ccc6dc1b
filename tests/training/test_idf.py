"""Tables counted on documents, against OpenSearch's own."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from transformers import AutoTokenizer

from splade_os.cli.export import export as export_command
from splade_os.cli.idf import idf as command
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import read_layout
from splade_os.statistics import TermStatistics
from splade_os.vocabulary import Vocabulary
from tests.training.conftest import make_rows

THEIRS = Path(__file__).parents[3] / "shared/data/bert-base-uncased/opensearch-idf.json.gz"
MSMARCO = 8_841_823


def test_formula_is_that_of_opensearch() -> None:
    """Their table of MS MARCO is ours, from the document frequencies that it stands for."""
    if not THEIRS.is_file():
        pytest.skip(f"OpenSearch's table is not at {THEIRS}")
    theirs = json.loads(gzip.decompress(THEIRS.read_bytes()))
    tokens = list(theirs)
    values = np.array([theirs[t] for t in tokens])
    seen = values != 1.0
    frequencies = (MSMARCO + 1) / np.exp(values) - 0.5
    whole = np.round(frequencies).astype(np.int64)
    exact = seen & (frequencies < 1e5)  # for larger ones their digits are too few
    assert np.abs(frequencies - whole)[exact].max() < 0.05  # they are counts
    statistics = TermStatistics(MSMARCO, 0, whole)
    ours = IdfTable.from_statistics(statistics, Vocabulary(tokens, set())).weights
    np.testing.assert_allclose(ours[seen], values[seen], rtol=1e-5)
    assert seen.sum() == len(tokens) - 1530


def test_command(tiny: Path, tmp_path: Path) -> None:
    """Counted as get_idf.py counts, with transformers' tokenizer."""
    texts = [row["positive"] for row in make_rows(50)] + ["", "  "]
    source = tmp_path / "corpus.jsonl"
    source.write_text(
        "\n".join(json.dumps({"_id": str(i), "text": t}) for i, t in enumerate(texts))
    )
    out = tmp_path / "idf"
    done = CliRunner().invoke(
        command, [str(source), "--model", str(tiny / "router"), "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    written = json.loads((out / "idf.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(read_layout(tiny / "router").query.folder)
    counts: Counter[str] = Counter()
    documents = 0
    for text in texts:
        tokens = tokenizer.convert_ids_to_tokens(
            tokenizer(text, add_special_tokens=False).input_ids
        )
        documents += bool(tokens)
        counts.update(set(tokens) - set(tokenizer.all_special_tokens))
    assert documents == 50 and len(counts) > 30
    for token in tokenizer.get_vocab():
        df = counts[token]
        expected = np.log(1 + (documents - df + 0.5) / (df + 0.5)) if df else 1.0
        assert written[token] == pytest.approx(expected, rel=1e-6), token
    lines = (out / "query_token_weights.txt").read_text().splitlines()
    assert {t: float(w) for t, w in (line.split("\t") for line in lines)} == written


def test_export(tiny: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        export_command, [str(tiny / "router"), "--to", "idf", "-o", str(tmp_path / "t")]
    )
    assert done.exit_code == 0, done.output
    layout = read_layout(tiny / "router")
    vocabulary = Vocabulary(list(json.loads((tmp_path / "t" / "idf.json").read_text())), set())
    again = IdfTable.from_file(tmp_path / "t" / "idf.json", vocabulary)
    own = IdfTable.from_file(layout.query.weights, vocabulary)  # type: ignore[union-attr]
    kept = own.weights > 0.01
    kept[:5] = False  # special tokens
    assert kept.any()
    np.testing.assert_array_equal(again.weights[kept], own.weights[kept])
