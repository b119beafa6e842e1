"""Content tells an item's factors; what is unknown is said to be."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse

from momentary.errors import DataError, NotFittedError
from momentary.models.content_factor import (
    ContentFactor,
    ContentFactorConfig,
    autoencoder_factors,
    blend,
    clicked_factors,
)


@pytest.fixture
def world():
    """Two tastes; an item's text says which, its tags are noise, visits follow the taste."""
    rng = np.random.default_rng(0)
    taste = np.arange(80) % 2
    text = rng.normal(size=(80, 6)).astype(np.float32) * 0.3
    text[:, 0] += taste * 2 - 1
    tags = scipy.sparse.csr_array((rng.random((80, 9)) < 0.3).astype(np.float32))
    likes = np.arange(200)[:, None] % 2 == taste[None, :]
    visits = scipy.sparse.csr_array(
        (rng.random((200, 80)) < np.where(likes, 0.4, 0.05)) * np.float32(1)
    )
    return {"text": text, "tags": tags}, visits, taste


def part(content, rows):
    return {name: view[rows] for name, view in content.items()}


def fitted(world, **settings):
    content, visits, _ = world
    warm = np.arange(60)
    known = scipy.sparse.csr_array(visits[:, warm])
    factors = autoencoder_factors(known, factors=8, shrinkage=5.0)
    settings = {"ridge": 2.0, **settings}
    model = ContentFactor(ContentFactorConfig(**settings))
    model.fit(part(content, warm), factors, visits=known, rng=np.random.default_rng(1))
    return model, known @ factors


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "ranking", "epochs": 5, "hidden": 8},
        {"landmarks": 30},
        {"count_power": 0.5},
        {"length_power": 0.6, "length_share": 0.3},
    ],
)
def test_new_items_go_to_those_of_their_taste(world, settings):
    content, _, taste = world
    model, visitors = fitted(world, **settings)
    scores = visitors @ model.predict(part(content, np.arange(60, 80))).T
    right = np.arange(200)[:, None] % 2 == taste[None, 60:]
    order = np.argsort(-scores, axis=1)[:, :10]
    assert np.take_along_axis(right, order, 1).mean() > 0.9


def test_content_without_a_signal_predicts_nothing(world):
    _, visits, taste = world
    noise = np.random.default_rng(5).normal(size=(80, 6)).astype(np.float32)
    model, visitors = fitted(({"text": noise}, visits, taste))
    scores = visitors @ model.predict({"text": noise[60:]}).T
    right = np.arange(200)[:, None] % 2 == taste[None, 60:]
    assert 0.3 < np.take_along_axis(right, np.argsort(-scores, axis=1)[:, :10], 1).mean() < 0.7


def test_directions_and_lengths_are_predicted_apart(world):
    content, _, _ = world
    new = part(content, np.arange(60, 80))
    directions = fitted(world, length_power=1.0)[0].predict(new)
    restored = fitted(world, length_power=1.0, length_share=1.0)[0].predict(new)
    longer = restored / directions
    np.testing.assert_allclose(longer, longer[:, :1] * np.ones((1, 8)), rtol=1e-3)
    lengths = np.linalg.norm(
        autoencoder_factors(world[1][:, :60], factors=8, shrinkage=5.0), axis=1
    )
    assert lengths.min() < longer.mean() < lengths.max()


def test_first_clicks_point_where_their_visitors_are(world):
    content, visits, taste = world
    model, visitors = fitted(world)
    new = np.arange(60, 80)
    predicted = model.predict(part(content, new))
    few = scipy.sparse.csr_array(visits[:, new].multiply(np.arange(200)[:, None] < 30))
    told = clicked_factors(few, visitors, predicted, ridge=1.0)
    scores = visitors @ told.T
    mine = np.arange(200)[:, None] % 2 == taste[None, new]
    assert scores[mine].mean() > scores[~mine].mean()
    # As popular as the content promises, however few have clicked so far.
    alone = clicked_factors(few, visitors, 0 * predicted, ridge=1.0)
    counts = np.asarray(few.sum(axis=0)).ravel()
    promised = predicted @ visitors.sum(axis=0)
    scale = np.maximum(promised / np.maximum(counts, 1), 1)[:, None]
    np.testing.assert_allclose(told, alone * scale, rtol=1e-4)
    assert scale.max() > 1


def test_a_saved_model_predicts_the_same(world):
    content = world[0]
    for loss in ("squared", "ranking"):
        model, _ = fitted(world, loss=loss, products=(("text", "tags", 0.5),), hidden=8, epochs=1)
        again = ContentFactor.from_state(model.config, model.state())
        np.testing.assert_array_equal(again.predict(content), model.predict(content))
        np.testing.assert_array_equal(again.confidence(content), model.confidence(content))


def test_confidence_falls_with_what_is_missing(world):
    model, _ = fitted(world)
    content = part(world[0], np.arange(60, 80))
    bare = {name: view * 0 for name, view in content.items()}
    assert (model.confidence(content) > 0).all()
    half = {**content, "tags": content["tags"] * 0}
    assert np.isfinite(model.predict(bare)).all()
    assert model.confidence(half).shape == (20,)
    seen = model.confidence(part(world[0], np.arange(60))).mean()
    assert seen > model.confidence(content).mean()


def test_what_an_item_lacks_is_guessed_from_its_likes(world):
    # Tags name the taste and pictures show it under noise, so that tags are what counts.
    _, visits, taste = world
    rng = np.random.default_rng(3)
    picture = rng.normal(size=(80, 12)).astype(np.float32) * 0.6
    picture[:, 0] += taste * 2 - 1
    tags = scipy.sparse.csr_array(np.eye(2, dtype=np.float32)[taste])
    new = np.arange(60, 80)
    whole = part({"picture": picture, "tags": tags}, new)
    bare = {**whole, "tags": whole["tags"] * 0}
    empty = {name: view * 0 for name, view in whole.items()}
    own = np.arange(200)[:, None] % 2 == taste[None, new]
    lead = {}
    for lacking in ("nothing", "guessed"):
        model, visitors = fitted(
            ({"picture": picture, "tags": tags}, visits, taste),
            lacking=lacking,
            weights={"picture": 0.25},
        )
        scores = visitors @ model.predict(bare).T
        lead[lacking] = scores[own].mean() - scores[~own].mean()
        found = model.predict(whole), model.predict(empty), model.confidence(bare)
        lead.setdefault("same", found)
        for first, second in zip(lead["same"], found, strict=True):
            np.testing.assert_array_equal(first, second)
    assert lead["guessed"] > 1.5 * lead["nothing"] > 0


def test_a_guess_comes_from_landmarks_that_have_what_is_lacking(world):
    content, visits, taste = world
    tags = content["tags"].toarray()
    tags[:30] = 0
    partly = {"text": content["text"], "tags": scipy.sparse.csr_array(tags)}
    model, _ = fitted((partly, visits, taste), lacking="guessed")
    again = ContentFactor.from_state(model.config, model.state())
    bare = {"text": partly["text"], "tags": partly["tags"] * 0}
    np.testing.assert_array_equal(again.predict(bare), model.predict(bare))
    plain = ContentFactor.from_state(replace(model.config, lacking="nothing"), model.state())
    # None of the likest may have any: then nothing is known, and nothing is guessed.
    none = {"text": partly["text"], "tags": partly["tags"] * 0}
    untold, _ = fitted((none, visits, taste), lacking="guessed")
    told = ContentFactor.from_state(replace(untold.config, lacking="nothing"), untold.state())
    np.testing.assert_array_equal(untold.predict(bare), told.predict(bare))
    assert not np.allclose(plain.predict(bare), model.predict(bare), rtol=1e-3)


def test_the_caller_is_told_what_does_not_fit(world):
    content, visits, _ = world
    with pytest.raises(NotFittedError):
        ContentFactor(ContentFactorConfig()).predict(content)
    model, _ = fitted(world)
    with pytest.raises(DataError, match="'text' has width None"):
        model.predict({"tags": content["tags"]})
    with pytest.raises(DataError, match=r"the views have \[1, 80\] items"):
        model.predict({**content, "text": content["text"][:1]})
    wrong = ContentFactor(ContentFactorConfig(weights={"sound": 1.0}))
    with pytest.raises(DataError, match="view 'sound'"):
        wrong.fit(
            content, np.zeros((80, 2), np.float32), visits=visits, rng=np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="ridge is 0"):
        ContentFactorConfig(ridge=0)


def test_factors_complete_the_visits_as_the_linear_autoencoder_does(world):
    visits = world[1]
    gram = (visits.T @ visits).toarray().astype(np.float64)
    expected = visits @ np.linalg.solve(gram + 7 * np.eye(80), gram)
    factors = autoencoder_factors(visits, factors=80, shrinkage=7.0)
    np.testing.assert_allclose(visits @ factors @ factors.T, expected, atol=1e-3)


def test_clicks_take_over_from_content():
    content, behaviour = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    mixed = blend(content, behaviour, np.array([0, 10, 1_000_000]), half=10)
    np.testing.assert_allclose(mixed[:, 0], [0, 0.5, 1], atol=1e-4)
