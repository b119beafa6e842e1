"""Requests that nobody should send: by strategies, and by mutation."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fuzz_target import IDS, Sent

_ODD_TEXTS = (
    *("", "\0", "a\0b", "\ud800", "\U0001f600", "é" * 600, "x" * 513, "../..", "%00", "null"),
    *("' OR 1=1 --", '"; DROP TABLE events; --', "<script>", "{{7*7}}", "\r\nx: y", "-1", "1e999"),
)
_ODD_NUMBERS = (
    *(0, -1, 1, 101, 10**6, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.5, -0.0),
    *(1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
)
_EVENT_TYPES = ("view_item", "add_to_cart", "purchase", "view_item_list", "rate", "nothing", "")
_CONDITIONS = (
    *('brand == "A"', "price < 10 and not properties.fragile", "properties.size in [1, 2]"),
    *("price <", "a" * 1001, "not " * 300 + "available", "(" * 400, '"', "properties.x", "\0"),
    *('name contains "\\"', "properties['size'] >= 3 or available == false", "price == 1e999"),
)


def _values(most: int = 12) -> st.SearchStrategy[Any]:
    """Any JSON at all."""
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=20)
        | st.sampled_from(_ODD_TEXTS[:3] + _ODD_TEXTS[4:])
        | st.sampled_from(_ODD_NUMBERS),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=most,
    )


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly as it should be, sometimes anything."""
    return st.one_of(strategy, strategy, strategy, _values(4))


ITEM_IDS = st.sampled_from(IDS) | st.text(max_size=12)
TIMES = (
    st.integers(0, 2 * 10**9)
    | st.floats(0, 2e12)
    | st.datetimes().map(lambda moment: moment.isoformat())
    | st.sampled_from([*map(str, _ODD_NUMBERS[:5]), "2026-01-31T12:00:00Z", "yesterday"])
)
EVENTS = st.fixed_dictionaries(
    {
        "item_id": _maybe(ITEM_IDS),
        "event_type": _maybe(st.sampled_from(_EVENT_TYPES[:5])),
        "timestamp": _maybe(TIMES),
    },
    optional={
        "event_id": _maybe(st.sampled_from(["e1", "e2"]) | st.text(min_size=1, max_size=8)),
        "session_id": _maybe(st.sampled_from(["s1", "s2", "s/3"])),
        "user_id": _maybe(st.text(min_size=1, max_size=5)),
        "anonymous_id": _maybe(st.text(min_size=1, max_size=5)),
        "value": _maybe(st.floats(-10, 10)),
        "price": _maybe(st.floats(0, 100)),
        "currency": _maybe(st.just("EUR")),
        "quantity": _maybe(st.integers(0, 5)),
        "position": _maybe(st.integers(0, 20)),
        "recommendation_id": _maybe(st.text(max_size=5)),
        "properties": _maybe(st.dictionaries(st.text(max_size=4), _values(4), max_size=3)),
        "surprise": _values(3),
    },
)
CONDITIONS = st.sampled_from(_CONDITIONS) | st.text(
    alphabet="abdeinoprt ()[]=<>!\"'.,0129_", max_size=30
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "exclude_seen": _maybe(st.booleans()),
        "in_stock": _maybe(st.booleans()),
        "allow": _maybe(CONDITIONS | st.just({"brand": ["A"]}) | st.lists(CONDITIONS, max_size=3)),
        "deny": _maybe(CONDITIONS | st.just({"category": ["x"]})),
        "price_min": _maybe(st.floats(0, 30)),
        "price_max": _maybe(st.floats(0, 30)),
        "max_per": _maybe(st.just({"brand": 2}) | st.just({"size": 1})),
        "exclude_items": _maybe(st.lists(ITEM_IDS, max_size=3)),
        "boosts": _maybe(
            st.lists(
                st.fixed_dictionaries(
                    {"when": CONDITIONS},
                    optional={
                        "multiply": _maybe(st.floats(0.1, 5)),
                        "add": _maybe(st.floats(-2, 2)),
                    },
                ),
                max_size=3,
            )
        ),
        "pins": _maybe(
            st.lists(
                st.fixed_dictionaries({"item_id": ITEM_IDS, "rank": st.integers(0, 9)}), max_size=3
            )
        ),
        "diversity": _maybe(st.just({"by": "category"}) | st.just({"by": "content"})),
        "explore": _maybe(st.fixed_dictionaries({"share": st.floats(0, 1)})),
        "unknown": _maybe(st.sampled_from(["refuse", "empty"])),
    },
)
RECOMMENDS = st.fixed_dictionaries(
    {},
    optional={
        "session_id": _maybe(st.sampled_from(["s1", "s2"])),
        "user_id": _maybe(st.text(min_size=1, max_size=5)),
        "items": _maybe(st.lists(ITEM_IDS, max_size=5)),
        "event": _maybe(EVENTS),
        "k": _maybe(st.integers(1, 100)),
        "scenario": _maybe(st.sampled_from(["home", "product", "basket", "mail", "nowhere"])),
        "rule_sets": _maybe(st.lists(st.sampled_from(["r1", "r2", "none"]), max_size=3)),
        "rules": _maybe(RULES),
        "explain": _maybe(st.booleans()),
    },
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "name": _maybe(st.text(max_size=20)),
        "brand": _maybe(st.sampled_from("ABC")),
        "category": _maybe(st.sampled_from("xyz")),
        "price": _maybe(st.floats(0, 100)),
        "available": _maybe(st.booleans()),
        "hidden": _maybe(st.booleans()),
        "properties": _maybe(st.dictionaries(st.text(max_size=6), _values(4), max_size=4)),
    },
)
_GA4 = st.fixed_dictionaries(
    {
        "events": _maybe(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "name": _maybe(st.sampled_from(["view_item", "purchase", "page_view"])),
                        "params": _maybe(
                            st.fixed_dictionaries(
                                {
                                    "items": _maybe(
                                        st.lists(
                                            st.fixed_dictionaries({"item_id": _maybe(ITEM_IDS)}),
                                            max_size=3,
                                        )
                                    )
                                }
                            )
                        ),
                    }
                ),
                max_size=3,
            )
        )
    },
    optional={"client_id": _maybe(st.text(max_size=6)), "timestamp_micros": _maybe(TIMES)},
)
_SEGMENT = st.fixed_dictionaries(
    {
        "type": _maybe(st.just("track")),
        "event": _maybe(
            st.sampled_from(["Product Viewed", "Order Completed", "Product List Viewed"])
        ),
        "properties": _maybe(
            st.fixed_dictionaries(
                {},
                optional={
                    "product_id": _maybe(ITEM_IDS),
                    "products": _maybe(
                        st.lists(
                            st.fixed_dictionaries({"product_id": _maybe(ITEM_IDS)}), max_size=3
                        )
                    ),
                },
            )
        ),
    },
    optional={
        "messageId": _maybe(st.text(max_size=6)),
        "anonymousId": _maybe(st.text(max_size=6)),
        "timestamp": _maybe(TIMES),
        "sentAt": _values(2),
    },
)
_NAMES = st.sampled_from(["r1", "r2", "r.3", "a b", "x" * 101]) | st.text(min_size=1, max_size=8)
_BODIES: tuple[tuple[str, str, st.SearchStrategy[Any]], ...] = (
    ("POST", "/v1/events", EVENTS | st.lists(EVENTS, max_size=4)),
    ("POST", "/v1/events", st.fixed_dictionaries({"events": _maybe(st.lists(EVENTS, max_size=4))})),
    ("POST", "/v1/recommend", RECOMMENDS),
    ("POST", "/v1/recommend", RECOMMENDS),
    ("POST", "/v1/feedback", EVENTS),
    ("POST", "/v1/events/ga4", _GA4 | st.lists(_GA4, max_size=2)),
    (
        "POST",
        "/v1/events/segment",
        _SEGMENT | st.fixed_dictionaries({"batch": _maybe(st.lists(_SEGMENT))}),
    ),
    ("PUT", "/v1/items/{}", ITEMS),
    ("PUT", "/v1/rules/{}", RULES),
    (
        "PUT",
        "/v1/models/{}",
        st.fixed_dictionaries({"version": _maybe(st.sampled_from(["prod", "previous", "none"]))}),
    ),
)


def encoded(value: object) -> bytes:
    """JSON as careless senders write it: NaN, lone surrogates and all."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


@st.composite
def by_strategy(draw: Callable[[Any], Any]) -> Sent:
    """One request whose body is near to what it should be."""
    method, path, bodies = draw(st.sampled_from(_BODIES))
    named = {"/v1/items/{}": ITEM_IDS, "/v1/rules/{}": _NAMES}
    name = draw(named.get(path, st.sampled_from(["prod", "candidate", "x"])))
    path = path.format(quote(name, safe=""))
    return Sent(method=method, path=path, chunks=(encoded(draw(bodies)),), origin="hypothesis")


def drawn(strategy: st.SearchStrategy[Any], count: int, *, number: int) -> list[Any]:
    """So many examples of a strategy, the same for the same number."""
    found: list[Any] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def draw(example: Any) -> None:  # noqa: ANN401
        found.append(example)

    draw()
    return found


def mutated(corpus: Sequence[Sent], count: int, *, rng: random.Random) -> Iterator[Sent]:
    """Requests of a corpus, each changed a little in one way or two."""
    changes = (
        _value_changed,
        _value_changed,
        _value_changed,
        _bytes_changed,
        _path_changed,
        _query_changed,
        _headers_changed,
        _method_changed,
        _pieces_changed,
    )
    for _ in range(count):
        sent = dataclasses.replace(rng.choice(corpus), origin="mutation", operation="")
        for _ in range(rng.choice((1, 1, 2))):
            sent = rng.choice(changes)(sent, rng)
        yield sent


def _odd(rng: random.Random) -> Any:  # noqa: ANN401
    return rng.choice(
        (*_ODD_TEXTS, *_ODD_NUMBERS, *_CONDITIONS, None, True, False, [], {}, [[]], *IDS)
    )


def _value_changed(sent: Sent, rng: random.Random) -> Sent:
    try:
        value = json.loads(sent.body)
    except (ValueError, RecursionError):
        return _bytes_changed(sent, rng)
    return dataclasses.replace(sent, chunks=(encoded(_changed(value, rng, left=6)),))


def _changed(value: Any, rng: random.Random, *, left: int) -> Any:  # noqa: ANN401
    if left and isinstance(value, dict) and value:
        name = rng.choice(list(value))
        rest = {each: of for each, of in value.items() if each != name}
        chance = rng.random()
        if chance < 0.1:
            return rest
        if chance < 0.15:
            return {**value, rng.choice(_ODD_TEXTS[4:]): _odd(rng)}
        return {**value, name: _changed(value[name], rng, left=left - 1)}
    if left and isinstance(value, list) and value:
        at = rng.randrange(len(value))
        if rng.random() < 0.1:
            return value[:at] + value[at:] * rng.choice((2, 3))
        return [*value[:at], _changed(value[at], rng, left=left - 1), *value[at + 1 :]]
    if isinstance(value, float) and math.isfinite(value) and rng.random() < 0.3:
        return value * rng.choice((-1, 10, 1e300))
    return _odd(rng)


def _bytes_changed(sent: Sent, rng: random.Random) -> Sent:
    body = bytearray(sent.body)
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(len(body) + 1)
        body[at : at + rng.choice((0, 1, 1, 4))] = bytes(
            rng.choices(b'\0"{}[]:,\\\xff0e-tn ', k=rng.choice((0, 1, 2)))
        )
    return dataclasses.replace(sent, chunks=(bytes(body),))


def _path_changed(sent: Sent, rng: random.Random) -> Sent:
    parts = sent.path.split("/")
    at = rng.randrange(len(parts))
    odd = quote(
        str(rng.choice((*_ODD_TEXTS, *IDS, "similar", "recommend", "v1"))),
        safe="",
        errors="replace",
    )
    parts[at : at + rng.choice((0, 1))] = [odd]
    return dataclasses.replace(sent, path="/" + "/".join(parts).lstrip("/"))


def _query_changed(sent: Sent, rng: random.Random) -> Sent:
    name = rng.choice(
        (
            "k",
            "explain",
            "q",
            "allow",
            "deny",
            "price_max",
            "price_min",
            "in_stock",
            "exclude_seen",
            "scenario",
            "rule_sets",
            "zzz",
        )
    )
    value = quote(str(_odd(rng)), errors="replace")
    return dataclasses.replace(
        sent, query=sent.query + b"&" * bool(sent.query) + f"{name}={value}".encode()
    )


def _headers_changed(sent: Sent, rng: random.Random) -> Sent:
    odd = rng.choice(
        (
            (
                b"content-type",
                rng.choice((b"text/plain", b"application/json;;", b"APPLICATION/JSON", b"")),
            ),
            (b"content-length", rng.choice((b"0", b"5", b"99999999", b"-1", b"x"))),
            (b"x-api-key", bytes(rng.choices(range(256), k=8))),
            (b"origin", rng.choice((b"null", b"https://evil.example", b"\xff"))),
            (b"access-control-request-method", b"POST"),
            (b"host", b"\xff\xff"),
            (b"expect", b"100-continue"),
            (b"range", b"bytes=0-"),
            (b"if-none-match", b"*"),
            (b"traceparent", b"00-" + b"f" * 60),
            (b"cookie", b"a" * 9000),
        )
    )
    kept = tuple(pair for pair in sent.headers if pair[0] != odd[0])
    return dataclasses.replace(sent, headers=(*kept, odd))


def _method_changed(sent: Sent, rng: random.Random) -> Sent:
    # Erasing writes the whole log anew: a few are enough.
    methods = ("GET", "POST", "PUT", "PATCH", "HEAD", "OPTIONS", "BREW") + ("DELETE",) * (
        "users" not in sent.path
    )
    return dataclasses.replace(sent, method=rng.choice(methods))


def _pieces_changed(sent: Sent, rng: random.Random) -> Sent:
    body = sent.body
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(3))
    pieces = (body[: cuts[0]], body[cuts[0] : cuts[1]], body[cuts[1] : cuts[2]], body[cuts[2] :])
    return dataclasses.replace(sent, chunks=pieces, whole=rng.random() < 0.5)
