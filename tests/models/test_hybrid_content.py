"""The blend that is told what items are like, in a simulated shop where content is all that tells.

Every item is visited a few times only, so nobody's visits say what goes together: what does are
twelve groups of items, which their vectors show and nothing else.
"""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError, MomentaryError
from momentary.learn.stacking import Stack
from momentary.models.artifact import Bundle, load, make, save
from momentary.models.content_knn import ContentKNN
from momentary.models.hybrid import Hybrid, HybridConfig, Part
from momentary.recommend.assembly import assemble
from momentary.types import ItemTable, Sessions

GROUPS, SIZE = 12, 20
N_ITEMS = GROUPS * SIZE
PARTS = (
    Part(kind="sequential_rules", settings={"steps": 1}, candidates=10),
    Part(kind="popularity", candidates=10),
)
CONTENT = Part(kind="content_knn", scale="softmax", candidates=20)
SMALL = Stack(hidden=(16,), epochs=15, batch_size=32, learning_rate=0.01, least_questions=20)
CONFIG = HybridConfig(parts=PARTS, content=CONTENT, holdout=0.3, stack=SMALL)


def shop():
    rng = np.random.default_rng(0)
    rows = [SIZE * rng.integers(GROUPS) + rng.permutation(SIZE)[:3] for _ in range(400)]
    times = [(start * 100 + np.arange(3)) * 1_000_000 for start in range(400)]
    vectors = np.repeat(rng.normal(size=(GROUPS, 10)), SIZE, axis=0)
    text = (vectors + 0.3 * rng.normal(size=vectors.shape)).astype(np.float32)
    image = rng.normal(size=(N_ITEMS, 6)).astype(np.float32)  # says nothing
    image[::7] = np.nan
    return Sessions.from_lists(rows, times_us=times), {"image": image, "text": text}


SESSIONS, FEATURES = shop()
TRAIN = SESSIONS.take(np.arange(320))
HISTORY = Sessions.from_lists([SESSIONS.session(row)[:2] for row in range(320, 400)])
TARGETS = np.array([SESSIONS.session(row)[2] for row in range(320, 400)])


def fitted(features, *, config=CONFIG):
    return Hybrid(config, features=features).fit(
        TRAIN, n_items=N_ITEMS, rng=np.random.default_rng(1)
    )


def hits(model):
    """Share of the answers among the first twenty; twenty items are of the right kind."""
    scores = model.score(HISTORY)
    ranks = (scores >= scores[np.arange(len(TARGETS)), TARGETS][:, None]).sum(axis=1)
    return float((ranks <= SIZE).mean())


@pytest.fixture(scope="module")
def told():
    return fitted(FEATURES)


@pytest.fixture(scope="module")
def untold():
    return fitted({})


def test_content_finds_what_nothing_else_tells(told, untold):
    assert hits(told) > 0.8
    assert hits(untold) < 0.35
    assert list(told.checked)[1:] == ["sequential_rules", "popularity", "content_knn"]
    assert told.checked["stack"][0] > untold.checked["stack"][0] + 0.3


def test_the_stack_gains_by_the_evidence_alone(untold):
    # The part that knows content names no candidate, but half of what it knows orders others'.
    config = replace(
        CONFIG,
        parts=(Part(kind="popularity", candidates=200),),
        content=replace(CONTENT, candidates=0),
    )
    stack = replace(SMALL, candidates=200)
    assert hits(fitted(FEATURES, config=replace(config, stack=stack))) > 0.6
    assert hits(untold) < 0.35


def test_every_way_of_blending_takes_the_part(untold):
    for way in ("probability", "rank"):
        assert hits(fitted(FEATURES, config=replace(CONFIG, blend=way))) > hits(untold) + 0.1


def test_without_features_or_without_a_part_for_them_nothing_changes(untold):
    plain = fitted(None, config=replace(CONFIG, content=None))
    np.testing.assert_array_equal(plain.score(HISTORY), untold.score(HISTORY))
    deaf = fitted(FEATURES, config=replace(CONFIG, content=None))
    assert deaf.state().keys() == untold.state().keys()
    for name, array in untold.state().items():
        np.testing.assert_array_equal(deaf.state()[name], array, err_msg=name)
    assert not Hybrid.from_state(deaf.config, deaf.state()).features


def test_a_saved_blend_brings_its_content_along(told, tmp_path):
    ids = [f"i{item}" for item in range(N_ITEMS)]
    bundle = Bundle(scorers={"main": told}, items=Vocabulary(ids), facts={})
    save(bundle, tmp_path / "model", now=datetime(2026, 1, 1, tzinfo=UTC))
    loaded = load(tmp_path / "model").scorers["main"]
    np.testing.assert_array_equal(loaded.score(HISTORY), told.score(HISTORY))
    visit, listed = HISTORY.session(0), np.array([TARGETS[0], 3])
    assert loaded.sources(visit, listed) == told.sources(visit, listed)
    assert loaded.likest(visit, int(TARGETS[0])) == told.likest(visit, int(TARGETS[0]))
    # What it keeps is reduced, but it compares items as before.
    kept, alone = loaded.features["text"], ContentKNN(features=FEATURES).features["text"]
    np.testing.assert_allclose(kept @ kept.T, alone @ alone.T, atol=1e-4)
    assert not loaded.features["image"][::7].any()


def test_a_blend_that_was_saved_before_there_was_content_still_loads(untold):
    state = untold.state()
    assert not any(name.startswith("part2.") for name in state)
    settings = {"parts": PARTS, "holdout": 0.3, "stack": SMALL}  # as in an old manifest
    config = make("hybrid", settings).config
    assert config.content is not None
    loaded = Hybrid.from_state(config, state)
    np.testing.assert_array_equal(loaded.score(HISTORY), untold.score(HISTORY))
    assert not loaded.features
    assert loaded.likest(HISTORY.session(0), 3) is None


def test_renaming_items_renames_scores(told):
    name = np.random.default_rng(2).permutation(N_ITEMS)

    def renamed(sessions):
        return Sessions(
            items=name[sessions.items],
            offsets=sessions.offsets,
            times_us=sessions.times_us,
            users=sessions.users,
        )

    old = np.argsort(name)
    other = Hybrid(CONFIG, features={each: rows[old] for each, rows in FEATURES.items()}).fit(
        renamed(TRAIN), n_items=N_ITEMS, rng=np.random.default_rng(1)
    )
    same, scores = other.score(renamed(HISTORY))[:, name], told.score(HISTORY)
    # Items that nobody visited come in another order, so sums are rounded otherwise; training a
    # stack makes more of that.
    assert np.corrcoef(same.ravel(), scores.ravel())[0, 1] > 0.999
    assert (same.argmax(axis=1) == scores.argmax(axis=1)).mean() > 0.9


def test_a_session_scores_the_same_alone_or_in_a_batch(told):
    alone = [told.score(HISTORY.take(np.array([row]))) for row in range(20)]
    whole = told.score(HISTORY.take(np.arange(20)))
    np.testing.assert_allclose(np.concatenate(alone), whole, rtol=1e-5, atol=1e-5)
    assert np.isfinite(told.score(Sessions.from_lists([[]]))).all()


def test_a_network_that_reads_content_may_be_the_part():
    network = {"units": 8, "epochs": 1, "batch_size": 16, "n_sample": 32, "output": "content"}
    part = Part(kind="feature_rnn", scale="softmax", settings=network, candidates=20)
    model = fitted(FEATURES, config=replace(CONFIG, content=part))
    assert hits(model) > 0.6  # by the evidence of the stack
    assert model.features["text"].shape == FEATURES["text"].shape
    loaded = Hybrid.from_state(model.config, model.state())
    np.testing.assert_array_equal(loaded.score(HISTORY), model.score(HISTORY))


def test_content_that_is_not_of_the_items_is_refused():
    with pytest.raises(DataError, match="3 rows, but there are 240 items"):
        fitted({"text": np.eye(3)})
    with pytest.raises(MomentaryError, match="'vstan', which reads no content"):
        fitted(FEATURES, config=replace(CONFIG, content=Part(kind="vstan")))


def test_reasons_name_what_an_item_is_like(told):
    ids = [f"i{item}" for item in range(N_ITEMS)]
    names = np.full(N_ITEMS, None, dtype=object)
    names[:] = [f"Thing {item}" for item in range(N_ITEMS)]
    table = ItemTable(
        item_ids=np.array(ids, dtype=object),
        names=names,
        price=np.full(N_ITEMS, np.nan),
        available=np.ones(N_ITEMS, dtype=bool),
        attributes={},
    )
    chance = np.random.default_rng(0)
    others = {
        kind: make(model).fit(TRAIN, n_items=N_ITEMS, rng=chance)
        for kind, model in (("related", "item_knn"), ("fallback", "popularity"))
    }
    bundle = Bundle(scorers={"main": told, **others}, items=Vocabulary(ids), facts={})
    visit = HISTORY.session(0)
    (listed,) = assemble(bundle, table).recommend(Sessions.from_lists([visit]), k=10)
    said = [reason for each in listed for reason in each.reasons if reason.startswith("like ")]
    liked = {f"like Thing {item}: alike in text" for item in visit}
    assert len(said) >= 7
    assert sum(any(each.startswith(like) for like in liked) for each in said) >= 6
    best = np.array([int(each.item_id[1:]) for each in listed])
    shares = told.sources(visit, best)
    assert list(shares[0])[-2:] == ["content image", "content text"]
    by_text, by_image = (
        np.mean([each[f"content {stream}"] for each in shares]) for stream in ("text", "image")
    )
    assert by_text > 0.2 > 2 * by_image
    seen, streams = told.likest(visit, int(best[0]))
    assert seen in visit
    assert streams[0] == "text"
    assert told.likest(visit[:1], int(visit[0])) is None  # nothing else was visited
