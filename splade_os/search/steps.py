"""What a search does, without knowing how it waits.

Each method is a generator: it yields functions of an engine, and `Work` for the processor, is
sent what they return, and returns its result. `SearchClient` and `AsyncSearchClient` drive
them, so that both do exactly the same.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from splade_os.encoding.first_words import with_leading_space
from splade_os.encoding.idf_source import IdfSource
from splade_os.encoding.layout import read_layout
from splade_os.encoding.query import IdfQueryEncoder, QueryEncoder, load_query_encoder
from splade_os.encoding.resolve import (
    model_hash,
    resolve_model,
    resolve_recorded,
    same_queries,
)
from splade_os.encoding.shared_batches import SharedBatches
from splade_os.encoding.text import has_content, normalized
from splade_os.encoding.weights import has_weights
from splade_os.engines import Cursor, IndexMeta, QueryPipeline, SearchRequest, SearchResponse
from splade_os.engines.base import StatisticsVersion
from splade_os.engines.opensearch_ml.ml_commons import hinted
from splade_os.errors import (
    AuthenticationError,
    AuthorizationError,
    EngineError,
    IndexFormatError,
    InputError,
    ModelMismatchError,
    SettingsError,
    SpladeError,
)
from splade_os.identity import short_hash
from splade_os.search.options import SearchOptions
from splade_os.search.plan import (
    Page,
    Plan,
    ResultBuilder,
    Sparse,
    fused_page,
    plan_bm25,
    plan_hybrid,
    plan_page,
    plan_sparse,
    plan_text,
    sparse_query,
)
from splade_os.search.results import Results
from splade_os.statistics import TermStatistics
from splade_os.text_fields import stored_text
from splade_os.vectors import SparseBatch
from splade_os.vocabulary import FEATURE_NAMING, TOKEN_IDS, feature_name, token_of

_log = logging.getLogger("splade_os.search")

Text = str | Mapping[str, float]
"""What is searched for; in the mode ``raw`` token → weight."""
EncoderMode = Literal["idf", "encoder"]
_EMPTY = "The query is empty."
_EMPTY_FILTERED = "The query is empty, and a filter alone has no score: nothing to rank."


@dataclass(frozen=True)
class Work:
    """Something slow for the processor: to load a model, or to run one."""

    do: Callable[[], Any]


@dataclass(frozen=True)
class Aside:
    """Something that nobody waits for: it is done beside the search, or not at all."""

    steps: Generator[Any, Any, None]


@dataclass(frozen=True)
class Wait:
    """Somebody else does it already."""

    future: Future[Any]


Result = TypeVar("Result")
Step = Callable[[Any], Any] | Work | Wait | Aside
Steps = Generator[Step, Any, Result]
IDF_MAX_AGE = 60.0
"""Seconds after which a client looks at the statistics of its index again."""
_LOOK_EVERY, _LOOK_SOON = 10.0, 1.0  # seconds
_SHORT = 4_000  # characters that are tokenized in a millisecond or two


class SearchSteps:
    """The steps of searches in one index, and what is remembered between them.

    Args:
        index: name or alias.
        url: of the engine.
        model: where the model lies; ``None`` = as the index names it.
        device: (``encoder``) torch device.
        idf: (``idf``) which table weights the terms.
        check_model: compare the model with the index.
        own_body: the engine takes sections of a body (`Engine.own_body`).
        idf_max_age: seconds after which a search lets the statistics be looked at again.
    """

    def __init__(
        self,
        index: str,
        url: str,
        *,
        model: str | None = None,
        device: str | None = None,
        idf: IdfSource | None = None,
        check_model: bool = True,
        own_body: bool = True,
        idf_max_age: float | None = IDF_MAX_AGE,
    ) -> None:
        if idf_max_age is not None and not idf_max_age >= 0:
            raise SettingsError(f"idf_max_age is {idf_max_age}; it is seconds, or None for never.")
        self._index = index
        self._url = url
        self._own_body = own_body
        self._model, self._device, self._idf, self._check = model, device, idf, check_model
        self._meta: IndexMeta | None = None
        self._encoders: dict[str, QueryEncoder] = {}
        self._names: dict[str, list[str]] = {}
        self._tokenizer: IdfQueryEncoder | None = None
        self._pipeline: QueryPipeline | None = None
        self._identity: frozenset[tuple[str, str]] = frozenset()
        self._looked = 0.0
        self._idf_max_age = idf_max_age
        self._statistics: StatisticsVersion | None = None  # of the table; None = nobody knows
        self._counted = time.monotonic()  # when that was looked at
        self._counting: int | None = None  # the process that looks at it now
        # by process and name: what a parent is about to find is never ready in its children
        self._finding: dict[tuple[int, str], Future[Exception | None]] = {}

    @property
    def endpoint(self) -> str:
        """URL that searches are posted to."""
        return f"{self._url}/{self._index}/_search"

    def meta(self) -> Steps[IndexMeta]:
        """What the index remembers; read once.

        Raises:
            IndexNotFoundError, IndexFormatError: there is no such index, or none of ours.
        """
        meta: IndexMeta = yield from self._once("meta", lambda: self._meta, self._read_meta)
        return meta

    def _read_meta(self) -> Steps[IndexMeta]:
        meta: IndexMeta
        self._looked = time.monotonic()
        meta, self._identity = yield lambda engine: engine.describe(self._index)
        if meta.feature_naming not in (FEATURE_NAMING, TOKEN_IDS):
            raise IndexFormatError(
                f"The index {self._index} names its features by the rule "
                f"{meta.feature_naming}, which this version does not know.",
                hint=f"Use splade-os {meta.splade_os}, or ingest again.",
            )
        self._meta = meta
        return meta

    def encoder(self, mode: EncoderMode) -> Steps[QueryEncoder]:
        """The query encoder of a mode; loaded on first use.

        Raises:
            ModelMismatchError: the model at hand is not the one that encoded the index.
        """
        encoder: QueryEncoder = yield from self._once(
            mode, lambda: self._encoders.get(mode), lambda: self._load(mode)
        )
        return encoder

    def _once(
        self, name: str, known: Callable[[], Any], find: Callable[[], Steps[Any]]
    ) -> Steps[Any]:
        """What is known, or is found by whoever asks first while all others wait.

        Args:
            name: of what is looked for.
            known: it, or ``None``.
            find: finds it.
        """
        key = os.getpid(), name
        while (found := known()) is None:
            mine: Future[Exception | None] = Future()
            mine.set_running_or_notify_cancel()  # who gives up waiting cancels it for nobody else
            finding = self._finding.setdefault(key, mine)
            if finding is not mine:
                error = yield Wait(finding)
                if error is not None:
                    raise error
                continue
            error = None
            try:
                found = yield from find()
            except Exception as failed:
                error = failed  # nobody else has to find that out; who comes later tries again
                raise
            finally:
                del self._finding[key]
                mine.set_result(error)
            return found
        return found

    def _load(self, mode: EncoderMode) -> Steps[QueryEncoder]:
        meta = yield from self.meta()
        name = yield Work(lambda: self._checked_model(meta, mode))
        encoder: QueryEncoder
        if meta.model.fold_idf:
            encoder = yield Work(lambda: self._bare(mode, name, meta))
        elif mode == "idf":
            encoder = yield from self._counted_table(name, meta)
        else:
            encoder = yield Work(lambda: self._full_encoder(name, meta))
        if meta is self._meta:  # else the name stands for another index by now
            self._encoders[mode] = encoder
        return encoder

    def _counted_table(self, name: str, meta: IndexMeta) -> Steps[IdfQueryEncoder]:
        identity, self._counted = self._identity, time.monotonic()
        statistics = yield lambda engine: engine.load_statistics(self._index, identity)
        encoder: IdfQueryEncoder = yield Work(lambda: self._table(name, statistics, meta))
        return encoder

    def _aged(self) -> bool:
        """Whether the statistics of the table in use are to be looked at, by nobody else."""
        pid = os.getpid()
        if (
            self._idf_max_age is None
            or "idf" not in self._encoders
            or self._counting == pid
            or time.monotonic() - self._counted < self._idf_max_age
        ):
            return False
        self._counting = pid
        return True

    def look_aside(self) -> Steps[None]:
        """Follow the statistics of the index, beside the searches that use them. What fails is
        tried again by a later search: the table at hand is good enough until then."""
        try:
            yield from self.follow_statistics()
        except SpladeError as error:
            _log.warning("The statistics of %s could not be read again: %s", self._index, error)
        finally:
            self._counting = None

    def follow_statistics(self) -> Steps[bool]:
        """Whether the statistics have changed since the table was made; then it is made anew."""
        meta, old, identity = self._meta, self._encoders.get("idf"), self._identity
        self._counted = time.monotonic()
        if meta is None or old is None or meta.model.fold_idf or not _of_index(self._idf):
            return False
        found = yield lambda engine: engine.statistics_version(self._index, identity)
        if found == self._statistics:
            return False
        name = yield Work(lambda: self._checked_model(meta, "idf"))
        encoder = yield from self._counted_table(name, meta)
        if self._encoders.get("idf") is not old:  # the name stands for another index by now
            return False
        self._encoders["idf"], self._statistics = encoder, found
        _log.debug("%s: IDF table made anew: %s", self._index, encoder.table.origin)
        return True

    def refresh(self) -> Steps[None]:
        """Learn at once what has changed: record, model and statistics."""
        self._looked = 0.0
        if self._meta is not None:
            yield from self._changed([])
            yield from self.follow_statistics()

    def _table(
        self, name: str, statistics: TermStatistics | None, meta: IndexMeta
    ) -> IdfQueryEncoder:
        return IdfQueryEncoder.load(
            name,
            statistics,
            source=self._idf,
            normalize=meta.model.normalize,
            leading_space=meta.model.leading_space,
            whole=True,
        )

    def _bare(self, mode: EncoderMode, name: str, meta: IndexMeta) -> QueryEncoder:
        """Queries of documents that hold the IDF already are their bare tokens."""
        if mode != "idf" or self._idf is not None:
            what = "the encoder" if mode != "idf" else "another table"
            raise SettingsError(
                f"The documents of {self._index} hold the IDF already (--fold-idf): with {what} "
                "it would count twice.",
                hint="Search with mode 'idf' alone.",
            )
        encoder = IdfQueryEncoder.load(name, normalize=meta.model.normalize, whole=True)
        if self._check and encoder.table.sha256() != meta.model.fold_idf:
            raise ModelMismatchError(
                f"Another IDF table than that of {name} is folded into the documents of "
                f"{self._index}.",
                hint="Name the model of the index with model= or --model.",
            )
        return encoder.bare()

    def pipeline(self) -> Steps[QueryPipeline]:
        """What encodes queries in the engine; looked up on first use, and after an error.

        Raises:
            DeploymentError: nothing does.
            ModelMismatchError: it is for another model than the one that encoded the index.
        """
        if self._pipeline is None:
            meta = yield from self.meta()
            found = yield lambda engine: engine.query_pipeline(self._index)
            if self._check and found.content_hash != meta.model.content_hash:
                raise ModelMismatchError(
                    f"The search pipeline {found.name} encodes queries of {self._index} by the "
                    f"model {found.model_id}, which splade-os did not deploy for such an index.",
                    hint=f"Deploy one: splade-os deploy PACKAGE --index {self._index}",
                )
            self._pipeline = found
        return self._pipeline

    def _full_encoder(self, name: str, meta: IndexMeta) -> QueryEncoder:
        part = read_layout(resolve_model(name).folder).document
        # a checkpoint that does not say these is told by the index
        told = {"activation", "pooling"} if part.activation is None else set()
        options = meta.model.model_dump(include={*told, "normalize"})
        return SharedBatches(load_query_encoder(name, "encoder", device=self._device, **options))

    def _checked_model(self, meta: IndexMeta, mode: EncoderMode) -> str:
        """Where the model lies, once it is known to be the one that encoded the index."""
        wanted, weights = meta.model, mode != "idf"
        if wanted.external and self._check:
            raise ModelMismatchError(
                f"The vectors of the index {self._index} came from outside, and no model was named "
                "that made them, so that nothing can encode queries for them.",
                hint="Search in the mode raw (token → weight) or bm25; or ingest again with "
                "--vectors --model NAME.",
            )
        if self._model is None:
            found = resolve_recorded(wanted, self._index, weights=weights)
        else:
            found = resolve_model(self._model, weights=weights)
        name = self._model or wanted.name
        if self._check and not (mode == "idf" and same_queries(found, wanted)):
            part = read_layout(found.folder).document
            if mode == "idf" and wanted.query_hash and not has_weights(part.folder):
                raise ModelMismatchError(
                    f"The index {self._index} was encoded with the model {wanted.name} (content "
                    f"hash {short_hash(wanted.content_hash)}), and {name} is not the same: its "
                    "query side has another tokenizer or table.",
                    hint="Name the model of the index with model= or --model.",
                )
            if not wanted.content_hash and found.name != wanted.name:
                raise ModelMismatchError(
                    f"The vectors of the index {self._index} are of the model {wanted.name}, of "
                    f"which no weights were at hand when they came: that {found.name} is the same "
                    "cannot be known.",
                    hint=f"Name it by that name: --model {wanted.name} (model= in Python).",
                )
            have = wanted.model_copy(
                update={
                    "content_hash": wanted.content_hash and model_hash(part),
                    # a checkpoint that does not say these is told by the index
                    "activation": part.activation or wanted.activation,
                    "pooling": part.pooling or wanted.pooling,
                }
            )
            difference = have.difference(wanted)
            if difference:
                raise ModelMismatchError(
                    f"The index {self._index} was encoded with the model {wanted.name} (content "
                    f"hash {short_hash(wanted.content_hash)}), and {name} is not the same: "
                    f"{difference}.",
                    hint="Name the model of the index with model= or --model.",
                )
        return name

    def plans(self, texts: Sequence[Text], options: SearchOptions) -> Steps[list[Plan]]:
        """What to send for each text."""
        mode = options.mode
        meta = self._meta or (yield from self.meta())
        _check_texts(texts, mode)
        if not self._own_body and (options.engine_body or options.parameters):
            lacking = ", ".join((*options.engine_body, *options.parameters))
            raise SettingsError(
                f"SQLite ({self._url}) has none of these sections of a search: {lacking}.",
                hint="OpenSearch and Elasticsearch have them. SQLite has filter, offset, after, "
                "min_score, total, and highlight with a list of fields.",
            )
        if mode == "bm25":
            return [
                plan_bm25(t, meta, options)  # type: ignore[arg-type]
                if has_content(t)  # type: ignore[arg-type]
                else _nothing(options)
                for t in texts
            ]
        if mode == "raw":
            raw = yield from self._raw(texts, meta, options)
            return [
                plan_sparse(sparse, meta, options, "the caller") if text else _nothing(options)
                for text, sparse in zip(texts, raw, strict=True)
            ]
        if mode == "engine":
            pipeline, form = (yield from self.pipeline()), meta.model.normalize
            return [
                plan_text(normalized(t, form), pipeline, meta, options)  # type: ignore[arg-type]
                if has_content(t)  # type: ignore[arg-type]
                else _nothing(options)
                for t in texts
            ]
        half: EncoderMode = options.fusion.sparse if mode == "hybrid" else mode
        if half == "idf" and self._aged():
            yield Aside(self.look_aside())
        encoder = self._encoders.get(half) or (yield from self.encoder(half))
        if half == "idf" and sum(map(len, texts)) < _SHORT:
            batch, cut = _encode(encoder, texts, options)
        else:  # an event loop has more to do
            batch, cut = yield Work(lambda: _encode(encoder, texts, options))
        origin = encoder.table.origin if isinstance(encoder, IdfQueryEncoder) else "encoder"
        tokens = encoder.vocabulary.tokens
        if half not in self._names:
            self._names[half] = encoder.vocabulary.named(meta.feature_naming)
        names = self._names[half]
        plans = []
        for text, (ids, weights), tokens_cut in zip(texts, batch, cut, strict=True):
            if not has_content(text):  # type: ignore[arg-type]
                plans.append(_nothing(options))
                continue
            sparse = sparse_query(ids, weights, names, tokens, options, half)
            if mode == "hybrid":
                plan = plan_hybrid(text, sparse, meta, options, origin)  # type: ignore[arg-type]
            else:
                plan = plan_sparse(sparse, meta, options, origin)
            plans.append(replace(plan, tokens_cut=tokens_cut) if tokens_cut else plan)
        return plans

    def _meant(self, options: SearchOptions) -> Steps[SearchOptions]:
        """The options with what only the index knows."""
        if options.highlight is not True:
            return options
        meta = yield from self.meta()
        return replace(options, highlight=meta.text_fields)

    def _raw(
        self, texts: Sequence[Text], meta: IndexMeta, options: SearchOptions
    ) -> Steps[list[Sparse | None]]:
        """Given weights as queries; ids of tokens only where the index names features by them."""
        name_of = feature_name
        if meta.feature_naming == TOKEN_IDS:
            vocabulary = (yield from self._plain()).vocabulary

            def name_of(token: str) -> str:
                i = vocabulary.id(token)
                if i is None:
                    raise InputError(f"The vocabulary of the index has no token {token!r}.")
                return str(i)

        found = []
        for text in texts:
            assert isinstance(text, Mapping)
            tokens = list(text)
            try:
                weights = np.array([text[token] for token in tokens], np.float32)
            except (TypeError, ValueError):
                raise InputError("A weight of the query is no number.") from None
            for token, weight in zip(tokens, weights.tolist(), strict=True):
                if not 0 < weight < np.inf:
                    raise InputError(
                        f"The weight of {token!r} in the query is {weight}: an engine takes none "
                        "that is not finite and greater than zero.",
                        hint="Leave out the tokens that shall not count.",
                    )
            names = [name_of(token) for token in tokens]
            ids = np.arange(len(tokens), dtype=np.int32)
            found.append(sparse_query(ids, weights, names, tokens, options, "raw"))
        return found

    def _plain(self) -> Steps[IdfQueryEncoder]:
        """The index's tokenizer."""
        encoder = self._encoders.get("idf") or self._tokenizer
        if not isinstance(encoder, IdfQueryEncoder):
            meta = yield from self.meta()
            name = yield Work(lambda: self._checked_model(meta, "idf"))
            encoder = self._tokenizer = yield Work(
                lambda: IdfQueryEncoder.unweighted(name, meta.model.normalize)
            )
        return encoder

    def _builder(self, plans: Sequence[Plan], options: SearchOptions) -> Steps[ResultBuilder]:
        meta = yield from self.meta()
        # a point in time knows its index
        endpoint = f"{self._url}/_search" if options.after else self.endpoint + options.in_url
        wanted = options.explain or options.marks is not None
        if not wanted or not any(plan.sparse for plan in plans):
            return ResultBuilder(endpoint, str, lambda source: set())
        if meta.model.external:  # nobody knows which tokens a text has
            return ResultBuilder(endpoint, token_of, lambda source: set())
        plain = yield from self._plain()
        tokens = plain.vocabulary.tokens

        def own_tokens(source: Mapping[str, Any]) -> set[str]:
            text = stored_text(source, meta.text_fields)
            texts = [text, with_leading_space(text)] if meta.model.leading_space else [text]
            return {tokens[i] for ids in plain.tokenizer(texts) for i in ids.tolist()}

        def tokens_of(words: Sequence[str]) -> list[set[str]]:
            forms = list(words)
            if meta.model.leading_space:
                forms = [with_leading_space(word) for word in words]
            rows = plain.tokenizer([normalized(word, meta.model.normalize) for word in forms])
            return [{tokens[i] for i in ids.tolist()} for ids in rows]

        by_id = meta.feature_naming == TOKEN_IDS
        name = (lambda feature: tokens[int(feature)]) if by_id else token_of
        return ResultBuilder(endpoint, name, own_tokens, tokens_of)

    def search(
        self, text: Text, options: SearchOptions, plans: list[Plan] | None = None
    ) -> Steps[Results]:
        """One search.

        Args:
            plans: (pages of one scan) that of the first page, which the others take: what is
                weighted or switched anew in between is of another ranking.
        """
        try:
            with hinted():
                results = yield from self._search(text, options, plans)
                if results is None:
                    results = yield from self._search(text, options, plans, last=True)
                    assert results is not None
        except EngineError:
            self._pipeline = None  # it may be another one now
            raise
        return results

    def _search(
        self, text: Text, options: SearchOptions, plans: list[Plan] | None, last: bool = False
    ) -> Steps[Results | None]:
        options = yield from self._meant(options)
        if plans:
            plan = replace(
                plans[0], requests=tuple(replace(r, after=options.after) for r in plans[0].requests)
            )
        else:
            (plan,) = yield from self.plans([text], options)
        builder = yield from self._builder([plan], options)
        responses: list[SearchResponse] = []
        if len(plan.requests) == 1:
            (request,) = plan.requests
            responses = [(yield lambda engine: engine.search(self._index, request))]
        elif plan.requests:
            answers = yield lambda engine: engine.search_many(self._index, plan.requests)
            responses = [_ok(answer) for answer in answers]
        # a point in time that nobody knows of yet: released, should this not come to its end
        opened = responses[0].following if options.after == Cursor() and responses else None
        try:
            # a page of a view that is there already is of that view, whatever the name is now
            in_view = options.after is not None and options.after != Cursor()
            changed = False if in_view else (yield from self._changed(responses))
            if changed and not last:
                if opened is not None:
                    yield partial(_close, opened)
                return None
            if plans is not None and not plans:
                plans.append(plan)
            page = fused_page(responses, options) if len(responses) == 2 else Page()
            (fetched,) = yield from self._fetched([page], options)
            documents = None if fetched is None else _ok(fetched)
            results = builder.build(plan, responses, options, page, documents)
            self._log_search(plan, results)
            return results
        except GeneratorExit:
            raise
        except BaseException:
            if opened is not None:
                yield partial(_close, opened)
            raise

    def _log_search(self, plan: Plan, results: Results) -> None:
        """What an operator wants to know of a slow search: not what was looked for."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug(
                "%s: mode %s, %s, %d requests, %d hits, took %.1f ms%s",
                self._index,
                plan.mode,
                results.used,
                len(plan.requests),
                len(results),
                results.took_ms,
                f": {results.reason}" if results.reason else "",
            )

    def _fetched(
        self, pages: Sequence[Page], options: SearchOptions
    ) -> Steps[list[SearchResponse | EngineError | None]]:
        """The stored fields of fused pages, for those that need them."""
        wanted = [plan_page(page, options) for page in pages]
        requests = [request for request in wanted if request is not None]
        answers: Sequence[SearchResponse | EngineError] = []
        if requests:
            answers = yield lambda engine: engine.search_many(self._index, requests)
        left = iter(answers)
        return [None if request is None else next(left) for request in wanted]

    def _changed(self, responses: Sequence[SearchResponse]) -> Steps[bool]:
        """Whether the name stands for other indices than when the record, the model and the
        statistics were read; then what is not true any more is forgotten.

        A hit of an unknown index shows it at once. An alias that has grown, an index that was made
        anew, and searches that find nothing show nothing: for these the cluster is asked, not more
        often than every `_LOOK_EVERY` (`_LOOK_SOON`) seconds.
        """
        found = next((r.index for r in responses if r.index is not None), None)
        names = {name for name, _ in self._identity}
        since = time.monotonic() - self._looked
        pause = _LOOK_SOON if found is None and names else _LOOK_EVERY
        if (found is None or found in names or not names) and since < pause:
            return False
        identity = yield from self._identified()
        if identity == self._identity:
            return False
        meta, self._identity = yield lambda engine: engine.describe(self._index)
        if meta != self._meta:
            self._meta, self._tokenizer, self._pipeline = None, None, None
            self._encoders.clear()
            self._names.clear()
        self._encoders.pop("idf", None)
        self._statistics = None
        return True

    def _identified(self) -> Steps[frozenset[tuple[str, str]]]:
        """What the name stands for; nothing, where the user may not ask."""
        self._looked = time.monotonic()
        try:
            identity = yield lambda engine: engine.identity(self._index)
        except (AuthenticationError, AuthorizationError):
            return frozenset()
        found: frozenset[tuple[str, str]] = identity
        return found

    def search_many(
        self, texts: Sequence[Text], options: SearchOptions
    ) -> Steps[list[Results | EngineError]]:
        """Several searches in one request; what failed is in its place."""
        results = yield from self._search_many(texts, options)
        if results is None:
            results = yield from self._search_many(texts, options, last=True)
            assert results is not None
        return results

    def _search_many(
        self, texts: Sequence[Text], options: SearchOptions, last: bool = False
    ) -> Steps[list[Results | EngineError] | None]:
        options = yield from self._meant(options)
        plans = yield from self.plans(texts, options)
        builder = yield from self._builder(plans, options)
        requests = [request for plan in plans for request in plan.requests]
        answers: list[SearchResponse | EngineError] = []
        if requests:
            answers = yield lambda engine: engine.search_many(self._index, requests)
        changed = yield from self._changed([a for a in answers if not isinstance(a, EngineError)])
        if changed and not last:
            return None
        left = iter(answers)
        given = [_all_ok([next(left) for _ in plan.requests]) for plan in plans]
        pages: list[Page] = []
        for number, mine in enumerate(given):
            pages.append(Page())
            if not isinstance(mine, EngineError) and len(mine) == 2:
                try:
                    pages[-1] = fused_page(mine, options)
                except EngineError as error:
                    given[number] = error
        fetched = yield from self._fetched(pages, options)
        results: list[Results | EngineError] = []
        for plan, mine, page, documents in zip(plans, given, pages, fetched, strict=True):
            if isinstance(mine, EngineError):
                results.append(mine)
            elif isinstance(documents, EngineError):
                results.append(documents)
            else:
                built = builder.build(plan, mine, options, page, documents)
                self._log_search(plan, built)
                results.append(built)
        return results

    def build(self, text: Text, options: SearchOptions) -> Steps[list[bytes]]:
        """The bodies that `search` would send."""
        options = yield from self._meant(options)
        (plan,) = yield from self.plans([text], options)
        bodies = []
        for request in plan.requests:
            body = yield partial(_render, self._index, request)
            if body is not None:
                bodies.append(body)
        return bodies


def _of_index(source: IdfSource | None) -> bool:
    """Whether a table has a part that was counted in the index."""
    return (
        source is None or source == "index" or (isinstance(source, Mapping) and "index" in source)
    )


def _encode(
    encoder: QueryEncoder, texts: Sequence[Any], options: SearchOptions
) -> tuple[SparseBatch, list[int]]:
    """Vectors, and how many tokens of each text have no part in them."""
    if isinstance(encoder, IdfQueryEncoder):
        return encoder.encode(texts, options.query_tf), encoder.tokens_cut(texts)
    return encoder.encode_content(texts), encoder.tokens_cut(texts)


def _render(index: str, request: SearchRequest, engine: Any) -> Any:
    return engine.render(index, request)


def _close(cursor: Cursor, engine: Any) -> Any:
    return engine.close_cursor(cursor)


def _all_ok(
    answers: Sequence[SearchResponse | EngineError],
) -> list[SearchResponse] | EngineError:
    """The answers to the requests of one search, or the first error among them."""
    responses: list[SearchResponse] = []
    for answer in answers:
        if isinstance(answer, EngineError):
            return answer
        responses.append(answer)
    return responses


def _ok(answer: SearchResponse | EngineError) -> SearchResponse:
    if isinstance(answer, EngineError):
        raise answer
    return answer


def _nothing(options: SearchOptions) -> Plan:
    return Plan(options.mode, reason=_EMPTY_FILTERED if options.filters else _EMPTY)


def _check_texts(texts: Sequence[Text], mode: str) -> None:
    if isinstance(texts, (str, bytes, Mapping)):
        raise InputError(
            f"The queries are one {type(texts).__name__}, not a list of them.",
            hint="Pass a list to search_many, or the one query to search.",
        )
    wanted = Mapping if mode == "raw" else str
    for text in texts:
        if not isinstance(text, wanted):
            says = "token → weight" if mode == "raw" else "a text"
            raise InputError(
                f"A query of the mode {mode!r} is {says}, not a {type(text).__name__}."
            )
