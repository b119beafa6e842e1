"""Laws that every model keeps. A new model adds one line to MODELS and inherits them all."""
# ruff: noqa: ARG002, ARG003 - a model is given more than the broken ones use

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from momentary.errors import NotFittedError
from momentary.learn.stacking import Stack
from momentary.models.artifact import KINDS
from momentary.models.attentive_rnn import AttentiveRNN, AttentiveRNNConfig
from momentary.models.content_knn import ContentKNN, ContentKNNConfig
from momentary.models.factorization import Factorization, FactorizationConfig
from momentary.models.feature_rnn import FeatureRNN, FeatureRNNConfig
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
from momentary.models.hierarchical_rnn import HierarchicalRNN, HierarchicalRNNConfig
from momentary.models.hybrid import Hybrid, HybridConfig, Part
from momentary.models.item_knn import ItemKNN, ItemKNNConfig
from momentary.models.popularity import (
    PersonalPopularity,
    PersonalPopularityConfig,
    Popularity,
    PopularityConfig,
)
from momentary.models.protocol import Quick
from momentary.models.sequential_rules import SequentialRules, SequentialRulesConfig
from momentary.models.session_knn import VSKNN, VSTAN, VSKNNConfig, VSTANConfig
from momentary.models.slist import SLIST, SLISTConfig
from momentary.types import EVENT_TYPES, IntArray, Sessions

Make = Callable[[], Any]
Law = Callable[[Make, Sessions], None]

PARTS = (
    Part(kind="vstan"),
    Part(kind="sequential_rules", candidates=3),
    Part(kind="popularity", candidates=2),
)
NETWORK = Part(
    kind="gru4rec",
    scale="softmax",
    settings={"units": (6,), "batch_size": 3, "n_sample": 4},
)
STACK = Stack(least_questions=1, hidden=(6, 4), networks=2)

WEIGHTS = {"view_item": 0.5, "purchase": 3.0, "select_item": 0.0}

MODELS: dict[str, Make] = {
    "popularity": lambda: Popularity(PopularityConfig()),
    "popularity, recent": lambda: Popularity(PopularityConfig(half_life_days=1, window_days=5)),
    "personal_popularity": lambda: PersonalPopularity(PersonalPopularityConfig(half_life_days=1)),
    "item_knn": lambda: ItemKNN(ItemKNNConfig()),
    "item_knn, pruned": lambda: ItemKNN(ItemKNNConfig(neighbours=2, shrinkage=0, max_session=3)),
    "sequential_rules": lambda: SequentialRules(SequentialRulesConfig()),
    "sequential_rules, pruned": lambda: SequentialRules(SequentialRulesConfig(rules_per_item=1)),
    "slist": lambda: SLIST(SLISTConfig(regularization=1.0)),
    "slist, pruned": lambda: SLIST(SLISTConfig(neighbours=2, diagonal=0, max_session=3)),
    "vsknn": lambda: VSKNN(VSKNNConfig()),
    "vsknn, few neighbours": lambda: VSKNN(VSKNNConfig(neighbours=2, sample_size=3)),
    "vstan": lambda: VSTAN(VSTANConfig()),
    "vstan, few neighbours": lambda: VSTAN(VSTANConfig(neighbours=2, max_session=2)),
    "factorization": lambda: Factorization(FactorizationConfig(factors=3)),
    "content_knn": lambda: ContentKNN(ContentKNNConfig()),
    "attentive_rnn": lambda: AttentiveRNN(
        AttentiveRNNConfig(units=6, batch_predictions=9, n_sample=4, epochs=2, max_session=4)
    ),
    "gru4rec": lambda: GRU4Rec(GRU4RecConfig(units=(6,), batch_size=3, n_sample=4, epochs=2)),
    "gru4rec, separate": lambda: GRU4Rec(
        GRU4RecConfig(units=(6, 5), input="separate", loss="bpr_max", batch_size=2, n_sample=3)
    ),
    "feature_rnn": lambda: FeatureRNN(FeatureRNNConfig(units=6, batch_size=3, n_sample=4)),
    "hierarchical_rnn": lambda: HierarchicalRNN(
        HierarchicalRNNConfig(units=6, user_units=4, batch_size=3, n_sample=4)
    ),
    "hierarchical_rnn, all": lambda: HierarchicalRNN(
        HierarchicalRNNConfig(
            units=6, user_units=4, variant="all", first_click=True, batch_size=2, n_sample=3
        )
    ),
    "hybrid": lambda: Hybrid(HybridConfig(parts=(NETWORK, *PARTS), holdout=0.3, stack=STACK)),
    "hybrid, two networks": lambda: Hybrid(
        HybridConfig(parts=(replace(NETWORK, networks=2), *PARTS), holdout=0.3, stack=STACK)
    ),
    "hybrid, by probability": lambda: Hybrid(HybridConfig(parts=PARTS, blend="probability")),
    "hybrid, by rank": lambda: Hybrid(HybridConfig(parts=PARTS, blend="rank", holdout=0.3)),
    "popularity, weighed": lambda: Popularity(PopularityConfig(event_weights=WEIGHTS)),
    "personal_popularity, weighed": lambda: PersonalPopularity(
        PersonalPopularityConfig(half_life_days=1, event_weights=WEIGHTS)
    ),
    "item_knn, weighed": lambda: ItemKNN(ItemKNNConfig(shrinkage=1, event_weights=WEIGHTS)),
    "sequential_rules, weighed": lambda: SequentialRules(
        SequentialRulesConfig(event_weights=WEIGHTS)
    ),
    "slist, weighed": lambda: SLIST(SLISTConfig(regularization=1.0, event_weights=WEIGHTS)),
    "vsknn, weighed": lambda: VSKNN(VSKNNConfig(neighbours=4, event_weights=WEIGHTS)),
    "vstan, weighed": lambda: VSTAN(VSTANConfig(neighbours=4, event_weights=WEIGHTS)),
    "factorization, weighed": lambda: Factorization(
        FactorizationConfig(factors=3, alpha=2.0, event_weights=WEIGHTS)
    ),
    "attentive_rnn, weighed": lambda: AttentiveRNN(
        AttentiveRNNConfig(
            units=6, batch_predictions=9, n_sample=4, max_session=4, event_weights=WEIGHTS
        )
    ),
    "gru4rec, weighed": lambda: GRU4Rec(
        GRU4RecConfig(units=(6,), batch_size=3, n_sample=4, epochs=2, event_weights=WEIGHTS)
    ),
    "gru4rec, weighed pairs": lambda: GRU4Rec(
        GRU4RecConfig(units=(6,), loss="bpr_max", batch_size=3, n_sample=4, event_weights=WEIGHTS)
    ),
    "hybrid, weighed": lambda: Hybrid(
        HybridConfig(
            parts=(*PARTS, Part(kind="item_knn", settings={"event_weights": WEIGHTS})),
            holdout=0.3,
            stack=STACK,
        )
    ),
}

N_ITEMS = 7  # 11 sessions by 7 items: not square, so a transposed matrix cannot pass
HOUR_US = 3_600_000_000
CUTOFF_US = 9 * 24 * HOUR_US + 2 * HOUR_US  # inside the tenth session


ARRAYS = ("items", "offsets", "times_us", "users", "types")


def read_only(sessions: Sessions) -> Sessions:
    for name in ARRAYS:
        array = getattr(sessions, name)
        array.flags.writeable = False
    return sessions


@pytest.fixture
def log() -> Sessions:
    """Eleven sessions, one a day, events an hour apart; two tastes; some visitors known.

    What was done with the items is known, too: a third of the events are no views.
    """
    rng = np.random.default_rng(0)
    low, high = np.arange(3), np.arange(3, N_ITEMS)
    rows = [rng.choice(low if day % 2 else high, size=3 + day % 4) for day in range(11)]
    times = [(24 * day + np.arange(len(row))) * HOUR_US for day, row in enumerate(rows)]
    users = [0, 1, -1, 1, 0, -1, 2, 3, 2, 3, -1]
    kinds = ("view_item", "view_item", "view_item", "add_to_cart", "purchase", "select_item")
    places = [EVENT_TYPES.index(name) for name in kinds]
    types = [rng.choice(places, size=len(row)) for row in rows]
    return read_only(Sessions.from_lists(rows, times_us=times, users=users, types=types))


def fitted(make: Make, sessions: Sessions, *, n_items: int = N_ITEMS, seed: int = 3) -> Any:
    return make().fit(sessions, n_items=n_items, rng=np.random.default_rng(seed))


def assert_close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def renamed(sessions: Sessions, new_name: IntArray) -> Sessions:
    return replace(sessions, items=new_name[sessions.items])


def until(sessions: Sessions, cutoff_us: int) -> Sessions:
    """What had happened before `cutoff_us`, as views of the same memory."""
    known = int(np.searchsorted(sessions.times_us, cutoff_us))
    begun = int(np.searchsorted(sessions.offsets, known))
    return Sessions(
        items=sessions.items[:known],
        offsets=np.append(sessions.offsets[:begun], known),
        times_us=sessions.times_us[:known],
        users=sessions.users[:begun],
        types=None if sessions.types is None else sessions.types[:known],
    )


def law_scores_have_one_finite_row_per_session(make: Make, log: Sessions) -> None:
    model = fitted(make, log)
    for count in (4, 1, 0):
        scores = model.score(log.take(np.arange(count)))
        assert scores.shape == (count, N_ITEMS)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()


def law_a_session_scores_the_same_alone_or_in_a_batch(make: Make, log: Sessions) -> None:
    model = fitted(make, log)
    alone = [model.score(log.take(np.array([row]))) for row in range(len(log))]
    assert_close(np.concatenate(alone), model.score(log))


def law_scoring_twice_gives_the_same_scores(make: Make, log: Sessions) -> None:
    model = fitted(make, log)
    np.testing.assert_array_equal(model.score(log), model.score(log))


def law_an_empty_session_still_gets_scores(make: Make, log: Sessions) -> None:
    empty = Sessions.from_lists([[]])
    scores = fitted(make, log).score(empty)
    assert scores.shape == (1, N_ITEMS)
    assert np.isfinite(scores).all()
    with_empty = Sessions.from_lists([log.session(0), [], log.session(1), log.session(2)])
    assert np.isfinite(fitted(make, with_empty).score(with_empty)).all()


def law_the_callers_data_is_left_alone(make: Make, log: Sessions) -> None:
    mine = log.take(np.arange(len(log)))  # arrays that can be written to
    fitted(make, mine).score(mine)
    for name in ARRAYS:
        theirs = getattr(log, name)
        assert theirs is None or getattr(mine, name).tobytes() == theirs.tobytes(), name
    fitted(make, log).score(log)  # arrays that cannot


def law_renaming_items_renames_scores(make: Make, log: Sessions) -> None:
    new_name = np.random.default_rng(1).permutation(N_ITEMS)
    other = renamed(log, new_name)
    assert_close(fitted(make, other).score(other)[:, new_name], fitted(make, log).score(log))


def law_a_saved_model_scores_the_same(make: Make, log: Sessions) -> None:
    model = fitted(make, log)
    state = {name: array.copy() for name, array in model.state().items()}
    for name, array in state.items():
        assert array.dtype in (np.float32, np.int32, np.int64), name
        array.flags.writeable = False
    loaded = type(model).from_state(model.config, state)
    np.testing.assert_array_equal(loaded.score(log), model.score(log))


def law_the_same_seed_gives_the_same_scores(make: Make, log: Sessions) -> None:
    np.testing.assert_array_equal(
        fitted(make, log, seed=8).score(log), fitted(make, log, seed=8).score(log)
    )


def law_events_after_the_cutoff_change_nothing(make: Make, log: Sessions) -> None:
    after = log.times_us >= CUTOFF_US
    other = replace(
        log,
        items=np.where(after, N_ITEMS - 1 - log.items, log.items),
        times_us=np.where(after, log.times_us + 50 * HOUR_US, log.times_us),
    )
    known, known_of_other = until(log, CUTOFF_US), until(other, CUTOFF_US)
    assert 0 < after.sum() < len(after)
    assert known.lengths[-1] < log.lengths[len(known) - 1]  # the cutoff is inside a session
    np.testing.assert_array_equal(
        fitted(make, known).score(known), fitted(make, known_of_other).score(known_of_other)
    )


def law_items_never_seen_are_scored_too(make: Make, log: Sessions) -> None:
    model = fitted(make, log, n_items=N_ITEMS + 4)
    scores = model.score(Sessions.from_lists([[N_ITEMS + 3], [0, N_ITEMS], log.session(0)]))
    assert scores.shape == (3, N_ITEMS + 4)
    assert np.isfinite(scores).all()


def law_an_unfitted_model_refuses_to_score(make: Make, log: Sessions) -> None:
    with pytest.raises(NotFittedError, match="fit"):
        make().score(log)
    with pytest.raises(NotFittedError, match="fit"):
        make().state()


LAWS: list[Law] = [law for name, law in list(globals().items()) if name.startswith("law_")]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize("name", MODELS)
def test_model_keeps_the_law(name: str, law: Law, log: Sessions) -> None:
    law(MODELS[name], log)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("exact", [1, 3, 7])
def test_a_quick_model_keeps_to_its_scores(name: str, exact: int, log: Sessions) -> None:
    model = fitted(MODELS[name], log, n_items=N_ITEMS + 1)
    if not isinstance(model, Quick):
        assert not hasattr(model, "score_visit")
        return
    whole = model.score(log)
    for row in range(len(log)):
        scores = model.score_visit(log.session(row), exact=exact)
        best = np.argsort(-whole[row, :N_ITEMS], kind="stable")
        np.testing.assert_allclose(scores[best[:exact]], whole[row, best[:exact]], rtol=1e-2)
        assert scores[best[exact:]].max(initial=-np.inf) <= scores[best[:exact]].min() + 1e-6
        np.testing.assert_allclose(scores[:N_ITEMS], whole[row, :N_ITEMS], rtol=0.1, atol=0.1)
        assert scores[N_ITEMS] <= scores[:N_ITEMS].min()  # never seen


@pytest.mark.parametrize("name", MODELS)
def test_model_is_named_after_its_kind(name: str) -> None:
    assert name.split(",")[0] == MODELS[name]().kind


def test_no_model_of_the_registry_is_left_out() -> None:
    assert {name.split(",")[0] for name in MODELS} == set(KINDS)


class FollowsLast:
    """A model that keeps all laws; each broken one below changes one thing about it."""

    config = None

    def __init__(self) -> None:
        self.follows: Any = None

    def fit(self, sessions: Sessions, *, n_items: int, rng: np.random.Generator) -> Any:
        self.follows = np.zeros((n_items, n_items), dtype=np.float32)
        for row in range(len(sessions)):
            session = sessions.session(row)
            np.add.at(self.follows, (session[:-1], session[1:]), 1)
        return self

    def score(self, sessions: Sessions) -> Any:
        if self.follows is None:
            raise NotFittedError("call fit first")
        scores = np.zeros((len(sessions), len(self.follows)), dtype=np.float32)
        for row in np.flatnonzero(sessions.lengths):
            scores[row] = self.follows[sessions.session(row)[-1]]
        return scores

    def state(self) -> dict[str, Any]:
        if self.follows is None:
            raise NotFittedError("call fit first")
        return {"follows": self.follows}

    @classmethod
    def from_state(cls, config: None, state: dict[str, Any]) -> Any:
        model = cls()
        model.follows = state["follows"]
        return model


class Transposes(FollowsLast):
    def score(self, sessions):
        return super().score(sessions).T


class DividesByZero(FollowsLast):
    def score(self, sessions):
        scores = super().score(sessions)
        with np.errstate(invalid="ignore"):
            return scores / scores.max(axis=1, keepdims=True, initial=0)


class ScoresInDoublePrecision(FollowsLast):
    def score(self, sessions):
        return super().score(sessions).astype(np.float64)


class DependsOnTheBatch(FollowsLast):
    def score(self, sessions):
        scores = super().score(sessions)
        return scores / max(scores.sum(), 1)


class LearnsFromTheBatch(FollowsLast):
    def score(self, sessions):
        seen = np.bincount(sessions.items, minlength=len(self.follows))
        return super().score(sessions) + seen.astype(np.float32)


class RemembersCalls(FollowsLast):
    calls = 0

    def score(self, sessions):
        self.calls += 1
        return super().score(sessions) + np.float32(self.calls)


class CrashesOnEmpty(FollowsLast):
    def score(self, sessions):
        super().score(sessions)
        return self.follows[[sessions.session(row)[-1] for row in range(len(sessions))]]


class SortsTheCallersItems(FollowsLast):
    def fit(self, sessions, *, n_items, rng):
        sessions.items[:] = np.sort(sessions.items)
        return super().fit(sessions, n_items=n_items, rng=rng)


class SortsItemsIfItMay(FollowsLast):
    def score(self, sessions):
        scores = super().score(sessions)
        if sessions.items.flags.writeable:
            sessions.items.sort()
        return scores


class PrefersLowIndices(FollowsLast):
    def score(self, sessions):
        scores = super().score(sessions)
        return scores - np.arange(scores.shape[1], dtype=np.float32)


class StartsAtRandomByIndex(FollowsLast):
    def fit(self, sessions, *, n_items, rng):
        super().fit(sessions, n_items=n_items, rng=rng)
        self.follows += rng.random(n_items, dtype=np.float32)
        return self


class SavesHalf(FollowsLast):
    def state(self):
        return {"follows": super().state()["follows"] // 2}


class SavesObjects(FollowsLast):
    def state(self):
        return {"follows": super().state()["follows"].astype(object)}


class DrawsItsOwnChance(FollowsLast):
    def fit(self, sessions, *, n_items, rng):
        super().fit(sessions, n_items=n_items, rng=rng)
        self.follows += np.random.default_rng().random(self.follows.shape, dtype=np.float32)
        return self


class PeeksAtTheFuture(FollowsLast):
    def fit(self, sessions, *, n_items, rng):
        super().fit(sessions, n_items=n_items, rng=rng)
        whole = sessions.items if sessions.items.base is None else sessions.items.base
        self.follows += np.bincount(whole, minlength=n_items).astype(np.float32)
        return self


class CountsItemsItself(FollowsLast):
    def fit(self, sessions, *, n_items, rng):
        return super().fit(sessions, n_items=int(sessions.items.max()) + 1, rng=rng)


class ScoresUnfitted(FollowsLast):
    def score(self, sessions):
        if self.follows is None:
            return np.zeros((len(sessions), N_ITEMS), dtype=np.float32)
        return super().score(sessions)


class SavesUnfitted(FollowsLast):
    def state(self):
        return {} if self.follows is None else super().state()


BROKEN: list[tuple[Make, Law]] = [
    (Transposes, law_scores_have_one_finite_row_per_session),
    (ScoresInDoublePrecision, law_scores_have_one_finite_row_per_session),
    (DependsOnTheBatch, law_a_session_scores_the_same_alone_or_in_a_batch),
    (LearnsFromTheBatch, law_a_session_scores_the_same_alone_or_in_a_batch),
    (RemembersCalls, law_scoring_twice_gives_the_same_scores),
    (CrashesOnEmpty, law_an_empty_session_still_gets_scores),
    (DividesByZero, law_an_empty_session_still_gets_scores),
    (SortsTheCallersItems, law_the_callers_data_is_left_alone),
    (SortsItemsIfItMay, law_the_callers_data_is_left_alone),
    (PrefersLowIndices, law_renaming_items_renames_scores),
    (StartsAtRandomByIndex, law_renaming_items_renames_scores),
    (SavesHalf, law_a_saved_model_scores_the_same),
    (SavesObjects, law_a_saved_model_scores_the_same),
    (DrawsItsOwnChance, law_the_same_seed_gives_the_same_scores),
    (PeeksAtTheFuture, law_events_after_the_cutoff_change_nothing),
    (CountsItemsItself, law_items_never_seen_are_scored_too),
    (ScoresUnfitted, law_an_unfitted_model_refuses_to_score),
    (SavesUnfitted, law_an_unfitted_model_refuses_to_score),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
def test_the_unbroken_model_keeps_the_law(law: Law, log: Sessions) -> None:
    law(FollowsLast, log)


@pytest.mark.parametrize(("make", "law"), BROKEN, ids=lambda part: part.__name__)
def test_the_law_catches_the_broken_model(make: Make, law: Law, log: Sessions) -> None:
    with pytest.raises((AssertionError, ValueError, IndexError, pytest.fail.Exception)):
        law(make, log)


def test_every_law_catches_something() -> None:
    assert {law for _, law in BROKEN} == set(LAWS)
