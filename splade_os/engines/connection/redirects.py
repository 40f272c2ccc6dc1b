"""Redirects are not followed: a server that was named does not choose another one."""

from __future__ import annotations

from functools import partial
from typing import Any


def unredirected(connection_class: Any = None) -> Any:
    """A connection class of opensearch-py for asyncio whose session follows no redirect, as those
    without asyncio follow none."""
    from opensearchpy import AIOHttpConnection

    base: Any = connection_class or AIOHttpConnection

    class Unredirected(base):  # type: ignore[misc]
        async def _create_aiohttp_session(self) -> Any:
            await super()._create_aiohttp_session()
            self.session.request = partial(self.session.request, allow_redirects=False)

    return Unredirected
