"""PyTerrier: a retriever, an indexer and an encoder for its pipelines. None needs a JVM."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import QueryMode
from splade_os.engines import Engine, connect
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import EngineError, MissingExtraError, SettingsError
from splade_os.ingest.documents.envelopes import VECTOR_KEY
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.integrations.loads import load_all
from splade_os.integrations.sparse_texts import Sparse, SparseTexts
from splade_os.search.client import SearchClient
from splade_os.search.options import DEFAULT_MODE, MAX_K, Mode, SearchKeywords
from splade_os.search.results import Hit
from splade_os.search.steps import Text
from splade_os.search.target import need_index
from splade_os.settings import load_settings

try:
    import pandas as pd
    import pyterrier as pt
except ImportError as error:
    raise MissingExtraError("The integration with PyTerrier", "pyterrier") from error

_AT_ONCE = 50  # queries in one request
_TOKS, _QUERY_TOKS = "toks", "query_toks"  # as pyterrier-splade has them: token → weight


class SpladeRetriever(pt.Transformer):
    """Queries → ranked documents of one index. ``retriever % 10`` asks the engine for ten.

    Args:
        client: of the index.
        num_results: documents of each query, 1 to 10,000.
        mode: ``hybrid``, ``idf``, ``encoder``, ``bm25`` ... (`SearchClient.search`). A frame with
            the column ``query_toks`` (token → weight) is searched with these, whatever the mode.
        include_fields: stored fields that become columns.
        search_kwargs: every other option of a search (`SearchOptions`): ``filter`` ...

    Raises:
        SettingsError: a number of results that an engine does not give.
    """

    def __init__(
        self,
        client: SearchClient,
        *,
        num_results: int = 1000,
        mode: Mode = DEFAULT_MODE,
        include_fields: Sequence[str] = (),
        search_kwargs: SearchKeywords | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_results <= MAX_K:
            raise SettingsError(f"num_results is {num_results}; it must be 1 to {MAX_K:,}.")
        self.client, self.num_results, self.mode = client, num_results, mode
        self.include_fields, self.search_kwargs = tuple(include_fields), search_kwargs or {}

    def fuse_rank_cutoff(self, k: int) -> SpladeRetriever:
        """``% k``: the same with at most ``k`` results."""
        if k >= self.num_results:
            return self
        return SpladeRetriever(
            self.client,
            num_results=k,
            mode=self.mode,
            include_fields=self.include_fields,
            search_kwargs=self.search_kwargs,
        )

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Columns ``qid`` and ``query`` (or ``query_toks``) → those, ``docno``, ``score``, ``rank``
        (from 0) and ``include_fields``.

        Raises:
            InputValidationError: (PyTerrier's) a column is missing.
        """
        weighted = _QUERY_TOKS in inp.columns
        column = _QUERY_TOKS if weighted else "query"
        pt.validate.columns(inp, includes=["qid", column])
        mode: Mode = "raw" if weighted else self.mode
        asked = pt.model.query_columns(inp)
        queries = inp[asked].drop_duplicates("qid")
        of, hits = self._found(queries[column].tolist(), mode)
        ranked = queries.iloc[of].reset_index(drop=True)
        ranked["docno"] = pd.Series([hit.id for hit in hits], dtype=object)
        ranked["score"] = pd.Series([hit.score for hit in hits], dtype=float)
        ranked["rank"] = pd.Series([hit.rank - 1 for hit in hits], dtype=int)
        for name in self.include_fields:
            ranked[name] = pd.Series([hit.source.get(name) for hit in hits], dtype=object)
        return ranked

    def _found(self, texts: list[Text], mode: Mode) -> tuple[list[int], list[Hit]]:
        """All hits, and the number of the query of each."""
        options: SearchKeywords = {"source": self.include_fields, **self.search_kwargs}
        of: list[int] = []
        hits: list[Hit] = []
        for start in range(0, len(texts), _AT_ONCE):
            part = texts[start : start + _AT_ONCE]
            answers = self.client.search_many(part, self.num_results, mode, **options)
            for number, results in enumerate(answers, start):
                if isinstance(results, EngineError):
                    raise results
                of += [number] * len(results)
                hits += results
        return of, hits


class SpladeIndexer(pt.Indexer):
    """Documents with ``docno`` → an index. Those with ``toks`` (token → weight, as `SpladeEncoder`
    makes them) are written with these, others are encoded here.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name; made if it is not there.
        engine: an open engine instead of the URL.
        model, device: what encodes; default the starter.
        text_attrs: fields to encode.
        auth: credentials, TLS and ``timeout``, as of `SearchClient`.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        text_attrs: Sequence[str] = ("text",),
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        super().__init__()
        if isinstance(text_attrs, str):
            raise SettingsError("text_attrs is a list of fields.", hint=f"[{text_attrs!r}]")
        settings = load_settings(url=url, index=index, model=model, **auth)
        self._name = need_index(settings, url)
        self._engine = engine or connect(settings.url, **settings.connection())
        self._model, self._device = settings.model or "starter", device
        self._fields = tuple(text_attrs)

    def index(self, iter: Iterable[Mapping[str, Any]], **kwargs: Any) -> SpladeRetriever:
        """Load documents; it streams.

        Returns:
            A retriever of the index.

        Raises:
            IngestError: not every document could be indexed.
        """
        load_all(
            self._records(iter),
            engine=self._engine,
            index=self._name,
            encoder=DocumentEncoder.load(self._model, device=self._device),
            text_fields=self._fields,
            what="documents",
        )
        client = SearchClient(index=self._name, engine=self._engine, model=self._model)
        return SpladeRetriever(client)

    def _records(self, documents: Iterable[Mapping[str, Any]]) -> Iterator[Record | Rejected]:
        plain = RecordReader(text_fields=self._fields, id_field="docno", drop=("docno",))
        given = RecordReader(
            text_fields=self._fields, id_field="docno", drop=("docno",), vectors=True
        )
        for number, row in enumerate(documents, 1):
            document = dict(row)
            reader = plain
            if _TOKS in document:
                document[VECTOR_KEY], reader = document.pop(_TOKS), given
            yield reader.check(document, Item(f"document {number}", value=document), number)


class SpladeEncoder(pt.Transformer):
    """Adds the vector of each text, token → weight: ``query_toks`` to a frame with ``query``,
    ``toks`` to one with ``text``.

    Args:
        model, device: what encodes.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
        text_attr: column of the documents' text.
    """

    def __init__(
        self,
        model: str = "starter",
        *,
        device: str | None = None,
        query_mode: QueryMode = "encoder",
        text_attr: str = "text",
    ) -> None:
        super().__init__()
        self._texts, self._attr = SparseTexts(model, device, query_mode), text_attr

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """The frame with ``query_toks``, ``toks`` or both.

        Raises:
            InputValidationError: (PyTerrier's) it has neither column.
        """
        added = {}
        if "query" in inp.columns:
            rows = self._texts.queries(inp["query"].tolist())
            added[_QUERY_TOKS] = self._named(rows, self._texts.query_encoder.vocabulary.tokens)
        if self._attr in inp.columns:
            rows = self._texts.documents(inp[self._attr].tolist())
            added[_TOKS] = self._named(rows, self._texts.document_encoder.vocabulary.tokens)
        if not added:
            pt.validate.columns(inp, includes=["query"])
        return inp.assign(**added)

    @staticmethod
    def _named(rows: list[Sparse], tokens: Sequence[str]) -> Any:
        named = np.empty(len(rows), object)  # a list of dicts would become columns
        for i, (ids, weights) in enumerate(rows):
            named[i] = {tokens[id]: weight for id, weight in zip(ids, weights, strict=True)}
        return named
