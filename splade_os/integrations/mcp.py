"""An MCP server (Model Context Protocol) of one index, for assistants. It writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from splade_os import __version__
from splade_os.engines.index_facts import index_facts
from splade_os.errors import MissingExtraError, SpladeError
from splade_os.search.client import SearchClient
from splade_os.search.options import SearchKeywords
from splade_os.serve.problems import RequestError
from splade_os.serve.untrusted import refuse_untrusted

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations
    from pydantic import Field
except ImportError as error:
    raise MissingExtraError("The MCP server", "mcp") from error

MAX_HITS = 100
"""Of one search: an assistant reads all of them."""
Result = TypeVar("Result")
Query = Annotated[str, Field(description="What to look for, in plain words.")]


def mcp_server(client: SearchClient) -> MCPServer:
    """The server; ``run()`` speaks over standard input and output.

    Args:
        client: of the index. It is not closed with the server.

    Returns:
        A server with the tools ``search``, ``explain`` and ``index_show``. What they cannot do is
        an answer with ``isError`` that says why; filters with scripts, and those that look into
        other indices, are refused.
    """
    server = MCPServer(
        "splade-os",
        version=__version__,
        instructions=f"Full-text and learned sparse search in the index {client.index!r}.",
    )
    read_only = ToolAnnotations(
        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    )

    @server.tool(annotations=read_only)
    def search(
        query: Query,
        k: Annotated[int, Field(ge=1, le=MAX_HITS, description="Number of hits.")] = 10,
        mode: Annotated[
            Literal["hybrid", "idf", "encoder", "bm25"],
            Field(
                description="hybrid: learned sparse terms and BM25 in one score; idf: the terms "
                "alone; encoder: the full model's terms; bm25: words alone."
            ),
        ] = "hybrid",
        filter: Annotated[
            dict[str, Any] | list[dict[str, Any]] | None,
            Field(
                description="Clauses of the search engine's query language that every hit "
                'fulfils: {"term": {"lang": "en"}}, {"range": {"year": {"gte": 2020}}}.'
            ),
        ] = None,
        fields: Annotated[
            list[str] | None, Field(description="Fields to return; default all.")
        ] = None,
    ) -> dict[str, Any]:
        """The best documents of the index for a query, with their scores and stored fields."""

        def ask() -> dict[str, Any]:
            options: SearchKeywords = {"filter": filter, "source": fields}
            refuse_untrusted({"filter": filter})
            results = client.search(query, k, mode, **options)
            return {
                "hits": [
                    {"id": hit.id, "score": hit.score, "source": dict(hit.source)}
                    for hit in results
                ],
                "reason": results.reason,
                "used": str(results.used),
                "partial": results.partial,
            }

        return _answered(ask)

    @server.tool(annotations=read_only)
    def explain(
        query: Query, id: Annotated[str, Field(description="Of a document of the index.")]
    ) -> dict[str, Any]:
        """Why a document matches a query, or does not: the terms that both have and what each adds
        to the score, the words that matched, and all terms of the query with their weights."""

        def ask() -> dict[str, Any]:
            only = {"ids": {"values": [id]}}
            results = client.search(query, 1, "hybrid", filter=only, source=(), explain=True)
            answer: dict[str, Any] = {"matches": bool(results), "query": dict(results.query)}
            if results:
                hit = results[0]
                answer |= {
                    "score": hit.score,
                    "scores": dict(hit.scores),
                    "terms": [asdict(term) for term in hit.terms],
                    "matched_words": list(hit.matched_words),
                }
            elif not client.engine.documents(client.index, [id], ()):
                answer["reason"] = f"The index has no document {id!r}."
            else:
                answer["reason"] = results.reason or "Document and query have no term in common."
            return answer

        return _answered(ask)

    @server.tool(annotations=read_only)
    def index_show() -> dict[str, Any]:
        """What the index holds: number of documents, text fields, fields to filter by with their
        types, and the model that encoded it."""

        def ask() -> dict[str, Any]:
            own = client.meta.own_fields
            types: Mapping[str, str] = client.engine.properties(client.index)
            fields = {name: kind for name, kind in types.items() if name not in own}
            return {**index_facts(client.engine, client.index), "fields": fields}

        return _answered(ask)

    return server


def _answered(ask: Callable[[], Result]) -> Result:
    """An error of ours as one that the assistant may read."""
    try:
        return ask()
    except SpladeError as error:
        raise ToolError(str(error)) from error
    except RequestError as error:
        raise ToolError(error.message) from error
