"""`SpladeTrainer`: transformers' Trainer for SPLADE models."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from splade_os.export.tensors import save_file
from splade_os.training.batches import BatchSampler, Collator
from splade_os.training.data import Rows
from splade_os.training.distributed import (
    gather,
    mean_over_ranks,
    on_first_rank,
    scaled_gradient,
    sum_gradients,
    torchrun_command,
    with_gradient_of,
    world,
)
from splade_os.training.grad_cache import CachedBatch, random_state, set_random_state
from splade_os.training.losses import ranking_losses
from splade_os.training.model import SpladeModel, TextEncoder, dense
from splade_os.training.monitor import CollapseWatch, StepView, look_at
from splade_os.training.progress import Progress
from splade_os.training.recipe import LossPart, RegulariserPart
from splade_os.training.regularisers import Regulariser, column_means
from splade_os.training.requirements import check_losses
from splade_os.training.restoring import restore_weights, save_extra_weights
from splade_os.training.saving import save_model
from splade_os.training.teacher_scores import ScoresKind, TeacherScores

_log = logging.getLogger(__name__)
_STATE_FILE = "regularisers.safetensors"


class Teacher(Protocol):
    """Queries (B), documents (K · B, column by column) → scores on the joint batch of all ranks."""

    @property
    def kind(self) -> ScoresKind:
        """Of its scores; known before the first call."""

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> TeacherScores:
        """Scores of this kind."""


class Evaluate(Protocol):
    """A model in training → metrics by name, of which ``main`` is the most important."""

    @property
    def main(self) -> str:
        """Name of one of the metrics."""

    def __call__(self, model: SpladeModel, encoder: TextEncoder) -> dict[str, float]:
        """Metrics by name."""


class SpladeTrainer(Trainer):  # type: ignore[misc]
    """Trains a `SpladeModel`.

    The loss is the sum of ranking losses and of both sides' regularisers, on the joint batch of all
    ranks (`splade_os.training.distributed`); regularisers look at all accumulated batches as well.

    Args:
        model: see `load_model`.
        args: transformers.TrainingArguments.
        train_rows: the data.
        losses, regularisers: parts of a recipe.
        sampler: ``no-duplicates``, ``random`` or ``sequential``.
        teacher: scores documents for kl and margin-mse, where the data has no scores.
        grad_cache: texts in memory at a time; ``None`` = the whole batch.
        query_learning_rate: of a query table; ``None`` = that of the rest.
        evaluations: what `evaluate` runs; each gives metrics by name.
        stop_on_collapse: raise `TrainingError` when the model cannot recover.
        callbacks: of transformers.

    Raises:
        SettingsError: the losses do not fit the data.
    """

    def __init__(
        self,
        model: SpladeModel,
        args: TrainingArguments,
        train_rows: Rows,
        *,
        losses: Sequence[LossPart] = (LossPart(),),
        regularisers: Mapping[Any, RegulariserPart] | None = None,
        sampler: str = "no-duplicates",
        teacher: Teacher | None = None,
        grad_cache: int | None = None,
        query_learning_rate: float | None = None,
        evaluations: Sequence[Evaluate] = (),
        stop_on_collapse: bool = True,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        check_losses(
            losses,
            train_rows,
            args.per_device_train_batch_size * args.world_size,
            None if teacher is None else teacher.kind,
        )
        _one_gpu(args)
        args.remove_unused_columns = False
        if args.ddp_find_unused_parameters is None:
            args.ddp_find_unused_parameters = False
        self.encoder = TextEncoder.of(model)
        self.losses = list(losses)
        self.regularisers = {
            side: Regulariser.of(part) for side, part in (regularisers or {}).items()
        }
        self.teacher, self.grad_cache = teacher, grad_cache
        self.query_learning_rate = query_learning_rate
        self._sampler_kind, self._evaluations = sampler, list(evaluations)
        self._watch = CollapseWatch(model.vocabulary_size) if stop_on_collapse else None
        self._step_batches: list[dict[str, Any]] = []
        self._step_means: dict[str, Tensor] = {}
        self._cached: deque[CachedBatch] = deque()
        self._views: list[StepView] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_rows,
            # the Trainer wants one where it is to evaluate; `evaluate` uses its own collections
            eval_dataset=train_rows if self._evaluations else None,
            data_collator=Collator(self.encoder, keep_texts=teacher is not None),
            callbacks=[_AfterStep(), *(callbacks or [])],
        )
        for kind in (PrinterCallback, ProgressCallback):
            self.remove_callback(kind)
        if not args.disable_tqdm:
            self.add_callback(Progress())
        self.loss_is_scaled_for_ga = False  # a mean of the batch: divided by their number

    # --- data ---

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of this rank; not sharded again, because `BatchSampler` knows the ranks."""
        rank, size = world()
        return DataLoader(
            self.train_dataset,
            batch_sampler=BatchSampler(
                self.train_dataset,
                self.args.per_device_train_batch_size,
                self._sampler_kind,
                self.args.data_seed if self.args.data_seed is not None else self.args.seed,
                self.args.dataloader_drop_last,
                rank,
                size,
            ),
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Rows of the data."""
        return len(dataloader.dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of a step."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_batches = batches
        return batches, items

    # --- one step ---

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of one batch; returns its loss."""
        # not in get_batch_samples: a run that is resumed has its random numbers only now
        batches, self._step_batches = self._step_batches, []
        if batches:
            self._look_ahead(batches)
        if self.grad_cache is None:
            loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            loss = self._cached_step(model, inputs)
        if self.accelerator.sync_gradients:
            self._end_of_step(loss)
        return loss

    def _look_ahead(self, batches: list[dict[str, Any]]) -> None:
        """Column means over all batches of a step, before the first of them has its gradient.

        With a gradient cache, its first pass has the vectors, and is kept. Without, they are
        computed once more; dropout draws the same numbers again.
        """
        self._step_means = {}
        joint = [side for side, r in self.regularisers.items() if r.part.over == "step"]
        if len(batches) < 2 or not joint:
            return
        self.model.train()
        state = random_state(self.args.device)
        sums: dict[str, Tensor] = {}
        for batch in batches:
            queries, documents = self._vectors(batch)
            for side, vectors in self._sides(queries, documents, batch["columns"]).items():
                if side in joint:
                    means = column_means(vectors, self.regularisers[side].part.threshold)
                    sums[side] = sums.get(side, 0) + means / len(batches)
        if self.grad_cache is None:
            set_random_state(state, self.args.device)
        self._step_means = {side: mean_over_ranks(value) for side, value in sums.items()}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _vectors(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if self.grad_cache is not None:
            self._cached.append(self._first_pass(batch))
            queries, documents = self._cached[-1].vectors
            return queries.detach(), documents.detach()
        inputs = self._prepare_inputs(batch)
        queries, documents = self.model(inputs["queries"], inputs["documents"])
        return queries.float(), documents.float()

    def _first_pass(self, batch: dict[str, Any]) -> CachedBatch:
        assert self.grad_cache is not None
        return CachedBatch(self.model, batch, self.grad_cache, self._prepare_inputs)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Loss of a batch whose vectors fit into memory."""
        del return_outputs, num_items_in_batch
        queries, documents = model(inputs["queries"], inputs["documents"])
        return self.loss_of(queries, documents, inputs)

    def _cached_step(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        self.model.train()
        cached = self._cached.popleft() if self._cached else self._first_pass(inputs)
        parts = self.current_gradient_accumulation_steps
        # the reducer of DistributedDataParallel expects one backward pass a step
        quiet = self.accelerator.no_sync(model) if world()[1] > 1 else contextlib.nullcontext()
        with quiet:
            loss = cached.backward(self.loss_of, lambda x: self.accelerator.backward(x / parts))
        if self.accelerator.sync_gradients:
            sum_gradients(list(self.model.parameters()))
        return loss / parts

    def loss_of(self, queries: Tensor, documents: Tensor, inputs: dict[str, Any]) -> Tensor:
        """Loss of vectors.

        Args:
            queries: ``(B, V)``.
            documents: ``(K · B, V)`` column by column, without the lexical prior.
            inputs: the batch that they come from.
        """
        queries, documents = queries.float(), documents.float()
        columns, (_, size) = inputs["columns"], world()
        scored = documents
        if inputs["prior"] is not None:
            scored = documents + dense(inputs["prior"], documents.device)
        scored = scored.view(columns, -1, scored.shape[1])  # (K, B, V)
        teacher: TeacherScores | None = inputs["teacher"]
        if inputs["texts"] is not None and self.teacher is not None:
            teacher = self.teacher(*inputs["texts"]).to(queries.device)
        elif teacher is not None:
            teacher = teacher.to(queries.device).gathered()
        parts = ranking_losses(self.losses, gather(queries), gather(scored, 1), teacher)
        total = scaled_gradient(sum(parts.values()), size)
        view = look_at(queries, documents)
        self._views.append(view)
        for side, vectors in self._sides(queries, documents, columns).items():
            if side in self.regularisers:
                value = self._regularise(side, vectors, view)
                parts[f"{side}_{self.regularisers[side].part.kind.replace('-', '_')}"] = value
                total = total + value
        self._note({**parts, **view.logs()})
        return total

    def _regularise(self, side: str, vectors: Tensor, view: StepView) -> Tensor:
        regulariser = self.regularisers[side]
        part = regulariser.part
        if part.kind == "df-flops" and regulariser.frequency is None:
            frequency = view.query_frequency if side == "query" else view.document_frequency
            regulariser.frequency = frequency.clone()
        means = column_means(vectors, part.threshold)
        if part.over == "step":
            whole = self._step_means.get(side)
            means = with_gradient_of(mean_over_ranks(means) if whole is None else whole, means)
        weight = regulariser.weight * regulariser.factor(
            self.state.global_step, self.state.max_steps
        )
        return weight * regulariser.value(means)

    @staticmethod
    def _sides(queries: Tensor, documents: Tensor, columns: int) -> dict[str, Tensor]:
        return {"query": queries[None], "document": documents.view(columns, -1, queries.shape[1])}

    def _end_of_step(self, loss: Tensor) -> None:
        views, self._views = self._views, []
        view = StepView(
            torch.stack([v.query_frequency for v in views]).mean(0),
            torch.stack([v.document_frequency for v in views]).mean(0),
            {
                name: torch.stack([v.numbers[name] for v in views]).mean()
                for name in views[0].numbers
            },
        )
        warm = True
        for side, regulariser in self.regularisers.items():
            frequency = view.query_frequency if side == "query" else view.document_frequency
            full = regulariser.factor(self.state.global_step, self.state.max_steps) == 1
            regulariser.observe(frequency, float(view.numbers[f"{side}_dims"]), full)
            warm &= full
        if self._watch is not None:
            self._watch.check(self.state.global_step + 1, view, float(loss), warm)

    # --- optimiser ---

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As the Trainer's; a query table has a group of its own, without weight decay."""
        if self.optimizer is not None:
            return self.optimizer
        table = self.model.table
        own = [] if table is None else [p for p in table.parameters() if p.requires_grad]
        for parameter in own:
            parameter.requires_grad_(False)
        optimizer = super().create_optimizer(model)
        for parameter in own:
            parameter.requires_grad_(True)
        if own:
            rate = self.query_learning_rate or self.args.learning_rate
            optimizer.add_param_group({"params": own, "lr": rate, "weight_decay": 0.0})
        return optimizer

    # --- logs ---

    def _note(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
            self._counts[name] = self._counts.get(name, 0) + 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the parts of the loss, what vectors look like, and λ."""
        if "loss" in logs:
            for name, value in self._sums.items():
                logs[name] = float(value) / self._counts[name]
            self._sums, self._counts = {}, {}
            for side, regulariser in self.regularisers.items():
                logs[f"{side}_lambda"] = regulariser.weight * regulariser.factor(
                    self.state.global_step, self.state.max_steps
                )
        super().log(logs, start_time)

    # --- evaluation ---

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Run every evaluation (on the first rank) and log its metrics."""
        del eval_dataset, ignore_keys
        metrics = on_first_rank(lambda: self._metrics(metric_key_prefix))
        self.log(metrics)
        handler, control = self.callback_handler, self.control
        self.control: Any = handler.on_evaluate(self.args, self.state, control, metrics)
        return metrics

    def _metrics(self, prefix: str) -> dict[str, float]:
        metrics: dict[str, float] = {}
        was_training = self.model.training
        self.model.eval()
        for evaluation in self._evaluations:
            with self.accelerator.autocast():
                found = evaluation(self.model, self.encoder)
            metrics |= {f"{prefix}_{name}": value for name, value in found.items()}
        means = [metrics[f"{prefix}_{e.main}"] for e in self._evaluations]
        if len(means) > 1:
            metrics[f"{prefix}_mean_ndcg@10"] = sum(means) / len(means)
        self.model.train(was_training)
        return metrics

    # --- files ---

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        folder = Path(output_dir or self.args.output_dir)
        if not self.args.should_save:
            return
        save_model(self.model, folder)  # and no pickle: the card says how it was trained

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # transformers rotates old checkpoints away at the end of its own: ours must be there
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_extra_weights(self.model, folder)
            state = {
                f"{side}.{name}": tensor.contiguous()
                for side, regulariser in self.regularisers.items()
                for name, tensor in regulariser.state().items()
            }
            save_file(state, folder / _STATE_FILE)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        restore_weights(model or self.model, folder)
        if (folder / _STATE_FILE).is_file():
            state = load_file(folder / _STATE_FILE)
            for side, regulariser in self.regularisers.items():
                own = {
                    name.removeprefix(f"{side}."): tensor
                    for name, tensor in state.items()
                    if name.startswith(f"{side}.")
                }
                regulariser.restore(own, self.args.device)

    def load_best_model(self) -> None:
        """Go back to the weights of the best evaluation."""
        self._load_best_model()

    def _load_best_model(self) -> None:
        restore_weights(self.model, Path(self.state.best_model_checkpoint))


class _AfterStep(TrainerCallback):  # type: ignore[misc]
    """Keeps a query table in (0, 64] after every step of the optimiser."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        model = kwargs["model"]
        getattr(model, "module", model).after_step()


def _one_gpu(args: TrainingArguments) -> None:
    """One process trains on one GPU: transformers would take nn.DataParallel for several, which
    does not see the joint batch and is slower than one process for each."""
    if args.n_gpu < 2:
        return
    _log.warning(
        "Training on one of %d GPUs. On all of them (each takes per_device_train_batch_size rows "
        "of a batch): %s",
        args.n_gpu, torchrun_command(args.n_gpu),
    )  # fmt: skip
    args._n_gpu = 1  # as transformers itself does for models that are spread over GPUs
