"""A small, seeded part of `python -m benchmarks.fuzz`, and proof that its watcher sees faults."""

import asyncio
import random
from dataclasses import replace

import pytest

from benchmarks.fuzz import Tally, send_all, settings
from benchmarks.fuzz_document import Promises, by_document
from benchmarks.fuzz_hostile import by_hand
from benchmarks.fuzz_requests import by_strategy, drawn, mutated
from benchmarks.fuzz_target import Answered, Sent, Target, exchange, make_shop
from momentary.serving import openapi
from momentary.types import Event


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "shop"
    make_shop(folder)
    return folder


@pytest.fixture
def target(shop, tmp_path):
    with Target(shop, tmp_path / "home", settings=settings()) as target:
        yield target


def test_bad_requests_are_refused_and_leave_no_trace(shop, target, tmp_path):
    rng = random.Random(3)
    by_hand_all = list(by_hand())
    corpus = [
        *rng.sample(by_hand_all, 250),
        *by_document(target.app, 2, number=3),
        *drawn(by_strategy(), 150, number=3),
    ]
    corpus += mutated([each for each in corpus if len(each.body) < 5_000], 400, rng=rng)
    tally = Tally()
    send_all(corpus, tally, shop=shop, scratch=tmp_path)
    assert tally.kept == []
    assert tally.requests == len(corpus) > 850
    assert {200, 400, 404, 405, 422} <= set(tally.statuses)


def test_requests_at_once_are_judged_one_by_one(target):
    """Good and bad ones share a tick: every good event counts, no bad one does."""
    good = b'{"item_id":"i1","session_id":"s%d","event_type":"view_item","timestamp":1}'
    sent = [
        Sent(
            method="POST",
            path="/v1/events" if number % 2 else "/v1/recommend",
            chunks=(
                good % number
                if number % 2
                else b'{"rules":{"deny":"?"},"event":' + good % number + b"}",
            ),
        )
        for number in range(60)
    ]

    async def run():
        return await asyncio.gather(*(exchange(target.app, each) for each in sent))

    answers = asyncio.run(run())
    assert [each.status for each in answers] == [422, 200] * 30
    assert target.app.engine._log.count() == 30


def _answers(status, body, headers=()):
    async def app(_scope, _receive, send):
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"x-content-type-options", b"nosniff"), *headers],
            }
        )
        await send({"type": "http.response.body", "body": body})

    return app


PROBLEM = (b"content-type", b"application/problem+json")
ASKED = Sent(method="POST", path="/v1/events", chunks=(b"{}",))


@pytest.mark.parametrize(
    ("status", "body", "headers", "fault"),
    [
        (500, b"{}", (), "crash"),
        (422, b'{"status":422,"detail":"x"}', (PROBLEM,), ""),
        (422, b'{"status":422,"detail":""}', (PROBLEM,), "shape"),
        (422, b"no", ((b"content-type", b"text/css"),), "shape"),
        (
            422,
            b'{"status":422,"detail":"in \\u0022Traceback (most recent call"}',
            (PROBLEM,),
            "leak",
        ),
        (200, b'{"accepted":1,"duplicates":0}', (), "miscounted"),
        (200, b'{"accepted":0,"duplicates":0}', (), ""),
    ],
)
def test_the_watcher_sees_what_is_wrong(target, status, body, headers, fault):
    app, target.app = target.app, _answers(status, body, headers)
    try:
        assert asyncio.run(target.judge(ASKED)).fault == fault
    finally:
        target.app = app


def test_what_a_caller_named_a_thing_is_no_leak(target):
    json = (b"content-type", b"application/json")
    unknown = Sent(
        method="POST", path="/v1/recommend", headers=(json,), chunks=(b'{"rule_sets":["no"]}',)
    )
    named = Sent(method="PUT", path="/v1/rules/numpy", headers=(json,), chunks=(b"{}",))
    app = target.app
    try:
        target.app = _answers(422, b'{"status":422,"detail":"there are: numpy"}', (PROBLEM,))
        assert asyncio.run(target.judge(unknown)).fault == "leak"
        target.app = app
        assert asyncio.run(target.judge(named)).status == 201
        assert asyncio.run(target.judge(unknown)).fault == ""
        target.app = _answers(422, b'{"status":422,"detail":"numpy, msgspec."}', (PROBLEM,))
        assert asyncio.run(target.judge(unknown)).detail == "msgspec."
    finally:
        target.app = app


def test_the_watcher_sees_exceptions_and_what_a_refused_request_wrote(target):
    app = target.app
    event = Event(item_id="i", event_type="view_item", timestamp_us=1, event_id="e", user_id="u")

    async def writes(scope, receive, send):
        app.engine._log.append([event])
        await _answers(422, b'{"status":422,"detail":"x"}', (PROBLEM,))(scope, receive, send)

    async def raises(_scope, _receive, _send):
        raise RuntimeError("planted")

    try:
        target.app = writes
        assert asyncio.run(target.judge(ASKED)).fault == "wrote"
        assert asyncio.run(target.judge(ASKED)).fault == ""
        target.app = raises
        assert "planted" in asyncio.run(target.judge(replace(ASKED, method="GET"))).detail
    finally:
        target.app = app


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'{"accepted":1,"duplicates":0}', ""),
        (200, b'{"accepted":"1","duplicates":0}', "not of type"),
        (418, b"{}", "not documented"),
        (422, b'{"title":"a","status":422,"detail":"b"}', ""),
    ],
)
def test_a_broken_word_of_the_document_is_seen(status, body, said):
    sent = replace(ASKED, operation="POST /v1/events")
    answer = Answered(status=status, headers={}, body=body)
    found = Promises(openapi.document()).broken(sent, answer)
    assert said in found
    assert bool(found) == bool(said)
