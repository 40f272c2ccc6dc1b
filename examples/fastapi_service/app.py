"""A search service: documents in, hits out, health and metrics for who operates it.

    pip install 'splade-os[onnx,metrics]' fastapi uvicorn
    SPLADE_OS_URL=http://localhost:9200 SPLADE_OS_INDEX=products uvicorn app:app

Settings come from SPLADE_OS_* variables (docs/connect.md); the text fields from TEXT_FIELDS.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest

from splade_os import AsyncIndex
from splade_os.errors import EngineUnavailableError, InputError, SpladeError

SEARCHES = Histogram("search_seconds", "Time of a search, text to hits", ["mode"])
WRITES = Counter("documents_written_total", "Documents by outcome", ["result"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    fields = os.environ.get("TEXT_FIELDS", "title,text").split(",")
    async with AsyncIndex(text_fields=fields) as index:  # url and index: from the environment
        app.state.index = index
        yield


app = FastAPI(title="Search", lifespan=lifespan)


@app.exception_handler(SpladeError)
async def failed(request: Request, error: SpladeError) -> JSONResponse:
    """What went wrong, in a sentence, and what to do."""
    status = 503 if isinstance(error, EngineUnavailableError) else 500
    status = 400 if isinstance(error, InputError) else status
    return JSONResponse({"error": error.message, "hint": error.hint}, status)


@app.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Alive, and the engine answers."""
    await asyncio.to_thread(request.app.state.index.sync.engine.ping)
    return {"status": "ok"}


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@app.put("/documents")
async def upsert(request: Request, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write whole documents; what many requests write goes out together."""
    results = await request.app.state.index.upsert(documents, on_error="return")
    for result in results:
        WRITES.labels(result.result).inc()
    return [{"id": r.id, "result": r.result, "reason": r.reason} for r in results]


@app.delete("/documents/{id:path}")
async def delete(request: Request, id: str) -> dict[str, str]:
    (result,) = await request.app.state.index.delete(id)
    if result.result == "not_found":
        raise HTTPException(404, f"There is no document {id}.")
    WRITES.labels(result.result).inc()
    return {"id": id, "result": result.result}


@app.get("/search")
async def search(request: Request, q: str, k: int = Query(10, ge=1, le=100)) -> dict[str, Any]:
    """The best k hits for a text; those of words and of what they mean, in one ranking."""
    index: AsyncIndex = request.app.state.index
    with SEARCHES.labels("hybrid").time():
        found = await index.search(q, k, refresh=False)
    return {
        "took_ms": found.took_ms,
        "hits": [
            {"rank": hit.rank, "id": hit.id, "score": hit.score, "document": hit.source}
            for hit in found
        ],
    }
