"""Bodies, headers and paths that have broken other servers."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.fuzz_target import Sent

JSON = ((b"content-type", b"application/json"),)
_POSTS = ("/v1/events", "/v1/recommend", "/v1/feedback", "/v1/events/ga4", "/v1/events/segment")
_EVENT = b'{"item_id":"i1","session_id":"s","event_type":"view_item","timestamp":1'
_BODIES = (
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"[[]]",
    b"0",
    b'"x"',
    b"{",
    b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"[" * 500 + b"]" * 500,
    b'{"events":' * 300 + b"[]" + b"}" * 300,
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"\0",
    b'{"k":1e400}',
    b'{"k":' + b"9" * 5_000 + b"}",
    b'{"k":NaN}',
    b'{"k":-Infinity}',
    b'{"k":1,"k":2}',
    b'{"items":["\\ud800"]}',
    b'{"items":["\\u0000"]}',
    b'{"session_id":"' + b"x" * 513 + b'"}',
    b'{"session_id":"\xed\xa0\x80"}',
    b'{"k":01}',
    b'{"k":1.0}',
    b'{"k":true}',
    _EVENT + b"}",
    _EVENT + b',"timestamp":2}',
    _EVENT + b',"value":1e999}',
    _EVENT + b',"properties":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
    _EVENT + b',"properties":{"a":"' + b"y" * 30_000 + b'"}}',
    _EVENT + b',"session_id":"\\ud83d"}',
    _EVENT + b',"event_id":"' + "é".encode() * 512 + b'"}',
    b"[" + b",".join([_EVENT + b"}"] * 50) + b"]",
    b'{"events":[' + _EVENT + b'}],"events":[]}',
    b" " * 1_000_001,
    b'"' + b"a" * 999_998 + b'"',
    b"'single'",
    b"<xml/>",
    b"a=b&c=d",
    b'{"rules":{"allow":"' + b"(" * 5_000 + b'"}}',
    b'{"rules":{"pins":[' + b"{}," * 200 + b"{}]}}",
    b'{"rules":{"max_per":{"brand":1e99}}}',
    b'{"rules":{"allow":{"brand":"A"}}}',
)
_KINDS = (
    *(b"application/json", b"application/json; charset=utf-16", b"text/plain", b"", b"/"),
    *(b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"\xff"),
)
_LENGTHS = (b"-1", b"abc", b"1e3", b"9" * 400, b"0", b"\xb2")
_NAMES = (
    "",
    "%00",
    "%2F",
    "..",
    "%2E%2E",
    "%",
    "%zz",
    "%ff%fe",
    "%ED%A0%80",
    "a" * 600,
    "a/b/c",
    "%0d%0a",
    "%25" * 200,
    "*",
    "~",
    "é",
)
_PATTERNS = (
    "/v1/items/{}",
    "/v1/items/{}/similar",
    "/v1/items/{}/together",
    "/v1/users/{}",
    "/v1/sessions/{}/recommend",
    "/v1/rules/{}",
    "/v1/models/{}",
    "/{}",
    "/v1/{}",
)
_METHODS = (
    "GET",
    "PUT",
    "DELETE",
    "POST",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "X",
)
_QUERIES = (
    b"k=0",
    b"k=101",
    b"k=-1",
    b"k=1e3",
    b"k=%00",
    b"k=\xff",
    b"k",
    b"=",
    b"&&&",
    b"k=1&k=2",
    b"explain=maybe",
    b"q=",
    b"q=%ED%A0%80",
    b"q=" + b"x" * 300,
    b"x" * 70_000,
    b"allow=%22",
    b"price_max=nan",
    b"price_max=inf",
    b"price_min=1e999",
    b"scenario=%00",
    b"rule_sets=,,,",
    b"in_stock=maybe",
    b"k=" + "٣".encode(),
    b"q=%22%27*-^~",
)
_PATHS = (
    "/v1/popular",
    "/v1/trending",
    "/v1/search",
    "/v1/sessions/s/recommend",
    "/v1/items/i1/similar",
    "/v1/items/i1/together",
)


def by_hand() -> Iterator[Sent]:
    """All of them."""
    for path in _POSTS:
        yield from _posted(path)
    for pattern in _PATTERNS:
        for name in _NAMES:
            path = pattern.format(name).encode().decode("latin-1")
            for method in _METHODS:
                yield Sent(method=method, path=path, chunks=(b"{}",), origin="by hand")
    for path in _PATHS:
        for query in _QUERIES:
            yield Sent(method="GET", path=path, query=query, headers=(), origin="by hand")


def _posted(path: str) -> Iterator[Sent]:
    for body in _BODIES:
        pieces = tuple(body[at : at + 7] for at in range(0, min(len(body), 700), 7)) or (b"",)
        yield _post(path, body)
        yield Sent(method="POST", path=path, chunks=pieces, origin="chunked")
        yield Sent(method="POST", path=path, chunks=pieces, whole=False, origin="cut off")
    for kind in _KINDS:
        yield _post(path, headers=((b"content-type", kind),))
    yield _post(path, headers=(*JSON, *((b"x-%d" % each, b"y" * 100) for each in range(3_000))))
    for length in _LENGTHS:
        yield _post(path, headers=(*JSON, (b"content-length", length)))


def _post(
    path: str, body: bytes = b"{}", *, headers: tuple[tuple[bytes, bytes], ...] = JSON
) -> Sent:
    return Sent(method="POST", path=path, headers=headers, chunks=(body,), origin="by hand")
