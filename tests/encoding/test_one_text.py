"""One string where a list of texts is wanted is an error, not a row for each letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splade_os import DocumentEncoder, SearchClient
from splade_os.encoding import load_query_encoder
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.engines import connect
from splade_os.errors import EncodingError, InputError
from tests.search.test_search import fill


@pytest.mark.parametrize("text", ["cat dog", "", b"cat dog", bytearray(b"cat")])
def test_encoders(tiny: Path, text: Any) -> None:
    model = str(tiny / "router")
    part = tiny / "router" / "document_0_Transformer"
    documents = DocumentEncoder.load(model, device="cpu")
    idf = load_query_encoder(model)
    full: Any = load_query_encoder(model, "encoder", device="cpu")
    tokenizer = TextTokenizer(part, max_length=9, lowercase=False, special_tokens=True)
    prompted = DocumentEncoder.load(model, device="cpu")
    prompted.identity = prompted.identity.model_copy(update={"prompt": "text: "})
    calls = [tokenizer, full.encode]
    for encoder in (documents, prompted, idf):
        calls += [encoder.encode, encoder.tokenize]  # type: ignore[attr-defined]
    for call in calls:
        with pytest.raises(EncodingError, match=f"one {type(text).__name__}, not a list"):
            call(text)


@pytest.mark.parametrize("mode", ["idf", "bm25", "encoder", "raw"])
def test_search(tiny: Path, tmp_path: Path, mode: Any) -> None:
    url = f"sqlite:///{tmp_path}/engine.db"
    engine = connect(url)
    fill(engine, "texts", tiny / "router", 3)
    engine.close()
    one: Any = {"cat": 1.0} if mode == "raw" else "cat dog"
    with SearchClient(url, "texts") as client:
        assert len(client.search_many([one], 2, mode)) == 1
        with pytest.raises(InputError, match=r"not a list(.|\n)*search_many"):
            client.search_many(one, 2, mode)
