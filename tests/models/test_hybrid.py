"""The blend: fusion, the stack's arithmetic, its features, and that it beats its parts."""

from pathlib import Path

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.errors import MomentaryError
from momentary.evaluation.tuning import read_settings
from momentary.learn.stacking import Stack
from momentary.models import hybrid
from momentary.models.artifact import Bundle, make
from momentary.models.hybrid import (
    Hybrid,
    HybridConfig,
    Part,
    fused_ranks,
    mixture_shares,
)
from momentary.recommend.assembly import assemble
from momentary.recommend.rules import Rules
from momentary.types import ItemTable, Sessions

RULES = Part(kind="sequential_rules", settings={"steps": 1}, candidates=10)
AGAIN = Part(kind="personal_popularity", candidates=10)
SMALL = Stack(hidden=(16,), epochs=15, batch_size=32, learning_rate=0.01, least_questions=20)


def two_mechanisms(rng, *, n_items=60, n_sessions=500):
    """Nine times out of ten, a low item is followed by its own follower, and after a high one the
    visitor goes back to the item before it."""
    rows, times = [], []
    for start in range(n_sessions):
        row = [int(item) for item in rng.integers(n_items, size=2)]
        for _ in range(6):
            follows = (row[-1] * 7 + 3) % n_items if row[-1] < n_items // 2 else row[-2]
            row.append(follows if rng.random() < 0.9 else int(rng.integers(n_items)))
        rows.append(row)
        times.append((start * 100 + np.arange(len(row))) * 1_000_000)
    return Sessions.from_lists(rows, times_us=times)


def queries_of(sessions):
    rows = [sessions.session(row) for row in range(len(sessions))]
    return Sessions.from_lists([row[:-1] for row in rows]), np.array([row[-1] for row in rows])


def reciprocal_rank(model, history, targets):
    scores = model.score(history)
    ranks = (scores >= scores[np.arange(len(targets)), targets][:, None]).sum(axis=1)
    return float((1 / ranks).mean())


@pytest.fixture(scope="module")
def world():
    everything = two_mechanisms(np.random.default_rng(0))
    train, test = everything.take(np.arange(420)), everything.take(np.arange(420, 500))
    return train, *queries_of(test)


def fitted(sessions, **settings):
    config = HybridConfig(**{"parts": (RULES, AGAIN), "holdout": 0.3, "stack": SMALL, **settings})
    return Hybrid(config).fit(sessions, n_items=60, rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def blend(world):
    return fitted(world[0])


def test_the_blend_beats_each_of_its_parts(world, blend):
    train, history, targets = world
    alone = [
        reciprocal_rank(
            make(part.kind, part.settings).fit(train, n_items=60, rng=np.random.default_rng(0)),
            history,
            targets,
        )
        for part in (RULES, AGAIN)
    ]
    stacked = reciprocal_rank(blend, history, targets)
    mixed = reciprocal_rank(fitted(train, blend="probability"), history, targets)
    fused = reciprocal_rank(fitted(train, blend="rank"), history, targets)
    assert fused > min(alone) + 0.05
    assert mixed > max(alone) + 0.05
    assert stacked > mixed + 0.05


def test_it_tells_what_it_reached_on_questions_kept_apart(blend):
    assert list(blend.checked) == ["stack", "sequential_rules", "personal_popularity"]
    (recall, mrr), *parts = blend.checked.values()
    assert 1 >= recall >= mrr > max(reached for _, reached in parts) + 0.05
    assert all(1 >= hits >= reached > 0 for hits, reached in parts)


def test_a_part_by_itself_scores_as_the_model_alone(world, blend):
    train, history, _ = world
    part = blend.fitted_parts()[0]
    assert part.part == RULES
    alone = make(RULES.kind, RULES.settings).fit(train, n_items=60, rng=np.random.default_rng(0))
    np.testing.assert_allclose(part.score(history), alone.score(history), rtol=1e-6)


def test_the_networks_of_a_part_are_averaged_as_probabilities(world):
    train, history, _ = world
    settings = {"units": (4,), "epochs": 1, "batch_size": 8, "n_sample": 8}
    part = Part(kind="gru4rec", scale="softmax", settings=settings, networks=2)
    said = []
    mean = Hybrid(HybridConfig(parts=(part,), blend="probability", holdout=0.3)).fit(
        train,
        n_items=60,
        rng=np.random.default_rng(1),
        progress=lambda *told: said.append(told[:2]),
    )
    assert said[-1][0] == said[-1][1]
    state, number = mean.state(), mean.state()["number"]
    ours = Sessions(
        items=number[history.items],
        offsets=history.offsets,
        times_us=history.times_us,
        users=history.users,
    )
    each = []
    for prefix in ("part0.", "part0+1."):
        own = {name.removeprefix(prefix): w for name, w in state.items() if name.startswith(prefix)}
        network = make(part.kind, part.settings)
        scores = type(network).from_state(network.config, own).score(ours)[:, number]
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        each.append(chances / chances.sum(axis=1, keepdims=True))
    assert np.abs(each[0] - each[1]).max() > 1e-3
    np.testing.assert_allclose(mean.score(history), (each[0] + each[1]) / 2, rtol=1e-4)


def test_the_mixture_is_the_most_probable_one():
    chances = np.array([[0.8, 0.1]] * 3 + [[0.1, 0.8]], dtype=np.float32)
    # sum of log(w a + (1 - w) b) is stationary where 3 (0.8 - 0.7 w) = 0.1 + 0.7 w
    np.testing.assert_allclose(mixture_shares(chances), [23 / 28, 5 / 28], rtol=1e-4)


def test_a_mixture_without_evidence_is_even():
    for chances in (np.zeros((0, 4), np.float32), np.zeros((3, 4), np.float32)):
        np.testing.assert_allclose(mixture_shares(chances), [0.25] * 4)


def test_ranks_are_fused_by_their_reciprocals():
    reciprocal = np.array([[1.0, 0.5], [0.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    fused = fused_ranks(reciprocal, np.array([0.25, 0.75], dtype=np.float32))
    np.testing.assert_allclose(fused, [0.25 / 61 + 0.75 / 62, 0.75 / 61, 0.0], rtol=1e-6)


def test_what_is_no_candidate_follows_in_the_order_of_the_mixture(world):
    train, history, _ = world
    shallow = tuple(Part(kind=p.kind, settings=p.settings, candidates=3) for p in (RULES, AGAIN))
    model = fitted(train, parts=shallow)
    query = history.take(np.array([0]))
    scores = model.score(query)[0]
    learned = model._learned
    chances = model._chances_of(learned, hybrid._renumbered(query, learned.number))[:, 0]
    mixed = (learned.shares @ chances)[learned.number]
    below = scores <= 1
    assert 3 <= (~below).sum() <= 6
    assert scores[~below].min() >= 2
    np.testing.assert_array_equal(np.argsort(scores[below]), np.argsort(mixed[below]))


def test_sources_name_what_put_an_item_there(world, blend):
    train, *_ = world
    follower = (5 * 7 + 3) % 60
    by_rule, again = blend.sources(np.array([20, 5]), np.array([follower, 20]))
    assert list(by_rule)[:2] == ["sequential_rules", "personal_popularity"]
    for shares in (by_rule, again):
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) >= 0
    rule = ("sequential_rules", "follows", "together")
    assert sum(by_rule[name] for name in rule) > 0.5
    # An item of the visit is also the nearest to the visit's items.
    itself = ("personal_popularity", "seen in this visit", "together")
    assert sum(again[name] for name in itself) > 0.5
    assert again["seen in this visit"] > 0.2
    mixture = fitted(train, blend="probability")
    (mixed,) = mixture.sources(np.array([20, 5]), np.array([follower]))
    assert list(mixed) == ["sequential_rules", "personal_popularity"]
    assert mixed["sequential_rules"] > 0.9


def test_two_parts_of_a_kind_have_names_of_their_own(world):
    model = fitted(world[0], parts=(RULES, Part(kind="sequential_rules")), blend="probability")
    (shares,) = model.sources(np.array([5]), np.array([38]))
    assert list(shares) == ["sequential_rules", "sequential_rules 2"]


def test_a_list_gives_the_reasons_of_the_blend(world, blend):
    train, *_ = world
    chance = np.random.default_rng(0)
    others = {
        "related": make("item_knn", {}).fit(train, n_items=60, rng=chance),
        "fallback": make("popularity", {}).fit(train, n_items=60, rng=chance),
    }
    ids = [f"i{item}" for item in range(60)]
    names = np.full(60, None, dtype=object)
    table = ItemTable(
        item_ids=np.array(ids, dtype=object),
        names=names,
        price=np.full(60, np.nan),
        available=np.ones(60, dtype=bool),
        attributes={},
    )
    bundle = Bundle(scorers={"main": blend, **others}, items=Vocabulary(ids), facts={})
    visit = Sessions.from_lists([[20, 5]])
    listed = assemble(bundle, table).recommend(visit, k=2, rules=Rules(exclude_seen=False))[0]
    assert listed[0].item_id == "i38"
    assert any("together with i5" in reason for reason in listed[0].reasons)


def test_too_few_questions_leave_the_probability_blend(world):
    train, history, _ = world
    model = fitted(train, stack=Stack(least_questions=10**6))
    mixed = fitted(train, blend="probability")
    assert not model._learned.stack.networks
    np.testing.assert_array_equal(model.score(history), mixed.score(history))


def test_progress_counts_to_its_total(world):
    told = []
    Hybrid(HybridConfig(parts=(RULES, AGAIN), blend="rank", stack=SMALL)).fit(
        world[0],
        n_items=60,
        rng=np.random.default_rng(0),
        progress=lambda done, total, note="": told.append((done, total, note)),
    )
    done = [done for done, *_ in told]
    totals = {total for _, total, _ in told}
    assert done == sorted(done)
    assert totals == {done[-1]}
    assert all(note for *_, note in told)


def test_negative_scores_are_no_shares(world):
    parts = (Part(kind="factorization", settings={"factors": 3}),)
    with pytest.raises(MomentaryError, match="softmax"):
        fitted(world[0], parts=parts)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ()}, "candidates"),
        ({"parts": (Part(kind="vstan", candidates=0),)}, "candidates"),
        ({"blend": "vote"}, "vote"),
        ({"holdout": 1.0}, "between 0 and 1"),
        ({"window": 0}, "window is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        HybridConfig(**settings)


def test_a_part_keeps_an_infinite_setting_as_text_for_json():
    part = Part(kind="vstan", settings={"recency_days": float("inf")})
    assert part.settings == {"recency_days": "inf"}
    assert make(part.kind, part.settings).config.recency_days == float("inf")
    with pytest.raises(ValueError, match="scale is"):
        Part(kind="vstan", scale="log")
    with pytest.raises(ValueError, match="candidates is -1"):
        Part(kind="vstan", candidates=-1)
    with pytest.raises(ValueError, match="networks is 0"):
        Part(kind="vstan", networks=0)


@pytest.mark.parametrize("name", ["rsc15_64", "diginetica"])
def test_the_examples_make_a_blend(name):
    file = Path(__file__).parents[2] / "examples" / f"hybrid_{name}.toml"
    model = make("hybrid", read_settings(file)["hybrid"])
    assert model.config.parts[0].kind == "attentive_rnn"
    assert all(make(part.kind, part.settings).kind == part.kind for part in model.config.parts)
