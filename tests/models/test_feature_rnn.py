"""p-RNN against an independent derivation of the paper's equations in NumPy."""

from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.batches import SessionParallel
from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError, MomentaryError
from momentary.models.artifact import Bundle, load, save
from momentary.models.feature_rnn import (
    ID,
    FeatureRNN,
    FeatureRNNConfig,
    _Trainer,
    highest_level,
    turns,
)
from momentary.types import Sessions
from tests.contract.test_laws import LAWS

SESSIONS = Sessions.from_lists(
    [[0, 1, 2, 3], [2, 3, 4], [4, 5, 6, 0, 1], [6, 0], [1, 2, 3, 4, 5], [5], [3, 4, 5, 6]]
)
N_ITEMS = 7
ROWS = np.arange(5)
TITLES = np.random.default_rng(1).normal(size=(N_ITEMS, 3))
PICTURES = np.random.default_rng(2).normal(size=(N_ITEMS, 4)).astype(np.float32)
PICTURES[2] = np.nan
SMALL = {"units": 5, "batch_size": 3, "n_sample": 4, "epochs": 2}
BUILDS = [
    ("parallel", "items"),
    ("parallel", "content"),
    ("shared", "items"),
    ("interaction", "items"),
    ("interaction", "content"),
]
SCHEMES = ["simultaneous", "alternating", "residual", "interleaving"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(weights, stream, x, h):
    w, u, b, c = (weights[f"{name}.{stream}"] for name in "wubc")
    units = len(h)
    gate = [slice(i * units, (i + 1) * units) for i in range(3)]
    r = sigmoid(w[gate[0]] @ x + b[gate[0]] + u[gate[0]] @ h + c[gate[0]])
    z = sigmoid(w[gate[1]] @ x + b[gate[1]] + u[gate[1]] @ h + c[gate[1]])
    n = np.tanh(w[gate[2]] @ x + b[gate[2]] + r * (u[gate[2]] @ h + c[gate[2]]))
    return (1 - z) * n + z * h


def expected_scores(weights, config, content, session):
    """The module's docstring in float64, for one session."""
    hidden = {name: np.zeros(config.units) for name in (ID, *content)}
    for item in session:
        for name in hidden:
            x = weights["items.id"][item] if name == ID else content[name][item]
            hidden[name] = gru(weights, name, x, hidden[name])
    scores = weights["biases.id"][:, 0] + weights["items.id"] @ hidden[ID]
    for name, vectors in content.items():
        if config.architecture == "shared":
            scores += weights["items.id"] @ (weights[f"a.{name}"] * hidden[name])
            continue
        free = config.output == "items"
        out = weights[f"items.{name}"] if free else vectors @ weights[f"p.{name}"].T
        crossed = config.architecture == "interaction"
        scores += out @ (hidden[ID] * hidden[name] if crossed else hidden[name])
    return scores


def fitted(**changes):
    model = FeatureRNN(
        FeatureRNNConfig(**{**SMALL, **changes}), features={"title": TITLES, "picture": PICTURES}
    )
    return model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(3))


def unit(matrix):
    filled = np.nan_to_num(np.asarray(matrix, dtype=np.float64))
    length = np.linalg.norm(filled, axis=1, keepdims=True)
    return filled / np.where(length > 0, length, 1)


@pytest.mark.parametrize("training", ["interleaving", "residual"])
@pytest.mark.parametrize(("architecture", "output"), BUILDS)
def test_scores_are_those_of_the_equations(architecture, output, training):
    model = fitted(architecture=architecture, output=output, training=training)
    weights = {name: array.astype(np.float64) for name, array in model.state().items()}
    content = {"title": unit(TITLES), "picture": unit(PICTURES)}
    for session in ([2, 3, 4, 0], [2]):
        expected = expected_scores(weights, model.config, content, session)
        scores = model.score(Sessions.from_lists([session]))
        np.testing.assert_allclose(scores[0], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("training", SCHEMES)
@pytest.mark.parametrize(("architecture", "output"), BUILDS)
def test_one_step_moves_the_weights_along_the_numerical_gradient(architecture, output, training):
    settings = {"architecture": architecture, "output": output, "training": training}
    config = FeatureRNNConfig(
        units=3, batch_size=3, n_sample=5, dropout_hidden=0, momentum=0, **settings
    )
    content = {"title": unit(TITLES).astype(np.float32)}
    trainer = trainer_of(config, content)
    moved = weights_of(trainer)
    weights = {name: array.astype(np.float64) for name, array in moved.items()}
    step = next(iter(SessionParallel.plan(SESSIONS, batch_size=3)))
    negatives = trainer.loss.draw()
    trainer.loss.draw = lambda: negatives
    # The last turn of the last pass has both streams present.
    turn = turns(training, streams=(ID, "title"), epochs=1)[-1][-1]

    def mean_loss():
        candidates = np.concatenate([step.targets, negatives])
        rows = [expected_scores(weights, config, content, [item]) for item in step.inputs]
        return cross_entropy_in_numpy(np.stack(rows)[:, candidates], candidates, config)

    summed = trainer.step(step, (turn,))
    assert summed / config.batch_size == pytest.approx(mean_loss(), rel=1e-5)
    everybodys = {"items.id", "biases.id"} if architecture == "shared" else set()
    for name, after in weights_of(trainer).items():
        if name.split(".")[1] in turn.learns:
            assert_moved(after, weights, name, numerical_gradient(weights, name, mean_loss))
        elif name not in everybodys:
            np.testing.assert_array_equal(after, moved[name], err_msg=name)


def cross_entropy_in_numpy(scores, candidates, config):
    counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
    power = np.where(np.arange(len(candidates)) < len(scores), 1, config.sample_alpha)
    corrected = scores - power * np.log(counts[candidates])
    probability = np.exp(corrected) / np.exp(corrected).sum(axis=1, keepdims=True)
    return -np.log(probability.diagonal()).sum() / config.batch_size


def numerical_gradient(weights, name, loss, width=1e-6):
    array = weights[name]
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept = array[place]
        array[place] = kept + width
        above = loss()
        array[place] = kept - width
        gradient[place] = (above - loss()) / (2 * width)
        array[place] = kept
    return gradient


def trainer_of(config, content):
    counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
    return _Trainer(config, content=content, counts=counts, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("architecture", "output"),
    [("parallel", "items"), ("parallel", "content"), ("shared", "items")],
)
def test_what_stands_in_for_a_withheld_item_moves_along_the_numerical_gradient(
    architecture, output
):
    config = FeatureRNNConfig(
        units=3,
        batch_size=3,
        n_sample=5,
        dropout_hidden=0,
        momentum=0,
        dropout_items=0.5,
        training="simultaneous",
        architecture=architecture,
        output=output,
    )
    content = {"title": unit(TITLES).astype(np.float32)}
    trainer = with_noisy_stand_ins(trainer_of(config, content))
    moved = trainer.network.arrays()
    weights = {name: array.astype(np.float64) for name, array in moved.items()}
    step = next(iter(SessionParallel.plan(SESSIONS, batch_size=3)))
    negatives = trainer.loss.draw()
    trainer.loss.draw = lambda: negatives
    withheld = trainer.withhold(np.concatenate([step.targets, negatives, step.inputs]))
    trainer.withhold = lambda _: withheld
    gone = np.unique(withheld.rows[withheld.withheld])
    assert 0 < len(gone) < len(np.unique(withheld.rows))
    facts = np.concatenate([np.ones((N_ITEMS, 1)), content["title"].astype(np.float64)], axis=1)

    def mean_loss():
        shown = with_stand_ins(weights, gone, facts)
        candidates = np.concatenate([step.targets, negatives])
        rows = [expected_scores(shown, config, content, [item]) for item in step.inputs]
        return cross_entropy_in_numpy(np.stack(rows)[:, candidates], candidates, config)

    everybody = turns("simultaneous", streams=(ID, "title"), epochs=1)[0]
    summed = trainer.step(step, everybody)
    assert summed / config.batch_size == pytest.approx(mean_loss(), rel=1e-5)
    after = trainer.network.arrays()
    for name in weights_of(trainer):
        assert_moved(after[name], weights, name, numerical_gradient(weights, name, mean_loss))
    np.testing.assert_array_equal(after["items.id"][gone], weights["items.id"][gone])


def with_noisy_stand_ins(trainer):
    noise = np.random.default_rng(5)
    for parts in trainer.network.dense.values():
        for part in parts:
            if part.startswith("stand_in"):
                parts[part][:] = noise.normal(size=parts[part].shape) / 3
    return trainer


def with_stand_ins(weights, gone, facts):
    """The weights as a step sees them that withholds the ids of some items."""
    shown = {name: array.copy() for name, array in weights.items()}
    for name in weights:
        if name.startswith("stand_in."):
            shown[name.removeprefix("stand_in.")][gone] = facts[gone] @ weights[name].T
    return shown


def assert_moved(after, weights, name, gradient):
    """Adagrad's first step; near a gradient of 0 it magnifies rounding."""
    expected = weights[name] - 0.1 * gradient / np.sqrt(gradient**2 + 1e-6)
    clear = (np.abs(gradient) > 1e-4) | (gradient == 0)
    assert clear.mean() > 0.3, name
    np.testing.assert_allclose(after[clear], expected[clear], atol=5e-4, err_msg=name)


def weights_of(trainer):
    arrays = trainer.network.arrays()
    return {name: a.copy() for name, a in arrays.items() if not name.startswith("content.")}


BOTH = (ID, "title", "picture")


def test_the_schemes_take_turns_as_the_paper_says():
    assert turns("simultaneous", streams=BOTH, epochs=2) == (((BOTH, BOTH),),) * 2
    alternating = turns("alternating", streams=BOTH, epochs=2)
    assert [turn.learns for (turn,) in alternating] == [(ID,), ("title",), ("picture",)] * 2
    assert all(turn.present == BOTH for (turn,) in alternating)
    residual = turns("residual", streams=BOTH, epochs=2)
    assert [turn.learns[0] for (turn,) in residual] == [
        *(ID, ID),
        *("title", "title"),
        *("picture", "picture"),
    ]
    assert [len(turn.present) for (turn,) in residual] == [1, 1, 2, 2, 3, 3]
    interleaving = turns("interleaving", streams=BOTH, epochs=2)
    assert len(interleaving) == 2
    assert [turn.learns for turn in interleaving[0]] == [(ID,), ("title",), ("picture",)]


@pytest.mark.parametrize(("architecture", "output"), BUILDS)
@pytest.mark.parametrize("learns", BOTH)
def test_a_turn_moves_nothing_but_its_own_stream(learns, architecture, output):
    config = FeatureRNNConfig(**SMALL, architecture=architecture, output=output)
    content = {
        "title": unit(TITLES).astype(np.float32),
        "picture": unit(PICTURES).astype(np.float32),
    }
    trainer = trainer_of(config, content)
    before = weights_of(trainer)
    turn = turns("alternating", streams=BOTH, epochs=1)[BOTH.index(learns)]
    for step in SessionParallel.plan(SESSIONS, batch_size=3):
        trainer.step(step, turn)
    everybodys = {"items.id", "biases.id"} if architecture == "shared" else set()
    after = weights_of(trainer)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed == {name for name in before if name.endswith(f".{learns}")} | everybodys


def test_what_is_absent_has_no_say():
    """In residual training the first stream learns as if it were alone."""
    alone = FeatureRNN(FeatureRNNConfig(**SMALL))
    plan = SessionParallel.plan(SESSIONS, batch_size=3)
    losses = []
    for content in ({}, {"title": unit(TITLES).astype(np.float32)}):
        trainer = trainer_of(alone.config, content)
        first = turns("residual", streams=trainer.network.streams, epochs=1)[0]
        same = trainer_of(alone.config, {})
        for group in ("cells", "tables"):
            getattr(trainer.network, group)[ID] = getattr(same.network, group)[ID]
        trainer.optimizers |= same.optimizers
        trainer.loss, trainer.dropout_hidden = same.loss, same.dropout_hidden
        losses.append([trainer.step(step, first) for step in plan])
    assert losses[0] == losses[1]


def test_click_by_click_scores_as_the_whole_session():
    model = fitted(architecture="interaction")
    states = model.start(2)
    for items in ([3, 1], [1, 1], [6, 0]):
        before = states.copy()
        after = model.advance(states, np.array(items))
        np.testing.assert_array_equal(states, before)
        states = after
    whole = model.score(Sessions.from_lists([[3, 1, 6], [1, 1, 0]]))
    np.testing.assert_allclose(model.score_states(states), whole, rtol=1e-6)


@pytest.mark.parametrize(("architecture", "output"), BUILDS)
def test_a_saved_model_brings_its_content(architecture, output, tmp_path):
    model = fitted(architecture=architecture, output=output)
    folder = tmp_path / "bundle"
    items = Vocabulary([str(item) for item in range(N_ITEMS)])
    bundle = Bundle(scorers={"main": model}, items=items, facts={})
    save(bundle, folder, now=datetime(2026, 1, 1, tzinfo=UTC))
    loaded = load(folder).scorers["main"]
    np.testing.assert_array_equal(loaded.score(SESSIONS), model.score(SESSIONS))
    assert loaded.streams == (ID, "title", "picture")
    again = loaded.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(3))
    np.testing.assert_allclose(again.score(SESSIONS), model.score(SESSIONS), atol=1e-5)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("law_"))
@pytest.mark.parametrize("output", ["items", "content"])
def test_the_laws_hold_with_content_too(law, output):
    """Content that does not depend on how the items are numbered, for as many as a law wants."""

    class Model(FeatureRNN):
        def fit(self, sessions, *, n_items, rng):
            self._features = {"title": np.full((n_items, 2), np.sqrt(0.5), dtype=np.float32)}
            return super().fit(sessions, n_items=n_items, rng=rng)

    rng = np.random.default_rng(0)
    hour_us = 3_600_000_000
    rows = [rng.choice(np.arange(3) if d % 2 else np.arange(3, 7), 3 + d % 4) for d in range(11)]
    times = [(24 * day + np.arange(len(row))) * hour_us for day, row in enumerate(rows)]
    law(
        lambda: Model(FeatureRNNConfig(**SMALL, output=output)),
        Sessions.from_lists(rows, times_us=times),
    )


def test_renaming_items_and_their_content_renames_scores():
    new_name = np.random.default_rng(1).permutation(N_ITEMS)
    titles = np.empty_like(TITLES)
    titles[new_name] = TITLES
    scores = []
    for items, content in ((SESSIONS.items, TITLES), (new_name[SESSIONS.items], titles)):
        sessions = Sessions(
            items=items,
            offsets=SESSIONS.offsets,
            times_us=SESSIONS.times_us,
            users=SESSIONS.users,
        )
        model = FeatureRNN(FeatureRNNConfig(**SMALL), features={"title": content})
        scores.append(
            model.fit(sessions, n_items=N_ITEMS, rng=np.random.default_rng(0)).score(sessions)
        )
    np.testing.assert_allclose(scores[1][:, new_name], scores[0], rtol=1e-5, atol=1e-6)


def genres(rng, *, n_sessions=300):
    """Five kinds of ten items; a session stays with its kind. The last two of a kind are new."""
    vectors = np.repeat(np.eye(5), 10, axis=0) + rng.normal(size=(50, 5)) * 0.05
    kinds = rng.integers(5, size=(n_sessions, 1))
    known = Sessions.from_lists((kinds * 10 + rng.integers(8, size=(n_sessions, 5))).tolist())
    return known, vectors


@pytest.mark.parametrize("architecture", ["parallel", "interaction"])
def test_items_nobody_has_touched_are_recommended_by_their_content(architecture):
    known, vectors = genres(np.random.default_rng(0))
    model = FeatureRNN(
        FeatureRNNConfig(
            units=16,
            architecture=architecture,
            output="content",
            training="interleaving",
            batch_size=8,
            n_sample=32,
            epochs=6,
        ),
        features={"kind": vectors},
    ).fit(known, n_items=50, rng=np.random.default_rng(0))
    new = np.array([kind * 10 + place for kind in range(5) for place in (8, 9)])
    begun = Sessions.from_lists([[kind * 10 + 1, kind * 10 + 3] for kind in range(5)])
    best = new[model.score(begun)[:, new].argsort(axis=1)[:, -2:]]
    assert (best // 10 == np.arange(5)[:, None]).mean() >= 0.9
    # They stand among the known items of their kind, above all items of other kinds.
    scores = model.score(begun)
    for kind in range(5):
        others = np.setdiff1d(np.arange(50), np.arange(kind * 10, kind * 10 + 10))
        assert (scores[kind, new[new // 10 == kind]][:, None] > scores[kind, others]).mean() > 0.9


@pytest.mark.parametrize(
    ("architecture", "training"),
    [("parallel", "simultaneous"), ("parallel", "interleaving"), ("shared", "interleaving")],
)
def test_clicks_on_items_nobody_has_touched_are_understood(architecture, training):
    known, vectors = genres(np.random.default_rng(0))
    model = FeatureRNN(
        FeatureRNNConfig(
            units=16,
            architecture=architecture,
            training=training,
            batch_size=8,
            n_sample=32,
            epochs=4,
        ),
        features={"kind": vectors},
    ).fit(known, n_items=50, rng=np.random.default_rng(0))
    begun = Sessions.from_lists([[kind * 10 + 8, kind * 10 + 9] for kind in range(5)])
    best = np.argsort(-model.score(begun), axis=1)[:, :5]
    assert (best // 10 == np.arange(5)[:, None]).mean() > 0.8


def test_item_dropout_lets_new_items_in_beside_the_known_ones():
    """Among twenty items of ten, the new ones stand above chance only if ids were withheld."""
    known, vectors = genres(np.random.default_rng(0))
    new = np.array([kind * 10 + place for kind in range(5) for place in (8, 9)])
    begun = Sessions.from_lists([[kind * 10 + 1, kind * 10 + 3] for kind in range(5)])
    for output in ("items", "content"):
        model = FeatureRNN(
            FeatureRNNConfig(
                units=16,
                output=output,
                training="simultaneous",
                dropout_items=0.5,
                batch_size=8,
                n_sample=32,
                epochs=6,
            ),
            features={"kind": vectors},
        ).fit(known, n_items=50, rng=np.random.default_rng(0))
        assert not len(model.state()["unseen"])
        scores = model.score(begun)
        for kind in range(5):
            others = np.setdiff1d(np.arange(50), np.arange(kind * 10, kind * 10 + 10))
            own = scores[kind, new[new // 10 == kind]]
            assert (own[:, None] > scores[kind, others]).mean() > 0.95


@pytest.mark.parametrize("cost", [0.0, 0.2, 1.0])
def test_the_level_of_new_items_is_the_highest_that_costs_no_more(cost):
    """Against ranks counted one by one."""

    class Fixed:
        def score(self, sessions):
            return np.random.default_rng(len(sessions)).normal(size=(len(sessions), 30))

    targets = np.random.default_rng(1).integers(30, size=40)
    new = np.array([3, 7, 20, 29])
    history = Sessions.from_lists([[0]] * 40)
    hits = []
    for level in np.arange(0, 4.01, 0.25):
        scores = Fixed().score(history)
        scores[:, new] += level
        own = scores[np.arange(40), targets][:, None]
        hits.append(((scores >= own).sum(axis=1) <= 5).sum())
    best = max(place for place, each in enumerate(hits) if each >= hits[0] * (1 - cost)) * 0.25
    assert highest_level(Fixed(), history, targets=targets, new=new, cost=cost, k=5) == best
    assert len(set(hits)) > 2


def test_new_items_are_raised_by_what_a_training_without_others_found():
    known, vectors = genres(np.random.default_rng(0))
    settings = {
        **{"units": 16, "output": "content", "training": "simultaneous", "dropout_items": 0.3},
        **{"batch_size": 8, "n_sample": 32, "epochs": 4},
    }
    scores, new = {}, np.array([8, 9, 18, 19, 28, 29, 38, 39, 48, 49])
    for share in (0.0, 0.25):
        model = FeatureRNN(
            FeatureRNNConfig(**settings, holdout_items=share), features={"kind": vectors}
        ).fit(known, n_items=50, rng=np.random.default_rng(0))
        scores[share] = model.score(Sessions.from_lists([[1, 3], [31]]))
        assert (model.raised > 0) == (share > 0)
        loaded = FeatureRNN.from_state(model.config, model.state())
        np.testing.assert_allclose(
            loaded.score(Sessions.from_lists([[1, 3], [31]])), scores[share], rtol=1e-6
        )
    known_items = np.setdiff1d(np.arange(50), new)
    ahead = [
        (each[:, new][:, :, None] > each[:, known_items][:, None, :]).mean()
        for each in scores.values()
    ]
    assert ahead[1] > ahead[0]


def test_renaming_items_renames_scores_when_some_are_held_out():
    known, vectors = genres(np.random.default_rng(0), n_sessions=120)
    new_name = np.random.default_rng(1).permutation(50)
    renamed = np.empty_like(vectors)
    renamed[new_name] = vectors
    scores = []
    for items, content in ((known.items, vectors), (new_name[known.items], renamed)):
        sessions = Sessions(
            items=items, offsets=known.offsets, times_us=known.times_us, users=known.users
        )
        model = FeatureRNN(
            FeatureRNNConfig(**{**SMALL, "dropout_items": 0.2, "holdout_items": 0.2}),
            features={"kind": content},
        )
        scores.append(
            model.fit(sessions, n_items=50, rng=np.random.default_rng(0)).score(sessions.take(ROWS))
        )
    np.testing.assert_allclose(scores[1][:, new_name], scores[0], rtol=1e-5, atol=1e-5)


def test_without_content_new_items_share_the_lowest_score():
    content = np.full((8, 2), np.nan)
    content[[1, 4]] = 1.0
    for output, lowest in (("items", {0, 2, 4, 6, 7}), ("content", {0, 2, 6, 7})):
        model = FeatureRNN(
            FeatureRNNConfig(units=4, batch_size=2, n_sample=4, output=output),
            features={"title": content},
        )
        model.fit(Sessions.from_lists([[5, 1, 3], [3, 1]]), n_items=8, rng=np.random.default_rng(0))
        assert set(model.state()["unseen"].tolist()) == lowest
        for row in model.score(Sessions.from_lists([[1], []])):
            assert set(np.flatnonzero(row == row.min())) >= lowest


def test_the_callers_content_is_left_alone_and_its_scale_does_not_matter():
    content = TITLES.copy()
    content.flags.writeable = False
    scores = []
    for factor in (1, 8):
        model = FeatureRNN(FeatureRNNConfig(**SMALL), features={"title": factor * content})
        scores.append(
            model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(0)).score(SESSIONS)
        )
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"title": np.ones(7)}, r"'title' has shape \(7,\)"),
        ({"title": np.ones((7, 0))}, "dim at least 1"),
        ({"title": [[np.nan, 1.0]]}, "not finite in row 0"),
        ({"title": [[0.0, 1.0], [np.inf, np.inf]]}, "not finite in row 1"),
        ({"id": np.ones((7, 2))}, "cannot be named 'id'"),
        ({"": np.ones((7, 2))}, "cannot be named ''"),
    ],
)
def test_content_that_cannot_be_used_is_refused(features, message):
    with pytest.raises(DataError, match=message):
        FeatureRNN(features=features)


def test_content_must_have_one_row_an_item():
    model = FeatureRNN(features={"title": np.ones((6, 2))})
    with pytest.raises(DataError, match="6 rows, but there are 7 items"):
        model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(0))


def test_sessions_of_one_event_cannot_train():
    with pytest.raises(MomentaryError, match="no next item"):
        FeatureRNN().fit(Sessions.from_lists([[0], [1]]), n_items=2, rng=np.random.default_rng(0))


def test_divergence_is_named_and_progress_reaches_the_end():
    told = []
    trainer = trainer_of(FeatureRNNConfig(**SMALL), {})
    plan = SessionParallel.plan(SESSIONS, batch_size=3)
    trainer.run(plan, lambda done, total, note="": told.append((done, total, note)))
    assert told[-1][0] == told[-1][1] == 2 * len(plan)
    assert "loss" in told[-1][2]
    trainer.network.tables[ID]["biases"][:] = float("nan")
    with pytest.raises(MomentaryError, match="learning_rate"):
        trainer.run(plan, lambda *_: None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("units", 0),
        ("architecture", "serial"),
        ("training", "none"),
        ("output", "nothing"),
        ("loss", "mse"),
        ("batch_size", 0),
        ("n_sample", -1),
        ("epochs", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("dropout_input", 1),
        ("dropout_hidden", 1),
        ("dropout_items", 1),
        ("sample_alpha", 2),
    ],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        FeatureRNNConfig(**{setting: value})


def test_one_output_for_all_streams_cannot_be_the_content():
    with pytest.raises(ValueError, match="share one output"):
        FeatureRNNConfig(architecture="shared", output="content")
