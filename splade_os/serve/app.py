"""The whole service as one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router

from splade_os.serve.api import OPERATIONS, Api
from splade_os.serve.gate import App, Gate
from splade_os.serve.metrics import ServeMetrics
from splade_os.serve.openapi import openapi
from splade_os.serve.options import ServeOptions
from splade_os.serve.page.views import Page
from splade_os.serve.searchers import Searchers
from splade_os.settings import Settings


def make_app(settings: Settings, options: ServeOptions) -> App:
    """The service; whether its engine answers is not asked: it may come up later.

    Raises:
        SettingsError, MissingExtraError: it cannot be built as it is told.
    """
    metrics = ServeMetrics()
    searchers = Searchers(settings, options.indices)

    @asynccontextmanager
    async def lifespan(app: Router) -> AsyncIterator[None]:
        # a thread for each request: those that wait for the encoder share its batches
        pool = ThreadPoolExecutor(options.max_concurrent + 4, "splade-os-serve")
        asyncio.get_running_loop().set_default_executor(pool)
        yield
        await searchers.close()

    document = orjson.dumps(openapi(OPERATIONS, token=options.token is not None))

    async def described(request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def live(request: Request) -> Response:
        return Response(b'{"status":"live"}', media_type="application/json")

    async def ready(request: Request) -> Response:
        trouble = await searchers.trouble()
        if trouble is None:
            return Response(b'{"status":"ready"}', media_type="application/json")
        body = {"status": "unavailable", "reason": type(trouble).__name__}
        return Response(orjson.dumps(body), 503, media_type="application/json")

    async def measured(request: Request) -> Response:
        body, media = metrics.render()
        return Response(body, headers={"content-type": media})

    routes: list[BaseRoute] = [
        Route("/openapi.json", described),
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", measured),
        *Api(searchers, options, metrics).routes(),
        *Page(searchers, options).routes(),
    ]
    # no Starlette around it: that would answer for what fails before the gate does
    app = Router(routes, redirect_slashes=False, lifespan=lifespan)
    paths = frozenset(route.path for route in routes if isinstance(route, Route))
    return Gate(app, options, metrics, paths)
