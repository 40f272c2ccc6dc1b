"""The node dies, its disk is full, the input is bad: what then becomes of the documents."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from splade_os.engines import connect
from splade_os.errors import EngineError
from splade_os.local import down, up
from tests.faults.loads import FULL, check_index, make_load


def test_node_killed_in_the_middle(tiny: Path, tmp_path: Path) -> None:
    name = f"faults-{os.getpid()}"
    load = make_load(tiny / "router", tmp_path, 40_000 if FULL else 4_000)
    try:
        state = up(name=name, via="jvm", port=0, heap="640m")
        process = load.start(state.url, "docs", "--max-bytes", "60000", "--timeout", "5")
        engine = connect(state.url)
        begun = False
        while not begun:
            time.sleep(0.05)
            with contextlib.suppress(EngineError):  # no index yet, or no shard of it
                begun = bool(engine.documents("docs", ["d500"], ()))
        (node,) = state.nodes
        assert node.pid is not None and process.poll() is None
        os.kill(node.pid, signal.SIGKILL)
        time.sleep(1.0)
        assert up(name=name, via="jvm", port=node.port, heap="640m").url == state.url
        out, talk = process.communicate(timeout=240)
        assert process.returncode == 0, talk.decode()
        report = json.loads(out)
        assert report["created"] == len(load.documents) and report["retries"] > 0
        check_index(engine, "docs", load)
    finally:
        down(name, delete_data=True)


def test_disk_full(index: str, opensearch_url: str, tiny: Path, tmp_path: Path) -> None:
    """The block that a node sets when its disk runs full: in the middle of a load, and before."""
    load = make_load(tiny / "router", tmp_path, 10_000)
    engine = connect(opensearch_url)
    process = load.start(opensearch_url, index, "--max-bytes", "60000")
    begun = False
    while not begun:
        time.sleep(0.02)
        with contextlib.suppress(EngineError):  # no index yet, or no shard of it
            begun = bool(engine.documents(index, ["d500"], ()))
    engine.update_settings(index, {"blocks.read_only_allow_delete": True})
    _, wrote = process.communicate(timeout=240)
    talk = wrote.decode()
    assert process.returncode == 1 and "takes no documents" in talk and "--resume" in talk
    code, _, talk = load.run(opensearch_url, index, "--max-bytes", "60000", "--resume")
    assert code == 1 and "blocks.read_only_allow_delete is set" in talk  # still: refused at once
    engine.update_settings(index, {"blocks.read_only_allow_delete": None})
    code, report, talk = load.run(opensearch_url, index, "--max-bytes", "60000", "--resume")
    assert code == 0, talk
    assert report["verified"] and report["read"] == 10_000
    check_index(engine, index, load)
    engine.delete_index(index)


def test_damage(opensearch_url: str, index: str, tiny: Path, tmp_path: Path) -> None:
    """Damaged lines among good ones, bad weights, no terms, five megabytes, one id twice."""
    count = 10_000 if FULL else 1_000
    load = make_load(tiny / "router", tmp_path, count)
    vector = {"cat": 1.0}
    special = {
        '{"id": "nan", "text": "cat", "vector": {"cat": NaN}}': "not valid JSON",
        '{"id": "minus", "text": "cat", "vector": {"cat": -1}}': "must be finite",
        '{"id": "huge", "text": "cat", "vector": {"cat": 1e999}}': "",
        '{"id": "word", "text": "cat", "vector": {"cat": "x"}}': "is no number",
        '{"id": "none", "text": "cat", "vector": {"no such": 1}}': "vocabulary lacks",
    }
    fine = {
        "empty": {"id": "empty", "text": "", "n": -1, "seed": 0},
        "large": {"id": "large", "text": "cat dog " * 650_000, "n": -2, "seed": 0},
    }
    good = load.file.read_text().splitlines()
    lines = [*good, *(f"damaged {i}" for i in range(count)), *special]
    lines.append(json.dumps({**fine["empty"], "vector": {}}))
    lines.append(json.dumps({**fine["large"], "vector": vector}))
    random.Random(1).shuffle(lines)
    lines += good[:7]
    load.file.write_text("\n".join(lines) + "\n")
    load.documents.update(fine)
    code, report, talk = load.run(opensearch_url, index)
    assert code == 3, talk
    assert (report["read"], report["dead"]) == (len(lines), count + len(special))
    assert (report["created"], report["duplicates"]) == (count + 2, 7)
    assert report["empty"] == 1 and report["verified"]
    engine = connect(opensearch_url)
    engine.refresh(index)
    assert dict(engine.scan(index, ["id", "text", "n", "seed"])) == load.documents
    letters = {letter["where"]: letter for letter in load.letters()}
    bad = {f"v.jsonl:{i}": line for i, line in enumerate(lines, 1) if line.startswith("damaged")}
    assert bad == {w: x["record"] for w, x in letters.items() if str(x["record"]).startswith("d")}
    for line, reason in special.items():
        letter = letters[f"v.jsonl:{lines.index(line) + 1}"]
        assert reason in letter["reason"], letter
    engine.delete_index(index)


@pytest.fixture
def index(request: pytest.FixtureRequest) -> str:
    return f"test-{os.getpid()}-{abs(hash(request.node.name)):x}"
