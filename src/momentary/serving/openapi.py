"""One OpenAPI 3.1 document for all routes, its schemas made from the wire types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

import momentary
from momentary.serving.problems import ProblemDetails
from momentary.serving.schemas import (
    Answer,
    EventIn,
    EventsIn,
    EventsOut,
    ItemIn,
    Live,
    Ready,
    RecommendIn,
    SimilarOut,
)
from momentary.types import Item

_REF = "#/components/schemas/{name}"
_EXAMPLE_EVENT = {
    "event_id": "e-1",
    "session_id": "s-1",
    "item_id": "tea/green",
    "event_type": "view_item",
    "timestamp": "2026-01-31T12:00:00Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    Attributes:
        takes: Wire type of the body, None if there is none.
        gives: Wire type of the answer by status, None for an answer without a body.
        refuses: Status -> when.
        query: Names of query parameters.
    """

    method: str
    path: str
    name: str
    summary: str
    gives: dict[int, Any]
    takes: Any = None
    example: Any = None
    refuses: tuple[int, ...] = ()
    query: tuple[str, ...] = ()


_REFUSALS = {
    400: "The body or the path cannot be read.",
    401: "X-API-Key is missing or unknown.",
    404: "There is no such thing.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A field is not what it should be; `field` names it.",
    503: "Cannot be answered now; nothing was recorded.",
}
_BODY = (400, 401, 413, 415, 422)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="post",
        path="/v1/events",
        name="recordEvents",
        summary="Record one event, an array, or {events: [...]}; answered once they are on disk",
        takes=EventIn | list[EventIn],
        example=_EXAMPLE_EVENT,
        gives={200: EventsOut},
        refuses=(*_BODY, 503),
    ),
    Operation(
        method="post",
        path="/v1/recommend",
        name="recommend",
        summary="Record an event, if one is given, and say what comes next",
        takes=RecommendIn,
        example={"session_id": "s-1", "event": _EXAMPLE_EVENT, "k": 10, "explain": True},
        gives={200: Answer},
        refuses=(*_BODY, 503),
    ),
    Operation(
        method="get",
        path="/v1/sessions/{session_id}/recommend",
        name="recommendForSession",
        summary="Say what comes next in a session",
        query=("k", "explain"),
        gives={200: Answer},
        refuses=(400, 401, 422, 503),
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}/similar",
        name="similarItems",
        summary="List the items most like one item",
        query=("k", "explain"),
        gives={200: SimilarOut},
        refuses=(400, 401, 404, 422),
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}",
        name="getItem",
        summary="Show an item of the catalogue",
        gives={200: Item},
        refuses=(400, 401, 404, 422),
    ),
    Operation(
        method="put",
        path="/v1/items/{item_id}",
        name="putItem",
        summary="Add an item to the catalogue or replace it; the next answer knows of it",
        takes=ItemIn,
        example={"name": "Green tea", "category": "tea", "price": 4.5, "currency": "EUR"},
        gives={200: Item, 201: Item},
        refuses=(*_BODY, 503),
    ),
    Operation(
        method="delete",
        path="/v1/items/{item_id}",
        name="deleteItem",
        summary="Remove an item from the catalogue and from every list",
        gives={204: None},
        refuses=(400, 401, 404, 422, 503),
    ),
    Operation(
        method="get",
        path="/health/live",
        name="live",
        summary="Does the process answer?",
        gives={200: Live},
    ),
    Operation(
        method="get",
        path="/health/ready",
        name="ready",
        summary="Can requests be answered?",
        gives={200: Ready},
        refuses=(503,),
    ),
)
"""Every route that a program may call."""

_PARAMETERS: dict[str, dict[str, Any]] = {
    "session_id": {
        "description": "Percent-encode what is not a letter or digit: a slash is %2F.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    },
    "item_id": {
        "description": "Percent-encode what is not a letter or digit: a slash is %2F.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    },
    "k": {
        "description": "Length of the list.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "explain": {
        "description": "Whether to give reasons.",
        "schema": {"type": "boolean", "default": False},
    },
}


def document() -> dict[str, Any]:
    """The document as plain values, ready for JSON."""
    given = [each for operation in OPERATIONS for each in operation.gives.values() if each]
    taken = [operation.takes for operation in OPERATIONS if operation.takes is not None]
    types = [*given, *taken, EventsIn, ProblemDetails]
    found, components = msgspec.json.schema_components(types, ref_template=_REF)
    # Two structs have no tag to tell them apart, so msgspec cannot make this union itself.
    schemas = {repr(each): schema for each, schema in zip(types, found, strict=True)}
    events = schemas[repr(EventIn | list[EventIn])]
    events["anyOf"] = [*events["anyOf"], schemas[repr(EventsIn)]]
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "momentary",
            "version": momentary.__version__,
            "description": "Session recommendations: send events, ask what comes next.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def _operation(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": _responses(operation, schemas),
    }
    if operation.path.startswith("/v1/"):
        # Keys are asked for only where the settings hold some.
        described["security"] = [{"key": []}, {}]
    parameters = _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.takes is not None:
        content = {"schema": schemas[repr(operation.takes)], "example": operation.example}
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": content},
        }
    return described


def _responses(operation: Operation, schemas: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, gives in operation.gives.items():
        described: dict[str, Any] = {"description": "Done." if gives is None else "The answer."}
        if gives is not None:
            described["content"] = {"application/json": {"schema": schemas[repr(gives)]}}
        responses[str(status)] = described
    problem = {"application/problem+json": {"schema": schemas[repr(ProblemDetails)]}}
    for status in operation.refuses:
        responses[str(status)] = {"description": _REFUSALS[status], "content": problem}
    return responses


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [name for name in ("session_id", "item_id") if f"{{{name}}}" in operation.path]
    return [
        *({"name": name, "in": "path", "required": True, **_PARAMETERS[name]} for name in in_path),
        *({"name": name, "in": "query", **_PARAMETERS[name]} for name in operation.query),
    ]
