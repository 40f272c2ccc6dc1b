"""`DocumentEncoder`: texts → `SparseBatch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from splade_os.encoding.batching import token_budget
from splade_os.encoding.layout import SpladePart, read_layout
from splade_os.encoding.resolve import content_hash, resolve_model
from splade_os.encoding.tokenization import TextTokenizer
from splade_os.errors import EncodingError, MissingExtraError, SettingsError
from splade_os.identity import ModelIdentity
from splade_os.vectors import Ids, SparseBatch
from splade_os.vocabulary import Vocabulary

if TYPE_CHECKING:
    from torch import Tensor

    from splade_os.encoding.transformer import SpladeTransformer

DType = Literal["float32", "bfloat16", "float16"]
_BUDGET = {"cpu": 2048, "cuda": 65_536}
_WINDOW = 2048  # texts sorted by length at a time


class DocumentEncoder:
    """Encodes documents with a SPLADE model. Make one with `load`.

    Attributes:
        identity: what goes into an index, so that nothing else ever searches it.
        vocabulary: tokens of the output dimensions.
        device, dtype: where and in what precision it runs.
    """

    def __init__(
        self,
        transformer: SpladeTransformer,
        tokenizer: TextTokenizer,
        identity: ModelIdentity,
        batch_tokens: int | None = None,
    ) -> None:
        self._transformer = transformer
        self._tokenizer = tokenizer
        self.identity = identity
        self.vocabulary: Vocabulary = tokenizer.vocabulary(transformer.vocabulary_size)
        self.device = str(transformer.device)
        self._budget = batch_tokens or _BUDGET.get(transformer.device.type, _BUDGET["cpu"])

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: DType = "float32",
        max_active_dims: int | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        side: Literal["document", "query"] = "document",
    ) -> DocumentEncoder:
        """Load a model.

        Args:
            model: ``starter``, a folder, or a name on the Hugging Face hub.
            device: torch device; default the first GPU, else the CPU.
            dtype: precision of weights and activations, default float32.
            max_active_dims: heaviest terms kept per text; default what the model says, else all.
            max_length: tokens after which a text is cut; default and upper bound: the model's.
            batch_tokens: tokens per forward pass, padding included; default 2,048 on a CPU,
                65,536 on a GPU.
            side: ``query`` loads the transformer of the query side, where it is another one.

        Raises:
            ModelError: the model cannot be found, read or understood.
            MissingExtraError: torch is not installed.
        """
        found = resolve_model(model)
        layout = read_layout(found.folder)
        part, prompt = layout.document, layout.document_prompt
        if side == "query":
            prompt = layout.query_prompt
            if isinstance(layout.query, SpladePart):
                part = layout.query
        for name, value in (("max_length", max_length), ("max_active_dims", max_active_dims)):
            if value is not None and value < 1:
                raise SettingsError(f"{name} is {value}; it must be at least 1.")
        try:
            import torch

            from splade_os.encoding.transformer import SpladeTransformer
        except ImportError:
            raise MissingExtraError("Encoding with a transformer", "torch") from None
        length = min(max_length or part.max_length, part.max_length)
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        transformer = SpladeTransformer(part, where, getattr(torch, dtype))
        tokenizer = TextTokenizer(
            part.folder, max_length=length, lowercase=part.lowercase, special_tokens=True
        )
        identity = ModelIdentity(
            name=found.name,
            revision=found.revision,
            content_hash=content_hash(part.folder),
            activation=part.activation,
            pooling=part.pooling,
            max_length=length,
            max_active_dims=max_active_dims or layout.max_active_dims,
            prompt=prompt,
            vocabulary_size=transformer.vocabulary_size,
        )
        return cls(transformer, tokenizer, identity, batch_tokens)

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, prompt and special tokens included, cut at the maximum.

        Raises:
            EncodingError: naming the position of a text that is no valid Unicode string.
        """
        prompt = self.identity.prompt
        if prompt and all(isinstance(text, str) for text in texts):
            texts = [prompt + text for text in texts]
        return self._tokenizer(texts)

    def encode(self, texts: Sequence[str]) -> SparseBatch:
        """Encode texts; row ``i`` belongs to ``texts[i]``.

        Memory above the model is bounded by ``batch_tokens`` and the result.

        Raises:
            EncodingError: a text is no valid Unicode, or the model returned NaN for it.
        """
        windows = [
            self.encode_tokens(self.tokenize(texts[start : start + _WINDOW]))
            for start in range(0, len(texts), _WINDOW)
        ]
        return SparseBatch.concat(windows, self.identity.vocabulary_size)

    def encode_tokens(self, tokens: Sequence[Ids]) -> SparseBatch:
        """Encode texts given as token ids (see `tokenize`); order kept."""
        parts, order = [], []
        for positions, batch in self.encode_batches(tokens):
            parts.append(batch)
            order += positions
        whole = SparseBatch.concat(parts, self.identity.vocabulary_size)
        return whole.take(np.argsort(np.array(order, np.int64)))

    def encode_batches(self, tokens: Sequence[Ids]) -> Iterator[tuple[list[int], SparseBatch]]:
        """Encode texts given as token ids, one forward pass at a time, longest texts first.

        Yields:
            Positions in ``tokens``, and their rows; every position once.
        """
        filled = [i for i, ids in enumerate(tokens) if len(ids)]
        for batch in token_budget([len(tokens[i]) for i in filled], self._budget):
            positions = [filled[i] for i in batch]
            dense = self._transformer([tokens[i] for i in positions])  # (B, V)
            yield positions, self._sparsify(dense, positions)
        if len(filled) < len(tokens):
            bare = [i for i, ids in enumerate(tokens) if not len(ids)]
            yield bare, SparseBatch.empty(len(bare), self.identity.vocabulary_size)

    def _sparsify(self, dense: Tensor, positions: Sequence[int]) -> SparseBatch:
        """Dense weights ``(B, V)`` → CSR, on the device, then one copy to the host."""
        import torch

        finite = torch.isfinite(dense).all(1)
        if not bool(finite.all()):
            bad = positions[int((~finite).nonzero()[0])]
            raise EncodingError(
                f"The model returned NaN or infinity for text {bad} of the batch.",
                hint="Try dtype float32; if it stays, the weights are damaged.",
            )
        limit = self.identity.max_active_dims
        if limit is not None and limit < dense.shape[1]:
            top = dense.topk(limit, dim=1)
            dense = torch.zeros_like(dense).scatter_(1, top.indices, top.values)
        rows, columns = dense.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=dense.shape[0])
        indptr = np.concatenate(([0], counts.cpu().numpy().cumsum())).astype(np.int64)
        return SparseBatch(
            indptr,
            columns.to(torch.int32).cpu().numpy(),
            dense[rows, columns].cpu().numpy(),
            dense.shape[1],
        )
