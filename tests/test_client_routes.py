"""The client knows every route of the OpenAPI document, and can pass every parameter of each."""

import inspect
import re
from types import UnionType
from typing import Required, Union, Unpack, get_args, get_origin, get_type_hints, is_typeddict
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest

from momentary.client import Client
from momentary.serving import openapi

METHODS = {
    "recordEvents": "record",
    "recordGa4Events": "record_ga4",
    "recordSegmentEvents": "record_segment",
    "recordFeedback": "feedback",
    "recommend": "recommend",
    "recommendForSession": "continue_session",
    "similarItems": "similar",
    "boughtTogether": "together",
    "popular": "popular",
    "trending": "trending",
    "search": "search",
    "searchByPicture": "search_picture",
    "searchBySound": "search_sound",
    "makePlaylist": "playlist",
    "itemContent": "content",
    "eraseUser": "erase_user",
    "listModels": "models",
    "assignModel": "promote",
    "listScenarios": "scenarios",
    "listRules": "rule_sets",
    "getRules": "get_rules",
    "putRules": "put_rules",
    "deleteRules": "delete_rules",
    "getItem": "get_item",
    "putItem": "put_item",
    "deleteItem": "delete_item",
    "live": "live",
    "ready": "ready",
}
"""Which method asks which route."""

MORE = ("record_many", "close")
"""Methods that ask a route that another one asks, too, or none."""

CALLED = {"search": {"q": "text"}}
"""What a method calls a parameter otherwise than the route does."""

WHOLE = {"recordGa4Events": "body", "recordSegmentEvents": "body", "putRules": "rules"}
"""Bodies that one argument holds."""

OWN_PATH = {"putItem": ("item_id",)}
"""Fields of a body that the path says."""

DOCUMENT = openapi.document()
OPERATIONS = [
    (path, method, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
NAMES = [operation["operationId"] for _, _, operation in OPERATIONS]


def _resolved(schema):
    """A schema behind its name; of one that may be null or an array, the object."""
    if "$ref" in schema:
        return _resolved(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    options = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    named = [each for each in options if "$ref" in each]
    return _resolved(named[0]) if named else schema


def _body(operation):
    content = operation.get("requestBody", {}).get("content", {})
    return _resolved(content["application/json"]["schema"]) if content else None


def _accepted(method):
    """Named arguments of a method and their types; those of typed keywords among them."""
    hints = get_type_hints(method, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(method).parameters.items():
        if name == "self":
            continue
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            assert get_origin(hints[name]) is Unpack, f"{method.__name__}: **{name} has no type"
            (fields,) = get_args(hints[name])
            found |= get_type_hints(fields)
        else:
            found[name] = hints[name]
    return found


def _typed(hint):
    """The TypedDict in a type, such as in `Rules | None` or `Sequence[Pin]`; None without one."""
    if is_typeddict(hint):
        return hint
    if get_origin(hint) in (Required, Union, UnionType) or get_args(hint):
        found = [_typed(each) for each in get_args(hint)]
        return next((each for each in found if each is not None), None)
    return None


def _compare(schema, fields, where):
    """Every property of a schema is a field of the client's type, and the other way round."""
    properties = _resolved(schema).get("properties", {})
    assert set(fields) == set(properties), where
    for name, inner in properties.items():
        inside = _resolved(inner)
        options = [inside, *map(_resolved, inside.get("anyOf", ()))]
        items = [_resolved(each["items"]) for each in options if "items" in each]
        objects = [each for each in (*options, *items) if each.get("properties")]
        typed = _typed(fields[name])
        for each in objects:
            assert typed is not None, f"{where}.{name} has no type of its own"
            _compare(each, get_type_hints(typed), f"{where}.{name}")


@pytest.fixture
def sent(monkeypatch):
    """What a client sends, and an answer that fits everything."""
    asked = []

    def send(_self, method, path, body):
        asked.append((method, path, body))
        raise _Asked

    monkeypatch.setattr(Client, "_send", send)
    return asked


class _Asked(Exception):
    pass


def _example(schema):
    """Some value that a schema allows."""
    inside = _resolved(schema)
    if "enum" in inside:
        return inside["enum"][0]
    if "anyOf" in inside:
        return _example(next(each for each in inside["anyOf"] if each.get("type") != "null"))
    kind = inside.get("type")
    if inside.get("contentEncoding") == "base64":
        return b"some bytes"
    if kind == "object":
        fields = inside.get("properties", {})
        return {name: _example(each) for name, each in fields.items()}
    if kind == "array":
        return [_example(inside["items"])] if "items" in inside else []
    return {"boolean": True, "integer": 3, "number": 2.5, "string": "a/b é"}.get(kind, "x")


def test_every_route_has_a_method_and_every_public_method_a_route():
    assert sorted(METHODS) == sorted(NAMES)
    public = {
        name
        for name, _ in inspect.getmembers(Client, inspect.isfunction)
        if not name.startswith("_")
    }
    assert public == {*METHODS.values(), *MORE}


def _arguments(operation, accepted):
    """Some value for everything that a route may be told: arguments, query, path, body."""
    name = operation["operationId"]
    given, query, in_path = {}, {}, {}
    for parameter in operation.get("parameters", ()):
        called, value = parameter["name"], _example(parameter["schema"])
        (query if parameter["in"] == "query" else in_path)[called] = value
        argument = CALLED.get(name, {}).get(called, called)
        given[argument] = [value] if called == "rule_sets" else value
    schema = _body(operation)
    if schema is None:
        return given, query, in_path, None
    if name in WHOLE:
        body = _example(schema) or {"any": "thing"}
        given[WHOLE[name]] = body
        typed = _typed(accepted[WHOLE[name]])
        if typed is not None:
            _compare(schema, get_type_hints(typed), name)
        return given, query, in_path, body
    left_out = OWN_PATH.get(name, ())
    fields = {each: of for each, of in schema["properties"].items() if each not in left_out}
    taken = {each: accepted[each] for each in fields if each in accepted}
    _compare({"properties": fields}, taken, name)
    body = {each: _example(of) for each, of in fields.items()}
    return given | body, query, in_path, body


def _check_address(address, path, query, in_path):
    """The address fills the path's template and holds the query, nothing else."""
    parts = urlsplit(address)
    template = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path))
    matched = re.fullmatch(template, parts.path)
    assert matched, f"{parts.path} is not {path}"
    assert {each: unquote(value) for each, value in matched.groupdict().items()} == in_path
    plain = {
        each: str(value).lower() if isinstance(value, bool) else str(value)
        for each, value in query.items()
    }
    assert {each: values for each, (values,) in parse_qs(parts.query).items()} == plain


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=NAMES)
def test_a_method_takes_and_sends_every_parameter_of_its_route(path, method, operation, sent):
    name = operation["operationId"]
    accepted = _accepted(getattr(Client, METHODS[name]))
    given, query, in_path, body = _arguments(operation, accepted)
    assert set(given) == set(accepted), f"{name} and Client.{METHODS[name]} differ"
    with Client("http://127.0.0.1:1") as client, pytest.raises(_Asked):
        getattr(client, METHODS[name])(**given)
    ((as_method, address, as_body),) = sent
    assert as_method == method.upper()
    _check_address(address, path, query, in_path)
    arrived = None if as_body is None else msgspec.json.decode(as_body)
    if name == "recordEvents":
        (arrived,) = arrived
    assert arrived == msgspec.json.decode(msgspec.json.encode(body))


def test_a_parameter_that_a_method_cannot_pass_is_found(monkeypatch, sent):
    """The comparison itself: a route's new parameter, and a body's, fail it."""
    similar = next(each for each in OPERATIONS if each[2]["operationId"] == "similarItems")
    more = {"name": "colour", "in": "query", "schema": {"type": "string"}}
    path, method, operation = similar
    changed = {**operation, "parameters": [*operation["parameters"], more]}
    with pytest.raises(AssertionError, match="differ"):
        test_a_method_takes_and_sends_every_parameter_of_its_route(path, method, changed, sent)
    rules = DOCUMENT["components"]["schemas"]["Rules"]
    monkeypatch.setitem(rules["properties"], "colour", {"type": "string"})
    put = next(each for each in OPERATIONS if each[2]["operationId"] == "putRules")
    with pytest.raises(AssertionError, match="putRules"):
        test_a_method_takes_and_sends_every_parameter_of_its_route(*put, sent)
