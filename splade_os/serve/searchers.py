"""The indices of a service, and the engine that holds them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from splade_os.engines import connect
from splade_os.engines.rest.cluster import AsyncClusterEngine
from splade_os.errors import EngineUnavailableError, SpladeError
from splade_os.serve.problems import RequestError
from splade_os.serve.searcher import Searcher
from splade_os.settings import Settings

_LOOK_EVERY = 1.0  # seconds: whoever asks whether we are ready makes no load


class Searchers:
    """The indices that may be searched, by name; no other is ever asked for. They share one engine.

    Args:
        settings: the engine and its credentials, and where the model lies.
        indices: names or aliases; the first is the default.

    Raises:
        SettingsError, MissingExtraError: as of `connect`. Whether anything answers is not asked.
    """

    def __init__(self, settings: Settings, indices: Sequence[str]) -> None:
        self.engine = connect(settings.url, **settings.connection())
        self._cluster: AsyncClusterEngine | None = None
        if settings.url.startswith(("http://", "https://")):
            self._cluster = AsyncClusterEngine(settings.url, **settings.connection())
        self.names = tuple(indices)
        self._all = {
            name: Searcher(name, self.engine, self._cluster, settings.model) for name in indices
        }
        self._looked = 0.0
        self._found: SpladeError | None = None
        self._looking = asyncio.Lock()

    def of(self, index: str | None) -> Searcher:
        """The one of a name; ``None`` = the first.

        Raises:
            RequestError: 404, it is not served.
        """
        searcher = self._all.get(self.names[0] if index is None else index)
        if searcher is None:
            raise RequestError(
                404,
                "IndexNotFoundError",
                "This service has no such index.",
                f"It has {', '.join(self.names)}.",
            )
        return searcher

    async def trouble(self) -> SpladeError | None:
        """What keeps the service from answering searches; ``None`` = nothing does."""
        async with self._looking:
            if time.monotonic() - self._looked < _LOOK_EVERY:
                return self._found
            try:
                await self._ping()
                for searcher in self._all.values():
                    await searcher.meta()
                self._found = None
            except SpladeError as error:
                self._found = error
            self._looked = time.monotonic()
            return self._found

    async def _ping(self) -> None:
        if self._cluster is not None:
            answers = await self._cluster.ping()
        else:
            answers = await asyncio.to_thread(self.engine.ping)
        if not answers:
            raise EngineUnavailableError(f"Nothing answers at {self.engine.url}.")

    async def close(self) -> None:
        """Write what has been asked for, and close the engine."""
        for searcher in self._all.values():
            await searcher.close()
        if self._cluster is not None:
            await self._cluster.close()
        await asyncio.to_thread(self.engine.close)
