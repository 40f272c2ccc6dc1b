"""Training the masked-LM head, and layers right below it, on states that are computed once.

Minutes on two CPU cores where training everything takes days. A step looks at the vocabulary
entries of the batch's queries, which is all that its scores need, and at a random sample, on which
FLOPS and active dimensions are estimated without bias. Terms that do not fire have a gradient too
(`leaky_max_pool`): a frozen body cannot bring them near by itself.

The loss is the cross-entropy of each query's document against all of the batch, plus the
Kullback-Leibler divergence from a teacher that needs no other model: BM25 (the lexical prior), the
weights that the model had at the start, and the cosine of mean states at the start, which is what a
body made for dense retrieval was trained for. Documents that the cosine prefers to the relevant one
do not count as wrong.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from splade_os.encoding.batching import token_budget
from splade_os.encoding.pooling import pool
from splade_os.encoding.pooling_grad import pool_with_gradient
from splade_os.encoding.transformer import sparsify
from splade_os.errors import SettingsError, TrainingError
from splade_os.training.batches import BatchSampler
from splade_os.training.checking import load_collections
from splade_os.training.data import Rows, count_idf, load_rows
from splade_os.training.loading import load_model
from splade_os.training.model import SpladeModel, TextEncoder, dense
from splade_os.training.recipe import Recipe, TopPart
from splade_os.training.regularisers import Regulariser
from splade_os.training.token_states import (
    TOKENS,
    TokenStates,
    above,
    body_states,
    mean_states,
    top_layers,
)
from splade_os.vectors import SparseBatch

_log = logging.getLogger(__name__)
_MASKED = -1e4
_START_TERMS = 256  # of a document, kept for the teacher
_CLIP = 5.0  # norm of the gradient
_BETAS = (0.9, 0.98)
_LOWEST_RATE = 0.05  # part of the learning rate at the end
_SCALE_RATE = 1e-2


@dataclass(frozen=True)
class Pool:
    """Documents that are relevant to a training row; others are not used.

    Attributes:
        texts: each once.
        rows: for each row, the document and the hard negatives that are in the pool.
        queries: of each row.
    """

    texts: list[str]
    rows: list[tuple[int, list[int]]]
    queries: list[str]

    @classmethod
    def of(cls, rows: Rows) -> Pool:
        """Collected from training rows."""
        found = [rows[i] for i in range(len(rows))]
        place: dict[str, int] = {}
        for row in found:
            place.setdefault(row.documents[0], len(place))
        return cls(
            list(place),
            [
                (place[row.documents[0]], [place[d] for d in row.documents[1:] if d in place])
                for row in found
            ],
            [row.query for row in found],
        )


@dataclass(frozen=True)
class Teacher:
    """What the model says before it is trained.

    Attributes:
        queries: mean state of each row's query, of length 1 ``(N, H)``; ``None``: not wanted.
        documents: the same of each document of the pool.
        weights: learned weights of each document; ``None``: not wanted.
    """

    queries: Tensor | None
    documents: Tensor
    weights: SparseBatch | None

    def cosine(self, rows: list[int], documents: list[int]) -> Tensor:
        """Of rows' queries and documents ``(B, D)``; 0 where it is not wanted."""
        if self.queries is None:
            return torch.zeros(len(rows), len(documents), device=self.documents.device)
        return self.queries[rows] @ self.documents[documents].T


def build_top_trainer(recipe: Recipe, arguments: Any) -> TopTrainer:
    """The `TopTrainer` of a recipe with ``top_only``.

    Args:
        arguments: transformers.TrainingArguments, of which ``max_steps``,
            ``per_device_train_batch_size``, ``learning_rate``, ``warmup_steps``, ``bf16``,
            ``eval_steps``, ``logging_steps`` and ``seed`` are used.

    Raises:
        SettingsError: the recipe asks for what this training does not have.
    """
    assert recipe.top_only is not None
    if arguments.max_steps <= 0:
        raise SettingsError("top_only needs training.max_steps.")
    rows, held_out = load_rows(recipe.data)
    model = load_model(recipe.model, count_idf(rows)).to(arguments.device)
    side = model.document
    kind = (model.inference_free, side.pooling, side.activation, len(side.steps))
    if kind != (True, "max", "relu", 0):
        raise SettingsError(
            "top_only is for inference-free models with max pooling and relu, and "
            "nothing behind the pooling."
        )
    if any(part.kind != "flops" for part in recipe.regularisers.values()):
        raise SettingsError("top_only has no regulariser but flops.")
    collections = load_collections(recipe.evaluation, held_out)
    return TopTrainer(recipe, arguments, model, rows, collections)


class TopTrainer:
    """The loop.

    Args:
        recipe, arguments: see `build_top_trainer`.
        model: on its device.
        rows: training data.
        collections: of `load_collections`.
    """

    def __init__(
        self, recipe: Recipe, arguments: Any, model: SpladeModel, rows: Rows, collections: Any
    ) -> None:
        self._part: TopPart = recipe.top_only or TopPart()
        self.model, self.rows, self._recipe, self._arguments = model, rows, recipe, arguments
        self._encoder, self._collections = TextEncoder.of(model), collections
        self._draw = random.Random(arguments.seed)
        self._sample = np.random.default_rng(arguments.seed)
        self._pool = Pool.of(rows)
        self._tokens = self._encoder.document_tokens(self._pool.texts)
        self._ordinary = np.setdiff1d(
            np.arange(model.vocabulary_size), list(self._encoder.vocabulary.special_ids)
        )
        model.requires_grad_(False)
        model.eval()  # no dropout: states are computed once
        self._decoder = decoder = model.document.decoder
        transform = [
            parameter
            for name, parameter in model.document.mlm.named_parameters()
            if not name.startswith(model.document.mlm.base_model_prefix + ".")
            and parameter is not decoder.bias and parameter is not decoder.weight
        ]  # fmt: skip
        layers = [
            parameter
            for layer in top_layers(model.document.mlm, self._part.layers)
            for parameter in layer.parameters()
        ]
        self._log_scale = nn.Parameter(torch.tensor(math.log(self._part.score_scale)))
        for parameter in (*layers, *transform, decoder.bias):
            parameter.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(
            [
                {"params": layers, "lr": self._part.layer_learning_rate},
                {"params": transform, "lr": arguments.learning_rate},
                {"params": [decoder.bias], "lr": self._part.bias_learning_rate},
                {"params": [self._log_scale], "lr": _SCALE_RATE},
            ],
            betas=_BETAS,
            weight_decay=0.0,
        )
        self._unit = 1.0 if self._encoder.prior is None else self._encoder.prior.weight
        self._rates = [group["lr"] for group in self._optimizer.param_groups]
        side = recipe.regularisers.get("document")
        self._regulariser = None if side is None else Regulariser.of(side)

    def run(self) -> list[dict[str, Any]]:
        """Train; what was logged. Afterwards the model holds the weights with the best mean
        nDCG@10 of all evaluations (the start's included) in which no collection lay below its start
        by more than ``stop_if_below_start``; without evaluations the last ones.

        Raises:
            TrainingError: the loss is not finite.
        """
        arguments = self._arguments
        log: list[dict[str, Any]] = []
        output, layers = Path(arguments.output_dir), self._part.layers
        with self._context():
            states = TokenStates(self.model, self._encoder, self._tokens, output, layers)
        teacher = self._teacher(states)
        start = self._evaluate(0, log)
        best, kept = sum(start.values()), [p.detach().clone() for p in self._trained()]
        if start:
            log.append({"step": 0, "best": best / len(start)})
        sums: dict[str, float] = {}
        began, batches = time.monotonic(), self._batches()
        for step in range(1, arguments.max_steps + 1):
            for name, value in self._step(step, next(batches), states, teacher).items():
                sums[name] = sums.get(name, 0.0) + value
            if step % int(arguments.logging_steps) == 0:
                entry = {name: value / arguments.logging_steps for name, value in sums.items()}
                log.append({"step": step, **entry})
                rate = step / (time.monotonic() - began)
                _log.warning("step %d, %.2f a second: %s", step, rate,
                             ", ".join(f"{n} {v:.4g}" for n, v in entry.items()))  # fmt: skip
                sums = {}
            last = step == arguments.max_steps
            if self._collections and (last or step % int(arguments.eval_steps) == 0):
                found = self._evaluate(step, log)
                margin = self._recipe.stop_if_below_start
                fallen = margin is not None and any(found[n] < start[n] - margin for n in found)
                if not fallen and sum(found.values()) >= best:
                    best, kept = sum(found.values()), [p.detach().clone() for p in self._trained()]
                    log.append({"step": step, "best": best / len(found)})
        if self._collections:
            with torch.no_grad():
                for parameter, value in zip(self._trained(), kept, strict=True):
                    parameter.copy_(value)
        states.delete()
        return log

    def _teacher(self, states: TokenStates) -> Teacher:
        """What the model says before it is trained."""
        queries, started = None, None
        if self._part.cosine_weight:
            queries = self._query_vectors()
        if self._part.start_weight:
            _log.warning("Weights of %d documents at the start, for the teacher.", len(states))
            blocks, order = [], []
            for block in token_budget(states.lengths, 8 * TOKENS):
                order += block.tolist()
                with torch.no_grad(), self._context():
                    hidden, mask = self._hidden(block.tolist(), states)
                    weights = pool(
                        hidden, mask, self._decoder.weight, self._decoder.bias,
                        activation_name="relu", pooling="max",
                    )  # fmt: skip
                blocks.append(sparsify(weights, _START_TERMS))
            started = SparseBatch.concat(blocks, self.model.vocabulary_size).take(np.argsort(order))
        return Teacher(queries, states.means.to(self.model.device), started)

    def _context(self) -> AbstractContextManager[Any]:
        kind = self.model.device.type
        context: AbstractContextManager[Any] = torch.autocast(
            kind, torch.bfloat16, enabled=bool(self._arguments.bf16)
        )
        return context

    def _batches(self) -> Iterator[list[int]]:
        arguments, data = self._arguments, self._recipe.data
        size = arguments.per_device_train_batch_size
        sampler = BatchSampler(self.rows, size, data.sampler, arguments.seed, drop_last=True)
        if not len(sampler):
            raise SettingsError(f"There are fewer training rows than a batch of {size} holds.")
        while True:
            yield from sampler
            sampler.set_epoch(sampler.epoch + 1)

    def _step(
        self, step: int, rows: list[int], states: TokenStates, teacher: Teacher
    ) -> dict[str, float]:
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor(step)
        documents = self._documents(rows)
        device, size = self.model.device, len(rows)
        queries = self._encoder.queries([self._pool.queries[i] for i in rows])
        with torch.no_grad():
            q = self.model.encode_queries(_to(queries, device))
        cosine = teacher.cosine(rows, documents)
        prior = self._encoder.prior_of([self._tokens[i] for i in documents])
        own = q.any(0).nonzero()[:, 0]
        drawn = torch.from_numpy(
            self._sample.choice(self._ordinary, min(self._part.columns, len(self._ordinary)), False)
        ).to(device)
        columns = torch.cat([own, drawn])
        weights = self._weights(documents, columns, states)  # (D, C)
        q, learned = q[:, own], weights[:, : len(own)]
        lexical = torch.zeros_like(learned) if prior is None else dense(prior, device)[:, own]
        scores = q @ (learned + lexical).T * self._log_scale.exp()
        target = torch.arange(size, device=device)
        better = cosine > cosine[target, target][:, None]
        losses = {"infonce": F.cross_entropy(scores.masked_fill(better, _MASKED), target)}
        if self._part.teacher_weight:
            if teacher.weights is not None:
                started = dense(teacher.weights.take(documents), device)[:, own]
                lexical = lexical + self._part.start_weight * started
            wanted = q @ lexical.T / self._unit + self._part.cosine_weight * cosine
            wanted = (wanted * self._part.score_scale).softmax(1)
            divergence = F.kl_div(scores.log_softmax(1), wanted, reduction="batchmean")
            losses["kl"] = self._part.teacher_weight * divergence
        sample, scale = weights[:, len(own) :], len(self._ordinary) / len(drawn)
        numbers = {"dims": float((sample > 0).sum(1).float().mean()) * scale}
        if self._regulariser is not None:
            flops = sample.mean(0).square().sum() * scale
            factor = self._regulariser.factor(step - 1, self._arguments.max_steps)
            numbers["lambda"] = self._regulariser.weight * factor
            losses["flops"] = numbers["lambda"] * flops
            self._regulariser.observe(torch.empty(0), numbers["dims"], factor == 1)
        numbers["accuracy"] = float((scores.argmax(1) == target).float().mean())
        self._descend(step, losses)
        return {name: float(value.detach()) for name, value in losses.items()} | numbers

    def _descend(self, step: int, losses: dict[str, Tensor]) -> None:
        """One step of the optimizer; the sum joins ``losses``."""
        loss: Tensor = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss of step {step} is not finite.", hint="Lower training.learning_rate."
            )
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._trained(), _CLIP)
        self._optimizer.step()
        losses["loss"] = loss

    def _factor(self, step: int) -> float:
        """Linear warm-up, then linear decay."""
        total: int = self._arguments.max_steps
        warmup = int(self._arguments.get_warmup_steps(total))
        return min(1.0, step / (warmup + 1)) * max(_LOWEST_RATE, 1 - step / total)

    def _documents(self, rows: list[int]) -> list[int]:
        """Of the pool: the relevant ones in the rows' order, then at most one negative of each."""
        documents = [self._pool.rows[i][0] for i in rows]
        seen = set(documents)
        for i in rows:
            fresh = [d for d in self._pool.rows[i][1] if d not in seen]
            if fresh:
                documents.append(self._draw.choice(fresh))
                seen.add(documents[-1])
        return documents

    def _query_vectors(self) -> Tensor:
        """Mean states of all rows' queries, of length 1: ``(N, H)``."""
        tokens = self._encoder.document_tokens(self._pool.queries)
        hidden = int(self.model.document.mlm.config.hidden_size)
        vectors = torch.zeros(len(tokens), hidden, device=self.model.device)
        for block in token_budget([len(ids) for ids in tokens], TOKENS):
            chosen = [tokens[i] for i in block]
            with self._context():
                _, states = body_states(self.model, self._encoder.pad(chosen))
            vectors[block] = mean_states(states.float(), [len(ids) for ids in chosen])
        return vectors

    def _weights(self, documents: list[int], columns: Tensor, states: TokenStates) -> Tensor:
        with self._context():
            hidden, mask = self._hidden(documents, states)
            weight, bias = self._decoder.weight[columns], self._decoder.bias[columns]
            return pool_with_gradient(
                hidden, mask, weight, bias, leak=self._part.leak, tile=len(columns)
            )

    def _hidden(self, documents: Sequence[int], states: TokenStates) -> tuple[Tensor, Tensor]:
        """What the decoder gets ``(B, L, H)``, and its real places ``(B, L)``."""
        given, lengths = states[documents]
        texts = given.to(self.model.device).split(lengths)
        padded = nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
        real = torch.tensor(lengths, device=padded.device)
        mask = torch.arange(padded.shape[1], device=padded.device) < real[:, None]
        with above(self.model.document.mlm, self._part.layers) as rest:
            if not self._part.layers:  # nothing looks from one token to another
                return rest(inputs_embeds=padded).logits, mask
            parts: list[Tensor] = list(texts)
            for block in token_budget(lengths, TOKENS):
                longest = max(lengths[i] for i in block)
                rows = torch.from_numpy(block).to(padded.device)
                found = rest(
                    inputs_embeds=padded[rows, :longest],
                    attention_mask=mask[rows, :longest].long(),
                ).logits
                for row, i in enumerate(block):
                    parts[i] = found[row, : lengths[i]]
        return nn.utils.rnn.pad_sequence(parts, batch_first=True), mask

    def _evaluate(self, step: int, log: list[dict[str, Any]]) -> dict[str, float]:
        """nDCG@10 by collection."""
        metrics: dict[str, float] = {}
        for collection in self._collections:
            with self._context():
                metrics |= collection(self.model, self._encoder)
        found = {collection.main: metrics[collection.main] for collection in self._collections}
        if found:
            log.append({"step": step, **{f"eval_{n}": v for n, v in metrics.items()}})
            _log.warning("step %d: %s", step, ", ".join(f"{n} {v:.4f}" for n, v in found.items()))
        return found

    def _trained(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]


def _to(features: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in features.items()}
