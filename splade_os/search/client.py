"""`SearchClient`: ask an index in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from splade_os.encoding.idf_source import IdfSource
from splade_os.encoding.query import QueryEncoder
from splade_os.engines import Cursor, Engine, IndexMeta, connect
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.engines.driver import drive
from splade_os.errors import EngineError
from splade_os.search.options import (
    DEFAULT_MODE,
    MAX_K,
    MODES,
    Mode,
    SearchKeywords,
    SearchOptions,
    check_scan,
)
from splade_os.search.plan import Plan
from splade_os.search.results import Hit, Results
from splade_os.search.steps import (
    IDF_MAX_AGE,
    Aside,
    EncoderMode,
    SearchSteps,
    Step,
    Steps,
    Text,
    Wait,
    Work,
)
from splade_os.search.target import need_index
from splade_os.settings import load_settings

__all__ = ["MAX_K", "MODES", "Mode", "SearchClient"]
Result = TypeVar("Result")
_PAGE = 1000


class SearchClient:
    """Searches one index. Safe to use from several threads.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name or alias.
        client: a client of opensearch-py or elasticsearch-py of your own, instead of ``url``;
            it is not closed with this one.
        engine: an open engine instead of both; likewise.
        model: where the model lies; default what the index names. It must be the one that
            encoded the index.
        device: (``encoder`` mode) torch device.
        idf: (``idf`` mode) which table weights the terms: ``index`` (counted at ingest),
            ``model`` (the table that the model was saved with), a file, or a mix
            ``{"index": 0.5, "model": 0.5}``; default the index's, or else the model's.
        idf_max_age: (``idf`` mode) seconds after which a search has the statistics of the index
            looked at again, in the background; ``None`` = never (`refresh`).
        check_model: ``False`` skips the comparison of the model with the index.
        auth: ``cloud_id`` instead of ``url``, credentials, TLS and ``timeout``
            (`splade_os.engines.connection.options.client_options`); default from the settings.

    Raises:
        SettingsError, EngineError: nothing to search, or nothing answers.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        client: Any = None,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        idf: IdfSource | None = None,
        idf_max_age: float | None = IDF_MAX_AGE,
        check_model: bool = True,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        settings = load_settings(url=url, index=index, model=model, **auth)
        self.index = need_index(settings, url)
        self._own = engine is None
        if engine is None and client is not None:
            from splade_os.engines.rest.cluster import ClusterEngine

            engine = ClusterEngine(client=client)
        self.engine = engine or connect(settings.url, **settings.connection())
        self._steps = SearchSteps(
            self.index,
            self.engine.url,
            model=settings.model,
            device=device,
            idf=idf,
            check_model=check_model,
            own_body=self.engine.own_body,
            idf_max_age=idf_max_age,
        )

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

    def _run(self, steps: Steps[Result]) -> Result:
        return drive(steps, self._do)

    def _do(self, step: Step) -> Any:
        match step:
            case Work():
                return step.do()
            case Wait():
                return step.future.result()
            case Aside():
                Thread(target=self._run, args=(step.steps,), daemon=True).start()
                return None
            case _:
                return step(self.engine)

    @property
    def meta(self) -> IndexMeta:
        """What the index remembers; read once.

        Raises:
            IndexNotFoundError, IndexFormatError: there is no such index, or none of ours.
        """
        return self._run(self._steps.meta())

    def encoder(self, mode: EncoderMode) -> QueryEncoder:
        """The query encoder of a mode; loaded on first use.

        Raises:
            ModelMismatchError: the model at hand is not the one that encoded the index.
            ModelError: it has no such encoder.
        """
        return self._run(self._steps.encoder(mode))

    def ping(self) -> bool:
        """Whether the engine answers now: one request of its own, five seconds at most.

        Raises:
            AuthenticationError: it answers, and takes no credentials of these.
        """
        return self.engine.ping()

    def refresh(self) -> None:
        """Learn at once what has changed in the index since it was first searched: record, model
        and statistics. Searches notice it by themselves, some time later."""
        self._run(self._steps.refresh())

    def search(
        self, text: Text, k: int = 10, mode: Mode = DEFAULT_MODE, **options: Unpack[SearchKeywords]
    ) -> Results:
        """Find the ``k`` best documents for a text.

        Args:
            text: the query, in plain words; in the mode ``raw`` token → weight.
            k: number of hits, 1 to 10,000.
            mode: ``hybrid`` (one query whose score is that of ``idf`` plus that of
                ``bm25``; `Fusion`), ``idf`` (a table; no model runs), ``encoder`` (the full
                model), ``bm25``, ``raw`` ...
            options: `SearchOptions`: ``filter``, ``source``, ``explain``, ``query_pruning`` ...

        Returns:
            Hits; none, with a ``reason``, where the query has no term with a weight: such a
            query would match every document, so it is never sent.

        Raises:
            SettingsError, InputError: an option or a weight that makes no sense.
            ModelMismatchError: the model at hand is not the one that encoded the index.
            EngineError: the engine refused or failed.
        """
        return self._run(self._steps.search(text, SearchOptions(k, mode, **options)))

    def search_many(
        self,
        texts: Sequence[Text],
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        **options: Unpack[SearchKeywords],
    ) -> list[Results | EngineError]:
        """`search` of many texts: encoded as one batch, sent as one request, order kept.

        Returns:
            Results; in place of a search that failed stands its error.
        """
        return self._run(self._steps.search_many(texts, SearchOptions(k, mode, **options)))

    def scan(
        self,
        text: Text,
        mode: Mode = DEFAULT_MODE,
        *,
        page: int = _PAGE,
        **options: Unpack[SearchKeywords],
    ) -> Iterator[Hit]:
        """Every hit for a text, best first, page by page of one view of the index.

        Args:
            page: hits per request.
        """
        check_scan(options)
        after: Cursor | None = Cursor()
        plans: list[Plan] = []
        rank = 0
        try:
            while after is not None:
                options["after"] = after
                asked = SearchOptions(page, mode, **options)
                results = self._run(self._steps.search(text, asked, plans))
                after = results.following
                for hit in results:
                    rank += 1
                    yield hit.at_rank(rank)
        finally:
            if after is not None and after.pit:
                self.engine.close_cursor(after)

    def build(
        self, text: Text, k: int = 10, mode: Mode = DEFAULT_MODE, **options: Unpack[SearchKeywords]
    ) -> list[bytes]:
        """The exact request bodies (JSON) that `search` would send: none for a query without
        terms, two for a hybrid search that the client fuses."""
        return self._run(self._steps.build(text, SearchOptions(k, mode, **options)))
