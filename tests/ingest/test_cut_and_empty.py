"""What was cut off and what has no content: counted and said, in every place of a report."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from splade_os.cli import cli
from splade_os.engines import Engine
from splade_os.ingest.metrics import metrics_server
from splade_os.ingest.report import IngestReport

TEXTS = ["the cat " * 90, "the dog", "", "\u200b\u200b", "日本", "red sun " * 40, "the cat " * 30]


def write(folder: Path) -> Path:
    file = folder / "docs.jsonl"
    rows = [{"_id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def expected(model: Path, length: int) -> tuple[int, float]:
    """Documents cut, and the share of tokens lost, from the tokenizer alone."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    known = [text for text in TEXTS if text.isascii() and text]
    lengths = [len(e.ids) for e in tokenizer.encode_batch(known)]
    lost = sum(max(0, n - length) for n in lengths)
    return sum(n > length for n in lengths), lost / sum(lengths)


def test_report_and_dry_run(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path
) -> None:
    model, length = tiny / "bert", 32
    cut, share = expected(model, length)
    assert 0 < cut < len(TEXTS)
    command = ["ingest", str(write(tmp_path)), "--url", engine_url, "--index", index, "--model",
               str(model), "--text", "text", "--max-length", str(length), "--json"]  # fmt: skip
    dry = CliRunner().invoke(cli, [*command, "--dry-run"])
    told = json.loads(dry.stdout)
    assert (told["cut"], told["empty"], told["lost_share"]) == (cut, 3, pytest.approx(share))
    plain = CliRunner().invoke(cli, [*command[:-1], "--dry-run"])
    assert f"{share:.1%} of all tokens" in plain.stdout
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["cut"], report["empty"]) == (cut, 3)
    assert report["lost_share"] == pytest.approx(share)
    assert report["created"] == len(TEXTS)
    assert f"{cut} are longer" in done.stderr
    assert f"{share:.1%} of all tokens" in done.stderr
    assert "3 have no content" in done.stderr
    field = engine.index_meta(index).field
    stored = engine.documents(index, ["d1", "d2", "d3", "d4"], [field])
    assert [bool(stored[f"d{i}"].get(field)) for i in (1, 2, 3, 4)] == [True, False, False, False]


def test_nothing_is_cut_in_chunks(tiny: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli,
        ["ingest", str(write(tmp_path)), "--url", f"sqlite:///{tmp_path}/e.db", "--index", "x",
         "--model", str(tiny / "bert"), "--text", "text", "--max-length", "32",
         "--long-texts", "chunk", "--json"],
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (done.exit_code, report["cut"], report["tokens_lost"]) == (0, 0, 0)


def test_metrics() -> None:
    pytest.importorskip("prometheus_client")
    port = 19_643
    with metrics_server(port, "x") as update:
        update(IngestReport("x", cut=3, tokens=60, tokens_lost=40))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    assert 'splade_os_ingest_cut_total{index="x"} 3.0' in text
    assert 'splade_os_ingest_tokens_lost_total{index="x"} 40.0' in text


def test_encode_and_ingest_agree_on_what_is_empty(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.jsonl"
    done = CliRunner().invoke(
        cli,
        ["encode", str(write(tmp_path)), "--model", str(tiny / "bert"), "--text", "text",
         "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    vectors = [json.loads(line)["vector"] for line in out.open()]
    assert [bool(vector) for vector in vectors] == [True, True, False, False, False, True, True]


@pytest.mark.parametrize("mode", ["encoder", "hybrid", "idf"])
def test_normal_form_is_remembered(
    engine: Engine, engine_url: str, index: str, tiny: Path, tmp_path: Path, mode: str
) -> None:
    from splade_os import SearchClient

    file = tmp_path / "docs.jsonl"
    wide = "\uff44\uff4f\uff47"
    file.write_text(json.dumps({"_id": "wide", "text": f"the {wide}"}) + "\n")
    command = ["ingest", str(file), "--url", engine_url, "--index", index, "--text", "text"]
    more = ["--model", str(tiny / "router")]
    done = CliRunner().invoke(cli, [*command, *more, "--normalize", "nfkc"])
    assert done.exit_code == 0, done.stderr
    assert engine.index_meta(index).model.normalize == "nfkc"
    assert CliRunner().invoke(cli, command).exit_code == 0  # as the index says
    other = CliRunner().invoke(cli, [*command, *more, "--normalize", "none", "--restart"])
    assert "normalize 'none' against 'nfkc'" in str(other.exception)
    client = SearchClient(engine=engine, index=index, model=str(tiny / "router"))
    queries = [client.search(text, mode=mode).query for text in (f"the {wide}", "the dog")]  # type: ignore[arg-type]
    assert queries[0] == queries[1]
    assert queries[0]
