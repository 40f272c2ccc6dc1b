"""The model while it is trained: a document side, a query side, and how texts become their input.

Both sides map token ids to weights ``(B, V)``. The document side is a masked-LM transformer under
the pooling head of the encoder that keeps no logits (`splade_os.encoding.pooling_grad`). The query
side is the same, another one, the same with other steps behind the pooling, or a table
(`splade_os.training.query_table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splade_os.encoding.architecture import Passthrough, probe, require_decoder
from splade_os.encoding.first_words import FirstWords, splits_first_words
from splade_os.encoding.lexical import LexicalPrior
from splade_os.encoding.pooling_grad import pool_with_gradient
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.training.query_table import QueryTable
from splade_os.training.steps import OwnTerms, Step
from splade_os.vectors import Ids, SparseBatch
from splade_os.vocabulary import Vocabulary


@dataclass(frozen=True)
class SideFiles:
    """What a side is saved with beside its weights.

    Attributes:
        folder: tokenizer files (``tokenizer.json``, ``tokenizer_config.json``).
        max_length: tokens of a text; ``None`` = no limit (tables only).
        lowercase: lower-case before the tokenizer.
        prompt: put before every text.
    """

    folder: Path
    max_length: int | None
    lowercase: bool = False
    prompt: str = ""


class TransformerSide(nn.Module):  # type: ignore[misc]
    """Transformer, decoder and pooling head, and what stands behind it.

    Args:
        mlm: a transformers masked-LM model; its decoder is taken out and its states are pooled
            with the decoder's weights tile by tile.
        activation: ``relu`` or ``log1p_relu``; pooling: ``max`` or ``sum``.
        steps: see `splade_os.training.steps`.
    """

    def __init__(self, mlm: Any, activation: str, pooling: str, steps: Sequence[Step] = ()) -> None:
        super().__init__()
        family = str(mlm.config.model_type)
        self.architecture = probe(mlm, str(mlm.config.name_or_path or family))
        require_decoder(self.architecture, family, "Training")
        self.decoder = mlm.get_output_embeddings()
        mlm.set_output_embeddings(Passthrough())
        self.mlm = mlm
        for name in self.architecture.transform:
            module = mlm.get_submodule(name)
            module.forward = _in_float32(module.forward)
        self.activation, self.pooling = activation, pooling
        self.steps = nn.ModuleList(steps)
        self.vocabulary_size = self.architecture.vocabulary_size

    def sharing(self, activation: str, pooling: str, steps: Sequence[Step]) -> TransformerSide:
        """A side with the same transformer, whose weights it shares, and a head of its own."""
        other = TransformerSide.__new__(TransformerSide)
        nn.Module.__init__(other)
        other.architecture, other.vocabulary_size = self.architecture, self.vocabulary_size
        other.mlm, other.decoder = self.mlm, self.decoder
        other.activation, other.pooling, other.steps = activation, pooling, nn.ModuleList(steps)
        return other

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Weights ``(B, V)`` float32 of padded ids ``(B, L)``."""
        hidden = self.mlm(input_ids=input_ids, attention_mask=attention_mask).logits  # (B, L, H)
        weight, bias = self.decoder.weight, self.decoder.bias
        if bias is None:
            bias = torch.zeros(len(weight), device=weight.device)
        weights = pool_with_gradient(
            hidden,
            attention_mask.bool(),
            weight,
            bias,
            activation_name=self.activation,
            pooling=self.pooling,
        )
        for step in self.steps:
            weights = step(weights, input_ids, attention_mask)
        return weights

    def whole(self) -> Any:
        """The masked-LM model with its decoder back in place, to be saved; call `detach` after."""
        self.mlm.set_output_embeddings(self.decoder)
        return self.mlm

    def detach_decoder(self) -> None:
        """Undo `whole`."""
        self.mlm.set_output_embeddings(Passthrough())


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Without autocast, as `SpladeTransformer` keeps it: rounding weighs most there."""

    def exact(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return forward(hidden.float())

    return exact


class SpladeModel(nn.Module):  # type: ignore[misc]
    """A SPLADE model in training.

    Args:
        document: the document side.
        query: a table, a transformer (its own, or the document side's with another head), or
            ``None``: queries go through the document side.
        document_files, query_files: tokenizers, lengths and prompts.
        options: what is written into ``splade_os.json`` (lexical prior and so on).
        max_active_dims: written into the model's configuration.
        cut: in training as well, only the ``max_active_dims`` heaviest terms of a text count.
    """

    def __init__(
        self,
        document: TransformerSide,
        query: QueryTable | TransformerSide | None,
        document_files: SideFiles,
        query_files: SideFiles,
        options: Mapping[str, Any] | None = None,
        max_active_dims: int | None = None,
        cut: bool = False,
    ) -> None:
        super().__init__()
        self.document, self.query = document, query
        self.document_files, self.query_files = document_files, query_files
        self.options, self.max_active_dims = dict(options or {}), max_active_dims
        self.cut = cut

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.document.vocabulary_size

    @property
    def inference_free(self) -> bool:
        """Whether queries need no transformer."""
        return self.table is not None

    @property
    def table(self) -> QueryTable | None:
        """The query side, where it is a table."""
        return self.query if isinstance(self.query, QueryTable) else None

    @property
    def sides(self) -> tuple[TransformerSide, ...]:
        """Those that are transformers, each transformer once."""
        if isinstance(self.query, TransformerSide) and self.query.mlm is not self.document.mlm:
            return self.document, self.query
        return (self.document,)

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.document.decoder.weight.device

    def encode_queries(self, features: Features) -> Tensor:
        """Weights ``(B, V)``."""
        ids, mask = features["input_ids"], features["attention_mask"]
        if self.query is None:
            return self.encode_documents(features)
        if isinstance(self.query, TransformerSide):
            return self._cut(self.query(ids, mask))
        if self.query.needs_embeddings:
            return self.query(ids, mask, self.document.decoder.weight)
        return self.query(ids, mask)

    def encode_documents(self, features: Features) -> Tensor:
        """Learned weights ``(B, V)``, without the lexical prior; outside training cut to
        ``max_active_dims``."""
        return self._cut(self.document(features["input_ids"], features["attention_mask"]))

    def _cut(self, weights: Tensor) -> Tensor:
        if self.cut or not self.training:
            return heaviest(weights, self.max_active_dims)
        return weights

    def forward(
        self, queries: Features | None = None, documents: Features | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Both sides of a batch; ``None`` for a side that is not given."""
        return (
            None if queries is None else self.encode_queries(queries),
            None if documents is None else self.encode_documents(documents),
        )

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Called by the Trainer: the body recomputes its activations in the backward pass."""
        for side in self.sides:
            side.mlm.activation_checkpointing_enable(**options)

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """The same, as earlier versions of transformers call it."""
        kwargs = gradient_checkpointing_kwargs or {"use_reentrant": False}
        for side in self.sides:
            side.mlm.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)

    def after_step(self) -> None:
        """What must hold after every optimiser step: weights of tables stay positive."""
        for module in self.modules():
            if isinstance(module, QueryTable | OwnTerms):
                module.clamp()


def heaviest(weights: Tensor, count: int | None) -> Tensor:
    """The ``count`` largest weights of each row, the others zero; ``None`` = all."""
    if count is None or count >= weights.shape[1]:
        return weights
    top = weights.topk(count, 1)
    return torch.zeros_like(weights).scatter(1, top.indices, top.values)


Features = dict[str, Tensor]
"""``input_ids`` and ``attention_mask``, int64 ``(B, L)``."""


@dataclass
class TextEncoder:
    """Texts → `Features`, for both sides.

    Attributes:
        document, query: tokenizers, as the finished model will use them.
        document_pad, query_pad: ids that fill up short texts.
        prior: lexical prior of documents, or ``None``.
    """

    document: TextTokenizer
    query: TextTokenizer
    vocabulary: Vocabulary
    document_prompt: str = ""
    query_prompt: str = ""
    prior: LexicalPrior | None = None
    document_pad: int = 0
    query_pad: int = 0

    @classmethod
    def of(cls, model: SpladeModel) -> TextEncoder:
        """The tokenizers that a model is saved with."""
        d, q = model.document_files, model.query_files
        document = TextTokenizer(
            d.folder, max_length=d.max_length, lowercase=d.lowercase, special_tokens=True
        )
        vocabulary = document.vocabulary(model.vocabulary_size)
        weight = model.options.get("lexical_weight") or 0.0
        prior = None
        if weight:
            prior = LexicalPrior(
                weight * (model.options.get("mean_weight") or 0.0),
                model.options.get("average_length") or 100.0,
                vocabulary.special_ids,
                # as `DocumentEncoder` adds it to a model without a table
                FirstWords(document)
                if not model.inference_free
                and model.options.get("leading_space") is not False
                and splits_first_words(document)
                else None,
            )
        return cls(
            document,
            TextTokenizer(
                q.folder,
                max_length=q.max_length,
                lowercase=q.lowercase,
                special_tokens=not model.inference_free,
            ),
            vocabulary,
            d.prompt,
            q.prompt,
            prior,
            model.document.architecture.pad_id,
            model.sides[-1].architecture.pad_id,
        )

    def queries(self, texts: Sequence[str]) -> Features:
        """Input of the query side."""
        return self._padded(
            self.query([self.query_prompt + text for text in texts]), self.query_pad
        )

    def documents(self, texts: Sequence[str]) -> Features:
        """Input of the document side."""
        return self.pad(self.document_tokens(texts))

    def document_tokens(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of documents."""
        return self.document([self.document_prompt + text for text in texts])

    def pad(self, tokens: Sequence[Ids]) -> Features:
        """Token ids of documents as tensors ``(B, L)``."""
        return self._padded(tokens, self.document_pad)

    def _padded(self, tokens: Sequence[Ids], pad_id: int) -> Features:
        lengths = [len(ids) for ids in tokens]
        ids = np.full((len(tokens), max(1, *lengths)), pad_id, np.int64)
        mask = np.arange(ids.shape[1]) < np.array(lengths)[:, None]
        if sum(lengths):
            ids[mask] = np.concatenate(tokens)
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }

    def prior_of(self, tokens: Sequence[Ids]) -> SparseBatch | None:
        """The lexical prior of documents, or ``None`` if there is none."""
        if self.prior is None or self.prior.weight <= 0:
            return None
        return self.prior.add(SparseBatch.empty(len(tokens), len(self.vocabulary)), tokens)


def dense(batch: SparseBatch, device: torch.device) -> Tensor:
    """A `SparseBatch` as a float32 tensor ``(B, V)`` on a device."""
    rows = np.repeat(np.arange(len(batch)), batch.active_dims())
    out = torch.zeros(len(batch), batch.width, device=device)
    where = (
        torch.from_numpy(rows).to(device),
        torch.from_numpy(batch.indices.astype(np.int64)).to(device),
    )
    out[where] = torch.from_numpy(batch.values).to(device)
    return out
