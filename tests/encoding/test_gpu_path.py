"""Every line of the GPU's room. On a machine without a GPU only streams, events and pinned memory
are stood in for; what runs is the CPU's arithmetic, so that vectors must be the CPU's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from splade_os.encoding import DocumentEncoder, start
from splade_os.encoding.backend import NonFiniteError
from splade_os.encoding.batching import BUCKETS, padded_lengths, token_budget
from splade_os.encoding.cuda import CudaTransformer
from splade_os.encoding.layout import SpladePart, read_layout
from splade_os.encoding.transformer import SpladeTransformer
from splade_os.errors import EncodingError, SpladeWarning
from splade_os.vectors import Ids
from tests.encoding.families import make, part, texts
from tests.encoding.test_pooling import Operations
from tests.tiny_models import TEXTS


@pytest.fixture
def pair(tiny: Path, gpu: torch.device) -> tuple[SpladeTransformer, CudaTransformer]:
    """The same model on both paths."""
    document = read_layout(tiny / "bert").document
    return (
        SpladeTransformer(document, torch.device("cpu"), torch.float32),
        CudaTransformer(document, gpu, torch.float32),
    )


def random_texts(count: int, longest: int = 48) -> list[Ids]:
    random = np.random.default_rng(1)
    return [random.integers(5, 90, random.integers(1, longest)).astype(np.int32)
            for _ in range(count)]  # fmt: skip


def test_buckets() -> None:
    lengths = [1, 8, 9, 100, 512, 513, 769]
    assert padded_lengths(lengths, BUCKETS).tolist() == [8, 8, 16, 128, 512, 768, 1024]
    assert padded_lengths(lengths[:4], BUCKETS, 120).tolist() == [8, 8, 16, 120]
    assert padded_lengths(lengths).tolist() == lengths
    assert list(BUCKETS) == sorted(BUCKETS)


def test_the_budget_counts_buckets_and_rows(
    pair: tuple[SpladeTransformer, CudaTransformer],
) -> None:
    """Batches were formed with real lengths and padded afterwards: 1.4 times the budget."""
    lengths = np.random.default_rng(0).integers(1, 48, 3000)
    padded = padded_lengths(lengths, BUCKETS, pair[1].max_length)
    batches = list(token_budget(padded, 1024, 50))
    assert sorted(i for batch in batches for i in batch) == list(range(3000))
    for batch in batches:
        assert len(batch) <= 50 and len(batch) * padded[batch].max() <= 1024
        assert pair[1]._padded([np.zeros(n, np.int32) for n in lengths[batch]]) <= 1024


@pytest.mark.parametrize("family", ["bert", "distilbert", "router"])
def test_defaults_load_and_encode(tiny: Path, defaults: None, family: str) -> None:
    """No model loaded on a GPU at all; bf16 is what it takes by itself."""
    many = [*TEXTS, *(f"{text} {n}" for n in range(20) for text in TEXTS)]
    expected = DocumentEncoder.load(str(tiny / family), device="cpu").encode(many).to_dense()
    for dtype, tolerance in ((None, 0.1), ("float32", 1e-5)):
        encoder = DocumentEncoder.load(
            str(tiny / family),
            dtype=dtype,  # type: ignore[arg-type]
            batch_tokens=512,
        )
        assert isinstance(encoder._backend, CudaTransformer)
        assert encoder.precision == (dtype or "bfloat16")
        ours = encoder.encode(many).to_dense()
        np.testing.assert_allclose(ours, expected, atol=tolerance * expected.max())


def test_identity_knows_no_device(tiny: Path, defaults: None) -> None:
    """The mean weight was measured in the precision that encoded: .929 in fp32, .928 in bf16."""
    ways: list[dict[str, Any]] = [
        {"device": "cpu"},
        {"device": "cpu", "dtype": "bfloat16"},
        {"device": "cpu", "dtype": "float16"},
        {},
        {"dtype": "float16"},
    ]
    identities = [
        DocumentEncoder.load(str(tiny / "distilbert"), lexical_weight=2.0, **way).identity
        for way in ways
    ]
    assert identities[0].mean_weight > 0
    assert all(identity == identities[0] for identity in identities)


@pytest.mark.parametrize("dims", [None, 7])
def test_launched_ahead(pair: tuple[SpladeTransformer, CudaTransformer], dims: int | None) -> None:
    """The second batch is launched before the first is fetched; both are right, also in pinned
    memory that grows and is used again."""
    cpu, gpu = pair
    batches = [random_texts(n) for n in (3, 40, 2)]
    waiting = [gpu.launch(batch, dims) for batch in batches]
    for batch, result in zip(batches, waiting, strict=True):
        got, expected = result(), cpu.encode(batch, dims)
        assert got.indptr.tolist() == expected.indptr.tolist()
        assert got.indices.tolist() == expected.indices.tolist()
        np.testing.assert_allclose(got.values, expected.values, atol=1e-5)


def test_nothing_waits_in_launch(tmp_path: Path, gpu: torch.device) -> None:
    """No number is asked of the device, and as many operations for 2 texts as for 200."""
    for family in ("bert", "distilbert", "xlm-roberta", "gte", "nomic_bert"):
        model = CudaTransformer(part(make(family, tmp_path / family), family), gpu, torch.float32)
        found = []
        for count in (2, 200):
            tokens = (texts(model.architecture.pad_id) * 40)[:count]
            with Operations() as operations:
                result = model.launch(tokens, None)
            found.append((operations.count, operations.waits))
            result()
        assert found[0] == found[1] and found[0][1] == 0, family


class ShortOfMemory:
    """A device on which no pass of more than so many tokens fits."""

    def __init__(self, model: CudaTransformer, tokens: int) -> None:
        self.tokens, self.passes = tokens, []
        model.model.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, _module: object, _arguments: object, named: dict[str, Any]) -> None:
        count = named["input_ids"].numel()
        self.passes.append(count)
        if count > self.tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def test_out_of_memory_halves_the_batch(
    pair: tuple[SpladeTransformer, CudaTransformer],
) -> None:
    cpu, gpu = pair
    device = ShortOfMemory(gpu, 300)
    tokens = random_texts(40)
    with pytest.warns(SpladeWarning, match="lacks the memory for a batch") as said:
        got = gpu.encode(tokens, None)
    assert len(said) == 1
    np.testing.assert_allclose(got.to_dense(), cpu.encode(tokens, None).to_dense(), atol=1e-5)
    before = len(device.passes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        again = gpu.encode(tokens, None)
    np.testing.assert_allclose(again.to_dense(), got.to_dense(), atol=1e-5)
    assert max(device.passes[before:]) <= 300  # and not tried again


def test_memory_that_the_batch_before_holds(
    pair: tuple[SpladeTransformer, CudaTransformer],
) -> None:
    """What is missing while one batch is in flight is there when it was fetched."""
    cpu, gpu = pair
    device = ShortOfMemory(gpu, 10_000)
    batches = [random_texts(n) for n in (12, 9)]
    first = gpu.launch(batches[0], None)
    device.tokens = 0
    second = gpu.launch(batches[1], None)
    for result, batch in ((first, batches[0]), (second, batches[1])):
        if result is second:
            device.tokens = 10_000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SpladeWarning)
            got = result()
        np.testing.assert_allclose(got.to_dense(), cpu.encode(batch, None).to_dense(), atol=1e-5)


def test_one_text_that_does_not_fit(pair: tuple[SpladeTransformer, CudaTransformer]) -> None:
    ShortOfMemory(pair[1], 20)
    with (
        pytest.warns(SpladeWarning),
        pytest.raises(EncodingError, match="memory to encode one text of 40 tokens: CUDA out"),
    ):
        pair[1].encode([np.full(3, 9, np.int32), np.full(40, 9, np.int32)], None)


def test_out_of_memory_while_fetching(
    pair: tuple[SpladeTransformer, CudaTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, gpu = pair
    whole = torch.Tensor.nonzero

    def nonzero(self: torch.Tensor, **named: Any) -> Any:
        if len(self) > 6:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, **named)

    tokens = random_texts(25)
    expected = cpu.encode(tokens, 9)
    monkeypatch.setattr(torch.Tensor, "nonzero", nonzero)
    np.testing.assert_allclose(gpu.encode(tokens, 9).to_dense(), expected.to_dense(), atol=1e-5)


def test_a_text_without_a_number_is_named(
    pair: tuple[SpladeTransformer, CudaTransformer],
) -> None:
    """Also where the batch was halved."""
    gpu = pair[1]
    ShortOfMemory(gpu, 60)
    gpu.weight = gpu.weight.clone()  # not of the input embeddings any more
    with torch.no_grad():
        gpu.model.get_input_embeddings().weight[77] = float("nan")
    tokens = [np.array([5, 6, 7], np.int32)] * 30
    tokens[23] = np.array([5, 77], np.int32)
    with pytest.warns(SpladeWarning), pytest.raises(NonFiniteError) as found:
        gpu.encode(tokens, None)
    assert found.value.row == 23


def test_a_large_vocabulary_bounds_the_rows(tiny: Path) -> None:
    """8,192 short texts of XLM-R's vocabulary are 8 GB of weights."""
    encoder = DocumentEncoder.load(str(tiny / "bert"), device="cpu")
    backend = encoder._backend
    sizes = []

    class Wide:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        vocabulary_size, batch_bytes, ahead = backend.vocabulary_size, 40_000, 1

        def launch(self, tokens: list[Ids], dims: int | None) -> Any:
            sizes.append(len(tokens))
            return backend.launch(tokens, dims)

    encoder = DocumentEncoder(
        Wide(), encoder._tokenizer, encoder.identity, start.choose(tiny / "bert", "cpu")
    )
    got = encoder.encode(["cat"] * 500)
    assert len(got) == 500
    assert max(sizes) == 40_000 // (4 * backend.vocabulary_size) < 500


def test_text_longer_than_the_positions(tmp_path: Path, gpu: torch.device, tiny: Path) -> None:
    """On a GPU that is an assertion on the device, after which the process is lost."""
    encoder = DocumentEncoder.load(str(tiny / "bert"), device="cpu")
    longest = encoder._backend.max_length
    assert longest == 64
    fitting, longer = np.full(64, 9, np.int32), np.full(65, 9, np.int32)
    kept, cut = encoder.encode_tokens([fitting, longer]).to_dense()
    np.testing.assert_array_equal(kept, cut)
    folder = make("roberta", tmp_path / "roberta")
    model = CudaTransformer(part(folder, "roberta"), gpu, torch.float32)
    assert model.max_length == 64  # of 66: the first two are padding's
    assert isinstance(model.part, SpladePart)
    got = model.encode([np.full(64, 9, np.int32)], None)
    assert len(got.values)
