"""Query encoders: an IDF table (no torch), or the full transformer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol, Unpack

import numpy as np

from splade_os.encoding.choice import Precision
from splade_os.encoding.first_words import leading_space as use_leading_space
from splade_os.encoding.first_words import with_leading_space
from splade_os.encoding.idf import IdfTable
from splade_os.encoding.idf_source import IdfSource, choose_table
from splade_os.encoding.layout import ModelLayout, read_layout
from splade_os.encoding.resolve import resolve_model
from splade_os.encoding.text import Normalization, normalized
from splade_os.encoding.tokenization import TextTokenizer, refuse_one_text
from splade_os.encoding.words import word_tokens
from splade_os.identity import CheckpointKeywords
from splade_os.statistics import TermStatistics
from splade_os.vectors import Ids, SparseBatch, Weights
from splade_os.vocabulary import Vocabulary

QueryMode = Literal["idf", "encoder"]
QueryTf = Literal["none", "log", "raw"]
"""What a token that occurs ``tf`` times in a query counts: 1, 1 + ln tf, or tf."""
QUERY_TF: tuple[QueryTf, ...] = ("none", "log", "raw")


class QueryEncoder(Protocol):
    """Query texts → `SparseBatch` over ``vocabulary``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Tokens of the output dimensions."""

    def encode(self, texts: Sequence[str]) -> SparseBatch:
        """Row ``i`` belongs to ``texts[i]``; a row may be empty."""

    def encode_content(self, texts: Sequence[str]) -> SparseBatch:
        """`encode`, but a text of which the vocabulary knows nothing has no term, whatever a model
        would say about nothing."""

    def tokens_cut(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are behind the maximum length, and take no part."""


class IdfQueryEncoder:
    """Each distinct token of the query, with its weight from a table. No model runs.

    As it stands, it is sentence-transformers' SparseStaticEmbedding: presence (not frequency)
    times weight, of a text cut at the maximum length. Searches count frequencies (``query_tf``)
    and cut nothing (``whole``): there is no model that would ask for it. Tokens whose weight is not
    positive take no part.

    Args:
        tokenizer: without special tokens.
        table: weight of every token.
        prompt: put before every text.
        leading_space: cut texts as if a space stood before them, as they were counted
            (`splade_os.encoding.first_words`).
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        table: IdfTable,
        prompt: str = "",
        normalize: Normalization = "none",
        leading_space: bool = False,
    ) -> None:
        self.tokenizer, self.table, self.prompt = tokenizer, table, prompt
        self.normalize: Normalization = normalize
        self.leading_space = leading_space
        self.vocabulary: Vocabulary = tokenizer.vocabulary()
        self._words = word_tokens(tokenizer)

    @classmethod
    def load(
        cls,
        model: str,
        statistics: TermStatistics | None = None,
        *,
        source: IdfSource | None = None,
        normalize: Normalization | None = None,
        leading_space: bool | None = None,
        whole: bool = False,
    ) -> IdfQueryEncoder:
        """The tokenizer of ``model`` with a table.

        Args:
            model: ``starter``, a folder, or a name on the hub.
            statistics: of the searched corpus, if there are any.
            source: of the table; default those statistics, or else what the model was saved
                with.
            normalize: Unicode normal form of queries, as the documents have it; default what the
                model says.
            leading_space: whether the statistics were counted with a space before every text, as
                the index says; default as an ingest with this model counts now.
            whole: cut no text, whatever its length.

        Raises:
            ModelError: there is no such table.
        """
        layout, tokenizer = _read_tokenizer(model, whole)
        table = choose_table(source, layout, tokenizer.vocabulary(), statistics)
        wanted = layout.options.leading_space if leading_space is None else leading_space
        return cls(
            tokenizer,
            table,
            layout.query_prompt,
            _form(normalize, layout),
            use_leading_space(layout, tokenizer, wanted),
        )

    @classmethod
    def unweighted(cls, model: str, normalize: Normalization | None = None) -> IdfQueryEncoder:
        """The tokenizer of ``model`` alone: no token has a weight, and no text is cut."""
        layout, tokenizer = _read_tokenizer(model, whole=True)
        nothing = np.zeros(len(tokenizer.vocabulary()), np.float32)
        table = IdfTable(nothing, "none")
        return cls(tokenizer, table, layout.query_prompt, _form(normalize, layout))

    def bare(self) -> IdfQueryEncoder:
        """The same tokens, each with weight 1: for documents that hold the IDF themselves."""
        return IdfQueryEncoder(
            self.tokenizer,
            self.table.presence(),
            self.prompt,
            self.normalize,
            self.leading_space,
        )

    def tokenize(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, without special tokens."""
        refuse_one_text(texts)
        if not (self.prompt or self.leading_space or self.normalize != "none"):
            return self.tokenizer(texts)
        if not all(isinstance(text, str) for text in texts):
            return self.tokenizer(texts)  # which names the culprit
        return self.tokenizer([self._prepared(text) for text in texts])

    def _prepared(self, text: str) -> str:
        text = normalized(text, self.normalize)
        return with_leading_space(text, self.prompt) if self.leading_space else self.prompt + text

    def encode(self, texts: Sequence[str], query_tf: QueryTf = "none") -> SparseBatch:
        """Row ``i`` belongs to ``texts[i]``; empty where no token has a weight.

        Args:
            query_tf: what repetition counts. ``log`` is 1 + ln tf (the "l" of SMART's notation:
                Buckley, Salton & Allan, TREC-1, 1992), ``raw`` is what BM25's ``match`` does.
        """
        rows = []
        for tokens in self._tokens(texts):
            ids, weights = self._weighted(tokens, query_tf)
            if len(ids) and not np.minimum.reduce(weights) > 0:
                kept = weights > 0
                ids, weights = ids[kept], weights[kept]
            rows.append((ids, weights))
        return SparseBatch.from_rows(rows, len(self.vocabulary))

    def _weighted(self, tokens: list[int], query_tf: QueryTf) -> tuple[Ids, Weights]:
        """Ids, ascending, and weights of the tokens of a text."""
        found = sorted(set(tokens))
        ids = np.array(found, np.int32)
        weights = self.table.weights[ids]
        if query_tf != "none" and len(found) < len(tokens):
            counts = Counter(tokens)
            tf = np.array([counts[i] for i in found], np.float32)
            weights = weights * (tf if query_tf == "raw" else 1 + np.log(tf))
        return ids, weights

    def encode_content(self, texts: Sequence[str]) -> SparseBatch:
        """`encode`: without tokens there are no terms anyway."""
        return self.encode(texts)

    def tokens_cut(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text are behind the maximum length, and take no part."""
        return self.tokenizer.cut([self._prepared(text) for text in texts])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text."""
        refuse_one_text(texts)
        if self._words is None or not all(isinstance(text, str) for text in texts):
            return [ids.tolist() for ids in self.tokenize(texts)]
        return [self._words.of(self._prepared(text)) for text in texts]


def load_query_encoder(
    model: str,
    mode: QueryMode = "idf",
    *,
    statistics: TermStatistics | None = None,
    device: str | None = None,
    normalize: Normalization | None = None,
    dtype: Precision | None = None,
    **options: Unpack[CheckpointKeywords],
) -> QueryEncoder:
    """Load a query encoder.

    Args:
        model: ``starter``, a folder, or a name on the hub.
        mode: ``idf`` (tokenizers and numpy only) or ``encoder`` (the transformer; of an
            inference-free model the document side).
        statistics: (``idf``) of the searched corpus; ``None`` takes the model's own table.
        device: (``encoder``) torch device.
        normalize: Unicode normal form of queries, as the documents have it; default what the
            model says.
        dtype: (``encoder``) precision, as of `DocumentEncoder.load`.
        options: (``encoder``) ``activation`` and ``pooling`` of a checkpoint that does not say
            them.

    Raises:
        ModelError, MissingExtraError: see `DocumentEncoder.load` and `IdfQueryEncoder.load`.
    """
    if mode == "idf":
        return IdfQueryEncoder.load(model, statistics, normalize=normalize)
    from splade_os.encoding.document import DocumentEncoder

    return DocumentEncoder.load(
        model, device=device, dtype=dtype, side="query", normalize=normalize, **options
    )


def _form(wish: Normalization | None, layout: ModelLayout) -> Normalization:
    return wish or layout.options.normalize or "none"


def _read_tokenizer(model: str, whole: bool = False) -> tuple[ModelLayout, TextTokenizer]:
    layout = read_layout(resolve_model(model, weights=False).folder)
    part = layout.query
    return layout, TextTokenizer(
        part.folder,
        max_length=None if whole else part.max_length,
        lowercase=part.lowercase,
        special_tokens=False,
    )
