"""Pair classification, against sentence-transformers' evaluator."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SparseEncoder
from sentence_transformers.sparse_encoder.evaluation import SparseBinaryClassificationEvaluator

from splade_os.errors import InputError
from splade_os.evaluation.pairs import classify, read_pairs
from tests.evaluation.collections import words
from tests.evaluation.test_live import run


def make_pairs(count: int = 150, seed: int = 2) -> list[tuple[str, str, int]]:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        text = words(random, 3, 12)
        same = int(random.random() < 0.4)
        other = " ".join(random.permutation(text.split())) if same else words(random, 3, 12)
        # equal texts only as the same: rounding alone would order them among the others
        rows.append((text, text if same and random.random() < 0.1 else other, same))
    rows.append(("", "", 1))
    rows.append(("", "cat", 0))
    return rows


def write(file: Path, rows: list[tuple[str, str, int]], header: str) -> Path:
    with file.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return file


@pytest.mark.parametrize("name", ["bert", "router"])
def test_same_figures_as_sentence_transformers(tiny: Path, tmp_path: Path, name: str) -> None:
    rows = make_pairs()
    file = write(tmp_path / "pairs.csv", rows, "a,b,same")
    done = run("evaluate", file, "--pairs", "--columns", "a,b,same", "--model", tiny / name,
               "--device", "cpu", "--dtype", "float32", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    ours = json.loads(done.stdout)
    first, second, labels = zip(*rows, strict=True)
    theirs = SparseBinaryClassificationEvaluator(
        list(first), list(second), list(labels), write_csv=False,
        similarity_fn_names=["cosine", "dot", "euclidean", "manhattan"],
    )(SparseEncoder(str(tiny / name), device="cpu"))  # fmt: skip
    assert ours.pop("pairs") == len(rows) and ours.pop("model")
    assert ours.keys() == theirs.keys()
    assert 0.4 < ours["cosine_accuracy"] < 1
    for figure, value in theirs.items():
        assert ours[figure] == pytest.approx(value, abs=1e-4, rel=1e-5), figure


@pytest.mark.parametrize("seed", range(6))
def test_measures_of_one_similarity(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = (random.integers(0, 12, 60) / 4).astype(np.float32)  # many are equal
    labels = random.random(60) < (0.5 if seed else 0.02)
    labels[0] = True
    theirs = SparseBinaryClassificationEvaluator
    ours = classify(scores, labels)
    numbers = labels.astype(int)
    expected = theirs.find_best_acc_and_threshold(scores, numbers, True)
    assert (ours["accuracy"], ours["accuracy_threshold"]) == pytest.approx(expected)
    found = theirs.find_best_f1_and_threshold(scores, numbers, True)
    mine = [ours[n] for n in ("f1", "precision", "recall", "f1_threshold")]
    assert mine == pytest.approx(found)
    from sklearn.metrics import average_precision_score, matthews_corrcoef

    assert ours["ap"] == pytest.approx(average_precision_score(labels, scores))
    assert ours["mcc"] == pytest.approx(matthews_corrcoef(labels, scores >= ours["f1_threshold"]))


def test_table_and_wrong_pairs(tiny: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "pairs.csv", make_pairs(20), "sentence1,sentence2,label")
    done = run("evaluate", file, "--pairs", "--model", tiny / "bert", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "manhattan" in done.stdout and "accuracy threshold" in done.stdout
    assert run("evaluate", file, "--pairs", "--columns", "a,b").exit_code == 2
    with pytest.raises(InputError, match="both labels"):
        read_pairs(str(write(tmp_path / "one.csv", [("a", "b", 1)], "sentence1,sentence2,label")))
    with pytest.raises(InputError, match="is no pair"):
        read_pairs(str(write(tmp_path / "odd.csv", [("a", "b", 3)], "sentence1,sentence2,label")))
    with pytest.raises(InputError, match="is no pair"):
        read_pairs(str(file), ("sentence1", "sentence2", "score"))
