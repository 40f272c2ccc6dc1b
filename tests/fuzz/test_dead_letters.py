"""Dead letters, damaged or edited: each line is a record or a dead letter again, and what is
written of it can be read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from splade_os.errors import InputError
from splade_os.ingest.documents.records import Record, RecordReader, Rejected
from splade_os.ingest.sources import find_source, read_source
from splade_os.ingest.sources.dead_letters import DeadLetterReader, letters_by_index
from splade_os.ingest.state.dead_letters import DeadLetters
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import damage

DOCUMENTS = [
    {"_id": "1", "text": "red", "n": 1},
    {"_id": "2", "title": "a", "text": "sun", "meta": {"tags": ["x", None]}},
    {"sku": "\u00e4", "text": "moon"},
]


def test_dead_letters(tmp_path: Path, fuzz: Fuzz) -> None:
    source, file, again = (tmp_path / name for name in ("a.jsonl", "dead.jsonl", "again.jsonl"))
    lines = [*map(json.dumps, DOCUMENTS), "{damaged", '{"_id": true}']
    source.write_text("\n".join(lines))
    with DeadLetters(file, "products") as letters:
        for found in read_source(find_source(str(source)), RecordReader()):
            letters.reject(found) if isinstance(found, Rejected) else letters.fail(found, "refused")
        letters.save()
    good = file.read_bytes()
    numbers = itertools.count()

    def load(data: bytes) -> None:
        file.write_bytes(data)
        letters_by_index(file)
        found = list(read_source(find_source(f"dead:{file}"), DeadLetterReader()))
        whole = data.removeprefix(b"\xef\xbb\xbf")
        assert len(found) == sum(bool(line.strip()) for line in whole.split(b"\n"))
        written = again.with_name(f"{next(numbers)}.jsonl")
        with DeadLetters(written, "products") as letters:
            for item in found:
                letters.fail(item, "x") if isinstance(item, Record) else letters.reject(item)
            letters.save()
        count = len(found)
        found = list(read_source(find_source(f"dead:{written}"), DeadLetterReader()))
        written.unlink(missing_ok=True)
        assert len(found) == count

    try:
        load(good)
    except InputError as error:
        raise AssertionError from error
    fuzz("dead letters", lambda chance: damage(good, chance), load)
