"""Teachers that score while the student learns, and their ensemble.

Cross-encoders score pairs; dense and sparse bi-encoders give vectors, whose products are scores and
which can therefore score a whole batch. What they said is kept on disk (`ScoreCache`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from splade_os.encoding.document import DocumentEncoder
from splade_os.encoding.layout import read_layout
from splade_os.encoding.query import load_query_encoder
from splade_os.encoding.resolve import resolve_model
from splade_os.errors import ModelError
from splade_os.export.starter import base_folder
from splade_os.settings import cache_dir
from splade_os.training.distributed import gather
from splade_os.training.pretrained import load_pretrained
from splade_os.training.recipe import DistillationPart, TeacherPart
from splade_os.training.score_cache import ScoreCache
from splade_os.training.teacher_scores import ScoresKind, TeacherScores

STARTER_BASE = "starter-base"
_PAIR = "\x1e"  # between query and document in a key: no text holds it
_TOKENS = 8192  # of a forward pass, about


class Teacher(Protocol):
    """Scores queries against documents."""

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        """Scores of query i with document i, float32 ``(N,)``."""

    def vectors(
        self, queries: Sequence[str], documents: Sequence[str]
    ) -> tuple[Tensor, Tensor] | None:
        """Vectors whose products are scores, or ``None`` for a cross-encoder."""


def pair_scorer(part: TeacherPart) -> Callable[[Sequence[str], Sequence[str]], list[float]]:
    """A teacher that scores query i with document i, on the GPU if there is one."""
    teacher = _load(part, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def score(queries: Sequence[str], documents: Sequence[str]) -> list[float]:
        scores: list[float] = teacher.pairs(queries, documents).tolist()
        return scores

    return score  # type: ignore[no-any-return]


class Ensemble:
    """Several teachers as one.

    Args:
        part: of the recipe.
        device: where they run.

    Attributes:
        kind: ``whole`` with ``in_batch``, else ``own``.
    """

    def __init__(self, part: DistillationPart, device: torch.device) -> None:
        self._part = part
        self.kind: ScoresKind = part.kind
        self._teachers = [_load(teacher, device) for teacher in part.teachers]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> TeacherScores:
        """Scores on the joint batch of all ranks.

        Args:
            queries: B texts.
            documents: K · B texts, column by column.
        """
        columns = len(documents) // len(queries)
        scores = [self._scores(teacher, queries, documents, columns) for teacher in self._teachers]
        if self._part.ensemble == "min-max":
            scores = [min_max(score) for score in scores]
        return TeacherScores(self.kind, torch.stack(scores).mean(0) * self._part.score_scale)

    def _scores(
        self, teacher: Teacher, queries: Sequence[str], documents: Sequence[str], columns: int
    ) -> Tensor:
        if self._part.in_batch:
            found = teacher.vectors(queries, documents)
            assert found is not None  # the recipe was checked
            q, d = found
            whole = gather(d.view(columns, len(queries), -1), 1)
            return gather(q) @ whole.flatten(0, 1).T
        pairs = teacher.pairs(list(queries) * columns, documents)
        return gather(pairs.view(columns, len(queries)).T)


def min_max(scores: Tensor) -> Tensor:
    """Each row to [0, 1]; a row of equal scores becomes 0."""
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return (scores - low) / (high - low).clamp_min(1e-9)


class CrossEncoder:
    """A sequence classifier with one output."""

    def __init__(self, part: TeacherPart, device: torch.device) -> None:
        from transformers import AutoModelForSequenceClassification

        self._part, self._device = part, device
        self._model, self._tokenizer = _pretrained(AutoModelForSequenceClassification, part)
        if self._model.config.num_labels != 1:
            raise ModelError(
                f"The teacher {part.model} has {self._model.config.num_labels} outputs; a "
                "cross-encoder that scores pairs has one."
            )
        self._model.to(device)
        self._cache = _cache(part, part.model)

    def vectors(
        self, queries: Sequence[str], documents: Sequence[str]
    ) -> tuple[Tensor, Tensor] | None:
        """It has none."""
        del queries, documents
        return None

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        """Logits ``(N,)``."""

        def compute(positions: list[int]) -> list[bytes]:
            scores = np.zeros(len(positions), np.float32)
            order = np.argsort([len(documents[i]) for i in positions], kind="stable")
            size = max(1, _TOKENS // self._part.max_length)
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                batch = self._tokenizer(
                    [self._part.query_prompt + queries[positions[r]] for r in rows],
                    [self._part.document_prompt + documents[positions[r]] for r in rows],
                    truncation="longest_first",
                    max_length=self._part.max_length,
                    padding=True,
                    return_tensors="pt",
                ).to(self._device)
                with _precision(self._part, self._device):
                    logits = self._model(**batch).logits[:, 0]
                scores[rows] = logits.float().cpu().numpy()
            return [score.tobytes() for score in scores]

        keys = [q + _PAIR + d for q, d in zip(queries, documents, strict=True)]
        said = b"".join(self._cache.get(keys, compute))
        return torch.from_numpy(np.frombuffer(said, np.float32).copy()).to(self._device)


class DenseTeacher:
    """A bi-encoder with one vector per text: mean or CLS pooling."""

    def __init__(self, part: TeacherPart, device: torch.device) -> None:
        from transformers import AutoModel

        self._part, self._device = part, device
        self._model, self._tokenizer = _pretrained(AutoModel, part)
        self._model.to(device)
        self._cache = _cache(part, part.model)

    def vectors(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``(B, H)`` and ``(N, H)``."""
        part = self._part
        return (
            self._embed([part.query_prompt + text for text in queries]),
            self._embed([part.document_prompt + text for text in documents]),
        )

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        """Products of vectors ``(N,)``."""
        q, d = self.vectors(queries, documents)
        return (q * d).sum(1)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        def compute(positions: list[int]) -> list[bytes]:
            out: list[bytes] = [b""] * len(positions)
            order = np.argsort([len(texts[i]) for i in positions], kind="stable")
            size = max(1, _TOKENS // self._part.max_length)
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                batch = self._tokenizer(
                    [texts[positions[r]] for r in rows],
                    truncation=True,
                    max_length=self._part.max_length,
                    padding=True,
                    return_tensors="pt",
                ).to(self._device)
                with _precision(self._part, self._device):
                    states = self._model(**batch).last_hidden_state.float()
                if self._part.pooling == "cls":
                    found = states[:, 0]
                else:
                    mask = batch["attention_mask"][:, :, None].float()
                    found = (states * mask).sum(1) / mask.sum(1)
                if self._part.normalise:
                    found = torch.nn.functional.normalize(found, dim=1)
                for r, vector in zip(rows, found.cpu().numpy().astype(np.float16), strict=True):
                    out[r] = vector.tobytes()
            return out

        said = np.frombuffer(b"".join(self._cache.get(texts, compute)), np.float16)
        return torch.from_numpy(said.astype(np.float32)).view(len(texts), -1).to(self._device)


class SparseTeacher:
    """A SPLADE model: symmetric, or inference-free with its own table."""

    def __init__(self, part: TeacherPart, device: torch.device) -> None:
        name = str(device)
        free = read_layout(resolve_model(part.model).folder).inference_free
        self._device = device
        self._documents = DocumentEncoder.load(
            part.model, device=name, max_length=part.max_length, backend="torch"
        )
        self._queries = load_query_encoder(
            part.model, "idf" if free else "encoder", device=None if free else name
        )
        self._cache = _cache(part, self._documents.identity.content_hash)

    def vectors(self, queries: Sequence[str], documents: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``(B, V)`` and ``(N, V)``."""
        return (
            self._sparse("q", self._queries, queries),
            self._sparse("d", self._documents, documents),
        )

    def pairs(self, queries: Sequence[str], documents: Sequence[str]) -> Tensor:
        """Products of vectors ``(N,)``."""
        q, d = self.vectors(queries, documents)
        return (q * d).sum(1)

    def _sparse(self, side: str, encoder: Any, texts: Sequence[str]) -> Tensor:
        def compute(positions: list[int]) -> list[bytes]:
            batch = encoder.encode([texts[i] for i in positions])
            return [ids.tobytes() + weights.tobytes() for ids, weights in batch]

        out = torch.zeros(len(texts), self._documents.identity.vocabulary_size)
        said = self._cache.get([side + _PAIR + text for text in texts], compute)
        for row, value in zip(out, said, strict=True):
            half = len(value) // 2
            ids = np.frombuffer(value[:half], np.int32).astype(np.int64)
            row[torch.from_numpy(ids)] = torch.from_numpy(
                np.frombuffer(value[half:], np.float32).copy()
            )
        return out.to(self._device)


_KINDS: dict[str, Callable[[TeacherPart, torch.device], Teacher]] = {
    "cross-encoder": CrossEncoder,
    "dense": DenseTeacher,
    "sparse": SparseTeacher,
}


def _load(part: TeacherPart, device: torch.device) -> Teacher:
    if part.model == STARTER_BASE:
        part = part.model_copy(update={"model": str(base_folder())})
    return _KINDS[part.kind](part, device)


def _pretrained(kind: Any, part: TeacherPart) -> tuple[Any, Any]:
    model, tokenizer, _ = load_pretrained(kind, part.model, "The teacher")
    return model.eval().requires_grad_(False), tokenizer


def _precision(part: TeacherPart, device: torch.device) -> AbstractContextManager[Any]:
    lower = part.precision == "bfloat16" or (
        part.precision == "auto"
        and device.type == "cuda"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    context: AbstractContextManager[Any] = torch.autocast(
        device.type, torch.bfloat16, enabled=lower
    )
    return context


def _cache(part: TeacherPart, content: str) -> ScoreCache:
    """A file for this model with these settings."""
    folder = Path(part.model)
    if folder.is_dir():
        stamps = [
            f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}"
            for file in sorted(folder.rglob("*.safetensors"))
        ]
        content = f"{folder.resolve()} {stamps}"
    key = hashlib.sha256(f"{part.model_dump_json()} {content}".encode()).hexdigest()[:24]
    return ScoreCache(cache_dir() / "teachers" / f"{key}.sqlite")
