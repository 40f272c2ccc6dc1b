"""The OpenAPI document of the API, made of what it validates with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from splade_os import __version__

_ERRORS = {
    "400": "the request makes no sense",
    "401": "the token lacks, or is wrong",
    "404": "no such index",
    "413": "the body is too large",
    "429": "too many requests at once",
    "502": "the engine refused the request",
    "503": "the engine does not answer",
    "504": "it took too long",
}


@dataclass(frozen=True)
class Operation:
    """A POST with a JSON body.

    Attributes:
        body: what it takes.
        summary: what it does.
    """

    path: str
    body: type[BaseModel]
    summary: str


def openapi(operations: Sequence[Operation], *, token: bool) -> dict[str, Any]:
    """The document.

    Args:
        token: whether clients need one.
    """
    _, schemas = models_json_schema(
        [(operation.body, "validation") for operation in operations],
        ref_template="#/components/schemas/{model}",
    )
    components: dict[str, Any] = {"schemas": schemas["$defs"] | {"Error": _ERROR}}
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "splade-os", "version": __version__},
        "paths": {each.path: {"post": _operation(each)} for each in operations},
        "components": components,
    }
    if token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": ["string", "null"]},
                "request_id": {"type": "string"},
            },
        }
    },
}


def _operation(operation: Operation) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "operationId": operation.path.rpartition("/")[2],
        "summary": operation.summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "the answer",
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            **{status: {"description": what, "content": error} for status, what in _ERRORS.items()},
        },
    }
