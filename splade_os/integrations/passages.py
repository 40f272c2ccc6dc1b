"""Passages: texts with metadata, as these frameworks have documents; and an index of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self, Unpack

from splade_os.encoding.query import IdfQueryEncoder
from splade_os.encoding.resolve import resolve_recorded
from splade_os.engines import Engine, IndexLayout, IndexMeta, connect
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import IndexFormatError, IndexNotFoundError, InputError, SettingsError
from splade_os.ingest.documents.envelopes import VECTOR_KEY
from splade_os.online.index import Index, checked
from splade_os.online.results import DocumentError, DocumentResult
from splade_os.search.options import DEFAULT_MODE, Mode, SearchKeywords
from splade_os.search.results import Hit
from splade_os.search.steps import Text
from splade_os.search.target import need_index
from splade_os.settings import load_settings
from splade_os.text_fields import stored_text
from splade_os.vocabulary import Vocabulary

TEXT_FIELD = "text"
"""Field of the text in a new index."""
METADATA_FIELD = "metadata"
"""Field of the metadata: an object."""
EXTRA_FIELD = "extra"
"""Field of what a framework keeps with a passage; no search looks into it."""

_LAYOUT = IndexLayout(
    {"mapping.ignore_malformed": True},  # as every new index has it
    {
        "date_detection": False,
        "dynamic_templates": [
            # compared whole, up to what Lucene takes as one term (32,766 bytes)
            {
                "metadata_strings": {
                    "path_match": f"{METADATA_FIELD}.*",
                    "match_mapping_type": "string",
                    "mapping": {"type": "keyword", "ignore_above": 8191},
                }
            },
            # the first 10 would make a field in which 12.5 is found as 12
            {
                "metadata_numbers": {
                    "path_match": f"{METADATA_FIELD}.*",
                    "match_mapping_type": "long",
                    "mapping": {"type": "double"},
                }
            },
        ],
        "properties": {
            TEXT_FIELD: {"type": "text", "analyzer": "english"},
            METADATA_FIELD: {"type": "object"},
            EXTRA_FIELD: {"type": "object", "enabled": False},
        },
    },
)


@dataclass(frozen=True)
class Passage:
    """A text with what is known of it.

    Attributes:
        id: of the document in the index.
        text: its text fields, joined by a space.
        metadata: what stands in the field ``metadata``, and all other fields of the document.
        extra: what a framework keeps with it.
        vector: to be written instead of that of the text: token → weight.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    vector: Mapping[str, float] | None = None


def passage_of(id: str, source: Mapping[str, Any], text_fields: Sequence[str]) -> Passage:
    """The passage that a stored document is.

    Args:
        id, source: of the document.
        text_fields: of its index.
    """
    taken = {name.partition(".")[0] for name in text_fields}
    rest = {name: value for name, value in source.items() if name not in taken}
    metadata, extra = (
        rest.pop(name) if isinstance(rest.get(name), Mapping) else {}
        for name in (METADATA_FIELD, EXTRA_FIELD)
    )
    return Passage(id, stored_text(source, text_fields), {**rest, **metadata}, extra)


class PassageIndex:
    """An index of passages; made on the first write, if it is not there. An index that is there may
    have any text fields: passages are written into ``text``, or else its only text field.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name or alias.
        engine: an open engine instead of the URL; it is not closed with this one.
        model, device, auth: as of `splade_os.Index`.
    """

    def __init__(
        self,
        url: str | None = None,
        index: str | None = None,
        *,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        settings = load_settings(url=url, index=index, model=model, **auth)
        self.name = need_index(settings, url)
        self._own = engine is None
        self.engine = engine or connect(settings.url, **settings.connection())
        text_fields: tuple[str, ...] | None = None
        try:
            self.engine.index_meta(self.name)
        except IndexNotFoundError:
            text_fields = (TEXT_FIELD,)
        except IndexFormatError:
            pass  # somebody else's: adopted on the first write, or its text fields named by it
        self.documents = Index(
            index=self.name,
            engine=self.engine,
            model=settings.model,
            device=device,
            text_fields=text_fields,
            layout=None if self.engine.url.startswith("sqlite") else _LAYOUT,
        )
        self._exact: dict[str, str] = {}

    def close(self) -> None:
        """Write what has been asked for; close the engine, if it was opened here."""
        self.documents.close()
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

    # writing

    def write(self, passages: Iterable[Passage]) -> list[DocumentResult]:
        """Write passages; those of an id that exists are replaced.

        Returns:
            What became of each: first of those without, then of those with a vector.

        Raises:
            DocumentError: some could not be written; the others were.
            IndexFormatError: the index has several text fields, and none is ``text``.
        """
        given = list(passages)
        if not given:
            return []
        name = self._text_field(self.documents.target())
        results: list[DocumentResult] = []
        for vectors in (False, True):
            some = [p for p in given if (p.vector is not None) == vectors]
            documents = [_document(passage, name) for passage in some]
            results += self.documents.upsert(documents, vectors=vectors, on_error="return")
        return checked(results, "written", "raise")

    def delete(self, ids: Iterable[str]) -> list[DocumentResult]:
        """Delete passages by id; what is not there is ``not_found``.

        Raises:
            DocumentError: some could not be deleted; the others were.
        """
        results = self.documents.delete(ids)
        if any(each.result == "failed" for each in results):
            raise DocumentError("deleted", [each for each in results if each.result != "not_found"])
        return results

    def change(self, id: str, metadata: Mapping[str, Any]) -> None:
        """Change some metadata of a passage; nothing is encoded again.

        Raises:
            DocumentError: there is no such passage.
        """
        self.documents.update(id, {METADATA_FIELD: dict(metadata)})

    def _text_field(self, meta: IndexMeta) -> str:
        if TEXT_FIELD in meta.text_fields:
            return TEXT_FIELD
        if len(meta.text_fields) == 1:
            return meta.text_fields[0]
        raise IndexFormatError(
            f"The index {self.name} has the text fields {', '.join(meta.text_fields)}: which one "
            "would the text of a passage go to?",
            hint="It can be searched; write its documents with splade_os.Index, or take a new "
            "index.",
        )

    # reading

    def read(self, ids: Sequence[str]) -> list[Passage]:
        """Passages by id, those that exist, as last written, in the order of the ids."""
        try:
            found = self.engine.documents(self.name, ids)
            passage = self._reader()
        except IndexNotFoundError:
            return []
        return [passage(id, found[id]) for id in ids if id in found]

    def existing(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that there are."""
        try:
            return set(self.engine.documents(self.name, ids, ()))
        except IndexNotFoundError:
            return set()

    def scan(self, filter: Sequence[Mapping[str, Any]] = ()) -> Iterator[Passage]:
        """Every passage that passes the filter (clauses of the engine's query language)."""
        try:
            passage = self._reader()
        except IndexNotFoundError:
            return
        for id, source in self.documents.scan(filter=filter):
            yield passage(id, source)

    def count(self) -> int:
        """Number of passages; 0 where there is no index yet."""
        return self.documents.count()

    def search(
        self, text: Text, k: int, mode: Mode = DEFAULT_MODE, **options: Unpack[SearchKeywords]
    ) -> list[tuple[Passage, Hit]]:
        """`SearchClient.search`: what was found, best first; nothing where there is no index."""
        try:
            results = self.documents.search(text, k, mode, **options)
        except IndexNotFoundError:
            return []
        fields = self.documents.client.meta.text_fields
        return [(passage_of(hit.id, hit.source, fields), hit) for hit in results]

    def _reader(self) -> _Reader:
        meta = self.engine.index_meta(self.name)
        return _Reader(meta)

    def exact(self, name: str) -> str:
        """The field by which a filter compares metadata, texts as a whole: ``metadata.NAME``, or in
        an index that was written by others ``NAME``. (On SQLite the former.)

        Raises:
            SettingsError: it is a text field, of which engines know words alone.
        """
        if name in self._exact:
            return self._exact[name]
        path = f"{METADATA_FIELD}.{name}"
        try:
            types = self.engine.properties(self.name)
            texts = self.engine.index_meta(self.name).text_fields if types else ()
        except IndexNotFoundError:
            return path
        if path not in types and name in types:
            path = name
        if path in texts and types.get(path) == "text":
            raise SettingsError(
                f"A filter cannot compare the text field {path!r} of {self.name}, of which the "
                "engine knows words alone.",
                hint="Filter by metadata.",
            )
        if path in types:
            # what an index of somebody else has for text by default
            self._exact[name] = f"{path}.keyword" if types[path] == "text" else path
        return self._exact.get(name, path)

    def by_token(self, ids: Sequence[int], weights: Sequence[float]) -> dict[str, float]:
        """A sparse vector of the index's model by token.

        Raises:
            InputError: an id that the model's vocabulary does not have.
        """
        tokens = self._vocabulary.tokens
        wrong = [i for i in ids if not 0 <= i < len(tokens)]
        if wrong:
            raise InputError(
                f"The sparse vector has the id {wrong[0]}, and the vocabulary of the model of "
                f"{self.name} has {len(tokens):,} tokens.",
                hint="Encode it with the same model.",
            )
        return {tokens[i]: weight for i, weight in zip(ids, weights, strict=True)}

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        model = resolve_recorded(self.documents.target().model, self.name).name
        return IdfQueryEncoder.unweighted(model).vocabulary


@dataclass(frozen=True)
class _Reader:
    """Stored documents of an index → passages, without the fields of splade-os."""

    meta: IndexMeta

    def __call__(self, id: str, source: Mapping[str, Any]) -> Passage:
        own = self.meta.own_fields
        plain = {name: value for name, value in source.items() if name not in own}
        return passage_of(id, plain, self.meta.text_fields)


def _document(passage: Passage, text_field: str) -> dict[str, Any]:
    document: dict[str, Any] = {"_id": passage.id, text_field: passage.text}
    if passage.metadata:
        document[METADATA_FIELD] = dict(passage.metadata)
    if passage.extra:
        document[EXTRA_FIELD] = dict(passage.extra)
    if passage.vector is not None:
        document[VECTOR_KEY] = dict(passage.vector)
    return document
