"""Codes that a bag of word pieces cannot tell apart are found by their words.

Dates are three words to an analyser: a keyword filter finds them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from splade_os import SearchClient, ingest_documents
from splade_os.engines import Engine
from splade_os.ingest.documents.records import Record
from tests.search.test_search import loaded

_random = random.Random(3)
CODES = {
    "versions": [f"{a}.{b}.{c}" for a in range(1, 5) for b in range(4) for c in range(4)],
    "EAN-13": [f"40{_random.randrange(10**11):011d}" for _ in range(60)],
}


@pytest.mark.parametrize("kind", CODES)
def test_the_query_with_both_parts_finds_codes(
    engine: Engine, index: str, tiny: Path, kind: str
) -> None:
    """The query is the code alone; every document has another one."""
    codes = CODES[kind]
    if kind != "EAN-13" and engine.url.startswith("sqlite"):
        pytest.skip("SQLite's words end at every character that is no letter or digit")

    def records() -> Iterator[Record]:
        for i, code in enumerate(codes):
            text = f"the engine {code} and the cat"
            yield Record(i + 1, f"t:{i}", code, text, {"text": text})

    ingest_documents(
        records(), engine=engine, index=index, encoder=loaded(tiny / "router"),
        dead_letters="never.jsonl",
    )  # fmt: skip
    client = SearchClient(engine=engine, index=index)
    pieces = client.encoder("idf")
    bags = Counter(tuple(sorted(row.tolist())) for row, _ in pieces.encode(codes))
    assert max(bags.values()) > 1  # so that word pieces alone cannot find each of them
    answers = client.search_many(codes, 1, "hybrid")
    assert [results[0].id for results in answers] == codes  # type: ignore[union-attr,index]
