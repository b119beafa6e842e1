"""What Prometheus is told is what happened: stages, batches, the queue, arms, what was shown."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serving.world import (
    ITEMS,
    BrokenScorer,
    EchoScorer,
    ask,
    ask_together,
    event,
    make_recommender,
    opened,
)

LEARNED = 5
"""So many items the training saw; the others are cold."""


class Counted(EchoScorer):
    """Popularity: some items were never seen."""

    def score(self, sessions):
        counts = np.arange(len(ITEMS), 0, -1, dtype=np.float32)
        counts[LEARNED:] = 0
        return np.broadcast_to(counts, (len(sessions), len(counts)))


@pytest.fixture
def fallback():
    return make_recommender(Counted())


def _told(app):
    """Every sample by name and labels, without those of the scrape itself."""
    text = ask(app, "GET", "/metrics").text
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_stage_of_each_tick_is_timed(tmp_path):
    with opened(tmp_path) as app:
        before = _told(app)
        for number in range(3):
            ask(app, "POST", "/v1/recommend", json={"event": event("s", f"i{number}")})
        after = _told(app)
    assert not any(name[0] == "momentary_stage_seconds_count" for name in before)
    for stage in ("recall", "rank", "commit"):
        assert after["momentary_stage_seconds_count", stage] == 3
        assert 0 < after["momentary_stage_seconds_sum", stage] < 3
        assert after["momentary_stage_seconds_bucket", "+Inf", stage] == 3


def test_what_a_tick_settles_together_is_one_batch_and_nobody_waits_afterwards(tmp_path):
    asks = [("POST", "/v1/recommend", {"json": {"session_id": f"s{n}"}}) for n in range(3)]
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/recommend", json={})
        ask_together(app, asks)
        told = _told(app)
    assert told["momentary_batch_requests_count",] == 2
    assert told["momentary_batch_requests_sum",] == 4
    assert told["momentary_batch_requests_bucket", "1.0"] == 1
    assert told["momentary_batch_requests_bucket", "4.0"] == 2
    assert told["momentary_waiting_requests",] == 0
    assert told["momentary_live_visits",] == 3


def test_requests_that_wait_are_counted_while_they_wait(tmp_path):
    """The scrape comes in the same turn of the loop as the questions, before they are settled."""
    asks = [("POST", "/v1/recommend", {"json": {"session_id": f"s{n}"}}) for n in range(3)]
    with opened(tmp_path) as app:
        flush = app.engine._flush
        seen = []
        app.engine._flush = lambda: (seen.append(app.engine.measure()), flush())
        ask_together(app, asks)
    assert b"momentary_waiting_requests 3.0" in seen[0]


def test_the_arm_that_answered_is_counted(tmp_path, fallback):
    with opened(tmp_path, BrokenScorer(), fallback=fallback) as app:
        answers = [ask(app, "POST", "/v1/recommend", json={}).json() for _ in range(2)]
        told = _told(app)
    assert {each["variant"] for each in answers} == {"fallback"}
    assert told["momentary_answers_total", "fallback"] == 2
    assert ("momentary_answers_total", "model") not in told


def test_the_share_of_the_catalogue_and_of_cold_items_is_that_of_the_lists(tmp_path, fallback):
    with opened(tmp_path, fallback=fallback) as app:
        shown = []
        for clicked in ("i1", "i4", "tea/green"):
            body = {"items": [clicked], "k": 3}
            answer = ask(app, "POST", "/v1/recommend", json=body).json()
            shown += [each["item_id"] for each in answer["items"]]
        told = _told(app)
    cold = [each for each in shown if ITEMS.index(each) >= LEARNED]
    assert 0 < len(cold) < len(shown) == 9
    assert told["momentary_shown_items_total",] == len(shown)
    assert told["momentary_cold_items_total",] == len(cold)
    assert told["momentary_covered_items_share",] == pytest.approx(len({*shown}) / len(ITEMS))


def test_how_long_requests_took_is_told_by_route(tmp_path):
    with opened(tmp_path) as app:
        ask(app, "POST", "/v1/recommend", json={})
        ask(app, "GET", "/v1/items/a%2Fsecret/similar")
        told = _told(app)
    assert told["momentary_request_seconds_count", "recommend"] == 1
    assert told["momentary_request_seconds_count", "items/similar"] == 1
    assert told["momentary_requests_total", "404", "items/similar"] == 1
    assert not any("secret" in each for name in told for each in name)
