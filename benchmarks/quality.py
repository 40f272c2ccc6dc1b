"""nDCG@10 of IDF, encoder and BM25 queries through a live index.

    python benchmarks/quality.py [BEIR_FOLDER] [--url URL]

Peer: BM25 (english analyser) of the same engine, on the same documents, in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import ir_measures
from ir_measures import nDCG

from splade_os import SearchClient
from splade_os.errors import IndexNotFoundError
from splade_os.evaluation.beir import read_judged
from splade_os.search.options import Mode

DEFAULT = Path(__file__).parents[2] / "shared" / "data" / "scifact"
# What the untrained starter gave where it was first tried; a check that nothing broke.
GOALS = {"scifact": {"idf": 0.611, "encoder": 0.562, "bm25": 0.683}}
TOLERANCE = 0.01
MODES: tuple[Mode, ...] = ("idf", "encoder", "bm25", "hybrid")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=DEFAULT)
    parser.add_argument("--url", default="http://localhost:9200")
    arguments = parser.parse_args()
    rows = []
    if arguments.folder.is_dir():
        rows = measure(arguments.folder, arguments.url)
    else:
        rows = [
            row(arguments.folder.name, mode, None, None, "the collection is not here")
            for mode in MODES
        ]
    for r in rows:
        print(f"{r['case']:<28} {r['ours']!s:>8} {r['peer']!s:>8} {r['note']}", file=sys.stderr)
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"benchmark": "quality", "machine": machine, "rows": rows}))


def measure(folder: Path, url: str) -> list[dict[str, object]]:
    index = f"quality-{folder.name}"
    judged = read_judged(folder)
    client = SearchClient(url, index)
    try:
        client.meta  # noqa: B018  # is it there?
    except IndexNotFoundError:
        command = [sys.executable, "-m", "splade_os", "ingest", str(folder)]
        subprocess.run([*command, "--index", index, "--url", url], check=True)
    scores, notes = {}, {}
    for mode in MODES:
        run: dict[str, dict[str, float]] = {}
        start, engine_ms = time.perf_counter(), 0.0
        for identifier, text in judged.queries.items():
            results = client.search(text, 10, mode, source=())
            engine_ms += results.took_ms
            run[identifier] = {hit.id: hit.score for hit in results}
        seconds = time.perf_counter() - start
        scores[mode] = round(
            float(ir_measures.calc_aggregate([nDCG @ 10], judged.qrels, run)[nDCG @ 10]), 4
        )
        notes[mode] = (
            f"{len(judged.queries)} queries, {engine_ms / len(judged.queries):.1f} ms each in the "
            f"engine, {seconds / len(judged.queries) * 1000:.1f} ms in all"
        )
    return [row(folder.name, mode, scores[mode], scores["bm25"], notes[mode]) for mode in MODES]


def row(
    name: str, mode: str, ours: float | None, peer: float | None, note: str
) -> dict[str, object]:
    goal = GOALS.get(name, {}).get(mode)
    return {
        "case": f"{name} {mode}",
        "ours": ours,
        "peer": peer,
        "unit": "nDCG@10",
        "ratio": round(ours / peer, 3) if ours is not None and peer else None,
        "goal": goal,
        "ok": None if ours is None or goal is None else ours >= goal - TOLERANCE,
        "note": note,
    }


if __name__ == "__main__":
    main()
