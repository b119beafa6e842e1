"""Numbers of other trackers that are none: found by the fuzzer, refused with their field."""

import json

import pytest

from tests.serving.world import ask, opened

JSON = {"content-type": "application/json"}
HUGE = 10**400


def _ga4(**item):
    return {
        "client_id": "b",
        "events": [{"name": "view_item", "params": {"items": [{"item_id": "i1", **item}]}}],
    }


def _segment(timestamp=1, **properties):
    return {
        "type": "track",
        "anonymousId": "b",
        "event": "Product Viewed",
        "timestamp": timestamp,
        "properties": {"product_id": "i1", **properties},
    }


@pytest.mark.parametrize(
    ("tracker", "body", "field"),
    [
        ("segment", _segment(timestamp=HUGE), "timestamp"),
        ("segment", _segment(timestamp=-HUGE), "timestamp"),
        ("segment", _segment(timestamp="³"), "timestamp"),
        ("segment", _segment(position=HUGE), "position"),
        ("segment", _segment(position="inf"), "position"),
        ("segment", _segment(position=[1]), "position"),
        ("ga4", _ga4(index=HUGE), "position"),
        ("ga4", _ga4(index={"a": 1}), "position"),
        ("ga4", _ga4(index="nan"), "position"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path, tracker, body, field):
    with opened(tmp_path) as app:
        answer = ask(
            app, "POST", f"/v1/events/{tracker}", content=json.dumps(body).encode(), headers=JSON
        )
        assert (answer.status_code, answer.json()["field"]) == (422, field)
        assert app.engine._log.count() == 0
