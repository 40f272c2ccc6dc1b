"""Run files and comparisons, against trec_eval, scipy and arithmetic."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from click.testing import CliRunner, Result

from splade_os.cli import cli
from splade_os.errors import InputError, MissingExtraError, SpladeWarning
from splade_os.evaluation.beir import judge
from splade_os.evaluation.comparison import compare, holm, randomisation_test
from splade_os.evaluation.measures import Scores
from splade_os.evaluation.trec import read_qrels, read_queries, read_run, write_run
from tests.evaluation.collections import make, write_beir

RUN = {"q1": {"d1": 3.25, "d2": 3.25, "d3": 0.1}, "q2": {"d9": 1e-7}}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", ["run.trec", "runs/deep/run.trec.gz"])
def test_runs_come_back_and_others_can_read_them(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_run(file, RUN, "test")
    assert read_run(file) == RUN
    text = (
        gzip.decompress(file.read_bytes()) if name.endswith("gz") else file.read_bytes()
    ).decode()
    theirs = [tuple(hit) for hit in ir_measures.read_trec_run(text)]
    assert [(q, d, s) for q, hits in RUN.items() for d, s in hits.items()] == theirs
    assert [line.split()[3] for line in text.splitlines()] == ["1", "2", "3", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 d1 1 0.5 x\nq1 Q0 d1 2 0.4 x\n", r"run:2: the document d1 comes twice"),
        ("q1 Q0 d1 1 nan x\n", r"run:1: the score 'nan'"),
        ("q1 Q0 d1 1 0.5\n", r"run:1 has 5 columns"),
        ("\n\n", "no hit"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_damaged_runs(tmp_path: Path, text: str | bytes, message: str) -> None:
    file = tmp_path / "run"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_run(file)


def test_broken_gzip(tmp_path: Path) -> None:
    file = tmp_path / "run.gz"
    lines = "".join(f"q1 Q0 d{i} 1 0.5 x\n" for i in range(1000))
    file.write_bytes(gzip.compress(lines.encode())[:-9])
    with pytest.raises(InputError, match="cannot be read to its end"):
        read_run(file)


def test_ids_with_blanks_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'a b' cannot stand in a TREC run"):
        write_run(tmp_path / "run", {"q": {"a b": 1.0}}, "x")
    assert not (tmp_path / "run").exists()


def test_qrels_of_both_forms(tmp_path: Path) -> None:
    wanted = {"q1": {"d1": 2, "d 2": 0}, "q2": {"d1": 1}}
    beir = tmp_path / "test.tsv"
    beir.write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\nq2\td1\t1\n")
    assert read_qrels(beir) == wanted
    trec = tmp_path / "qrels.txt"
    trec.write_text("q1 0 d1 2\nq1\t0\td2\t-1\n\nq2 0 d1 1\n")
    assert read_qrels(trec) == {"q1": {"d1": 2, "d2": -1}, "q2": {"d1": 1}}
    trec.write_text("q1\td1\t1\n")
    with pytest.raises(InputError, match="has 3 columns"):
        read_qrels(trec)
    trec.write_text("q1 0 d1 high\n")
    with pytest.raises(InputError, match="'high' is no whole number"):
        read_qrels(trec)
    with pytest.raises(InputError, match="missing"):
        read_qrels(tmp_path / "nowhere")


def test_queries_of_both_forms(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("1\twhat is it?\n2\ttabs\tinside\n")
    assert read_queries(tmp_path / "q.tsv") == {"1": "what is it?", "2": "tabs\tinside"}
    (tmp_path / "q.jsonl").write_text('{"_id": 1, "text": "what is it?"}\n')
    assert read_queries(tmp_path / "q.jsonl") == {"1": "what is it?"}
    (tmp_path / "q.tsv").write_text("1\twhat\n1\tagain\n")
    with pytest.raises(InputError, match="comes twice"):
        read_queries(tmp_path / "q.tsv")
    (tmp_path / "q.tsv").write_text("1 what\n")
    with pytest.raises(InputError, match="separated by a tab"):
        read_queries(tmp_path / "q.tsv")


def test_randomisation_test_is_exact_for_few_queries() -> None:
    differences = np.array([0.3, -0.1, 0.25, 0.4, 0.05, 0.0, 0.2])
    signs = np.array(list(itertools.product([1, -1], repeat=len(differences))))
    means = np.abs((signs * differences).mean(axis=1))
    expected = float((means >= abs(differences.mean()) - 1e-12).mean())
    assert randomisation_test(differences) == pytest.approx(expected)
    assert randomisation_test(np.zeros(9)) == 1.0


def test_randomisation_test_of_many_queries() -> None:
    random = np.random.default_rng(0)
    luck, real = random.normal(0, 0.2, 400), random.normal(0.05, 0.2, 400)
    assert randomisation_test(luck) > 0.05
    assert randomisation_test(real) < 0.001
    assert randomisation_test(real) == randomisation_test(real)  # the seed is fixed


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_comparison_of_values() -> None:
    a = Scores({"m": 0.5}, {"m": {"q1": 0.2, "q2": 0.8, "q3": 0.5}})
    b = Scores({"m": 0.6}, {"m": {"q3": 0.5, "q2": 0.7, "q1": 0.6}})
    found = compare("A", a, "B", b, "m")
    assert (found.better, found.equal, found.worse) == (1, 1, 1)
    assert list(found.differences) == ["q1", "q3", "q2"]
    assert found.difference == pytest.approx(0.1)
    assert found.low <= found.difference <= found.high


def test_compare_command(tmp_path: Path) -> None:
    corpus, queries, qrels = made = make()
    folder = write_beir(tmp_path / "small", made)
    good = {q: {d: float(r) for d, r in judged.items()} for q, judged in qrels.items()}
    bad = {q: dict.fromkeys(list(corpus)[:5], 1.0) for q in queries}
    write_run(tmp_path / "good.trec", good, "good")
    write_run(tmp_path / "bad.trec", bad, "bad")
    both = [tmp_path / "bad.trec", tmp_path / "good.trec"]
    done = run("compare", *both, "--qrels", folder, "--measures", "nDCG@10", "--json")
    assert done.exit_code == 0, done.output
    by = {row["measure"]: row for row in json.loads(done.stdout)["measures"]}
    assert by["ndcg@10"]["mean_b"] == pytest.approx(1) and by["ndcg@10"]["p"] < 0.01
    assert by["nDCG@10"]["mean_b"] == pytest.approx(1)
    assert by["ndcg@10"]["better"] > 20
    shown = run("compare", *both, "--qrels", folder / "qrels" / "test.tsv", "--show", "2")
    assert "better with good.trec" in shown.stdout and "better with bad.trec" not in shown.stdout
    assert run("compare", *both, "--qrels", folder, "--by", "bleu").exit_code == 2
    write_run(tmp_path / "other.trec", {"nobody": {"d": 1.0}}, "x")
    done = run("compare", both[0], tmp_path / "other.trec", "--qrels", folder)
    assert done.exit_code == 2 and "none of the judged queries" in done.stderr


@pytest.mark.parametrize("missing", ["scipy", "matplotlib", "ir_measures"])
def test_what_is_missing_is_said_at_once(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from splade_os.evaluation import extra

    find = extra.find_spec
    monkeypatch.setattr(extra, "find_spec", lambda n: None if n == missing else find(n))
    for command in (["evaluate", "nowhere"], ["compare", "a", "b", "--qrels", "c"]):
        error = run(*command).exception
        assert isinstance(error, MissingExtraError) and "splade-os[eval]" in str(error)


@pytest.mark.parametrize("number", [0, -7, 2**63 - 1, 2**64, 2**64 + 1, 10**40, -(10**30) - 1])
def test_numbers_are_ids_to_the_last_digit(tmp_path: Path, number: int) -> None:
    """Two queries whose ids differ in the last of many digits stay two."""
    file = tmp_path / "queries.jsonl"
    rows = [{"_id": number, "text": "red"}, {"_id": number + 1, "text": "sun"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_queries(file) == {str(row["_id"]): row["text"] for row in rows}


@pytest.mark.parametrize("identifier", ["1.5", "1e3", "true", "[1]", '{"$oid": "5"}', "null"])
def test_ids_that_are_none(tmp_path: Path, identifier: str) -> None:
    file = tmp_path / "queries.jsonl"
    file.write_text(f'{{"_id": {identifier}, "text": "red"}}\n')
    with pytest.raises(InputError, match="whole number"):
        read_queries(file)


def test_a_judged_query_without_a_text() -> None:
    """It is told and left out; where none has a text, nothing belongs together."""
    qrels = {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d1": 0}}
    with pytest.warns(SpladeWarning, match="1 of 3 judged queries have no text, 'q2' among"):
        judged = judge({"q1": "one", "q3": "three"}, qrels, "here")
    assert judged.queries == {"q1": "one"} and judged.qrels == {"q1": {"d1": 1}}
    with pytest.raises(InputError, match="3 of 3"):
        judge({"other": "x"}, qrels, "here")
