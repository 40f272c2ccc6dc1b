"""`SearchClient`: ask an index in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from splade_os.encoding.layout import read_layout
from splade_os.encoding.query import IdfQueryEncoder, QueryEncoder, load_query_encoder
from splade_os.encoding.resolve import content_hash, resolve_model
from splade_os.engines import (
    Engine,
    EngineHit,
    IndexMeta,
    MatchQuery,
    SearchRequest,
    TermsQuery,
    connect,
    explain_terms,
)
from splade_os.errors import IndexFormatError, ModelMismatchError, SettingsError
from splade_os.search.results import Hit, Results, Term
from splade_os.settings import load_settings
from splade_os.vectors import Ids, Weights
from splade_os.vocabulary import FEATURE_NAMING, Vocabulary, token_of

Mode = Literal["idf", "encoder", "bm25"]
MODES: tuple[Mode, ...] = ("idf", "encoder", "bm25")
_MAX_K = 10_000  # index.max_result_window


class SearchClient:
    """Searches one index.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name or alias.
        model: where the model lies; default what the index names. It must be the one that
            encoded the index.
        device: (``encoder`` mode) torch device.
        engine: an open engine instead of ``url``; it is not closed with the client.
        check_model: ``False`` skips the comparison of the model with the index.
        auth: ``username``, ``password``, ``ca_certs``, ``verify_certs``, ``timeout``;
            default from the settings.

    Raises:
        SettingsError, EngineError: nothing to search, or nothing answers.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        model: str | None = None,
        device: str | None = None,
        engine: Engine | None = None,
        check_model: bool = True,
        **auth: Any,
    ) -> None:
        settings = load_settings(url=url, index=index, model=model, **auth)
        if settings.index is None:
            raise SettingsError("Which index? None is given.", hint="Set index= or --index.")
        self.index = settings.index
        self._own = engine is None
        self.engine = engine or connect(settings.url, **settings.connection())
        self._model, self._device, self._check = settings.model, device, check_model
        self._encoders: dict[str, QueryEncoder] = {}

    def close(self) -> None:
        """Close the engine, if the client opened it."""
        if self._own:
            self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def meta(self) -> IndexMeta:
        """What the index remembers; read once.

        Raises:
            IndexNotFoundError, IndexFormatError: there is no such index, or none of ours.
        """
        meta = self.engine.index_meta(self.index)
        if meta.feature_naming != FEATURE_NAMING:
            raise IndexFormatError(
                f"The index {self.index} names its features by the rule {meta.feature_naming}, "
                f"this version by {FEATURE_NAMING}.",
                hint=f"Use splade-os {meta.splade_os}, or ingest again.",
            )
        return meta

    @cached_property
    def _model_name(self) -> str:
        """Name of the model, once it is known to be the one that encoded the index."""
        wanted = self.meta.model
        name = self._model or wanted.name
        if self._check:
            part = read_layout(resolve_model(name).folder).document
            have = wanted.model_copy(
                update={
                    "content_hash": content_hash(part.folder),
                    "activation": part.activation or wanted.activation,
                    "pooling": part.pooling or wanted.pooling,
                }
            )
            difference = have.difference(wanted)
            if difference:
                raise ModelMismatchError(
                    f"The index {self.index} was encoded with the model {wanted.name}, and "
                    f"{name} is not the same: {difference}.",
                    hint="Name the model of the index with model= or --model.",
                )
        return name

    def encoder(self, mode: Literal["idf", "encoder"]) -> QueryEncoder:
        """The query encoder of a mode; loaded on first use.

        In ``idf`` mode the weights come from the index's own term statistics, or, if it has
        none, from the model's table.
        """
        if mode not in self._encoders:
            statistics = self.engine.load_statistics(self.index) if mode == "idf" else None
            name, wanted = self._model_name, self.meta.model
            # a checkpoint that does not say these is told by the index
            part = read_layout(resolve_model(name).folder).document
            untold = {} if part.activation else wanted.model_dump(include={"activation", "pooling"})
            self._encoders[mode] = load_query_encoder(
                name, mode, statistics=statistics, device=self._device, **untold
            )
        return self._encoders[mode]

    def search(
        self,
        text: str,
        k: int = 10,
        mode: Mode = "idf",
        *,
        source: Sequence[str] | None = None,
        explain: bool = False,
    ) -> Results:
        """Find the ``k`` best documents for a text.

        Args:
            text: the query, in plain words.
            k: number of hits, 1 to 10,000.
            mode: ``idf`` (a table; no model runs), ``encoder`` (the full model) or ``bm25``.
            source: fields to return; default all but the vector, ``()`` = none.
            explain: also say which terms matched, and what each adds to the score.

        Returns:
            Hits; none, with a ``reason``, where the query has no term with a weight: such a
            query would match every document, so it is never sent.

        Raises:
            ModelMismatchError: the model at hand is not the one that encoded the index.
            EngineError: the engine refused or failed.
        """
        if mode not in MODES:
            raise SettingsError(f"There is no mode {mode!r}.", hint=f"One of {', '.join(MODES)}.")
        if not 1 <= k <= _MAX_K:
            raise SettingsError(f"k is {k}; it must be 1 to {_MAX_K:,}.")
        if not text.strip():
            return Results((), mode, {}, reason="The query is empty.")
        if mode == "bm25":
            _ = self.meta  # an index of ours?
            request = SearchRequest(MatchQuery(text), k, source, highlight=explain)
            response = self.engine.search(self.index, request)
            return Results(
                tuple(self._hit(hit, i) for i, hit in enumerate(response.hits, 1)),
                mode,
                {},
                response.took_ms,
                body=response.body,
            )
        encoder = self.encoder(mode)
        query, tokens = _terms(*encoder.encode([text]).row(0), encoder.vocabulary)
        if not tokens:
            return Results(
                (), mode, {}, reason="The query has no term with a weight: nothing to look for."
            )
        request = SearchRequest(query, k, source, with_vector=explain)
        response = self.engine.search(self.index, request)
        return Results(
            tuple(
                self._hit(hit, i, query if explain else None)
                for i, hit in enumerate(response.hits, 1)
            ),
            mode,
            tokens,
            response.took_ms,
            body=response.body,
        )

    def _hit(self, hit: EngineHit, rank: int, query: TermsQuery | None = None) -> Hit:
        terms: tuple[Term, ...] = ()
        if query is not None and hit.vector is not None:
            own = self._tokens_of(hit.source)
            terms = tuple(
                Term(
                    token_of(share.feature),
                    share.query_weight,
                    share.stored_weight,
                    share.share,
                    token_of(share.feature) not in own,
                )
                for share in explain_terms(query, hit.vector)
            )
        return Hit(hit.id, hit.score, rank, hit.source, terms, hit.matched_words)

    def _tokens_of(self, source: Mapping[str, Any]) -> set[str]:
        """The tokens of the text that was encoded."""
        plain = self._plain
        text = " ".join(str(source[f]) for f in self.meta.text_fields if source.get(f))
        return {plain.vocabulary.tokens[i] for i in plain.tokenize([text])[0].tolist()}

    @cached_property
    def _plain(self) -> IdfQueryEncoder:
        """Tokenises without weights."""
        encoder = self._encoders.get("idf")
        if isinstance(encoder, IdfQueryEncoder):
            return encoder
        return IdfQueryEncoder.load(self._model_name, self.engine.load_statistics(self.index))


def _terms(
    ids: Ids, weights: Weights, vocabulary: Vocabulary
) -> tuple[TermsQuery, dict[str, float]]:
    """One encoded row → the query, and its tokens for people; heaviest first."""
    order = np.argsort(-weights, kind="stable")
    query = TermsQuery([vocabulary.features[i] for i in ids[order]], weights[order])
    tokens = {vocabulary.tokens[ids[i]]: float(weights[i]) for i in order}
    return query, tokens
