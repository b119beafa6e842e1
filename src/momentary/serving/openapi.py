"""One OpenAPI 3.1 document for all routes, its schemas made from the wire types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import msgspec

import momentary
from momentary.data.erasure import Receipt
from momentary.recommend.rules import Rules
from momentary.serving.content import ItemContent
from momentary.serving.models import AliasIn, ModelsOut
from momentary.serving.problems import ProblemDetails
from momentary.serving.rulebook import RuleSetOut, RuleSetsOut, ScenariosOut
from momentary.serving.schemas import (
    Answer,
    EventIn,
    EventsIn,
    EventsOut,
    FeedbackIn,
    ItemIn,
    ListOut,
    Live,
    PictureIn,
    PlaylistIn,
    PlaylistOut,
    Ready,
    RecommendIn,
    SoundIn,
    View,
)
from momentary.serving.wishes import PARAMETERS
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
    403: "The key lacks a scope, or the site may not ask.",
    404: "There is no such thing.",
    409: "It cannot be changed: a model that cannot be loaded, rules that something else holds.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
    422: "A field is not what it should be; `field` names it.",
    429: "Too much at once; Retry-After says when to come again.",
    503: "Cannot be answered now; nothing was recorded.",
}
_ASKED = (400, 401, 403, 422, 429, 503)
_BODY = (*_ASKED, 413, 415)
_LIST = (401, 403, 422, 429, 503)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="post",
        path="/v1/events",
        name="recordEvents",
        summary="Record one event, an array, or {events: [...]}; answered once they are on disk",
        takes=EventIn | list[EventIn],
        example=_EXAMPLE_EVENT,
        gives={200: EventsOut},
        refuses=_BODY,
    ),
    Operation(
        method="post",
        path="/v1/events/ga4",
        name="recordGa4Events",
        summary="Record events as GA4 exports or measures them; without items there is none",
        takes=dict[str, Any] | list[dict[str, Any]],
        example={
            "client_id": "b-1",
            "events": [{"name": "view_item", "params": {"items": [{"item_id": "tea/green"}]}}],
        },
        gives={200: EventsOut},
        refuses=_BODY,
    ),
    Operation(
        method="post",
        path="/v1/events/segment",
        name="recordSegmentEvents",
        summary="Record Segment's track calls, one, an array or a batch",
        takes=dict[str, Any] | list[dict[str, Any]],
        example={
            "type": "track",
            "messageId": "m-1",
            "anonymousId": "b-1",
            "event": "Product Viewed",
            "timestamp": "2026-01-31T12:00:00Z",
            "properties": {"product_id": "tea/green"},
        },
        gives={200: EventsOut},
        refuses=_BODY,
    ),
    Operation(
        method="post",
        path="/v1/feedback",
        name="recordFeedback",
        summary="Record what came of one item of an answer",
        takes=FeedbackIn,
        example={"recommendation_id": "r-1", "item_id": "tea/green", "event_type": "select_item"},
        gives={200: EventsOut},
        refuses=(*_BODY, 404),
    ),
    Operation(
        method="post",
        path="/v1/recommend",
        name="recommend",
        summary="Record an event, if one is given, and say what comes next",
        takes=RecommendIn,
        example={"session_id": "s-1", "event": _EXAMPLE_EVENT, "k": 10, "explain": True},
        gives={200: Answer},
        refuses=_BODY,
    ),
    Operation(
        method="get",
        path="/v1/sessions/{session_id}/recommend",
        name="recommendForSession",
        summary="Say what comes next in a session",
        query=("k", "explain", *PARAMETERS),
        gives={200: Answer},
        refuses=_ASKED,
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}/similar",
        name="similarItems",
        summary="List the items most like one item",
        query=("k", "explain", "likeness", "by", *PARAMETERS),
        gives={200: ListOut},
        refuses=(*_ASKED, 404),
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}/together",
        name="boughtTogether",
        summary="List what is bought with one item",
        query=("k", "explain", *PARAMETERS),
        gives={200: ListOut},
        refuses=_ASKED,
    ),
    Operation(
        method="get",
        path="/v1/popular",
        name="popular",
        summary="List what most visitors wanted in the last week",
        query=("k", "explain", *PARAMETERS),
        gives={200: ListOut},
        refuses=_LIST,
    ),
    Operation(
        method="get",
        path="/v1/trending",
        name="trending",
        summary="List what is wanted more today than the week before would lead to expect",
        query=("k", "explain", *PARAMETERS),
        gives={200: ListOut},
        refuses=_LIST,
    ),
    Operation(
        method="get",
        path="/v1/search",
        name="search",
        summary="Find items by words, the last may be unfinished, and by meaning where known",
        query=("q", "k", "explain", "likeness", *PARAMETERS),
        gives={200: ListOut},
        refuses=_LIST,
    ),
    Operation(
        method="post",
        path="/v1/search/picture",
        name="searchByPicture",
        summary="Find items that look like a picture",
        takes=PictureIn,
        example={"picture": "iVBORw0KGgo...", "k": 10},
        gives={200: ListOut},
        refuses=_BODY,
    ),
    Operation(
        method="post",
        path="/v1/search/sound",
        name="searchBySound",
        summary="Find items that sound like a clip",
        takes=SoundIn,
        example={"sound": "UklGRiQAAABXQVZF...", "k": 10},
        gives={200: ListOut},
        refuses=_BODY,
    ),
    Operation(
        method="post",
        path="/v1/playlists",
        name="makePlaylist",
        summary="Make an ordered list from one item, or from one to another",
        takes=PlaylistIn,
        example={"start": "song-17", "end": "song-4", "length": 12, "apart": {"brand": 2}},
        gives={200: PlaylistOut},
        refuses=_BODY,
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}/content",
        name="itemContent",
        summary="Say what was seen of an item, and what could not be used",
        gives={200: ItemContent},
        refuses=(*_ASKED, 404),
    ),
    Operation(
        method="delete",
        path="/v1/users/{user_id}",
        name="eraseUser",
        summary="Erase everything that a user did, and give the receipt",
        gives={200: Receipt},
        refuses=_ASKED,
    ),
    Operation(
        method="get",
        path="/v1/models",
        name="listModels",
        summary="List the saved models",
        gives={200: ModelsOut},
        refuses=(401, 403, 429),
    ),
    Operation(
        method="put",
        path="/v1/models/{alias}",
        name="assignModel",
        summary="Let prod or candidate mean a version; prod answers from the next tick on",
        takes=AliasIn,
        example={"version": "previous"},
        gives={200: ModelsOut},
        refuses=(*_BODY, 404, 409),
    ),
    Operation(
        method="get",
        path="/v1/scenarios",
        name="listScenarios",
        summary="List the scenarios: defaults for home, product page, basket, mail",
        gives={200: ScenariosOut},
        refuses=(401, 403, 429),
    ),
    Operation(
        method="get",
        path="/v1/rules",
        name="listRules",
        summary="List the rules that have a name",
        gives={200: RuleSetsOut},
        refuses=(401, 403, 429),
    ),
    Operation(
        method="get",
        path="/v1/rules/{name}",
        name="getRules",
        summary="Show the rules of one name",
        gives={200: RuleSetOut},
        refuses=(*_ASKED, 404),
    ),
    Operation(
        method="put",
        path="/v1/rules/{name}",
        name="putRules",
        summary="Give rules a name, or replace them; the next answer obeys them",
        takes=Rules,
        example={"deny": 'category == "alcohol"', "max_per": {"brand": 2}},
        gives={200: RuleSetOut, 201: RuleSetOut},
        refuses=(*_BODY, 409),
    ),
    Operation(
        method="delete",
        path="/v1/rules/{name}",
        name="deleteRules",
        summary="Forget the rules of one name",
        gives={204: None},
        refuses=(*_ASKED, 404, 409),
    ),
    Operation(
        method="get",
        path="/v1/items/{item_id}",
        name="getItem",
        summary="Show an item of the catalogue",
        gives={200: Item},
        refuses=(*_ASKED, 404),
    ),
    Operation(
        method="put",
        path="/v1/items/{item_id}",
        name="putItem",
        summary="Add an item to the catalogue or replace it; the next answer knows of it",
        takes=ItemIn,
        example={"name": "Green tea", "category": "tea", "price": 4.5, "currency": "EUR"},
        gives={200: Item, 201: Item},
        refuses=_BODY,
    ),
    Operation(
        method="delete",
        path="/v1/items/{item_id}",
        name="deleteItem",
        summary="Remove an item from the catalogue and from every list",
        gives={204: None},
        refuses=(*_ASKED, 404),
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
    "user_id": {
        "description": "Percent-encode what is not a letter or digit: a slash is %2F.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    },
    "name": {
        "description": "Of rules: letters, digits, dots and dashes.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": 100,
            "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        },
    },
    "scenario": {
        "description": "Whose defaults count: home, product, basket, mail, or one of the settings.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 100},
    },
    "rule_sets": {
        "description": "Names of rules that count, too, between commas.",
        "schema": {"type": "string", "maxLength": 2000},
    },
    "allow": {
        "description": "A condition that items must meet, such as price < 30.",
        "schema": {"type": "string", "maxLength": 1000},
    },
    "deny": {
        "description": "A condition that items may not meet.",
        "schema": {"type": "string", "maxLength": 1000},
    },
    "exclude_seen": {
        "description": "Whether to leave out what the visit holds.",
        "schema": {"type": "boolean", "default": False},
    },
    "in_stock": {
        "description": "Whether to leave out what is not available.",
        "schema": {"type": "boolean", "default": True},
    },
    "price_min": {"description": "Lowest price.", "schema": {"type": "number"}},
    "price_max": {"description": "Highest price.", "schema": {"type": "number"}},
    "alias": {
        "description": "prod answers; candidate waits.",
        "schema": {"type": "string", "enum": ["prod", "candidate"]},
    },
    "q": {
        "description": "Words that somebody typed.",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    },
    "k": {
        "description": "Length of the list.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "explain": {
        "description": "Whether to give reasons.",
        "schema": {"type": "boolean", "default": False},
    },
    "likeness": {
        "description": "Whether contents are compared by what was learned from attributes.",
        "schema": {"type": "string", "enum": ["auto", "learned", "plain"], "default": "auto"},
    },
    "by": {
        "description": "What counts alone, neither the rest of the content nor visits.",
        "schema": {"type": "string", "enum": list(get_args(View))},
    },
}


_IN_PATH = ("session_id", "item_id", "user_id", "alias", "name")


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
    in_path = [name for name in _IN_PATH if f"{{{name}}}" in operation.path]
    return [
        *({"name": name, "in": "path", "required": True, **_PARAMETERS[name]} for name in in_path),
        *({"name": name, "in": "query", **_PARAMETERS[name]} for name in operation.query),
    ]
