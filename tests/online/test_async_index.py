"""`AsyncIndex`: the same, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from splade_os import AsyncIndex, DocumentError
from splade_os.engines import Engine


def test_the_same_names(engine: Engine, index: str, tiny: Path) -> None:
    async def run() -> None:
        async with AsyncIndex(
            index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"]
        ) as products:

            async def documents() -> AsyncIterator[dict[str, Any]]:
                for i in range(3):
                    yield {"id": str(i), "text": f"cat {i}", "n": i}

            results = await products.upsert(documents())
            assert [result.result for result in results] == ["created"] * 3
            assert (await products.update("1", {"n": 7})).result == "updated"
            assert await products.get("1") == {"id": "1", "text": "cat 1", "n": 7}
            assert len(await products.search("cat", mode="bm25")) == 3
            assert {id async for id, _ in products.scan()} == {"0", "1", "2"}
            assert [r.result for r in await products.delete(["0"])] == ["deleted"]
            assert await products.count() == 2
            with pytest.raises(DocumentError):
                await products.upsert({"id": "x", "text": {"a": 1}})

    asyncio.run(run())


def test_many_tasks_share_batches_and_the_loop_stays_free(
    engine: Engine, index: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bulk, requests = engine.bulk, []

    def counted(*args: Any, **options: Any) -> Any:
        requests.append(args)
        return bulk(*args, **options)

    monkeypatch.setattr(engine, "bulk", counted)

    async def run() -> int:
        products = AsyncIndex(
            index=index, engine=engine, model=str(tiny / "router"), text_fields=["text"]
        )
        turns, done = 0, False

        async def watch() -> None:
            nonlocal turns
            while not done:
                await asyncio.sleep(0.005)
                turns += 1

        watcher = asyncio.create_task(watch())
        await products.upsert({"id": "first", "text": "cat"})
        await asyncio.gather(
            *(products.upsert({"id": str(i), "text": f"dog {i}"}) for i in range(64))
        )
        done = True
        await watcher
        assert await products.count() == 65
        await products.close()
        return turns

    assert asyncio.run(run()) > 3  # as the model was loaded, and as the node was waited for
    assert len(requests) < 40
