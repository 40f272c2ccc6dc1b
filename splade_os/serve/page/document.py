"""One document: its whole vector, and what each term adds to its score."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splade_os.engines import IndexMeta
from splade_os.engines.fields.stored import scored_vector
from splade_os.search.results import Hit
from splade_os.serve.page.state import PageState, Way
from splade_os.serve.problems import RequestError
from splade_os.serve.searcher import Searcher
from splade_os.text_fields import stored_text
from splade_os.vocabulary import TOKEN_IDS, token_of


@dataclass(frozen=True)
class VectorTerm:
    """A term of a stored vector.

    Attributes:
        width: of its bar, 0 to 100.
        share: what it adds to the score of the query; ``None`` = the query lacks it.
        percent: of the score.
    """

    token: str
    weight: float
    width: float
    expansion: bool
    share: float | None = None
    percent: float = 0.0


@dataclass(frozen=True)
class ShownDocument:
    """A document.

    Attributes:
        hit: as the query finds it; ``None`` = it does not, or there is none.
        scores: of a sum, what each part adds.
        fields: as text.
    """

    id: str
    terms: Sequence[VectorTerm]
    hit: Hit | None
    fields: Mapping[str, str]

    @property
    def matched(self) -> int:
        """Number of terms that the query has too."""
        return sum(term.share is not None for term in self.terms)


async def show_document(
    searcher: Searcher, way: Way, state: PageState, id: str, index: str
) -> ShownDocument:
    """A document as it is stored, and how a query finds it.

    Raises:
        RequestError: 404, there is none.
    """
    source = await searcher.stored(id, index)
    if source is None:
        raise RequestError(404, "document", f"There is no document {id!r}.")
    meta = await searcher.meta()
    hit = None
    if state.q.strip():
        only = [*state.clauses(), {"ids": {"values": [id]}}]
        options = state.keywords(way.mode)
        options.pop("sort", None)
        options["filter"], options["explain"] = only, True
        found = await searcher.search(state.q, 1, way.mode, **options)
        hit = next(iter(found), None)
    if meta.model.external:  # nobody knows which tokens its text has
        return await asyncio.to_thread(_shown, id, source, meta, hit, None, ())
    own = await searcher.tokens_of(stored_text(source, meta.text_fields))
    tokens = (await searcher.query_encoder("idf")).vocabulary.tokens
    return await asyncio.to_thread(_shown, id, source, meta, hit, own, tokens)


def _shown(
    id: str,
    source: Mapping[str, Any],
    meta: IndexMeta,
    hit: Hit | None,
    own: Collection[str] | None,
    names: Sequence[str],
) -> ShownDocument:
    vector = scored_vector(source.get(meta.field), meta)
    by_id = meta.feature_naming == TOKEN_IDS
    tokens = {(names[int(f)] if by_id else token_of(f)): w for f, w in vector.items()}
    heaviest = max(tokens.values(), default=1.0)
    shares = {term.token: term.share for term in hit.terms} if hit is not None else {}
    score = hit.score if hit is not None and hit.score else 1.0
    terms = [
        VectorTerm(
            token,
            weight,
            100 * weight / heaviest,
            own is not None and token not in own,
            shares.get(token),
            100 * shares.get(token, 0.0) / score,
        )
        for token, weight in sorted(tokens.items(), key=lambda item: -item[1])
    ]
    terms.sort(key=lambda term: -(term.share or 0.0))
    fields = {
        name: value if isinstance(value, str) else str(value)
        for name, value in source.items()
        if name not in meta.own_fields
    }
    return ShownDocument(id, terms, hit, fields)
