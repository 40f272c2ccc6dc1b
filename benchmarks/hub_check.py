"""`splade-os model check` for public models, wherever a hub can be reached.

    python benchmarks/hub_check.py [NAME ...] [--quick]

Peer: transformers and sentence-transformers, inside every check. A model that is not to be had is
a row of nulls with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from splade_os.encoding.processor import processor_name
from splade_os.model_check.check import check_model

NAMES = (
    "opensearch-project/opensearch-neural-sparse-encoding-doc-v2-distill",
    "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-distill",
    "opensearch-project/opensearch-neural-sparse-encoding-doc-v3-gte",
    "opensearch-project/opensearch-neural-sparse-encoding-multilingual-v1",
    "naver/splade-cocondenser-ensembledistil",
    "naver/splade-v3",
    "naver/splade-v3-lexical",
    "naver/efficient-splade-VI-BT-large-doc",
    "prithivida/Splade_PP_en_v1",
    "ibm-granite/granite-embedding-30m-sparse",
    "rasyosef/splade-mini",
    "hotchpotch/japanese-splade-v2",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    rows = [check(name, arguments.quick) for name in arguments.names]
    for r in rows:
        print(f"{r['case']:<70} {r['ok']!s:>6}  {r['note']}", file=sys.stderr)
    print(json.dumps({"benchmark": "hub_check", "machine": processor_name(), "rows": rows}))


def check(name: str, quick: bool) -> dict[str, Any]:
    report = check_model(name, quick=quick)
    found = report.row("found")
    if report.folder is None:
        note = found.detail if found else "not found"
        return {"case": name, "ours": None, "peer": None, "ok": None, "note": note, "checks": []}
    results = [row.status for row in report.rows]
    note = "; ".join(f"{r.name}: {r.detail}" for r in report.rows if r.status == "fails")
    return {
        "case": name,
        "ours": results.count("ok"),
        "peer": len(results) - results.count("info") - results.count("skipped"),
        "ok": report.ok,
        "note": note,
        "checks": report.to_dict()["checks"],
    }


if __name__ == "__main__":
    main()
