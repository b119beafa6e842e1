"""HRNN against an independent derivation of the paper's equations in NumPy."""

import numpy as np
import pytest
import torch

from momentary.data.batches import UserStep, VisitParallel
from momentary.errors import MomentaryError, NotFittedError
from momentary.models.hierarchical_rnn import HierarchicalRNN, HierarchicalRNNConfig, _Trainer
from momentary.types import Sessions

SESSIONS = Sessions.from_lists(
    [[0, 1, 2, 3], [2, 3, 4], [4, 5, 6, 0, 1], [6, 0], [1, 2, 3, 4, 5], [5], [3, 4, 5, 6]],
    users=[0, 1, -1, 0, 3, 1, 0],
)
N_ITEMS = 7


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(weights, level, x, h):
    w, u, b, c = (weights[f"{level}_{name}"] for name in "wubc")
    units = h.shape[-1]
    gate = [slice(i * units, (i + 1) * units) for i in range(3)]
    r = sigmoid(w[gate[0]] @ x + b[gate[0]] + u[gate[0]] @ h + c[gate[0]])
    z = sigmoid(w[gate[1]] @ x + b[gate[1]] + u[gate[1]] @ h + c[gate[1]])
    n = np.tanh(w[gate[2]] @ x + b[gate[2]] + r * (u[gate[2]] @ h + c[gate[2]]))
    return (1 - z) * n + z * h


def walk(weights, variant, visits):
    """The session's state after the last click of the last visit, visit by visit, click by click.

    The docstring of the module, one visitor at a time, in float64.
    """
    c = np.zeros(len(weights["user_c"]) // 3)
    s = np.zeros(len(weights["session_c"]) // 3)
    for number, visit in enumerate(visits):
        if number:
            c = gru(weights, "user", s, c)
            s = np.tanh(weights["init_w"] @ c + weights["init_b"])
        for item in visit:
            x = weights["items"][item]
            s = gru(weights, "session", np.concatenate([x, c]) if variant == "all" else x, s)
    return s


def double(state):
    return {name: array.astype(np.float64) for name, array in state.items()}


def fitted(**changes):
    settings = {"units": 5, "user_units": 4, "batch_size": 3, "n_sample": 4, "epochs": 2, **changes}
    model = HierarchicalRNN(HierarchicalRNNConfig(**settings))
    return model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(3))


@pytest.mark.parametrize("variant", ["init", "all"])
@pytest.mark.parametrize(
    ("user", "past"),
    [(0, [[0, 1, 2, 3], [6, 0], [3, 4, 5, 6]]), (1, [[2, 3, 4], [5]]), (2, []), (-1, []), (9, [])],
)
def test_scores_are_those_of_the_equations(variant, user, past):
    model = fitted(variant=variant)
    weights = double(model.state())
    for session in ([2, 3, 0], []):
        s = walk(weights, variant, [*past, session])
        expected = weights["items"] @ s + weights["biases"][:, 0]
        asked = Sessions.from_lists([session], users=[user])
        np.testing.assert_allclose(model.score(asked)[0], expected, rtol=2e-5, atol=1e-7)


def loss_in_numpy(scores, candidates, config, counts):
    """The batch's mean loss after the papers of GRU4Rec; target i in column i."""
    own = np.arange(len(scores))
    if config.loss == "cross_entropy":
        power = np.where(np.arange(len(candidates)) < len(own), 1, config.sample_alpha)
        scores = scores - power * np.log(counts[candidates])
        probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return -np.log(probability[own, own]).sum() / config.batch_size
    scores = np.where(scores > 0, scores, config.elu * (np.exp(scores) - 1))
    weight = np.exp(scores)
    weight[own, own] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    won = (weight * sigmoid(scores[own, own][:, None] - scores)).sum(axis=1)
    penalty = (weight * scores**2).sum(axis=1)
    return (-np.log(won) + config.regularization * penalty).sum() / config.batch_size


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


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max"])
@pytest.mark.parametrize("variant", ["init", "all"])
def test_one_step_moves_the_weights_along_the_numerical_gradient(variant, loss):
    settings = {"variant": variant, "loss": loss, "first_click": True, "n_sample": 5, "elu": 0.7}
    config = HierarchicalRNNConfig(
        units=4, user_units=3, batch_size=2, dropout_session=0, momentum=0, **settings
    )
    counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
    trainer = _Trainer(config, counts=counts, places=5, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    trainer.session[:] = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32)) / 2
    trainer.user[:] = torch.from_numpy(rng.normal(size=(5, 3)).astype(np.float32)) / 2
    session, user = trainer.session.numpy().astype(float), trainer.user.numpy().astype(float)
    moved = {**trainer.network.dense, **trainer.network.tables}
    weights = double({name: t.detach().numpy().copy() for name, t in moved.items()})
    # The first lane begins another session of its visitor, the second is inside one.
    step = UserStep(
        lanes=np.array([0, 1]),
        inputs=np.array([5, 3]),
        targets=np.array([6, 4]),
        fresh=np.array([True, False]),
        changed=np.array([False, False]),
    )
    negatives = trainer.draw()
    trainer.negatives = np.concatenate([negatives[None], trainer.negatives])
    candidates = np.concatenate([[6, 4, 5], negatives])

    def mean_loss():
        c = gru(weights, "user", session[0], user[0])
        door = np.tanh(weights["init_w"] @ c + weights["init_b"])
        states = []
        for item, s, u in ((5, door, c), (3, session[1], user[1])):
            x = weights["items"][item]
            shown = np.concatenate([x, u]) if variant == "all" else x
            states.append(gru(weights, "session", shown, s))
        scores = np.stack([*states, door]) @ weights["items"][candidates].T
        return loss_in_numpy(scores + weights["biases"][candidates].T, candidates, config, counts)

    summed, predicted = trainer.step(step)
    assert predicted == 3
    assert summed / config.batch_size == pytest.approx(mean_loss(), rel=1e-5)
    for name in weights:
        gradient = numerical_gradient(weights, name, mean_loss)
        expected = weights[name] - 0.1 * gradient / np.sqrt(gradient**2 + 1e-6)
        # Where the gradient is near 0, Adagrad's first step magnifies rounding.
        clear = (np.abs(gradient) > 1e-4) | (gradient == 0)
        assert clear.mean() > 0.5, name
        np.testing.assert_allclose(
            moved[name].detach().numpy()[clear], expected[clear], atol=5e-4, err_msg=name
        )


def test_a_lane_that_changes_visitor_forgets_everything():
    config = HierarchicalRNNConfig(units=4, user_units=3, batch_size=3, n_sample=4)
    step = next(iter(VisitParallel.plan(SESSIONS, batch_size=3)))
    losses = []
    for memory in (0.0, 0.9):
        counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
        trainer = _Trainer(config, counts=counts, places=5, rng=np.random.default_rng(0))
        trainer.session[:], trainer.user[:] = memory, memory
        losses.append(trainer.step(step))
    assert losses[0] == losses[1]


def test_a_step_without_a_target_moves_no_weight_but_the_memory():
    config = HierarchicalRNNConfig(units=4, user_units=3, batch_size=1, n_sample=4)
    trainer = _Trainer(config, counts=np.ones(7, int), places=5, rng=np.random.default_rng(0))
    steps = list(VisitParallel.plan(Sessions.from_lists([[2], [0, 1]], users=[0, 0]), batch_size=1))
    tables = {name: tensor.clone() for name, tensor in trainer.network.tables.items()}
    assert steps[0].targets.tolist() == [-1]
    assert trainer.step(steps[0]) == (0.0, 0)
    assert trainer.session.any()
    assert all(torch.equal(trainer.network.tables[name], table) for name, table in tables.items())


def test_click_by_click_and_visit_by_visit_is_as_the_whole():
    model = fitted()
    states = model.start_for(np.array([0]))
    for item in (3, 1, 6):
        states = model.advance(states, np.array([item]))
    visit = Sessions.from_lists([[3, 1, 6]], users=[0])
    np.testing.assert_allclose(model.score_states(states), model.score(visit), rtol=1e-6)

    next_visit = Sessions.from_lists([[4]], users=[0])
    later = model.advance(model.finish(states), np.array([4]))
    np.testing.assert_allclose(
        model.score_states(later), model.after(visit).score(next_visit), rtol=1e-6
    )


def test_taking_in_a_visit_changes_that_visitor_alone_and_not_the_model():
    model = fitted()
    doors = Sessions.from_lists([[]] * 5, users=[0, 1, 2, 3, -1])
    before = model.score(doors)
    after = model.after(Sessions.from_lists([[4, 5], [2], [], [1]], users=[1, 8, 0, -1]))
    np.testing.assert_array_equal(model.score(doors), before)
    changed = (after.score(doors) != before).any(axis=1)
    assert changed.tolist() == [False, True, False, False, False]
    assert after.knows(np.array([0, 1, 2, 8, 9, -1])).tolist() == [1, 1, 0, 1, 0, 0]
    assert not model.knows(np.array([8])).any()
    assert after.state()["finished"].tolist() == [3, 3, 0, 1, 0, 0, 0, 0, 1]
    assert after.state()["users"].shape == (9, 4)


def test_fit_takes_in_every_known_visitor_in_order():
    model = fitted()
    weights = model.state()
    blank = type(model).from_state(
        model.config,
        {
            **weights,
            "users": np.zeros((0, 4), dtype=np.float32),
            "finished": np.zeros(0, dtype=np.int64),
        },
    )
    one_by_one = blank
    for row in range(len(SESSIONS)):
        one_by_one = one_by_one.after(SESSIONS.take(np.array([row])))
    found = one_by_one.state()
    np.testing.assert_allclose(found["users"], weights["users"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["finished"], weights["finished"])


def test_fitting_again_forgets_the_visitors_of_before():
    model = fitted()
    model.fit(
        Sessions.from_lists([[0, 1], [1, 2]], users=[-1, 1]),
        n_items=N_ITEMS,
        rng=np.random.default_rng(0),
    )
    assert model.state()["finished"].tolist() == [0, 1]


def loyal(rng, *, users, visits, n_items=40):
    """Every visitor has one of four tastes, of ten items each, and clicks nothing else.

    Items in the first place of a session are common to all: what follows depends on the visitor.
    """
    rows, who = [], []
    tastes = rng.integers(4, size=users)
    for _ in range(visits):
        for user in range(users):
            own = 4 + tastes[user] * 9 + rng.integers(9, size=3)
            rows.append([int(rng.integers(4)), *own.tolist()])
            who.append(user)
    return Sessions.from_lists(rows, users=who), tastes, n_items


@pytest.mark.parametrize("variant", ["init", "all"])
def test_returning_visitors_are_recommended_their_taste_at_the_first_click(variant):
    rng = np.random.default_rng(4)
    sessions, tastes, n_items = loyal(rng, users=60, visits=5)
    model = HierarchicalRNN(
        HierarchicalRNNConfig(
            units=24, user_units=24, variant=variant, batch_size=8, n_sample=32, epochs=8
        )
    ).fit(sessions, n_items=n_items, rng=np.random.default_rng(0))
    assert model.losses[-1] < model.losses[0]
    begun = [[int(rng.integers(4))] for _ in tastes]

    def share(users):
        best = np.argsort(-model.score(Sessions.from_lists(begun, users=users)), axis=1)[:, :9]
        return ((best - 4) // 9 == tastes[:, None]).mean()

    known, unknown = share(np.arange(60)), share(np.full(60, -1))
    assert known > 0.8
    assert unknown < 0.4


def test_the_first_click_is_learned_when_asked_for():
    rng = np.random.default_rng(4)
    favourite = rng.integers(6, size=50)
    rows = [[int(item), 6 + int(rng.integers(4))] for _ in range(6) for item in favourite]
    sessions = Sessions.from_lists(rows, users=np.tile(np.arange(50), 6))
    hits = {}
    for first_click in (True, False):
        model = HierarchicalRNN(
            HierarchicalRNNConfig(
                units=24,
                user_units=24,
                first_click=first_click,
                batch_size=8,
                n_sample=16,
                epochs=10,
            )
        ).fit(sessions, n_items=10, rng=np.random.default_rng(0))
        best = model.score(Sessions.from_lists([[]] * 50, users=np.arange(50))).argmax(axis=1)
        hits[first_click] = (best == favourite).mean()
    assert hits[True] > 0.9
    assert hits[False] < 0.5


def test_items_that_training_never_saw_share_the_lowest_score():
    model = HierarchicalRNN(HierarchicalRNNConfig(units=4, user_units=4, batch_size=2, n_sample=4))
    model.fit(Sessions.from_lists([[5, 1, 3], [3, 1]]), n_items=8, rng=np.random.default_rng(0))
    for row in model.score(Sessions.from_lists([[1], []])):
        assert set(np.flatnonzero(row == row.min())) >= {0, 2, 4, 6, 7}


def test_sessions_of_one_event_cannot_train():
    with pytest.raises(MomentaryError, match="no next item"):
        HierarchicalRNN().fit(
            Sessions.from_lists([[0], [1]], users=[0, 0]),
            n_items=2,
            rng=np.random.default_rng(0),
        )


def test_before_fit_there_is_nothing_to_say():
    model = HierarchicalRNN()
    for call in (
        lambda: model.after(SESSIONS),
        lambda: model.start_for(np.array([0])),
        lambda: model.finish(model.start(1)),
    ):
        with pytest.raises(NotFittedError):
            call()


def test_divergence_is_named():
    config = HierarchicalRNNConfig(units=4, user_units=4, batch_size=2, n_sample=2, epochs=1)
    trainer = _Trainer(config, counts=np.ones(7, int), places=5, rng=np.random.default_rng(0))
    trainer.network.tables["biases"][:] = float("nan")
    with pytest.raises(MomentaryError, match="learning_rate"):
        trainer.run(VisitParallel.plan(SESSIONS, batch_size=2), lambda *_: None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("units", 0),
        ("user_units", 0),
        ("variant", "some"),
        ("loss", "mse"),
        ("batch_size", 0),
        ("epochs", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("dropout_init", 1),
        ("dropout_user", -0.1),
        ("sample_alpha", 2),
    ],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        HierarchicalRNNConfig(**{setting: value})
