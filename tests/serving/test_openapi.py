import json
import re
from typing import get_args

import pytest

from momentary.data.catalog import Catalog
from momentary.data.events import EventLog
from momentary.errors import StorageError
from momentary.serving import discovery, docs, openapi
from momentary.serving.schemas import EventType
from momentary.types import EVENT_TYPES
from tests.serving.world import ask, opened


def _references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_resolves_and_every_schema_is_used():
    document = json.loads(json.dumps(openapi.document()))
    found = set(_references(document))

    assert found
    names = {reference.removeprefix("#/components/schemas/") for reference in found}
    assert names == set(document["components"]["schemas"])


def test_operations_are_complete():
    names = set()
    for path, methods in openapi.document()["paths"].items():
        for method, operation in methods.items():
            names.add(operation["operationId"])
            in_path = {each["name"] for each in operation.get("parameters", ())}
            assert set(re.findall(r"{(\w+)}", path)) <= in_path
            assert ("requestBody" in operation) == (method in ("post", "put"))
            assert any(status.startswith("2") for status in operation["responses"])
    assert len(names) == len(openapi.OPERATIONS)


def test_the_document_lists_every_route_and_every_listed_route_exists(tmp_path):
    with opened(tmp_path) as app:
        served = {(path, "post") for path in app._hot}
        for route in app._cold.routes:
            path = route.path.replace(":path", "")
            served |= {(path, method.lower()) for method in route.methods - {"HEAD"}}
    listed = {(each.path, each.method) for each in openapi.OPERATIONS}

    pages = ("/", "/docs", "/openapi.json", "/metrics", "/tracker.js")
    assert served - listed == {(path, "get") for path in pages}
    assert listed <= served


def test_the_wire_knows_the_event_types_of_the_log():
    assert get_args(EventType) == EVENT_TYPES


@pytest.mark.parametrize("path", ["/v1/events", "/v1/recommend"])
def test_the_examples_work(tmp_path, path):
    example = openapi.document()["paths"][path]["post"]["requestBody"]["content"]
    with opened(tmp_path) as app:
        answer = ask(app, "POST", path, json=example["application/json"]["example"])

    assert answer.status_code == 200


def test_the_page_is_complete_in_itself(tmp_path):
    with opened(tmp_path) as app:
        page = ask(app, "GET", "/docs")
        root = ask(app, "GET", "/")
        document = ask(app, "GET", "/openapi.json")

    policy = page.headers["content-security-policy"]
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["x-content-type-options"] == "nosniff"
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)
    assert not re.search(rb"<[^>]* (style|on\w+)=", docs.PAGE)
    assert root.headers["location"] == "/docs"
    assert document.json()["openapi"] == "3.1.0"


def test_a_database_that_is_away_is_answered_as_the_document_says(tmp_path, monkeypatch):
    def away(*_given):
        raise StorageError("nobody is there")

    asked = {
        "/v1/items/{item_id}": "/v1/items/i1",
        "/v1/items/{item_id}/together": "/v1/items/i1/together",
        "/v1/search": "/v1/search?q=tea",
        "/v1/popular": "/v1/popular",
    }
    with opened(tmp_path) as app:
        monkeypatch.setattr(Catalog, "_read", away)
        monkeypatch.setattr(EventLog, "counts", lambda *_, **__: away())
        monkeypatch.setattr(discovery, "bought_together", lambda *_, **__: away())
        answers = {each: ask(app, "GET", path) for each, path in asked.items()}
    for path, answer in answers.items():
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        assert "503" in openapi.document()["paths"][path]["get"]["responses"], path
