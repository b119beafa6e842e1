"""Every route of the service stands in the guide as a curl that the tests run."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from momentary.serving import openapi
from tests.docs.test_serving_guide import PAGES

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
RUN = (*PAGES, "content.md")
"""Pages whose `bash` blocks the tests run, and whose every curl must be answered."""

PLAIN = (("get", "/metrics"),)
"""Routes beside those of the OpenAPI document."""


def _asked(text):
    """Method and path of every curl in the blocks that are run."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        for command in re.findall(r"\bcurl .*", block.replace("\\\n", " ").replace("\n   ", " ")):
            (address,) = re.findall(r"http://127\.0\.0\.1[^\s'\"]+", command)
            given = re.search(r"-X ([A-Z]+)", command)
            posts = re.search(r" -d | --data ", command) and " -G " not in command
            method = given[1] if given else "POST" if posts else "GET"
            yield method.lower(), urlsplit(address.replace("$port", "1")).path


def _missing(pages, routes):
    asked = {each for text in pages for each in _asked(text)}
    patterns = {
        (method, path): re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
        for method, path in routes
    }
    return [
        (method, path)
        for (method, path), pattern in patterns.items()
        if not any(how == method and pattern.fullmatch(where) for how, where in asked)
    ]


ROUTES = [(each.method, each.path) for each in openapi.OPERATIONS] + [*PLAIN]


def test_every_route_is_asked_in_the_guide():
    pages = [(GUIDE / page).read_text(encoding="utf-8") for page in RUN]
    assert _missing(pages, ROUTES) == []


def test_a_route_that_the_guide_leaves_out_is_found():
    pages = [(GUIDE / page).read_text(encoding="utf-8") for page in RUN]
    assert _missing(pages, [*ROUTES, ("get", "/v1/secret/{name}")]) == [
        ("get", "/v1/secret/{name}")
    ]
    without = [page.replace("curl -s -X DELETE", "true") for page in pages]
    assert {path for _, path in _missing(without, ROUTES)} >= {"/v1/users/{user_id}"}
