import pytest

from momentary.data.events import EventLog
from momentary.errors import SettingsError, StorageError
from tests.serving.world import (
    ITEMS,
    NOW_US,
    BrokenScorer,
    EchoScorer,
    LiveEchoScorer,
    NanScorer,
    ask,
    ask_together,
    event,
    make_recommender,
    opened,
)

pytestmark = pytest.mark.usefixtures("over_both")


def _ids(answer):
    return [each["item_id"] for each in answer.json()["items"]]


def _recommend(app, **body):
    return ask(app, "POST", "/v1/recommend", json=body)


@pytest.mark.parametrize("scorer", [EchoScorer, LiveEchoScorer])
def test_a_click_changes_the_answer_in_the_same_request(tmp_path, scorer):
    with opened(tmp_path, scorer()) as app:
        before = _recommend(app, session_id="s", k=5)
        after = _recommend(app, session_id="s", k=5, event=event("s", "brötchen"))
        again = _recommend(app, session_id="s", k=5)

    assert after.status_code == 200
    assert _ids(after) != _ids(before)
    assert _ids(after) == _ids(again)


@pytest.mark.parametrize("storage", ["sqlite"], indirect=True)  # two shops, two databases
def test_both_kinds_of_scorer_give_the_same_lists(tmp_path):
    lists = []
    for name, scorer in (("whole", EchoScorer()), ("live", LiveEchoScorer())):
        folder = tmp_path / name
        folder.mkdir()
        with opened(folder, scorer) as app:
            for item in ("i1", "tea/green", "i1", "unknown", "..", "i6"):
                answer = _recommend(app, user_id="u", event=event(None, item, user_id="u"), k=13)
            lists.append([(each["item_id"], each["score"]) for each in answer.json()["items"]])
            basket = _recommend(app, user_id="u", items=["i2", "nothing", "i3"], k=13)
            lists[-1] += [(each["item_id"], each["score"]) for each in basket.json()["items"]]

    assert [item for item, _ in lists[0]] == [item for item, _ in lists[1]]
    assert [score for _, score in lists[0]] == pytest.approx([score for _, score in lists[1]])


def test_an_answer_says_what_it_is_and_is_logged_as_an_exposure(tmp_path):
    with opened(tmp_path) as app:
        answer = _recommend(app, session_id="s", user_id="u", k=3).json()
        (exposure,) = app.engine._log.exposures()

    assert answer["model_version"] == "v1"
    assert answer["variant"] == "model"
    assert [each["rank"] for each in answer["items"]] == [1, 2, 3]
    assert all(each["reasons"] == [] for each in answer["items"])
    assert all(
        each.get("name") == (f"Name of {each['item_id']}" if each["item_id"] != ITEMS[-1] else None)
        for each in answer["items"]
    )
    assert exposure.recommendation_id == answer["recommendation_id"]
    assert list(exposure.items) == [each["item_id"] for each in answer["items"]]
    assert (exposure.session_id, exposure.user_id, exposure.anonymous_id) == ("s", "u", None)
    assert (exposure.propensity, exposure.variant) == (1.0, "model")
    assert (exposure.model_version, exposure.timestamp_us) == ("v1", NOW_US)


def test_a_basket_counts_in_its_answer_only(tmp_path):
    with opened(tmp_path) as app:
        plain = _recommend(app, session_id="s")
        basket = _recommend(app, session_id="s", items=["i1", "i2"])
        after = _recommend(app, session_id="s")
        clicked = _recommend(app, items=["i1"])
        events = app.engine._log.count()

    assert _ids(plain) == _ids(after) != _ids(basket)
    assert clicked.status_code == 200
    assert events == 0


def test_the_requests_of_a_tick_share_one_product_and_one_commit(tmp_path, monkeypatch):
    scorer = LiveEchoScorer()
    with opened(tmp_path, scorer) as app:
        commits, log = [], app.engine._log._log
        transact = log.transact

        def counted(work):
            commits.append("COMMIT")
            return transact(work)

        monkeypatch.setattr(log, "transact", counted)
        requests = [
            ("POST", "/v1/recommend", {"json": {"event": event(f"s{n}", "i1"), "k": 3 + n % 2}})
            for n in range(12)
        ]
        requests += [("POST", "/v1/events", {"json": event(f"s{n}", "i2")}) for n in range(5)]
        answers = ask_together(app, requests)

        assert [answer.status_code for answer in answers] == [200] * 17
        assert [len(answer.json()["items"]) for answer in answers[:12]] == [3, 4] * 6
        assert scorer.batches == [12]
        assert commits == ["COMMIT"]
        assert app.engine._log.count() == 17


def test_a_duplicate_moves_no_visit_even_within_a_tick(tmp_path):
    click = event("s", "i1", event_id="e")
    with opened(tmp_path) as app:
        first = _recommend(app, event=click)
        twice = ask_together(app, [("POST", "/v1/recommend", {"json": {"event": click}})] * 3)
        other = event("s", "i4", event_id="e")
        counted = ask(
            app, "POST", "/v1/events", json=[other, event("t", "i1", event_id="f"), other]
        )
        after = _recommend(app, session_id="s")

    assert [_ids(each) for each in twice] == [_ids(first)] * 3
    assert counted.json() == {"accepted": 1, "duplicates": 2}
    assert _ids(after) == _ids(first)


def test_a_refused_request_leaves_no_trace_and_spares_the_others_of_its_tick(tmp_path):
    bad_rules = {"max_per": {"colour": 1}}
    with opened(tmp_path) as app:
        bad, good = ask_together(
            app,
            [
                (
                    "POST",
                    "/v1/recommend",
                    {"json": {"event": event("s", "i1"), "rules": bad_rules}},
                ),
                ("POST", "/v1/recommend", {"json": {"event": event("t", "i2")}}),
            ],
        )
        items = [each.item_id for each in app.engine._log.read()]
        shown = list(app.engine._log.exposures())
        untouched = _recommend(app, session_id="s")
        stranger = _recommend(app)

    assert bad.status_code == 422
    assert "colour" in bad.json()["detail"]
    assert good.status_code == 200
    assert items == ["i2"]
    assert [each.session_id for each in shown] == ["t"]
    assert _ids(untouched) == _ids(stranger)


def test_rules_are_obeyed(tmp_path):
    rules = {"allow": {"brand": ["red"]}, "price_max": 6, "exclude_items": ["i0"]}
    with opened(tmp_path) as app:
        answer = _recommend(app, rules=rules, k=100)
        seen = _recommend(app, event=event("s", "i1"), rules={"exclude_seen": True}, k=100)

    allowed = {item for n, item in enumerate(ITEMS) if n % 2 == 0 and n <= 6} - {"i0"}
    assert set(_ids(answer)) == allowed
    assert set(_ids(seen)) == set(ITEMS) - {"i1"}


@pytest.mark.parametrize("scorer", [BrokenScorer, NanScorer])
def test_the_fallback_answers_when_the_model_fails_and_says_so(tmp_path, caplog, scorer):
    with opened(tmp_path, scorer(), fallback=make_recommender()) as app:
        answer = _recommend(app, event=event("s", "i1"))
        (exposure,) = app.engine._log.exposures()

    assert answer.status_code == 200
    assert answer.json()["variant"] == exposure.variant == "fallback"
    assert len(_ids(answer)) == 13
    assert "the fallback answers 1 requests" in caplog.text
    assert "model v1 failed" in caplog.text


def test_without_a_fallback_a_failing_model_is_a_503(tmp_path):
    with opened(tmp_path, BrokenScorer()) as app:
        answer = _recommend(app, event=event("s", "i1"))
        recorded = ask(app, "POST", "/v1/events", json=event("s", "i1"))

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert recorded.json() == {"accepted": 1, "duplicates": 0}


def test_a_fallback_over_other_items_is_refused(tmp_path):
    other = make_recommender(LiveEchoScorer(2), ids=("x", "y"))
    with (
        pytest.raises(SettingsError, match="fit it on the same vocabulary"),
        opened(tmp_path, fallback=other),
    ):
        pass


def test_when_the_commit_fails_nothing_has_happened(tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise StorageError("database or disk is full")

    with opened(tmp_path) as app:
        before = _recommend(app, session_id="s")
        with monkeypatch.context() as patch:
            patch.setattr(EventLog, "append", full)
            patch.setattr(EventLog, "check", full)
            failed = _recommend(app, event=event("s", "i1"))
            ready = ask(app, "GET", "/health/ready")
        # Found out by trying: a balancer sends no requests to a service that is not ready.
        ready_again = ask(app, "GET", "/health/ready")
        after = _recommend(app, session_id="s")

    assert (failed.status_code, ready.status_code) == (503, 503)
    assert failed.headers["retry-after"] == "1"
    assert "disk is full" not in failed.text
    assert _ids(after) == _ids(before)
    assert ready_again.status_code == 200


def test_another_model_answers_from_the_next_tick_on_with_the_same_visits(tmp_path):
    ids = tuple(reversed(ITEMS))
    with opened(tmp_path) as app, opened(tmp_path, EchoScorer()) as other:
        _recommend(app, event=event("s", "i1"))
        app.engine.swap(make_recommender(LiveEchoScorer(), ids=ids), model_version="v2")
        swapped = _recommend(app, session_id="s", k=100)
        expected = make_recommender(LiveEchoScorer(), ids=ids)
        app.engine.swap(other.engine.recommender, model_version="v3")
        back = _recommend(app, session_id="s", k=100)
        straight = _recommend(other, session_id="s", k=100)

    state = expected.scorer.start(1)
    scores = expected.scorer.score_states(expected.scorer.advance(state, [ids.index("i1")]))[0]
    assert swapped.json()["model_version"] == "v2"
    assert _ids(swapped) == [ids[at] for at in (-scores).argsort(kind="stable")]
    assert _ids(back) == _ids(straight)


def test_visits_beyond_memory_are_answered_the_same(tmp_path):
    with opened(tmp_path, max_sessions=3) as app:
        first = {n: _ids(_recommend(app, event=event(f"s{n}", f"i{n}"))) for n in range(7)}
        again = {n: _ids(_recommend(app, session_id=f"s{n}")) for n in range(7)}

    assert again == first


def test_more_visits_in_a_tick_than_memory_holds_are_answered_right(tmp_path):
    with opened(tmp_path, max_sessions=2) as app:
        requests = [
            ("POST", "/v1/recommend", {"json": {"event": event(f"s{n}", f"i{n}")}})
            for n in range(7)
        ]
        together = [_ids(answer) for answer in ask_together(app, requests)]
        alone = [_ids(_recommend(app, session_id=f"s{n}")) for n in range(7)]

    assert together == alone


def test_whoever_signs_in_goes_on_with_what_the_browser_was_shown(tmp_path):
    both = {"user_id": "u", "anonymous_id": "a"}
    with opened(tmp_path) as app:
        known = _recommend(app, event=event(None, "i5", user_id="u", timestamp=NOW_US / 1e6 - 9e4))
        for item in ("i1", "i2"):
            before = _recommend(app, event=event(None, item, anonymous_id="a"))
        signed_in = _recommend(app, **both)
        clicked = _recommend(app, event=event(None, "i3", **both))
        other = _recommend(app, user_id="v", anonymous_id="b")
        stranger = _recommend(app)
    with opened(tmp_path) as app:
        again = _recommend(app, **both)
        visit = _recommend(app, items=["i1", "i2", "i3"])
        next_account = _recommend(
            app, event=event(None, "i4", user_id="w", anonymous_id="a"), anonymous_id="a"
        )
        alone = _recommend(app, items=["i4"])

    assert _ids(signed_in) == _ids(before) != _ids(known)
    assert _ids(clicked) == _ids(again) == _ids(visit)
    assert _ids(other) == _ids(stranger)
    assert _ids(next_account) == _ids(alone)
