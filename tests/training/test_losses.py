"""Losses and regularisers against sentence-transformers: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sentence_transformers.sparse_encoder import losses as st
from torch import Tensor

from splade_os.errors import TrainingError
from splade_os.training.losses import info_nce, kl_divergence, margin_mse
from splade_os.training.regularisers import column_means, flops
from splade_os.training.teacher_scores import ScoresKind, TeacherScores

B, V = 6, 211


def vectors(columns: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(columns)
    whole = torch.relu(torch.randn(1 + columns, B, V) - 1)
    return whole[0].clone().requires_grad_(), whole[1:].clone().requires_grad_()


def compare(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[[list[Tensor]], Tensor], columns: int
) -> None:
    found = []
    for run in (ours, lambda q, d: theirs([q, *d.unbind(0)])):
        queries, documents = vectors(columns)
        value = run(queries, documents)
        value.backward()
        found.append((value.detach(), queries.grad, documents.grad))
    for mine, peer in zip(*found, strict=True):
        assert mine is not None and peer is not None and bool(peer.abs().sum() > 0)
        torch.testing.assert_close(mine, peer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [1, 2, 4])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_infonce(columns: int, scale: float) -> None:
    peer = st.SparseMultipleNegativesRankingLoss(model=None, scale=scale)  # type: ignore[arg-type]
    compare(
        lambda q, d: info_nce(q, d, scale=scale),
        lambda x: peer.compute_loss_from_embeddings(x, None),
        columns,
    )


def test_infonce_of_own_negatives() -> None:
    """Without the batch it is the cross-entropy over a row's own documents."""
    queries, documents = vectors(3)
    expected = torch.stack(
        [-torch.log_softmax(documents[:, i] @ queries[i], 0)[0] for i in range(B)]
    ).mean()
    torch.testing.assert_close(info_nce(queries, documents, in_batch=False), expected)


@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("kind", ["own", "margins"])
def test_margin_mse(columns: int, kind: ScoresKind) -> None:
    teacher = torch.randn(B, columns if kind == "own" else columns - 1) * 5
    peer = st.SparseMarginMSELoss(model=None)  # type: ignore[arg-type]
    compare(
        lambda q, d: margin_mse(q, d, TeacherScores(kind, teacher)),
        lambda x: peer.compute_loss_from_embeddings(x, teacher),
        columns,
    )


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("kind", ["own", "margins"])
def test_kl(kind: ScoresKind, temperature: float, columns: int) -> None:
    """Margins leave a constant of each query open, which the softmax does not see."""
    teacher = torch.randn(B, columns) * 5
    said = teacher if kind == "own" else teacher[:, :1] - teacher[:, 1:]
    peer = st.SparseDistillKLDivLoss(model=None, temperature=temperature)  # type: ignore[arg-type]
    compare(
        lambda q, d: kl_divergence(q, d, TeacherScores(kind, said), temperature=temperature),
        lambda x: peer.compute_loss_from_embeddings(x, teacher),
        columns,
    )


@pytest.mark.parametrize("batch", [1, 2, B])
@pytest.mark.parametrize("columns", [1, 2])
def test_own_scores_of_the_whole_batch(columns: int, batch: int) -> None:
    """Of query i, those of the documents at i in each column; also where B · K looks like K."""
    whole = torch.randn(batch, columns * batch)
    own = TeacherScores("whole", whole).of_own(columns)
    expected = [[whole[i, c * batch + i] for c in range(columns)] for i in range(batch)]
    torch.testing.assert_close(own, torch.tensor(expected))


@pytest.mark.parametrize(("kind", "width"), [("own", 2), ("margins", 3), ("whole", 3)])
def test_scores_of_the_wrong_number(kind: ScoresKind, width: int) -> None:
    """A teacher of one's own that gives them is told so; nothing is broadcast."""
    queries, documents = vectors(3)
    with pytest.raises(TrainingError, match=rf"\(6, {width}\) and kind {kind} for 6 queries"):
        kl_divergence(queries, documents, TeacherScores(kind, torch.zeros(B, width)))


def test_kl_of_the_whole_batch() -> None:
    """Every document of the batch is a candidate: as many columns that all queries share."""
    queries, documents = vectors(2)
    teacher = torch.randn(B, 2 * B)
    shared = documents.flatten(0, 1)[:, None].expand(-1, B, -1)
    peer: Any = st.SparseDistillKLDivLoss(model=None, temperature=1.0)  # type: ignore[arg-type]
    expected = peer.compute_loss_from_embeddings([queries, *shared.unbind(0)], teacher)
    torch.testing.assert_close(
        kl_divergence(queries, documents, TeacherScores("whole", teacher), temperature=1.0),
        expected,
    )


@pytest.mark.parametrize("threshold", [None, 34])
def test_flops(threshold: int | None) -> None:
    peer = st.FlopsLoss(model=None, threshold=threshold)  # type: ignore[arg-type]

    def ours(q: Tensor, d: Tensor) -> Tensor:
        return flops(column_means(d, threshold)) + flops(column_means(q[None], threshold))

    def theirs(x: list[Tensor]) -> Tensor:
        whole = peer.compute_loss_from_embeddings(torch.cat(x[1:]))
        return whole + peer.compute_loss_from_embeddings(x[0])

    compare(ours, theirs, 3)


def test_flops_conventions() -> None:
    """As their trainers have it: sum over slots; mean of positives' and negatives'."""
    _, documents = vectors(2)
    slots = documents.transpose(0, 1)  # (B, K, V), as OpenSearch's trainer has it
    opensearch = slots.mean(0).square().sum(1).sum()
    torch.testing.assert_close(flops(column_means(documents), "opensearch"), opensearch)
    torch.testing.assert_close(flops(column_means(documents), "naver"), opensearch / 2)
