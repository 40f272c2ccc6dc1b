"""sentence-transformers: what a `SparseEncoder` encodes goes into an index as it is, and its
queries are asked there, in place of ``semantic_search_opensearch`` and
``semantic_search_elasticsearch``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Unpack
from uuid import uuid4

from splade_os.encoding.external import ExternalVectors
from splade_os.engines import Engine, connect
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import (
    EngineError,
    IndexNotFoundError,
    InputError,
    MissingExtraError,
    SettingsError,
)
from splade_os.ingest.documents.envelopes import VECTOR_KEY
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.integrations.loads import load_all
from splade_os.search.client import SearchClient
from splade_os.search.options import EXACT, SearchKeywords
from splade_os.settings import load_settings

try:
    from sentence_transformers import SparseEncoder
except ImportError as error:
    extra = "sentence-transformers"
    raise MissingExtraError("The integration with sentence-transformers", extra) from error

Decoded = list[list[tuple[str, float]]]
"""What ``SparseEncoder.decode`` gives: of each text its tokens and weights."""
Found = list[list[dict[str, int | float]]]
"""Of each query the best documents, ``{"corpus_id": position, "score": score}``."""
_CHUNK = 1000  # texts that are encoded, or queries that are asked, together


class SparseEncoderIndex:
    """An index of what a `SparseEncoder` has encoded, with the encoder. Made by `to_index`.

    Attributes:
        model: encodes queries.
        client: of the index, for everything else that a search can do: in the modes ``raw`` and
            ``bm25``, as splade-os itself does not know the model.
    """

    def __init__(self, model: SparseEncoder, client: SearchClient) -> None:
        self.model, self.client = model, client

    def close(self) -> None:
        """Close the engine; the index stays."""
        self.client.engine.close()

    def search(
        self, texts: Sequence[str], top_k: int = 10, **options: Unpack[SearchKeywords]
    ) -> Found:
        """The best documents for each text. Every score is the dot product of both vectors, as the
        index stores the weights of documents (9 significant bits).

        Args:
            options: of a search: ``filter`` ... (`SearchOptions`).

        Raises:
            InputError: ``texts`` is a single text.
        """
        if isinstance(texts, str):
            raise InputError("search takes a list of texts.", hint="Write search([text]).")
        decoded = self.model.decode(self.model.encode_query(list(texts)))
        return _ask(self.client, decoded, top_k, options)


def to_index(
    model: SparseEncoder,
    texts: Iterable[str],
    url: str | None = None,
    index: str | None = None,
    *,
    engine: Engine | None = None,
    batch_size: int = 32,
    **auth: Unpack[ConnectionKeywords],
) -> SparseEncoderIndex:
    """Encode texts with a `SparseEncoder`, and write them into a new index, which BM25 can search
    as well. It streams: texts may come from a generator.

    Args:
        texts: their ids are their positions, from 0.
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        index: name; default a new one.
        engine: an open engine instead of the URL.
        batch_size: of the encoder.
        auth: credentials, TLS and ``timeout``, as of `SearchClient`.

    Raises:
        SettingsError: the index exists.
        IngestError: not every text could be indexed.
    """

    def vectors() -> Iterator[tuple[str, Mapping[str, float]]]:
        left = iter(texts)
        while chunk := list(islice(left, _CHUNK)):
            encoded = model.encode_document(chunk, batch_size=batch_size)
            yield from zip(chunk, map(dict, model.decode(encoded)), strict=True)

    return SparseEncoderIndex(model, _load(vectors(), url, index, engine, auth))


def semantic_search(
    query_embeddings_decoded: Decoded,
    corpus_embeddings_decoded: Decoded | None = None,
    corpus_index: tuple[Engine, str] | None = None,
    top_k: int = 10,
    output_index: bool = False,
    url: str | None = None,
    **auth: Unpack[ConnectionKeywords],
) -> tuple[Found, float] | tuple[Found, float, tuple[Engine, str]]:
    """``semantic_search_opensearch`` and ``semantic_search_elasticsearch`` with exact scores, on
    every engine; arguments and results are theirs.

    Args:
        query_embeddings_decoded, corpus_embeddings_decoded: of ``SparseEncoder.decode``.
        corpus_index: engine and name, as ``output_index`` has given them, instead of a corpus.
        top_k: documents of each query.
        output_index: whether to return engine and name. Else the index is deleted.
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.

    Returns:
        What was found, seconds that it took, and with ``output_index`` the index.

    Raises:
        SettingsError: neither a corpus nor an index.
        IngestError: not every document could be indexed.
    """
    if corpus_index is None and corpus_embeddings_decoded is None:
        raise SettingsError("Give corpus_embeddings_decoded, or else corpus_index.")
    if corpus_index is not None:
        client = SearchClient(engine=corpus_index[0], index=corpus_index[1])
    else:
        vectors = (("", dict(row)) for row in corpus_embeddings_decoded or [])
        client = _load(vectors, url, None, None, auth)
    try:
        start = time.perf_counter()
        found = _ask(client, query_embeddings_decoded, top_k, {})
        seconds = time.perf_counter() - start
        if output_index:
            return found, seconds, (client.engine, client.index)
        return found, seconds
    finally:
        if corpus_index is None and not output_index:
            client.engine.delete_index(client.index)
            client.engine.close()


def _load(
    vectors: Iterable[tuple[str, Mapping[str, float]]],
    url: str | None,
    index: str | None,
    engine: Engine | None,
    auth: ConnectionKeywords,
) -> SearchClient:
    settings = load_settings(url=url, **auth)
    opened = engine or connect(settings.url, **settings.connection())
    name = index or f"sparse-encoder-{uuid4().hex[:12]}"
    if _is_there(opened, name):
        raise SettingsError(
            f"The index {name} exists already.",
            hint="Give another name, or delete it: splade-os index delete.",
        )
    try:
        load_all(
            _records(vectors),
            engine=opened,
            index=name,
            encoder=ExternalVectors(),
            text_fields=["text"],
            what="texts",
        )
    except BaseException:
        if index is None:  # nobody knows its name
            with suppress(IndexNotFoundError):
                opened.delete_index(name)
        raise
    return SearchClient(engine=opened, index=name)


def _is_there(engine: Engine, index: str) -> bool:
    try:
        return bool(engine.identity(index))
    except IndexNotFoundError:
        return False


def _records(
    vectors: Iterable[tuple[str, Mapping[str, float]]],
) -> Iterator[Record | Rejected]:
    reader = RecordReader(text_fields=["text"], vectors=True)
    for number, (text, vector) in enumerate(vectors, 1):
        document = {"_id": str(number - 1), "text": text, VECTOR_KEY: vector}
        yield reader.check(document, Item(f"text {number - 1}", value=document), number)


def _ask(client: SearchClient, decoded: Decoded, top_k: int, options: SearchKeywords) -> Found:
    asked: SearchKeywords = {"source": (), "query_pruning": EXACT, **options}
    found: Found = []
    for start in range(0, len(decoded), _CHUNK):
        queries = [dict(row) for row in decoded[start : start + _CHUNK]]
        for results in client.search_many(queries, top_k, "raw", **asked):
            if isinstance(results, EngineError):
                raise results
            found.append([{"corpus_id": int(hit.id), "score": hit.score} for hit in results])
    return found
