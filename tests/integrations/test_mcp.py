"""The MCP server, asked by the SDK's own client: in the process, and as a process of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from splade_os import Index, SearchClient
from splade_os.engines import Engine
from tests.integrations.conftest import framework

framework("mcp")
from mcp import Client, StdioServerParameters  # noqa: E402
from mcp.client.stdio import stdio_client  # noqa: E402

from splade_os.integrations.mcp import mcp_server  # noqa: E402


@pytest.fixture
def client(engine: Engine, index: str) -> SearchClient:
    with Index(index=index, engine=engine, text_fields=["text"]) as documents:
        documents.upsert(
            [
                {"_id": "1", "text": "red shoes", "price": 10},
                {"_id": "2", "text": "a blue boat", "price": 900},
            ]
        )
        documents.refresh()
    return SearchClient(index=index, engine=engine)


async def _call(mcp: Client, tool: str, **arguments: Any) -> Any:
    answer = await mcp.call_tool(tool, arguments)
    assert not answer.is_error, answer
    return answer.structured_content


def test_tools(client: SearchClient) -> None:
    async def ask() -> None:
        async with Client(mcp_server(client)) as mcp:
            tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
            assert set(tools) == {"search", "explain", "index_show"}
            assert all(tool.annotations.read_only_hint for tool in tools.values())
            found = await _call(mcp, "search", query="red footwear", k=1)
            (hit,) = client.search("red footwear", 1)
            assert found["hits"] == [{"id": "1", "score": hit.score, "source": dict(hit.source)}]
            assert found["hits"][0]["source"] == {"text": "red shoes", "price": 10}
            dear = {"range": {"price": {"gt": 100}}}
            found = await _call(mcp, "search", query="shoe boat", filter=dear, fields=["price"])
            assert [(h["id"], h["source"]) for h in found["hits"]] == [("2", {"price": 900})]
            why = await _call(mcp, "explain", query="red footwear", id="1")
            assert why["matches"] and why["terms"][0]["token"] in why["query"]
            assert sum(t["share"] for t in why["terms"]) == pytest.approx(why["scores"]["idf"])
            assert "no document" in (await _call(mcp, "explain", query="red", id="7"))["reason"]
            no = await _call(mcp, "explain", query="qwxz", id="1")
            assert not no["matches"] and no["reason"]
            shown = await _call(mcp, "index_show")
            assert (shown["index"], shown["documents"]) == (client.index, 2)
            assert (
                list(shown["text_fields"]) == ["text"] and "splade_os_hash" not in shown["fields"]
            )

    asyncio.run(ask())


def test_what_cannot_be_is_said(client: SearchClient) -> None:
    async def ask() -> list[str]:
        said = []
        lookup = {"terms": {"text": {"index": "secrets", "id": "1", "path": "x"}}}
        script = {"script": {"script": {"source": "true"}}}
        async with Client(mcp_server(client)) as mcp:
            for arguments in ({"filter": lookup}, {"filter": script}, {"k": 101}, {"mode": "raw"}):
                answer = await mcp.call_tool("search", {"query": "x", **arguments})
                assert answer.is_error
                said.append(answer.content[0].text)
        return said

    other, code, many, mode = asyncio.run(ask())
    assert "another index" in other and "a script" in code
    assert "100" in many and "hybrid" in mode
    gone = SearchClient(index=f"{client.index}-gone", engine=client.engine)

    async def ask_gone() -> str:
        async with Client(mcp_server(gone)) as mcp:
            answer = await mcp.call_tool("search", {"query": "x"})
            assert answer.is_error
            return str(answer.content[0].text)

    assert f"There is no index {gone.index}" in asyncio.run(ask_gone())


def test_command(client: SearchClient, engine_url: str) -> None:
    command = ["-m", "splade_os", "mcp", "--url", engine_url, "--index", client.index]

    async def ask() -> list[str]:
        server = StdioServerParameters(command=sys.executable, args=command)
        async with Client(stdio_client(server)) as mcp:
            found = await _call(mcp, "search", query="red footwear", k=1)
            return [hit["id"] for hit in found["hits"]]

    assert asyncio.run(ask()) == ["1"]
