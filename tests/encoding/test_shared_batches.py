"""Threads that ask one query encoder at once share its batches, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from splade_os import load_query_encoder
from splade_os.encoding.query import QueryEncoder
from splade_os.encoding.shared_batches import SharedBatches
from splade_os.errors import EncodingError, SpladeError
from splade_os.vectors import SparseBatch


class Held(SharedBatches):
    """Its first batch waits until it is released."""

    def __init__(self, encoder: QueryEncoder) -> None:
        super().__init__(encoder)
        self.release, self.sizes = threading.Event(), list[int]()
        real = encoder.encode_content

        def encode_content(texts: Sequence[str]) -> SparseBatch:
            self.sizes.append(len(texts))
            if len(self.sizes) == 1:
                assert self.release.wait(60)
            return real(texts)

        encoder.encode_content = encode_content  # type: ignore[method-assign]


@pytest.fixture
def held(tiny: Path) -> Held:
    return Held(load_query_encoder(str(tiny / "bert"), "encoder", device="cpu"))


def _waiting(held: Held, count: int) -> None:
    end = threading.Event()
    for _ in range(6000):
        with held._queue:
            if len(held._waiting) == count:
                return
        end.wait(0.01)
    raise AssertionError


def test_those_who_wait_are_one_batch(held: Held, tiny: Path) -> None:
    alone = load_query_encoder(str(tiny / "bert"), "encoder", device="cpu")
    texts = ["cat and dog", *(f"the {word} sun" for word in ("red", "green", "slow") * 5)]
    with ThreadPoolExecutor(len(texts)) as pool:
        first = pool.submit(held.encode_content, [texts[0]])
        while not held.sizes:
            threading.Event().wait(0.001)
        others = [pool.submit(held.encode_content, [text]) for text in texts[1:]]
        _waiting(held, len(others))
        held.release.set()
        found = [first.result(60), *(other.result(60) for other in others)]
    assert held.sizes == [1, 15] and (held.batches, held.texts) == (2, 16)
    for text, batch in zip(texts, found, strict=True):
        expected = alone.encode_content([text]).to_dense()
        np.testing.assert_allclose(batch.to_dense(), expected, atol=1e-5)


def test_a_text_that_fails_fails_alone(held: Held) -> None:
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(held.encode_content, ["cat"])
        while not held.sizes:
            threading.Event().wait(0.001)
        bad = pool.submit(held.encode_content, ["\ud800"])
        good = [pool.submit(held.encode_content, [text]) for text in ("dog", "sun")]
        _waiting(held, 3)
        held.release.set()
        assert len(first.result(60)) == 1
        with pytest.raises(EncodingError):
            bad.result(60)
        assert all(one.result(60).nnz for one in good)


def test_one_text_is_no_list(held: Held) -> None:
    held.release.set()
    with pytest.raises(SpladeError):
        held.encode_content("cat")
