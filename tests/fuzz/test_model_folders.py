"""Model and tokenizer folders, damaged: what is loaded tokenizes as the tokenizers library does,
and the rest is refused by a `SpladeError`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from splade_os.encoding import DocumentEncoder
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import damage

TEXT = "a cat in the search engine"
FILES = {
    "tokenizer.json": "tokenizer (tokenizer.json)",
    "tokenizer_config.json": "tokenizer (its config)",
    "config.json": "model (config.json)",
    "modules.json": "model (modules.json)",
    "config_sentence_transformers.json": "model (its config)",
    "splade_os.json": "model (splade_os.json)",
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, tiny: Path, fuzz: Fuzz, name: str) -> None:
    folder = Path(shutil.copytree(tiny / "bert", tmp_path / "model"))
    file = folder / name
    if not file.exists():
        file.write_text('{"lexical_weight": 1.0, "normalize": "nfkc"}')
    good = file.read_bytes()

    def load(data: bytes) -> None:
        file.write_bytes(data)
        encoder = DocumentEncoder.load(str(folder), backend="none")
        (found, *_), *_ = encoder.tokenize_documents([TEXT])
        if name == "tokenizer.json":
            theirs = Tokenizer.from_str(json.dumps(json.loads(data)))  # of two equal keys the last
            theirs.no_padding()
            theirs.no_truncation()
            expected = theirs.encode(encoder.identity.prompt + TEXT).ids
            assert found.tolist() == expected[: len(found)]

    fuzz(FILES[name], lambda chance: damage(good, chance), load)
