"""``/v1``: searches, vectors and documents as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from splade_os.control_characters import clean
from splade_os.errors import EngineError
from splade_os.search.results import Results
from splade_os.serve.bodies import (
    Body,
    DocumentsBody,
    EncodeBody,
    ExplainBody,
    SearchBody,
    SearchManyBody,
    SearchSections,
)
from splade_os.serve.metrics import ServeMetrics
from splade_os.serve.openapi import Operation
from splade_os.serve.options import ServeOptions
from splade_os.serve.problems import RequestError
from splade_os.serve.searcher import Searcher
from splade_os.serve.searchers import Searchers
from splade_os.serve.vectors import explain_text

Asked = TypeVar("Asked", bound=Body)

OPERATIONS = (
    Operation("/v1/search", SearchBody, "The best hits for a text."),
    Operation("/v1/search_many", SearchManyBody, "Several searches in one request."),
    Operation("/v1/encode", EncodeBody, "Vectors of texts: token → weight, heaviest first."),
    Operation("/v1/explain", ExplainBody, "A text as a document and as a query of an index."),
    Operation("/v1/documents", DocumentsBody, "Write and delete documents."),
)


class Api:
    """The endpoints of ``/v1``."""

    def __init__(self, searchers: Searchers, options: ServeOptions, metrics: ServeMetrics) -> None:
        self._searchers, self._options, self._metrics = searchers, options, metrics

    def routes(self) -> list[Route]:
        """Of all of them."""
        ends: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/v1/search": self.search,
            "/v1/search_many": self.search_many,
            "/v1/encode": self.encode,
            "/v1/explain": self.explain,
            "/v1/documents": self.documents,
        }
        return [Route(path, end, methods=["POST"]) for path, end in ends.items()]

    async def search(self, request: Request) -> Response:
        """``POST /v1/search``."""
        asked = await _read(request, SearchBody)
        searcher = self._search_of(request, asked)
        results = await searcher.search(asked.text, asked.k, asked.mode, **asked.keywords())
        return _json(results_json(results))

    async def search_many(self, request: Request) -> Response:
        """``POST /v1/search_many``: a search that failed is an error in its place."""
        asked = await _read(request, SearchManyBody)
        self._few(len(asked.texts))
        searcher = self._search_of(request, asked)
        found = await searcher.search_many(asked.texts, asked.k, asked.mode, **asked.keywords())
        results = [
            {"error": {"type": type(each).__name__, "message": clean(each.message)}}
            if isinstance(each, EngineError)
            else results_json(each)
            for each in found
        ]
        return _json({"results": results})

    async def encode(self, request: Request) -> Response:
        """``POST /v1/encode``."""
        asked = await _read(request, EncodeBody)
        self._few(len(asked.texts))
        searcher = self._searchers.of(asked.index)
        encoder: Any
        if asked.side == "query":
            encoder = await searcher.query_encoder(asked.mode)
        else:
            encoder = await searcher.document_encoder()
        return _json(await asyncio.to_thread(_vectors, encoder, asked.texts))

    async def explain(self, request: Request) -> Response:
        """``POST /v1/explain``."""
        asked = await _read(request, ExplainBody)
        found = await explain_text(self._searchers.of(asked.index), asked.text)
        return _json(asdict(found))

    async def documents(self, request: Request) -> Response:
        """``POST /v1/documents``: what became of each, in their order."""
        if not self._options.allow_writes:
            raise RequestError(
                403,
                "read_only",
                "This service changes no documents.",
                "Start it with --allow-writes.",
            )
        asked = await _read(request, DocumentsBody)
        self._few(len(asked.upsert) + len(asked.delete))
        index = self._searchers.of(asked.index).documents
        results = []
        if asked.delete:
            results += await index.delete(asked.delete)
        if asked.upsert:
            results += await index.upsert(asked.upsert, on_error="return")
        for result in results:
            self._metrics.written(result.result)
        return _json({"results": [asdict(result) for result in results]})

    def _search_of(self, request: Request, asked: SearchSections) -> Searcher:
        if asked.k > self._options.max_k:
            raise RequestError(
                400,
                "too_many_hits",
                f"k is {asked.k:,}; this service gives at most {self._options.max_k:,} hits.",
                "Page with offset, or with after.",
            )
        searcher = self._searchers.of(asked.index)
        request.scope["state"]["about"] = {"index": searcher.index, "mode": asked.mode}
        return searcher

    def _few(self, count: int) -> None:
        if count > self._options.max_texts:
            raise RequestError(
                400,
                "too_many",
                f"The request holds {count:,} of what may be {self._options.max_texts:,} at once.",
            )


def results_json(results: Results) -> dict[str, Any]:
    """`Results.to_dict`, without copying, and where the next page begins."""
    return {
        "mode": results.mode,
        "took_ms": results.took_ms,
        "reason": results.reason,
        "weights_from": results.weights_from,
        "used": results.used,
        "total": results.total,
        "partial": results.partial,
        "depth_ended": results.depth_ended,
        "following": results.following,
        "query": results.query,
        "aggregations": results.aggregations,
        "more": results.more,
        "hits": results.hits,
    }


def _vectors(encoder: Any, texts: Sequence[str]) -> dict[str, Any]:
    """Token → weight of each text, heaviest first."""
    tokens = encoder.vocabulary.tokens
    vectors = []
    for ids, weights in encoder.encode_content(texts):
        order = (-weights).argsort(kind="stable")
        pairs = zip(ids[order].tolist(), weights[order].tolist(), strict=True)
        vectors.append({tokens[i]: weight for i, weight in pairs})
    return {"vectors": vectors, "tokens_cut": encoder.tokens_cut(texts)}


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value, default=_plain), media_type="application/json")


def _plain(value: Any) -> Any:
    """Mappings that are no dicts."""
    return dict(value)


async def _read(request: Request, kind: type[Asked]) -> Asked:
    """The body of a request.

    Raises:
        RequestError: it is no JSON.
        ValidationError: it is not what the endpoint takes.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":  # pages of other sites cannot send it unasked
        raise RequestError(
            415, "no_json", "A request is JSON.", "Send Content-Type: application/json."
        )
    try:
        value = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "no_json", f"The body is no JSON: {clean(str(error))}.") from None
    try:
        return kind.model_validate(value, strict=False)
    except ValidationError:
        raise
    except RecursionError:
        raise RequestError(400, "no_json", "The body is nested too deep.") from None
