"""Likeness learns what counts, needs no label of a query, and survives its own state."""

from dataclasses import replace

import numpy as np
import pytest

from momentary.errors import DataError, NotFittedError
from momentary.models.likeness import Likeness, LikenessConfig

SMALL = LikenessConfig(hidden=32, epochs=30, batch_size=16, dropout=0.1)


def world(count, *, seed):
    """Pictures whose loud numbers say nothing and whose quiet ones say type and colour."""
    rng = np.random.default_rng(seed)
    labels = {"type": rng.integers(3, size=count), "colour": rng.integers(4, size=count)}
    loud = 1.5 * rng.normal(size=(count, 12))
    quiet = np.concatenate(
        [np.eye(3)[labels["type"]], np.eye(4)[labels["colour"]]], axis=1
    ) + 0.1 * rng.normal(size=(count, 7))
    photo = np.concatenate([loud, 2 * quiet], axis=1).astype(np.float32)
    return {"photo": photo}, labels


def agreement(vectors, others, labels, held):
    best = np.argsort(-(vectors @ others.T), axis=1)[:, :5]
    return {kind: (held[kind][best] == labels[kind][:, None]).mean() for kind in labels}


@pytest.fixture(scope="module")
def learned():
    views, labels = world(300, seed=0)
    return Likeness(SMALL).fit(views, labels, rng=np.random.default_rng(1)), views, labels


def test_neighbours_agree_in_what_was_labelled_and_not_in_what_is_loud(learned):
    model, views, held = learned
    queries, labels = world(80, seed=5)
    plain = agreement(queries["photo"], views["photo"], labels, held)
    found = agreement(model.embed(queries), model.embed(views), labels, held)
    assert min(found.values()) > 0.8 > max(plain.values())


def test_the_product_of_two_vectors_is_the_chance_that_labels_agree():
    views, labels = world(64, seed=2)
    config = LikenessConfig(hidden=8, epochs=2, batch_size=16, plain=0.0, weights={"colour": 0.25})
    model = Likeness(config).fit(views, labels, rng=np.random.default_rng(0))
    chances = model.chances(views)
    expected = chances["type"] @ chances["type"].T + 0.25 * chances["colour"] @ chances["colour"].T
    vectors = model.embed(views)
    np.testing.assert_allclose(vectors @ vectors.T, expected, rtol=1e-4)


def test_unknown_labels_teach_nothing_and_a_missing_view_still_has_a_vector():
    views, labels = world(300, seed=0)
    hidden = {kind: np.where(np.arange(300) % 3 == 0, each, -1) for kind, each in labels.items()}
    model = Likeness(SMALL).fit(views, hidden, rng=np.random.default_rng(1))
    queries, wanted = world(80, seed=5)
    found = agreement(model.embed(queries), model.embed(views), wanted, labels)
    assert min(found.values()) > 0.6
    nothing = model.chances({"photo": np.zeros((1, 19), np.float32)})
    assert all(np.isfinite(each).all() for each in nothing.values())


def test_state_gives_the_same_vectors(learned):
    model, views, _ = learned
    state = model.state()
    again = Likeness.from_state(SMALL, {name: state[name] for name in sorted(state, reverse=True)})
    np.testing.assert_array_equal(again.embed(views), model.embed(views))


def test_bad_input_is_refused(learned):
    model, views, labels = learned
    with pytest.raises(NotFittedError):
        Likeness(SMALL).embed(views)
    with pytest.raises(DataError, match="width 3; it must have 19"):
        model.embed({"photo": np.zeros((1, 3), np.float32)})
    with pytest.raises(DataError, match="known of no item"):
        Likeness(SMALL).fit(views, {"type": np.full(300, -1)}, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="both the same"):
        Likeness(SMALL).fit(views, {"type": labels["type"][:9]}, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="the weight of type is -1"):
        LikenessConfig(weights={"type": -1.0})


def test_what_lacks_a_view_is_understood_if_views_were_hidden_in_training():
    rng = np.random.default_rng(3)
    views, labels = world(300, seed=0)
    views["title"] = (np.eye(3)[labels["type"]] + 0.05 * rng.normal(size=(300, 3))).astype("f4")
    queries, wanted = world(100, seed=5)
    queries["title"] = np.zeros((100, 3), np.float32)
    right = {}
    for lacking in (0.0, 0.4):
        config = LikenessConfig(hidden=32, epochs=30, batch_size=16, dropout=0.1, lacking=lacking)
        model = Likeness(config).fit(views, labels, rng=np.random.default_rng(1))
        right[lacking] = (model.chances(queries)["type"].argmax(1) == wanted["type"]).mean()
    assert right[0.4] > 0.8
    assert right[0.4] > right[0.0]


def test_views_of_one_content_are_hidden_together():
    views, labels = world(64, seed=2)
    views["colours"] = views["photo"][:, 12:].copy()
    config = LikenessConfig(hidden=8, epochs=3, batch_size=16, lacking=0.9)
    never = replace(config, together=(("photo", "colours"),))
    model = Likeness(never).fit(views, labels, rng=np.random.default_rng(0))
    whole = Likeness(replace(config, lacking=0.0)).fit(views, labels, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.embed(views), whole.embed(views))
    with pytest.raises(ValueError, match="lacking is 1"):
        LikenessConfig(lacking=1.0)
