"""MTEB: any of its retrieval tasks through a live index, and the model alone as an encoder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack
from uuid import uuid4

import numpy as np

from splade_os.encoding import DocumentEncoder
from splade_os.encoding.query import QueryMode
from splade_os.engines import Engine, connect
from splade_os.engines.connection.keywords import ConnectionKeywords
from splade_os.errors import (
    IndexNotFoundError,
    InputError,
    MissingExtraError,
    SettingsError,
)
from splade_os.evaluation.live import run_queries
from splade_os.evaluation.runs import Run
from splade_os.evaluation.ways import Way, parse_ways
from splade_os.identity import ModelIdentity
from splade_os.ingest.documents.records import Item, Record, RecordReader, Rejected
from splade_os.integrations.loads import load_all
from splade_os.integrations.sparse_texts import SparseTexts
from splade_os.search.client import SearchClient
from splade_os.search.options import MAX_K, SearchKeywords
from splade_os.settings import load_settings
from splade_os.vectors import SparseBatch

try:
    import torch
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise MissingExtraError("The integration with MTEB", "mteb") from error

_FIELDS = ("title", "text")


class SpladeSearch:
    """A model for ``mteb.evaluate`` (its ``SearchProtocol``): the corpus of every task is loaded
    into an index of its own, which is deleted when the next one begins or `close` is called, and
    every query is a search of it.

    Args:
        url: of the cluster, or ``sqlite:///FILE``; default from the settings.
        engine: an open engine instead of the URL; it is not closed with this one.
        model, device: what encodes.
        mode: how it is searched, as ``splade-os evaluate --modes`` takes it: ``hybrid``, ``idf``,
            ``encoder:exact``, ``bm25`` ... (`splade_os.evaluation.ways`).
        index: beginning of the names of the indices.
        auth: credentials, TLS and ``timeout``, as of `SearchClient`.

    Raises:
        SettingsError: a mode that there is not, or several.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: Engine | None = None,
        model: str | None = None,
        device: str | None = None,
        mode: str = "hybrid",
        index: str = "mteb",
        **auth: Unpack[ConnectionKeywords],
    ) -> None:
        ways = parse_ways(mode)
        if len(ways) > 1:
            raise SettingsError(f"MTEB compares models: make one for each of {mode}.")
        (self._way,) = ways
        settings = load_settings(url=url, model=model, **auth)
        self._own = engine is None
        self._engine = engine or connect(settings.url, **settings.connection())
        self._encoder = DocumentEncoder.load(settings.model or "starter", device=device)
        self._prefix = index
        self._client: SearchClient | None = None

    def close(self) -> None:
        """Delete the last index; close the engine, if it was opened here."""
        self._forget()
        if self._own:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What the results are filed under: the model, and how it was searched."""
        return _meta(self._encoder.identity, f"{self._way.label} on {self._engine.info()}")

    def index(
        self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **kwargs: Any
    ) -> None:
        """Load a corpus.

        Raises:
            IngestError: not every document could be indexed: the figures would be too low.
        """
        self._forget()
        task = re.sub(r"[^a-z0-9]+", "-", f"{task_metadata.name}-{hf_subset}-{hf_split}".lower())
        name = f"{self._prefix}-{task.strip('-')}-{uuid4().hex[:8]}"
        client = SearchClient(index=name, engine=self._engine, model=self._encoder.identity.name)
        self._client = client
        load_all(
            _records(corpus, task_metadata.name),
            engine=self._engine,
            index=name,
            encoder=self._encoder,
            text_fields=_FIELDS,
            what=f"documents of {task_metadata.name}",
        )

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None = None,
        **kwargs: Any,
    ) -> Run:
        """Search for every query.

        Args:
            top_k: documents of each, at most 10,000.
            top_ranked: (reranking) only these documents of each query.

        Returns:
            Query id → document id → score.

        Raises:
            SettingsError: nothing is indexed.
            InputError: a query is no text (a conversation).
        """
        if self._client is None:
            raise SettingsError("There is no corpus to search: index() comes before search().")
        texts = dict(_queries(queries, task_metadata.name))
        depth = min(top_k, MAX_K)
        if top_ranked is None:
            return run_queries(self._client, texts, self._way, depth=depth)[0]
        run: Run = {}
        for query, text in texts.items():
            run[query] = self._ranked(self._client, text, top_ranked.get(query, []), depth)
        return run

    def _ranked(
        self, client: SearchClient, text: str, documents: list[str], depth: int
    ) -> dict[str, float]:
        if not documents:
            return {}
        way: Way = self._way
        only: SearchKeywords = {"filter": {"ids": {"values": documents}}, "source": ()}
        only.update(way.options)
        results = client.search(text, min(depth, len(documents)), way.mode, **only)
        return {hit.id: hit.score for hit in results}

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(IndexNotFoundError):  # nothing was written
                self._engine.delete_index(client.index)


class SpladeEncoder:
    """The model alone, without an engine: an encoder of MTEB (its ``EncoderProtocol``), whose
    vectors are sparse tensors ``(B, V)``.

    Args:
        model_name: ``starter``, a folder, or a name on the hub.
        revision: none: a name on the hub is taken as it was downloaded.
        device: torch device.
        query_mode: ``encoder`` (the full model) or ``idf`` (the model's table; no model runs).
    """

    def __init__(
        self,
        model_name: str = "starter",
        revision: str | None = None,
        *,
        device: str | None = None,
        query_mode: QueryMode = "encoder",
        **kwargs: Any,
    ) -> None:
        if revision is not None:
            raise SettingsError(
                f"The revision {revision!r} of {model_name} cannot be chosen here.",
                hint="Name a folder that holds it.",
            )
        self._texts = SparseTexts(model_name, device, query_mode)

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """What the results are filed under."""
        identity = self._texts.document_encoder.identity
        return _meta(identity, f"queries by {self._texts.query_mode}")

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Vectors of batches of texts, as queries or (by default) as documents.

        Returns:
            Sparse tensor (COO), float32, of the shape ``(B, V)``.
        """
        width = len(self._texts.document_encoder.vocabulary)
        as_query = prompt_type == PromptType.query
        rows = []
        for batch in inputs:
            encode = self._texts.queries if as_query else self._texts.documents
            rows += [
                (np.array(ids, np.int32), np.array(weights, np.float32))
                for ids, weights in encode(batch["text"])
            ]
        return _tensor(SparseBatch.from_rows(rows, width))

    def similarity(self, embeddings1: torch.Tensor, embeddings2: torch.Tensor) -> torch.Tensor:
        """Dot products, dense, of the shape ``(B1, B2)``."""
        first, second = (_matrix(each) for each in (embeddings1, embeddings2))
        return torch.sparse.mm(first, second.t()).to_dense()

    def similarity_pairwise(
        self, embeddings1: torch.Tensor, embeddings2: torch.Tensor
    ) -> torch.Tensor:
        """Dot product of each pair of rows, of the shape ``(B,)``."""
        first, second = (_matrix(each) for each in (embeddings1, embeddings2))
        return torch.sparse.sum(first * second, dim=1).to_dense()


def _tensor(batch: SparseBatch) -> torch.Tensor:
    rows = np.repeat(np.arange(len(batch)), batch.active_dims())
    where = torch.from_numpy(np.stack([rows, batch.indices.astype(np.int64)]))
    values = torch.from_numpy(batch.values.copy())
    shape = (len(batch), batch.width)
    return torch.sparse_coo_tensor(where, values, shape, check_invariants=True).coalesce()


def _matrix(embeddings: torch.Tensor) -> torch.Tensor:
    some = embeddings if embeddings.is_sparse else embeddings.to_sparse()
    return some if some.dim() == 2 else some.unsqueeze(0)


def _meta(identity: ModelIdentity, how: str) -> ModelMeta:
    name = identity.name
    if name.count("/") != 1:  # "organisation/model" of the hub; a folder says nothing elsewhere
        name = f"splade-os/{Path(name).name}"
    return ModelMeta.create_empty(
        overwrites={
            "name": name,
            "revision": identity.revision or (identity.content_hash or "unknown")[:16],
            "max_tokens": identity.max_length,
            "embed_dim": identity.vocabulary_size,
            "similarity_fn_name": ScoringFunction.DOT_PRODUCT,
            "model_type": ["sparse"],
            "experiment_kwargs": {"search": how},
        }
    )


def _records(corpus: Any, task: str) -> Iterator[Record | Rejected]:
    reader = RecordReader(text_fields=_FIELDS, id_field="id", drop=("id",))
    for number, row in enumerate(corpus, 1):
        document = {name: row.get(name) for name in ("id", *_FIELDS)}
        yield reader.check(document, Item(f"{task}:{number}", value=document), number)


def _queries(queries: Any, task: str) -> Iterator[tuple[str, str]]:
    for row in queries:
        text, instruction = row.get("text"), row.get("instruction")
        if not isinstance(text, str):
            raise InputError(
                f"The query {row['id']} of {task} is {type(text).__name__}, not a text.",
                hint="Tasks of conversations, images and the like are not for a sparse index.",
            )
        # as mteb joins them for its encoders
        yield row["id"], text if instruction is None else f"{text} {instruction}"
