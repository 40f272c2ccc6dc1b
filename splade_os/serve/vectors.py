"""One text, and how the two sides of an index see it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import IdfQueryEncoder
from splade_os.serve.searcher import Searcher


@dataclass(frozen=True)
class Weighted:
    """A token and its weight.

    Attributes:
        token: of the vocabulary.
        weight: that an index would store, or a query would have.
        prior: (document) how much of the weight is the lexical prior's: what the text says itself;
            the rest is the model's.
        expansion: the text does not contain the token: the model added it.
    """

    token: str
    weight: float
    prior: float = 0.0
    expansion: bool = False


@dataclass(frozen=True)
class Piece:
    """A part of the text as the tokenizer cuts it.

    Attributes:
        token: of the vocabulary.
        weight: of it in the document's vector; 0 where it was pruned.
        idf: its weight in a query.
        seen: the model sees it; what is behind the maximum length it does not.
    """

    token: str
    weight: float
    idf: float
    seen: bool = True


@dataclass(frozen=True)
class Explanation:
    """A text as a document and as a query.

    Attributes:
        model: its name.
        document, query: heaviest first.
        pieces: the text, token by token.
        tokens_cut: tokens that the model does not see.
        weights_from: of the query: ``index``, ``model`` ...
    """

    model: str
    document: Sequence[Weighted]
    query: Sequence[Weighted]
    pieces: Sequence[Piece]
    tokens_cut: int
    weights_from: str


async def explain_text(searcher: Searcher, text: str) -> Explanation:
    """How an index would store a text, and what a query of it would look for (mode idf).

    Raises:
        ModelMismatchError, ModelError: the model of the index is not at hand.
    """
    encoder = await searcher.document_encoder()
    query = await searcher.query_encoder("idf")
    return await asyncio.to_thread(_explain, encoder, query, text)


def _explain(encoder: DocumentEncoder, query: Any, text: str) -> Explanation:
    tokens = encoder.vocabulary.tokens
    (ids,), (cut,) = encoder.tokenize_documents([text])
    special = encoder.vocabulary.special_ids
    plain = [i for i in ids.tolist() if i not in special]
    seen = len([i for i in encoder.seen(ids).tolist() if i not in special])
    own = set(plain)
    batch, prior = encoder.encode_content([text]), encoder.prior([text])
    priors = dict(zip(*(part.tolist() for part in prior.row(0)), strict=True))
    weights = dict(zip(*(part.tolist() for part in batch.row(0)), strict=True))
    document = [
        Weighted(tokens[i], weight, min(priors.get(i, 0.0), weight), i not in own)
        for i, weight in sorted(weights.items(), key=lambda item: -item[1])
    ]
    is_table = isinstance(query, IdfQueryEncoder)
    rows = query.encode([text], "log") if is_table else query.encode_content([text])
    asked = dict(zip(*(part.tolist() for part in rows.row(0)), strict=True))
    names = query.vocabulary.tokens
    return Explanation(
        encoder.identity.name,
        document,
        [Weighted(names[i], w) for i, w in sorted(asked.items(), key=lambda item: -item[1])],
        [
            Piece(tokens[i], weights.get(i, 0.0), asked.get(i, 0.0), number < seen)
            for number, i in enumerate(plain)
        ],
        cut,
        query.table.origin if is_table else "encoder",
    )
