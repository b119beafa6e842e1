"""AttentiveRNN against an independent derivation of its equations in NumPy."""

import numpy as np
import pytest
import torch

from momentary.errors import MomentaryError
from momentary.learn.covisits import followers
from momentary.learn.past_evidence import PastEvidence
from momentary.learn.windows import Windows
from momentary.models.attentive_rnn import AttentiveRNN, AttentiveRNNConfig, _Trainer
from momentary.types import Sessions
from tests.contract.worlds import CHANCE, cycle, favourites, noise, recall_at_5

SESSIONS = Sessions.from_lists(
    [[0, 1, 2, 3], [2, 3, 4], [4, 5, 6, 0, 1], [6, 0], [1, 2, 3, 4, 5], [5], [3, 4, 3, 6]]
)
N_ITEMS = 7
SMALL = {
    "units": 5,
    "attention": 3,
    "max_session": 6,
    "window": 2,
    "batch_predictions": 6,
    "n_sample": 4,
    "epochs": 2,
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def fitted(**changes):
    model = AttentiveRNN(AttentiveRNNConfig(**{**SMALL, **changes}))
    return model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(3))


def gru(state, inputs):
    """torch's GRU, gates r, z, n, over the places of one visit."""
    units = inputs.shape[1]
    hidden, states = np.zeros(units), []
    for x in inputs:
        a = (state["gru.weight_ih_l0"] @ x + state["gru.bias_ih_l0"]).reshape(3, units)
        b = (state["gru.weight_hh_l0"] @ hidden + state["gru.bias_hh_l0"]).reshape(3, units)
        r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
        n = np.tanh(a[2] + r * b[2])
        hidden = (1 - z) * n + z * hidden
        states.append(hidden)
    return np.array(states)


def shares(item, *, window, shrinkage, half_life):
    """P of the items after `item`, and of those before it, counted over all sessions."""
    total = np.zeros((N_ITEMS, N_ITEMS))
    for row in range(len(SESSIONS)):
        session = SESSIONS.session(row)
        weight = 0.5 ** ((len(SESSIONS) - 1 - row) / half_life)
        for i, first in enumerate(session):
            for j, then in enumerate(session):
                if first != then and 0 < j - i <= window:
                    total[first, then] += weight / (j - i)
    ahead = total[item] / (total[item].sum() + shrinkage)
    behind = total[:, item] / (total[:, item].sum() + shrinkage)
    return ahead, behind


def evidence_of(session, config):
    """f of every item, popularity first, one item and one click at a time."""
    famous = []
    for life in config.fame_half_lives:
        clicks = np.zeros(N_ITEMS)
        for row in range(len(SESSIONS)):
            for item in SESSIONS.session(row):
                clicks[item] += 0.5 ** ((len(SESSIONS) - 1 - row) / life)
        famous.append(0.3 * np.log((clicks + 0.5) / (clicks + 0.5).mean()))
    facts = np.zeros((N_ITEMS, 8))
    counted = {name: getattr(config, name) for name in ("window", "shrinkage", "half_life")}
    for back, item in enumerate(reversed(session)):
        ahead, behind = shares(item, **counted)
        facts[:, min(back, 2)] += ahead
        facts[:, 3 + min(back, 2)] += behind
        facts[item, 6 if back == 0 else 7] += 1
    facts[:, :6] = np.log(1 + 1000 * facts[:, :6])
    return np.concatenate([np.array(famous).T, facts], axis=1)


def chances_in_numpy(model, session):
    """The module's equations for one visit, one place at a time, in float64."""
    config = model.config
    state = {name: np.asarray(array, dtype=np.float64) for name, array in model.state().items()}
    x = state["items"][session]
    h = gru(state, x * 0.3 * np.sqrt(config.units))
    u, t = np.concatenate([h, x], axis=1), len(session) - 1
    scale, back = np.sqrt(config.attention), t - np.arange(len(session))

    def linear(name, at):
        return at @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    keys = linear("seen", u)
    attention = softmax(keys @ linear("look", h[t]) / scale + state["places"][0][back])
    s = linear("mix", np.concatenate([attention @ x, h[t], x[t]])) + x[t]
    s /= np.linalg.norm(s)
    told = evidence_of(session, config) @ linear("evidence", u[t])
    catalogue = softmax(config.temperature * state["items"] @ s + told)

    pointer = linear("pointed", u) @ linear("point", u[t]) / scale + state["places"][1][back]
    visit = np.zeros(N_ITEMS)
    np.add.at(visit, session, softmax(pointer))

    gates = softmax(linear("gates", np.concatenate([u[t], [np.log(1 + t)]])))
    return gates[0] * catalogue + gates[1] * visit


@pytest.mark.parametrize("session", [[2], [3, 4, 3], [2, 3, 4, 0, 5, 1]], ids=len)
def test_scores_are_those_of_the_equations(session):
    model = fitted(half_life=4, fame_half_lives=(2, 5))
    model.state()["places"][:] = np.random.default_rng(0).normal(size=(2, 6))  # training is short
    scores = model.score(Sessions.from_lists([session]))[0]
    np.testing.assert_allclose(scores, chances_in_numpy(model, session), rtol=2e-4)


def test_only_the_last_clicks_of_a_long_visit_are_read():
    model = fitted(max_session=3)
    both = model.score(Sessions.from_lists([[6, 0, 1, 2, 3], [1, 2, 3]]))
    np.testing.assert_allclose(both[0], both[1], rtol=1e-5)


def test_one_step_goes_down_the_numerical_gradient():
    config = AttentiveRNNConfig(**{**SMALL, "dropout_items": 0, "dropout_hidden": 0})
    trainer = trainer_of(config)
    trainer.network.double()
    rows = np.arange(len(trainer.windows))
    drawn = trainer.candidates.draw(np.arange(N_ITEMS))
    trainer.candidates.draw = lambda own, **_: drawn._replace(
        places=np.searchsorted(drawn.items, own)
    )
    trainer.pace(0)
    summed, count = trainer.step(rows)  # the rate is 0: the weights stay
    gradients = {name: weight.grad.clone() for name, weight in trainer.network.named_parameters()}
    assert count == sum(len(SESSIONS.session(row)) - 1 for row in range(len(SESSIONS)))
    for name, weight in trainer.network.named_parameters():
        flat = weight.detach().view(-1)
        place = int(gradients[name].abs().argmax())
        kept = flat[place].item()
        losses = []
        for width in (1e-5, -1e-5):
            flat[place] = kept + width
            losses.append(trainer.step(rows)[0] / count)
        flat[place] = kept
        slope = (losses[0] - losses[1]) / 2e-5
        assert slope == pytest.approx(gradients[name].view(-1)[place].item(), rel=1e-3, abs=1e-9), (
            name
        )
    assert trainer.step(rows)[0] == pytest.approx(summed, rel=1e-6)


def trainer_of(config, past=None):
    windows = Windows.cut(SESSIONS, longest=config.max_session)
    return _Trainer(
        config,
        windows,
        counts=followers(
            SESSIONS, weights=np.ones(len(SESSIONS)), n_items=N_ITEMS, window=config.window
        ),
        past=past_of(config) if past is None else past,
        rng=np.random.default_rng(0),
    )


def past_of(config):
    return PastEvidence.of(
        SESSIONS,
        n_items=N_ITEMS,
        stretches=config.stretches,
        window=config.window,
        shrinkage=config.shrinkage,
        half_life=config.half_life,
        fame_half_lives=config.fame_half_lives,
    )


def test_the_loss_of_a_whole_softmax_is_the_negative_log_chance():
    """With all items as candidates, and every session told what was known at the end."""
    config = AttentiveRNNConfig(
        **{**SMALL, "dropout_items": 0, "dropout_hidden": 0, "n_sample": 10_000}
    )
    past = past_of(config)
    last = {
        way: getattr(past, way)._replace(shares=getattr(past, way).shares[[-1, -1]])
        for way in ("ahead", "behind")
    }
    stretch = np.zeros(len(SESSIONS), dtype=np.int64)
    trainer = trainer_of(config, past._replace(stretch=stretch, fame=past.fame[[-1, -1]], **last))
    trainer.pace(0)
    summed, _ = trainer.step(np.arange(len(trainer.windows)))

    model = fitted()
    weights = trainer.network.state_dict()
    weights["items"] = torch.nn.functional.normalize(weights["items"], dim=-1)
    state = {**model.state(), **{name: weight.numpy() for name, weight in weights.items()}}
    same = AttentiveRNN.from_state(config, state)
    expected = 0.0
    for row in range(len(SESSIONS)):
        session = SESSIONS.session(row)
        for end in range(1, len(session)):
            scores = same.score(Sessions.from_lists([session[:end]]))[0]
            expected -= np.log(scores[session[end]])
    assert summed == pytest.approx(expected, rel=1e-4)


def small_world_model(**changes):
    config = {"units": 16, "epochs": 4, "batch_predictions": 100, "n_sample": 20, **changes}
    return AttentiveRNN(AttentiveRNNConfig(**config))


def test_it_finds_what_there_is_and_nothing_in_noise():
    assert recall_at_5(small_world_model(), cycle(np.random.default_rng(0))) > 0.7
    assert recall_at_5(small_world_model(), favourites(np.random.default_rng(1))) > 0.9
    assert recall_at_5(small_world_model(), noise(np.random.default_rng(2))) < CHANCE + 0.12


def test_progress_reaches_the_end_and_the_loss_falls():
    told = []
    model = small_world_model()
    world = cycle(np.random.default_rng(0))
    model.fit(
        world,
        n_items=30,
        rng=np.random.default_rng(0),
        progress=lambda done, total, note="": told.append((done, total, note)),
    )
    assert told[-1][0] == told[-1][1]
    assert "loss" in told[-1][2]
    assert model.losses[-1] < model.losses[0]


def test_scores_are_chances_and_unseen_items_have_none():
    model = AttentiveRNN(AttentiveRNNConfig(**SMALL))
    model.fit(Sessions.from_lists([[5, 1, 3], [3, 1]]), n_items=8, rng=np.random.default_rng(0))
    scores = model.score(Sessions.from_lists([[1], [], [7], [5, 7, 3]]))
    assert (scores.sum(axis=1) <= 1 + 1e-5).all()
    assert (scores[:, [0, 2, 4, 6, 7]] == 0).all()
    assert (scores[:, [1, 3, 5]] > 0).all()


def test_a_visit_without_a_known_click_is_given_popularity():
    model = AttentiveRNN(AttentiveRNNConfig(**SMALL))
    model.fit(Sessions.from_lists([[5, 1, 3], [3, 1]]), n_items=8, rng=np.random.default_rng(0))
    empty, unknown = model.score(Sessions.from_lists([[], [7]]))
    np.testing.assert_allclose(empty, np.array([0, 2, 0, 2, 0, 1, 0, 0]) / 5, rtol=1e-6)
    np.testing.assert_array_equal(unknown, empty)


def test_sessions_of_one_event_cannot_train():
    with pytest.raises(MomentaryError, match="no next item"):
        AttentiveRNN().fit(Sessions.from_lists([[0], [1]]), n_items=2, rng=np.random.default_rng(0))


def test_divergence_is_named():
    trainer = trainer_of(AttentiveRNNConfig(**SMALL))
    with torch.no_grad():
        trainer.network.items.fill_(float("nan"))
    with pytest.raises(MomentaryError, match="learning_rate"):
        trainer.run(lambda *_: None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("units", 0),
        ("attention", 0),
        ("temperature", 0),
        ("max_session", 0),
        ("window", 0),
        ("shrinkage", 0),
        ("half_life", 0),
        ("fame_half_lives", (0.5,)),
        ("stretches", 0),
        ("transitions_per_item", 0),
        ("batch_predictions", 0),
        ("n_sample", 0),
        ("sample_alpha", 2),
        ("epochs", 0),
        ("learning_rate", float("nan")),
        ("dropout_items", 1),
        ("dropout_hidden", -0.1),
    ],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        AttentiveRNNConfig(**{setting: value})
