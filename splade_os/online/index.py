"""`Index`: documents in, one by one or many, and searches that find them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

from splade_os.engines import Engine, IndexLayout, IndexMeta, connect
from splade_os.engines.base import Identity
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import IndexNotFoundError, InputError, SettingsError
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.ingest.state.statistics import save_count, settle_counts
from splade_os.online.apply import ChangeApplier
from splade_os.online.changes import Change, Delete, Enrich, Update, Upsert
from splade_os.online.results import DocumentError, DocumentResult
from splade_os.online.target import identity_of, open_target
from splade_os.online.writer import BatchWriter
from splade_os.search.client import SearchClient
from splade_os.search.options import DEFAULT_MODE, Mode, SearchKeywords
from splade_os.search.results import Results
from splade_os.search.target import need_index
from splade_os.settings import load_settings

Document = Mapping[str, Any]
OnError = Literal["raise", "return"]
T = TypeVar("T")
PAGE = 256  # documents that are given to the writer together
_STATISTICS_EVERY = 5.0  # seconds between two savings of the term statistics


@dataclass(frozen=True)
class Begun:
    """Documents on their way.

    Attributes:
        read: as they were understood.
        written: what becomes of those that are records.
    """

    read: Sequence[Record | Rejected]
    written: Future[list[DocumentResult]]

    def results(self, written: Sequence[DocumentResult]) -> list[DocumentResult]:
        """Of all of them, in their order."""
        left = iter(written)
        return [
            next(left)
            if isinstance(each, Record)
            else DocumentResult(each.id or each.where, "failed", each.reason)
            for each in self.read
        ]


class Index:
    """One index, document by document. Safe to use from several threads.

    It is made when it is first written, if it is not there. An index that somebody else made is
    adopted then: its mapping gets a field for vectors (`splade_os.ingest.index.adopt.adopt_index`),
    nothing else of it changes. What was written is found by the next search of the same object.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name or alias.
        text_fields: fields to encode; default the index's own, else every field of the first
            documents that holds text (they are said in a log line).
        model: what encodes; default the index's own model, else the starter.
        device: torch device of the encoder.
        engine: an open engine instead of the URL; it is not closed with this one.
        layout: settings and mapping of a new index; default those of splade-os.
        patience: seconds for which the cluster may not answer, or put documents off, before a
            call fails.
        auth: credentials, TLS and ``timeout``, as of `SearchClient`.

    Raises:
        SettingsError: nothing to write to is named.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        text_fields: Sequence[str] | None = None,
        model: str | None = None,
        device: str | None = None,
        engine: Engine | None = None,
        layout: IndexLayout | None = None,
        patience: float = 30.0,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        if isinstance(text_fields, str):
            raise SettingsError(
                f"text_fields is the text {text_fields!r}, not a list of names.",
                hint=f"Write text_fields=[{text_fields!r}].",
            )
        settings = load_settings(url=url, index=index, model=model, **auth)
        self.name = need_index(settings, url)
        self._own = engine is None
        self.engine = engine or connect(settings.url, **settings.connection())
        self._model, self._device, self._patience = settings.model, device, patience
        self._text_fields, self._layout = text_fields, layout
        self._applier: ChangeApplier | None = None
        self._identity: Identity = frozenset()
        self._writer = BatchWriter(self._apply)
        self._saving = threading.Lock()
        self._saved = time.monotonic()
        self._pause = 0.0  # until the statistics are saved
        self._written = self._uncounted = False  # since the last refresh; since the last saving
        self._client: SearchClient | None = None

    # writing

    def upsert(
        self,
        documents: Document | Iterable[Document],
        *,
        vectors: bool = False,
        on_error: OnError = "raise",
    ) -> list[DocumentResult]:
        """Write whole documents; those of an id that exists are replaced.

        Args:
            documents: one, or any number: they are written in batches as they come. The id is
                ``_id`` or ``id``, else a hash of the document.
            vectors: each brings its vector (token → weight) in the field ``vector``, which is
                written as it is, in place of one of its text.
            on_error: ``return`` the results where some could not be written, or ``raise``.

        Returns:
            What became of each, in their order.

        Raises:
            DocumentError: some could not be written; the others were.
            ModelMismatchError, IndexFormatError: the index is for another model, or other fields.
            EngineError: the cluster did not take them.
        """
        given = [documents] if isinstance(documents, Mapping) else documents
        results: list[DocumentResult] = []
        for page in _pages(given):
            begun = self.begin_upsert(page, vectors)
            results += begun.results(begun.written.result())
        return checked(results, "written", on_error)

    def update(
        self, id: str, fields: Mapping[str, Any], *, on_error: OnError = "raise"
    ) -> DocumentResult:
        """Change some fields of a document. It is encoded again only if its text changes.

        Args:
            id: of the document.
            fields: what they are from now on; objects are merged, everything else is replaced.

        Raises:
            DocumentError: there is no such document, or the cluster refused the change.
        """
        return self._changed([Update(str(id), fields)], "updated", on_error)[0]

    def delete(
        self, ids: str | Iterable[str], *, on_error: OnError = "return"
    ) -> list[DocumentResult]:
        """Delete documents by id; what is not there is ``not_found``.

        Raises:
            DocumentError: (``on_error="raise"``) some were not there, or not deleted.
        """
        some = [ids] if isinstance(ids, str) else [str(each) for each in ids]
        return self._changed([Delete(each) for each in some], "deleted", on_error)

    def enrich(self, ids: Iterable[str] | None = None) -> dict[str, int]:
        """Encode what has no vector, or one of another text: documents that were there when the
        index was adopted, or that others have written since. It can be stopped and run again.

        Args:
            ids: default all documents.

        Returns:
            How many were ``updated``, ``unchanged``, ``not_found`` (deleted meanwhile), ``failed``.
        """
        counts: Counter[str] = Counter()
        self.target()
        self.engine.refresh(self.name)
        everything = (identifier for identifier, _ in self.engine.scan(self.name, ()))
        for page in _pages(everything if ids is None else ids):
            written = self._writer.submit([Enrich(each) for each in page]).result()
            counts.update(result.result for result in written)
        return dict(counts)

    # reading

    def get(self, id: str, fields: Sequence[str] | None = None) -> dict[str, Any] | None:
        """The stored fields of a document, as last written; ``None`` if it is not there."""
        try:
            plain = self._plain()
            found = self.engine.documents(self.name, [id], fields).get(id)
        except IndexNotFoundError:
            return None
        return None if found is None else plain(found)

    def scan(
        self, fields: Sequence[str] | None = None, *, filter: Sequence[Mapping[str, Any]] = ()
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and stored fields of every document that passes the filter (clauses of the engine's
        query language), those of this object included."""
        self.refresh()
        plain = self._plain()
        for identifier, source in self.engine.scan(self.name, fields, filter=filter):
            yield identifier, plain(source)

    def count(self) -> int:
        """Number of documents; 0 where there is no index yet."""
        try:
            self.refresh()
            return self.engine.count(self.name)
        except IndexNotFoundError:
            return 0

    def refresh(self) -> None:
        """Make what was written by this object searchable."""
        if self._written:
            self._written = False
            self.engine.refresh(self.name)

    def search(
        self,
        text: str | Mapping[str, float],
        k: int = 10,
        mode: Mode = DEFAULT_MODE,
        *,
        refresh: bool = True,
        **options: Unpack[SearchKeywords],
    ) -> Results:
        """`SearchClient.search`.

        Args:
            refresh: see what this object has written; it makes the cluster refresh the index.
        """
        if refresh:
            self.refresh()
        return self.client.search(text, k, mode, **options)

    @property
    def client(self) -> SearchClient:
        """The client of this index, for everything else that a search can do."""
        if self._client is None:
            self._client = SearchClient(
                index=self.name, engine=self.engine, model=self._model, device=self._device
            )
        return self._client

    def target(self) -> IndexMeta:
        """What the index remembers; it is made or adopted where it is not ours yet.

        Raises:
            InputError: it has to be made, and no text fields are named.
        """
        return self._opened(()).meta

    # the end

    def close(self) -> None:
        """Write what has been asked for, save the statistics, close the engine if it is ours."""
        self._writer.close()
        self._save_statistics()
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

    # how

    def _plain(self) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """What takes the fields of splade-os out of a stored document."""
        own = self.engine.index_meta(self.name).own_fields
        return lambda source: {n: v for n, v in source.items() if n not in own}

    def begin_upsert(self, documents: Sequence[Document], vectors: bool = False) -> Begun:
        """Give documents to the writer, which makes or adopts the index first if need be."""
        fields = self._opened(documents).meta.text_fields
        reader = RecordReader(text_fields=fields, vectors=vectors)
        read = [_read(reader, document, i) for i, document in enumerate(documents, 1)]
        return Begun(read, self.begin([Upsert(each) for each in read if isinstance(each, Record)]))

    def begin(self, changes: Sequence[Change]) -> Future[list[DocumentResult]]:
        """Give changes to the writer, of an index that is open (`target`)."""
        return self._writer.submit(changes) if changes else _nothing()

    def _changed(
        self, changes: Sequence[Change], what: str, on_error: OnError
    ) -> list[DocumentResult]:
        if not changes:
            return []
        try:
            self.engine.index_meta(self.name)
        except IndexNotFoundError:  # nothing is made for what cannot be there
            return checked([DocumentResult(c.id, "not_found") for c in changes], what, on_error)
        self._opened(())
        return checked(self._writer.submit(changes).result(), what, on_error)

    def _opened(
        self, documents: Sequence[Document], before: ChangeApplier | None = None
    ) -> ChangeApplier:
        """
        Args:
            before: what the name stands for no more.
        """
        with self._saving:
            applier = self._applier
            if applier is None or applier is before:
                known = before.meta.text_fields if before is not None else ()
                target = open_target(
                    self.engine,
                    self.name,
                    [each for each in documents if isinstance(each, Mapping)],
                    model=self._model,
                    device=self._device,
                    text_fields=self._text_fields,
                    known=known,
                    layout=self._layout,
                )
                self._identity = target.identity
                applier = self._applier = ChangeApplier(
                    self.engine, self.name, target.meta, target.encoder, self._patience
                )
            return applier

    def _apply(self, changes: Sequence[Change]) -> list[DocumentResult]:
        """In the writer's thread. An alias may have moved; an engine would make an index anew that
        was deleted, without its mapping."""
        applier = self._applier
        assert applier is not None
        if self._identity != applier.patiently(lambda: identity_of(self.engine, self.name)):
            self._uncounted = False  # of the one that is gone
            applier = self._opened((), applier)
        results = applier.apply(changes)
        self._written = self._uncounted = True
        if time.monotonic() - self._saved > self._pause:
            self._save_statistics()
        return results

    def _save_statistics(self) -> None:
        """Bring the term statistics of the index up to date: at most a tenth of the time."""
        with self._saving:
            if not self._uncounted or self._applier is None:
                return
            self._uncounted = False
            applier, start = self._applier, time.monotonic()
            lag = save_count(self.engine, self.name, applier.count())
            if lag is None:
                self.engine.refresh(self.name)
                settle_counts(self.engine, self.name, applier.run, applier.encoder, applier.meta)
                applier.new_run()
            self._saved = time.monotonic()
            self._pause = max(_STATISTICS_EVERY, 10 * (self._saved - start))


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while page := list(islice(left, PAGE)):
        yield page


def _nothing() -> Future[list[DocumentResult]]:
    done: Future[list[DocumentResult]] = Future()
    done.set_result([])
    return done


def _read(reader: RecordReader, document: Any, number: int) -> Record | Rejected:
    value = dict(document) if isinstance(document, Mapping) else document
    return reader.check(value, Item(f"document {number}", value=value), number)


def checked(results: list[DocumentResult], what: str, on_error: OnError) -> list[DocumentResult]:
    if on_error not in ("raise", "return"):
        raise InputError(f"on_error={on_error!r}: give 'raise' or 'return'.")
    if on_error == "raise" and not all(result.ok for result in results):
        raise DocumentError(what, results)
    return results
