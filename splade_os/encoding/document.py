"""`DocumentEncoder`: texts → `SparseBatch`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Literal, Unpack

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from splade_os.encoding.backend import Backend, NonFiniteError
from splade_os.encoding.batching import padded_lengths, token_budget
from splade_os.encoding.choice import BackendName, Choice, Precision
from splade_os.encoding.expansion import keeps_no_expansion, without_expansion
from splade_os.encoding.first_words import FirstWords, leading_space
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.layout import ModelLayout, SpladePart, StaticPart, read_layout
from splade_os.encoding.lexical import LexicalPrior, mean_weight
from splade_os.encoding.parallel import ParallelBackend
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import model_hash, query_hash, resolve_model
from splade_os.encoding.rows import combine, heaviest, prune, row_numbers, scale
from splade_os.encoding.start import exact_backend, start_backend
from splade_os.encoding.text import has_content, normalized
from splade_os.encoding.tokenization import TextTokenizer, refuse_one_text
from splade_os.encoding.tokenizer.check import check_tokenizer
from splade_os.encoding.weights import has_weights
from splade_os.encoding.windows import cut, split
from splade_os.errors import EncodingError, ModelError, SettingsError
from splade_os.identity import (
    FIXED_AVERAGE_LENGTH,
    EncodingKeywords,
    EncodingOptions,
    ModelIdentity,
)
from splade_os.vectors import Ids, SparseBatch, Weights
from splade_os.vocabulary import Vocabulary


class DocumentEncoder:
    """Encodes documents with a SPLADE model. Make one with `load`.

    Attributes:
        identity: what goes into an index, so that nothing else ever searches it.
        vocabulary: tokens of the output dimensions.
        left_open: fields of the identity that nobody has chosen: an index that is there says them
            (`adopt`), and ``average_length`` is measured for one that is made (`measured`).
        device, precision, backend: where and how it runs.
        how: the same in a line for people.
    """

    def __init__(
        self,
        backend: Backend,
        tokenizer: TextTokenizer,
        identity: ModelIdentity,
        choice: Choice,
        batch_tokens: int | None = None,
        folded: Weights | None = None,
        left_open: frozenset[str] = frozenset(),
    ) -> None:
        self._backend = backend
        self._tokenizer = tokenizer
        tokenizer.limit(backend.vocabulary_size)
        self.identity, self.left_open = identity, left_open
        self.vocabulary: Vocabulary = tokenizer.vocabulary(backend.vocabulary_size)
        self.device, self.precision = backend.device, backend.precision
        self.backend = choice.backend
        self.how = "not loaded: the vectors are there already"
        if choice.backend != "none":
            library = {"onnx": "ONNX Runtime", "torch": "torch"}[choice.backend]
            self.how = f"{self.precision} on {self.device} with {library} ({choice.reason})"
        self._special = np.zeros(len(self.vocabulary), bool)
        self._special[list(self.vocabulary.special_ids)] = True
        self._budget = batch_tokens or backend.batch_tokens
        self._rows: int | None = None
        if backend.batch_bytes is not None:
            self._rows = max(1, backend.batch_bytes // (4 * backend.vocabulary_size))
        self.window = max(2048, backend.ahead * self._budget // 16)
        """Texts to be sorted by length together: some batches for each device, with texts of any
        length. Fewer at a time are padded more."""
        self._folded = folded
        self._prompt = np.empty(0, np.int32)  # its tokens: alone they are no content
        if identity.prompt:
            (ids,) = tokenizer([identity.prompt])
            self._prompt = ids[~self._special[ids]]

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str | None = None,
        dtype: Precision | None = None,
        backend: BackendName = "auto",
        batch_tokens: int | None = None,
        side: Literal["document", "query"] = "document",
        **options: Unpack[EncodingKeywords],
    ) -> DocumentEncoder:
        """Load a model.

        Args:
            model: ``starter``, a folder, or a name on the Hugging Face hub.
            device: torch device; default the first GPU, else the CPU. Several, separated by
                commas, or ``all`` GPUs: a process each, batches go to whichever is free.
            dtype: precision; default float32 on a CPU, bfloat16 on a GPU; ``auto`` takes the
                fastest that keeps the quality on this machine
                (`splade_os.encoding.choice.choose`); ``int8`` needs an ONNX export.
            backend: ``torch``, ``onnx``, or ``auto``: ONNX Runtime where the model has a graph,
                it is installed and no GPU is used (it is the faster one on a CPU), else torch.
                ``none``: only vocabulary, tokenizer and identity are loaded, for documents
                that bring their vectors; `encode` raises ModelError. It needs no weights; where
                there are none, the identity notes no content hash.
            batch_tokens: tokens per forward pass, padding included; default 1,024 on a CPU,
                65,536 on a GPU, where the weights of a pass are bounded as well (1 GiB of
                ``(B, V)``).
            side: ``query`` loads the transformer of the query side, where it is another one;
                queries get no lexical prior and no pruning.
            options: of `EncodingOptions`: ``max_active_dims=256`` ...

        Raises:
            ModelError: the model cannot be found, read or understood.
            MissingExtraError: torch, or onnxruntime, is not installed.
            SettingsError: an option is wrong.
        """
        found = resolve_model(model, weights=backend != "none")
        layout = read_layout(found.folder)
        try:
            mine = EncodingOptions(**options)
            chosen = mine.over(layout.options)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"]))
            raise SettingsError(f"{name} is {wrong['input']!r}: {wrong['msg']}.") from None
        part, prompt = layout.document, layout.document_prompt
        if side == "query":
            prompt = layout.query_prompt
            chosen = EncodingOptions(
                activation=chosen.activation,
                pooling=chosen.pooling,
                max_length=chosen.max_length,
                max_active_dims=layout.options.max_active_dims,
                normalize=chosen.normalize,
            )
            if isinstance(layout.query, SpladePart):
                part = layout.query
        part = part.stated(chosen)
        length = min(chosen.max_length or part.max_length, part.max_length)
        running, choice = start_backend(part, device, dtype, backend)
        length = min(length, running.max_length or length)
        if choice.backend == "torch":  # a graph's tokenizer was compared when it was exported
            for folder in {part.folder, layout.query.folder}:
                check_tokenizer(folder)
        chunk = chosen.long_texts == "chunk"
        tokenizer = TextTokenizer(
            part.folder,
            max_length=length if side == "query" else None,
            lowercase=part.lowercase,
            special_tokens=True,
        )
        lexical = chosen.lexical_weight or 0.0
        mean = chosen.mean_weight or 0.0
        if lexical and not mean and choice.backend != "none":
            exact = exact_backend(part, running, choice)
            mean = mean_weight(exact, tokenizer, chosen.max_active_dims)
        table = _table(layout) if chosen.fold_idf else None
        weightless = choice.backend == "none" and not has_weights(part.folder)
        hash_of = "" if weightless else model_hash(part)
        identity = ModelIdentity(
            name=found.name,
            revision=found.revision,
            content_hash=hash_of,
            query_hash=query_hash(layout.query),
            activation=part.activation or "",
            pooling=part.pooling or "",
            max_length=length,
            max_active_dims=chosen.max_active_dims,
            active_dims_of=_active_dims_of(mine, chosen),
            min_weight=chosen.min_weight or 0.0,
            max_ratio=chosen.max_ratio or 0.0,
            alpha_mass=chosen.alpha_mass,
            long_texts="chunk" if chunk else "truncate",
            stride=(length // 8 if chosen.stride is None else chosen.stride) if chunk else 0,
            lexical_weight=lexical,
            mean_weight=mean if lexical else 0.0,
            average_length=(chosen.average_length or FIXED_AVERAGE_LENGTH) if lexical else 0.0,
            whole_text=chosen.whole_text is not False and side == "document",
            mask_expansion=bool(chosen.mask_expansion),
            fold_idf=table.sha256() if table else "",
            normalize=chosen.normalize or "none",
            leading_space=side == "document"
            and leading_space(layout, tokenizer, chosen.leading_space),
            prompt=prompt,
            vocabulary_size=running.vocabulary_size,
        )
        return cls(
            running,
            tokenizer,
            identity,
            choice,
            batch_tokens,
            table.weights if table else None,
            _left_open(mine, identity) if side == "document" else frozenset(),
        )

    @property
    def unmeasured(self) -> ModelIdentity:
        """The identity for an index without documents: the first ingest measures the average
        length where it is `left_open`."""
        unknown = {"average_length": 0.0} if "average_length" in self.left_open else {}
        return self.identity.model_copy(update=unknown)

    def adopt(self, recorded: ModelIdentity) -> None:
        """Take from the record of an index what is `left_open` here."""
        found = {name: getattr(recorded, name) for name in self.left_open}
        if recorded.lexical_weight and not recorded.average_length:  # not measured yet
            found.pop("average_length", None)
        self.identity = self.identity.model_copy(update=found)

    def measured(self, texts: Sequence[str]) -> None:
        """Measure the average length of the lexical prior on documents, where it is
        `left_open`: the mean number of tokens, to three digits, of those that hold any.

        Raises:
            EncodingError: a text is no valid Unicode string.
        """
        lengths = [len(self.counted(ids)) for ids in self.tokenize(texts)]
        lengths = [length for length in lengths if length]
        if "average_length" in self.left_open and lengths:
            mean = float(f"{sum(lengths) / len(lengths):.3g}")
            self.identity = self.identity.model_copy(update={"average_length": mean})

    @cached_property
    def _affixes(self) -> tuple[int, int]:
        return self._tokenizer.special_affixes()

    def seen(self, ids: Ids) -> Ids:
        """What the model sees of the tokens of a text: all of them where long ones go through it in
        windows, else as many as its maximum length."""
        if len(ids) <= self.identity.max_length or self.identity.long_texts == "chunk":
            return ids
        side = self._tokenizer.truncation_side
        return cut(ids, self.identity.max_length, self._affixes, side)

    def close(self) -> None:
        """End the processes of several devices; with one there is nothing to end."""
        if isinstance(self._backend, ParallelBackend):
            self._backend.close()

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, prompt and special tokens included; the whole text, also what is
        behind the maximum length of the model.

        Raises:
            EncodingError: naming the position of a text that is no valid Unicode string.
        """
        return self._tokenizer(self._prepared(texts))

    def _prepared(self, texts: Sequence[str]) -> Sequence[str]:
        refuse_one_text(texts)
        prompt, form = self.identity.prompt, self.identity.normalize
        if (prompt or form != "none") and all(isinstance(text, str) for text in texts):
            return [prompt + normalized(text, form) for text in texts]
        return texts

    def tokenize_documents(self, texts: Sequence[str]) -> tuple[list[Ids], list[int]]:
        """`tokenize` for an index: a text without content has no tokens, and so no vector. (The
        model would give it one, of what it says about nothing.) Without content is what is blank,
        of zero-width or control characters, or of nothing that the vocabulary knows.

        Returns:
            Token ids of each text, and how many of them the model will not see.
        """
        ids = self._tokenizer(self._prepared(texts))
        for i in self._without_content(texts, ids):
            ids[i] = ids[i][:0]
        return ids, [len(each) - len(self.seen(each)) for each in ids]

    def _without_content(self, texts: Sequence[str], ids: Sequence[Ids]) -> set[int]:
        """Positions of the texts that say nothing."""
        blank = {i for i, text in enumerate(texts) if not has_content(text)}
        if not ids:
            return blank
        bounds = np.cumsum([0, *map(len, ids)])
        known = np.concatenate(([0], np.cumsum(~self._special[np.concatenate(ids)])))[bounds]
        for i in np.flatnonzero(np.diff(known) == len(self._prompt)).tolist():
            if np.array_equal(ids[i][~self._special[ids[i]]], self._prompt):
                blank.add(i)
        return blank

    @cached_property
    def _first_words(self) -> FirstWords:
        return FirstWords(self._tokenizer)

    def tokens_cut(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are behind the maximum length, and take no part."""
        return self._tokenizer.cut(self._prepared(texts))

    def counted(self, ids: Ids, recorded: ModelIdentity | None = None) -> Ids:
        """What term statistics and the lexical prior count of the token ids of a text: no special
        tokens; the first word as it is behind a space (`FirstWords`) and what is behind the maximum
        length where the identity says so.

        Args:
            ids: of `tokenize`.
            recorded: of the index that they are counted for; default this encoder's identity.
        """
        rules = recorded or self.identity
        seen = ids if rules.whole_text else self.seen(ids)
        plain = seen[~self._special[seen]]
        return self._first_words(plain) if rules.leading_space else plain

    def encode(self, texts: Sequence[str]) -> SparseBatch:
        """Encode texts; row ``i`` belongs to ``texts[i]``.

        Memory above the model is bounded by ``batch_tokens`` and the result. Texts are
        tokenized in the background while those before them are encoded.

        Raises:
            EncodingError: a text is no valid Unicode, or the model returned NaN for it.
        """
        return self._encode(texts, self.tokenize)

    def encode_content(self, texts: Sequence[str]) -> SparseBatch:
        """`encode`, for an index or a search: a text without content has no term
        (`tokenize_documents`)."""
        return self._encode(texts, lambda some: self.tokenize_documents(some)[0])

    def _encode(
        self, texts: Sequence[str], tokenize: Callable[[Sequence[str]], list[Ids]]
    ) -> SparseBatch:
        refuse_one_text(texts)
        starts = range(0, len(texts), self.window)
        encoded = []
        with ThreadPoolExecutor(1) as background:

            def tokens(start: int) -> Future[list[Ids]]:
                return background.submit(tokenize, texts[start : start + self.window])

            coming = tokens(0)
            for start in starts:
                current = coming.result()
                if start + self.window < len(texts):
                    coming = tokens(start + self.window)
                encoded.append(self.encode_tokens(current))
        return SparseBatch.concat(encoded, self.identity.vocabulary_size)

    def encode_tokens(self, tokens: Sequence[Ids]) -> SparseBatch:
        """Encode texts given as token ids (see `tokenize`); order kept."""
        parts, order = [], []
        for positions, batch in self.encode_batches(tokens):
            parts.append(batch)
            order += positions
        whole = SparseBatch.concat(parts, self.identity.vocabulary_size)
        return whole.take(np.argsort(np.array(order, np.int64)))

    def encode_batches(self, tokens: Sequence[Ids]) -> Iterator[tuple[list[int], SparseBatch]]:
        """Encode texts given as token ids, one forward pass at a time, longest texts first. The
        model sees them cut at the maximum length, unless long texts are encoded in chunks.

        Yields:
            Positions in ``tokens``, and their rows; every position once. With chunks, all of
            them at once.
        """
        if self.identity.long_texts == "chunk":
            yield list(range(len(tokens))), self._finish(self._chunked(tokens), tokens)
            return
        for positions, batch in self._passes([self.seen(ids) for ids in tokens]):
            yield positions, self._finish(batch, [tokens[i] for i in positions])

    def _passes(self, tokens: Sequence[Ids]) -> Iterator[tuple[list[int], SparseBatch]]:
        filled = [i for i, ids in enumerate(tokens) if len(ids)]
        lengths = [len(tokens[i]) for i in filled]
        padded = padded_lengths(lengths, self._backend.buckets, self._backend.max_length)
        running: deque[tuple[list[int], Callable[[], SparseBatch]]] = deque()
        for batch in token_budget(padded, self._budget, self._rows):
            positions = [filled[i] for i in batch]
            started = self._backend.launch(
                [tokens[i] for i in positions], self.identity.max_active_dims
            )
            running.append((positions, started))
            if len(running) == self._backend.ahead:  # so that a GPU never waits for the host
                yield _wait(*running.popleft())
        while running:
            yield _wait(*running.popleft())
        if len(filled) < len(tokens):
            bare = [i for i, ids in enumerate(tokens) if not len(ids)]
            yield bare, SparseBatch.empty(len(bare), self.identity.vocabulary_size)

    def _chunked(self, tokens: Sequence[Ids]) -> SparseBatch:
        """Every term's maximum over the windows of a text."""
        identity = self.identity
        windows, owners = split(tokens, identity.max_length, identity.stride, self._affixes)
        parts = list(self._passes(windows))
        texts = [np.array(owners)[positions][row_numbers(batch)] for positions, batch in parts]
        return combine(
            np.concatenate([np.empty(0, np.int64), *texts]),
            np.concatenate([np.empty(0, np.int32), *(batch.indices for _, batch in parts)]),
            np.concatenate([np.empty(0, np.float32), *(batch.values for _, batch in parts)]),
            count=len(tokens),
            width=identity.vocabulary_size,
            how="max",
        )

    def _finish(self, batch: SparseBatch, tokens: Sequence[Ids]) -> SparseBatch:
        identity = self.identity
        if identity.mask_expansion:
            batch = without_expansion(batch, tokens, self._no_expansion)
        if identity.lexical_weight:
            whole = identity.whole_text
            batch = self._prior.add(batch, tokens if whole else [*map(self.seen, tokens)])
        if identity.max_active_dims and identity.active_dims_of == "document":
            batch = heaviest(batch, identity.max_active_dims)
        pruned = prune(
            batch,
            min_weight=identity.min_weight,
            max_ratio=identity.max_ratio,
            alpha_mass=identity.alpha_mass,
        )
        return pruned if self._folded is None else scale(pruned, self._folded)

    def prior(self, texts: Sequence[str]) -> SparseBatch:
        """What the lexical prior adds to the vectors of texts, before they are pruned: the rest is
        the model's. Rows are empty where there is none."""
        tokens, _ = self.tokenize_documents(texts)
        seen = tokens if self.identity.whole_text else [*map(self.seen, tokens)]
        batch = SparseBatch.empty(len(tokens), self.identity.vocabulary_size)
        batch = self._prior.add(batch, seen)
        return batch if self._folded is None else scale(batch, self._folded)

    @property
    def _prior(self) -> LexicalPrior:
        identity = self.identity
        return LexicalPrior(
            identity.lexical_weight * identity.mean_weight,
            identity.average_length,
            self.vocabulary.special_ids,
            self._first_words if identity.leading_space else None,
        )

    @cached_property
    def _no_expansion(self) -> npt.NDArray[np.bool_]:
        return keeps_no_expansion(self.vocabulary)


def _active_dims_of(mine: EncodingOptions, chosen: EncodingOptions) -> Literal["model", "document"]:
    """What the number of active dimensions caps. Without a prior it is the same."""
    if not chosen.max_active_dims or not (chosen.lexical_weight or chosen.long_texts == "chunk"):
        return "model"
    if mine.max_active_dims and mine.active_dims_of is None:
        return "document"
    return chosen.active_dims_of or "model"


def _left_open(mine: EncodingOptions, identity: ModelIdentity) -> frozenset[str]:
    """What nobody has chosen, of what an index says about itself."""
    unsaid = {name for name in ("whole_text", "active_dims_of") if getattr(mine, name) is None}
    if identity.lexical_weight and not mine.average_length:
        unsaid.add("average_length")
    if identity.lexical_weight and mine.lexical_weight is None and mine.mean_weight is None:
        unsaid |= {"lexical_weight", "mean_weight"}  # the model's: another version of it may differ
    return frozenset(unsaid)


def _table(layout: ModelLayout) -> IdfTable:
    """The model's own IDF table, to be folded into its documents."""
    if not isinstance(layout.query, StaticPart):
        raise ModelError(
            f"{layout.folder} is a symmetric model: it has no IDF table to fold into documents.",
            hint="Leave --fold-idf out, or take an inference-free model.",
        )
    return IdfQueryEncoder.load(str(layout.folder)).table


def _wait(positions: list[int], result: Callable[[], SparseBatch]) -> tuple[list[int], SparseBatch]:
    try:
        return positions, result()
    except NonFiniteError as error:
        raise EncodingError(
            f"The model returned NaN or infinity for text {positions[error.row]} of the batch.",
            hint="Try dtype float32; if it stays, the weights are damaged.",
        ) from None
