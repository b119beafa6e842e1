"""Laws of every model that can be told what an event counts, by its type."""

from dataclasses import replace

import numpy as np
import pytest

from momentary.errors import MomentaryError, SettingsError
from momentary.models.artifact import KINDS, make
from momentary.types import EVENT_TYPES, INTEREST_TYPES, Sessions

VIEW, CART, BUY = (EVENT_TYPES.index(name) for name in ("view_item", "add_to_cart", "purchase"))
N_ITEMS = 9
SMALL = {
    "factorization": {"factors": 4, "alpha": 2.0},
    "gru4rec": {"units": [6], "batch_size": 4, "n_sample": 8},
    "attentive_rnn": {"units": 6, "n_sample": 8, "batch_predictions": 40, "epochs": 2},
    "slist": {"regularization": 1.0},
    "item_knn": {"shrinkage": 2.0},
}
NETWORKS = ("gru4rec", "attentive_rnn")
WEIGHING = [kind for kind in KINDS if hasattr(make(kind).config, "event_weights")]
COUNTING = [kind for kind in WEIGHING if kind not in NETWORKS]
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def shop():
    """Visits of a few views, with carts and purchases among them."""
    rng = np.random.default_rng(4)
    rows = [rng.integers(N_ITEMS, size=rng.integers(2, 8)) for _ in range(40)]
    return Sessions.from_lists(
        rows,
        times_us=[day * DAY_US + np.arange(len(row)) for day, row in enumerate(rows)],
        types=[rng.choice([VIEW, VIEW, VIEW, CART, BUY], size=len(row)) for row in rows],
    )


def fitted(kind, sessions, weights=None, **settings):
    model = make(kind, {**SMALL.get(kind, {}), **settings, "event_weights": weights or {}})
    return model.fit(sessions, n_items=N_ITEMS, rng=np.random.default_rng(2))


def test_models_that_weigh_events_are_the_ones_that_say_so():
    assert set(KINDS) - set(WEIGHING) == {
        "content_knn",
        "feature_rnn",
        "hierarchical_rnn",
        "hybrid",
    }
    with pytest.raises(SettingsError, match="no setting 'event_weights'"):
        make("feature_rnn", {"event_weights": {"purchase": 2}})


@pytest.mark.parametrize("kind", WEIGHING)
def test_without_weights_types_change_not_a_bit(kind, shop):
    plain = fitted(kind, replace(shop, types=None))
    ones = fitted(kind, shop, dict.fromkeys(INTEREST_TYPES, 1.0))
    unnamed = fitted(kind, shop, {"share": 7.0})  # nobody shared anything
    for model in (fitted(kind, shop), ones, unnamed):
        np.testing.assert_array_equal(model.score(shop), plain.score(shop))
        for name, array in plain.state().items():
            assert model.state()[name].tobytes() == array.tobytes(), name
        assert model.state().keys() == plain.state().keys()


@pytest.mark.parametrize("kind", WEIGHING)
def test_weights_that_hardly_differ_change_hardly_anything(kind, shop):
    near = fitted(kind, shop, {"purchase": 1 + 1e-6})
    np.testing.assert_allclose(near.score(shop), fitted(kind, shop).score(shop), rtol=2e-3)


@pytest.mark.parametrize("kind", WEIGHING)
def test_weights_change_what_is_learned(kind, shop):
    view = Sessions.from_lists([[2, 5]], types=[[VIEW, VIEW]])
    weighed = fitted(kind, shop, {"purchase": 9}).score(view)
    assert not np.allclose(weighed, fitted(kind, shop).score(view), rtol=1e-3)


@pytest.mark.parametrize("kind", COUNTING)
def test_an_event_of_weight_0_is_left_out(kind, shop):
    without = fitted(kind, shop, {"view_item": 0, "purchase": 2})
    bare = shop.keep(shop.types != VIEW)
    expected = fitted(kind, bare, {"purchase": 2})
    np.testing.assert_array_equal(without.score(shop), expected.score(bare))


@pytest.mark.parametrize("kind", [kind for kind in COUNTING if kind != "sequential_rules"])
def test_an_event_counts_in_the_visit_that_is_asked_about(kind, shop):
    model = fitted(kind, shop, {"purchase": 9})
    views, bought = (Sessions.from_lists([[2, 5]], types=[[each, VIEW]]) for each in (VIEW, BUY))
    same = np.allclose(model.score(views), model.score(bought))
    assert same == (kind == "popularity")


@pytest.mark.parametrize("kind", WEIGHING)
def test_an_event_whose_type_nobody_knows_counts_1(kind, shop):
    model = fitted(kind, shop, {"purchase": 9, "view_item": 1})
    views = Sessions.from_lists([[2, 5], [3]], types=[[VIEW, VIEW], [VIEW]])
    unknown = replace(views, types=np.full(3, -1, dtype=np.int8))
    np.testing.assert_array_equal(model.score(unknown), model.score(views))
    np.testing.assert_array_equal(model.score(replace(views, types=None)), model.score(views))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_learns_to_tell_what_counts(kind):
    """After any view another view or a purchase follows; the networks are asked for purchases."""
    rng = np.random.default_rng(8)
    rows, types = [], []
    for _ in range(300):
        first = int(rng.integers(4))
        buys = rng.random() < 0.2
        rows.append([first, first + 4 if buys else (first + 1) % 4])
        types.append([VIEW, BUY if buys else VIEW])
    sessions = Sessions.from_lists(rows, types=types)
    settings = {"learning_rate": 0.05 if kind == "gru4rec" else 0.01, "epochs": 6}
    asked = Sessions.from_lists([[item] for item in range(4)], types=[[VIEW]] * 4)
    best = {
        weight: fitted(kind, sessions, {"purchase": weight}, **settings).score(asked).argmax(axis=1)
        for weight in (0.02, 50.0)
    }
    assert (best[50.0] == np.arange(4) + 4).all()
    assert (best[0.02] == (np.arange(4) + 1) % 4).all()


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_needs_something_to_ask_for(kind, shop):
    nothing = {name: 0 for name in INTEREST_TYPES if name != "share"}
    with pytest.raises(MomentaryError, match="no event count that follows another"):
        fitted(kind, shop, nothing)


@pytest.mark.parametrize("kind", COUNTING)
def test_where_nothing_counts_a_model_still_answers(kind, shop):
    model = fitted(kind, shop, {"view_item": 0})
    views = Sessions.from_lists([[2, 5]], types=[[VIEW, VIEW]])
    scores = model.score(views)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, model.score(Sessions.from_lists([[]])))


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"buy": 2}, "view_item, select_item"),
        ({"purchase": -1}, "from 0"),
        ({"purchase": float("inf")}, "from 0"),
        ({"purchase": float("nan")}, "from 0"),
        (dict.fromkeys(INTEREST_TYPES, 0), "nothing to learn from"),
        ({"purchase": "much"}, "float"),
    ],
)
def test_weights_that_cannot_work_are_refused(weights, told):
    with pytest.raises(SettingsError, match=told):
        make("vstan", {"event_weights": weights})
