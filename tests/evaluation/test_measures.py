"""The measures, against sentence-transformers' evaluator and ir-measures."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from sentence_transformers.sparse_encoder.evaluation import SparseInformationRetrievalEvaluator

from splade_os.errors import SettingsError
from splade_os.evaluation.measures import card_measures, depth_for, parse_measures, score
from splade_os.evaluation.runs import Qrels, Run, judged_queries


def random_run(seed: int, ties: bool = True) -> tuple[Qrels, Run]:
    random = np.random.default_rng(seed)
    documents = [f"d{i}" for i in range(300)]
    qrels: Qrels = {}
    run: Run = {}
    for i in range(40):
        judged = random.choice(documents, random.integers(1, 150), replace=False)
        qrels[f"q{i}"] = {str(d): int(random.integers(0, 4)) for d in judged}
        found = random.choice(documents, random.integers(1, 200), replace=False)
        scores = random.integers(1, 40, len(found)) / 4 if ties else random.random(len(found))
        run[f"q{i}"] = dict(zip(map(str, found), map(float, scores), strict=True))
    del run["q7"]  # found nothing
    return qrels, run


@pytest.mark.parametrize("seed", range(5))
def test_card_measures_are_those_of_sentence_transformers(seed: int) -> None:
    qrels, run = random_run(seed)
    evaluator = SparseInformationRetrievalEvaluator(
        queries={q: q for q in qrels},
        corpus={"d": "d"},
        relevant_docs={q: {d for d, r in judged.items() if r > 0} for q, judged in qrels.items()},
    )
    theirs = evaluator.compute_metrics(
        [
            [{"corpus_id": d, "score": s} for d, s in run.get(q, {}).items()]
            for q in evaluator.queries_ids
        ]
    )
    expected = {
        f"{name.removesuffix('@k')}@{k}": value
        for name, values in theirs.items()
        for k, value in values.items()
    }
    ours = card_measures(qrels, run)
    assert ours.means == pytest.approx(expected, abs=1e-9)
    for name, values in ours.per_query.items():
        assert list(values) == judged_queries(qrels)
        assert np.mean(list(values.values())) == pytest.approx(expected[name], abs=1e-9)


def test_ir_measures_pass_through() -> None:
    qrels, run = random_run(1)
    measures = parse_measures(["nDCG@10", "R@100", "AP", "P(rel=2)@5"])
    ours = score(qrels, run, measures)
    for measure in measures:
        assert (
            ours.means[str(measure)] == ir_measures.calc_aggregate([measure], qrels, run)[measure]
        )
        assert set(ours.per_query[str(measure)]) == set(qrels)
    assert {"ndcg@10", "map@100", "nDCG@10"} <= set(ours.means)
    assert depth_for(measures) == 1000
    assert depth_for(measures[:1]) == 100


@pytest.mark.parametrize("name", ["nonsense", "nDCG@", "alpha_nDCG@10", "__import__('os')"])
def test_unknown_measure(name: str) -> None:
    with pytest.raises(SettingsError, match="ir-measures cannot compute"):
        parse_measures([name])


def test_nothing_is_divided_by_zero() -> None:
    qrels = {"q": {"d": 1}, "without": {"d": 0}}
    means = card_measures(qrels, {}).means
    assert set(means.values()) == {0.0}
    assert card_measures(qrels, {"q": {"d": 1.0}}).means["ndcg@10"] == 1.0
