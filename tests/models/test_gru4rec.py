"""GRU4Rec against an independent derivation of the papers' equations in NumPy."""

import signal
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest

from momentary.data.batches import SessionParallel
from momentary.data.vocabulary import Vocabulary
from momentary.errors import MomentaryError
from momentary.learn.course import Course
from momentary.models import artifact
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig, Network, _Crew, _Trainer
from momentary.types import Sessions

SESSIONS = Sessions.from_lists(
    [[0, 1, 2, 3], [2, 3, 4], [4, 5, 6, 0, 1], [6, 0], [1, 2, 3, 4, 5], [5], [3, 4, 5, 6]]
)
N_ITEMS = 7


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(weights, x, h, depth=0):
    """The cell as the module's docstring states it, in float64."""
    w, u, b, c = (np.asarray(weights[f"{name}{depth}"], dtype=np.float64) for name in "wubc")
    units = h.shape[1]
    gate = [slice(i * units, (i + 1) * units) for i in range(3)]
    r = sigmoid(x @ w[gate[0]].T + b[gate[0]] + h @ u[gate[0]].T + c[gate[0]])
    z = sigmoid(x @ w[gate[1]].T + b[gate[1]] + h @ u[gate[1]].T + c[gate[1]])
    n = np.tanh(x @ w[gate[2]].T + b[gate[2]] + r * (h @ u[gate[2]].T + c[gate[2]]))
    return (1 - z) * n + z * h


def fitted(**changes):
    settings = {"units": (5,), "batch_size": 3, "n_sample": 4, "epochs": 2, **changes}
    model = GRU4Rec(GRU4RecConfig(**settings))
    return model.fit(SESSIONS, n_items=N_ITEMS, rng=np.random.default_rng(3))


def drawn(**changes):
    """A network of random weights, for what does not depend on how they were learned.

    To train layers of one more depth costs a minute of compilation.
    """
    config = GRU4RecConfig(**changes)
    rng = np.random.default_rng(3)
    shapes = Network.random(config, n_items=N_ITEMS, rng=rng).parameters()
    state = {name: rng.normal(size=each.shape).astype("float32") for name, each in shapes.items()}
    return GRU4Rec.from_state(config, {**state, "unseen": np.array([], dtype=np.int64)})


@pytest.mark.parametrize(
    "model",
    [
        lambda: fitted(input="tied"),
        lambda: fitted(input="separate", embedding=4),
        lambda: drawn(units=(6, 5)),
        lambda: drawn(units=(6, 7, 5)),
    ],
    ids=["tied", "separate", "two_layers", "three_layers"],
)
def test_scores_are_those_of_the_equations(model):
    model = model()
    state = model.state()
    table = state.get("inputs", state["items"])
    session = [2, 3, 4, 0]
    hidden = [np.zeros((1, units)) for units in model.config.units]
    for item in session:
        x = table[[item]].astype(np.float64)
        for depth, h in enumerate(hidden):
            hidden[depth] = x = gru_step(state, x, h, depth)
    expected = hidden[-1] @ state["items"].T + state["biases"].T
    np.testing.assert_allclose(model.score(Sessions.from_lists([session])), expected, rtol=2e-5)


def test_one_hot_input_adds_the_items_own_gate_inputs():
    model = fitted(input="one_hot")
    state = model.state()
    assert state["inputs"].shape == (N_ITEMS, 15)
    state["w0"] = np.eye(15)
    hidden = gru_step(state, state["inputs"][[4]].astype(np.float64), np.zeros((1, 5)))
    expected = hidden @ state["items"].T + state["biases"].T
    np.testing.assert_allclose(model.score(Sessions.from_lists([[4]])), expected, rtol=2e-5)


def loss_in_numpy(weights, inputs, candidates, hidden, config, counts):
    """The batch's mean loss from weights alone, for both losses, after the papers."""
    x = weights["items"][inputs]
    scores = gru_step(weights, x, hidden) @ weights["items"][candidates].T
    scores = scores + weights["biases"][candidates].T
    batch = len(inputs)
    own = np.arange(batch)
    if config.loss == "cross_entropy":
        offered = np.where(
            np.arange(len(candidates)) < batch,
            counts[candidates],
            counts[candidates] ** config.sample_alpha,
        )
        scores = scores - config.logq * np.log(offered)
        probability = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        return -np.log(probability[own, own]).sum() / config.batch_size
    scores = np.where(scores > 0, scores, config.elu * (np.exp(scores) - 1))
    weight = np.exp(scores)
    weight[own, own] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    won = (weight * sigmoid(scores[own, own][:, None] - scores)).sum(axis=1)
    penalty = (weight * scores**2).sum(axis=1)
    return (-np.log(won) + config.regularization * penalty).sum() / config.batch_size


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max"])
def test_one_step_moves_the_weights_along_the_numerical_gradient(loss):
    config = GRU4RecConfig(
        units=(4,),
        batch_size=3,
        n_sample=5,
        loss=loss,
        dropout_hidden=0,
        learning_rate=0.1,
        momentum=0,
        elu=0.7,
    )
    counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
    trainer = _Trainer(config, counts=counts, rng=np.random.default_rng(0))
    parameters = {**trainer.network.dense(), **trainer.network.tables}
    weights = {name: array.astype(np.float64) for name, array in parameters.items()}
    step = next(iter(SessionParallel.plan(SESSIONS, batch_size=3)))
    summed = trainer.step(step)
    candidates = trainer.room.rows[: trainer.room.candidates].copy()
    np.testing.assert_array_equal(candidates[:3], step.targets)
    hidden = np.zeros((3, 4))

    def mean_loss():
        return loss_in_numpy(weights, step.inputs, candidates, hidden, config, counts)

    assert summed / config.batch_size == pytest.approx(mean_loss(), rel=1e-5)

    width = 1e-6
    for name, before in weights.items():
        gradient = np.zeros_like(before)
        for place in np.ndindex(before.shape):
            kept = before[place]
            before[place] = kept + width
            above = mean_loss()
            before[place] = kept - width
            gradient[place] = (above - mean_loss()) / (2 * width)
            before[place] = kept
        expected = before - 0.1 * gradient / np.sqrt(gradient**2 + 1e-6)
        # Where the gradient is near 0, Adagrad's first step magnifies rounding.
        clear = (np.abs(gradient) > 1e-4) | (gradient == 0)
        assert clear.mean() > 0.5, name
        np.testing.assert_allclose(
            parameters[name][clear], expected[clear], atol=2e-4, err_msg=name
        )


def test_rows_that_a_step_does_not_touch_stay():
    config = GRU4RecConfig(units=(4,), batch_size=1, n_sample=1, epochs=1, momentum=0.5)
    counts = np.array([3, 3, 0, 0, 0])
    trainer = _Trainer(config, counts=counts, rng=np.random.default_rng(0))
    before = trainer.network.items.copy()
    trainer.step(next(iter(SessionParallel.plan(Sessions.from_lists([[0, 1]]), batch_size=1))))
    np.testing.assert_array_equal(trainer.network.items[2:], before[2:])
    assert (trainer.network.items[:2] != before[:2]).any(axis=1).all()


def test_memory_is_cleared_where_a_session_begins():
    config = GRU4RecConfig(units=(4,), batch_size=3, n_sample=4)
    first = next(iter(SessionParallel.plan(SESSIONS, batch_size=3)))
    assert first.fresh.all()
    losses = []
    for memory in (0.0, 0.9):
        counts = np.bincount(SESSIONS.items, minlength=N_ITEMS)
        trainer = _Trainer(config, counts=counts, rng=np.random.default_rng(0))
        trainer.hidden[0][:] = memory
        losses.append(trainer.step(first))
    assert losses[0] == losses[1]


def test_the_same_chance_trains_the_same_network():
    first, second = (fitted(dropout_embedding=0.2).state() for _ in range(2))
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_saved_model_scores_without_torch(tmp_path):
    """A server that answers from a GRU4Rec pays neither torch's start nor its memory."""
    model = drawn(units=(6, 5))
    items = Vocabulary([f"item {number}" for number in range(N_ITEMS)])
    bundle = artifact.Bundle(scorers={"main": model}, items=items, facts={})
    artifact.save(bundle, tmp_path / "saved", now=datetime(2024, 1, 1, tzinfo=UTC))
    script = """
import sys
from pathlib import Path
from momentary.models.artifact import load
from momentary.types import Sessions
model = load(Path(sys.argv[1])).scorers["main"]
print(model.score(Sessions.from_lists([[2, 3, 4]])).argmax())
assert "torch" not in sys.modules
"""
    command = [sys.executable, "-c", script, str(tmp_path / "saved")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) == model.score(Sessions.from_lists([[2, 3, 4]])).argmax()


def test_training_needs_no_torch():
    script = """
import sys
import numpy as np
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
from momentary.types import Sessions
model = GRU4Rec(GRU4RecConfig(units=(4,), batch_size=2, n_sample=2, epochs=1))
model.fit(Sessions.from_lists([[0, 1], [1, 2]]), n_items=3, rng=np.random.default_rng(0))
assert "torch" not in sys.modules
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert answer.returncode == 0, answer.stderr.decode()


def test_advancing_leaves_the_callers_states_alone():
    model = fitted()
    states = model.start(2)
    assert model.advance(states, np.array([1, 2])).any()
    np.testing.assert_array_equal(states, np.zeros((2, 5), dtype=np.float32))


@pytest.mark.parametrize("units", [(5,), (6, 5), (6, 7, 5)])
def test_click_by_click_scores_as_the_whole_session(units):
    model = drawn(units=units)
    states = model.start(1)
    for item in (3, 1, 6):
        states = model.advance(states, np.array([item]))
    whole = model.score(Sessions.from_lists([[3, 1, 6]]))
    np.testing.assert_allclose(model.score_states(states), whole, rtol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "bpr_max"])
@pytest.mark.parametrize("tie", ["tied", "separate", "one_hot"])
def test_a_cycle_is_learned_and_progress_reaches_the_end(loss, tie):
    told = []
    config = GRU4RecConfig(
        units=(16,), batch_size=4, n_sample=8, epochs=6, learning_rate=0.2, loss=loss, input=tie
    )
    model = GRU4Rec(config).fit(
        Sessions.from_lists([[i % 7, (i + 1) % 7, (i + 2) % 7] for i in range(200)]),
        n_items=N_ITEMS,
        rng=np.random.default_rng(0),
        progress=lambda done, total, note="": told.append((done, total, note)),
    )
    best = model.score(Sessions.from_lists([[i] for i in range(7)])).argmax(axis=1)
    np.testing.assert_array_equal(best, (np.arange(7) + 1) % 7)
    assert model.losses[-1] < model.losses[0]
    assert told[-1][0] == told[-1][1]
    assert "loss" in told[-1][2]


def test_without_negatives_a_lone_lane_is_passed_over():
    model = fitted(batch_size=2, n_sample=0)
    assert np.isfinite(model.score(SESSIONS)).all()


def test_items_that_training_never_saw_share_the_lowest_score():
    model = GRU4Rec(GRU4RecConfig(units=(4,), batch_size=2, n_sample=4))
    model.fit(Sessions.from_lists([[5, 1, 3], [3, 1]]), n_items=8, rng=np.random.default_rng(0))
    scores = model.score(Sessions.from_lists([[1], []]))
    for row in scores:
        assert set(np.flatnonzero(row == row.min())) >= {0, 2, 4, 6, 7}


def test_sessions_of_one_event_cannot_train():
    with pytest.raises(MomentaryError, match="no next item"):
        GRU4Rec().fit(Sessions.from_lists([[0], [1]]), n_items=2, rng=np.random.default_rng(0))


def test_divergence_is_named():
    config = GRU4RecConfig(units=(4,), batch_size=2, n_sample=2, learning_rate=99, epochs=1)
    trainer = _Trainer(config, counts=np.ones(7, int), rng=np.random.default_rng(0))
    trainer.network.biases[:] = float("nan")
    with pytest.raises(MomentaryError, match="learning_rate"):
        trainer.walk(SessionParallel.plan(SESSIONS, batch_size=2))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("units", ()),
        ("units", (0,)),
        ("input", "none"),
        ("loss", "mse"),
        ("batch_size", 0),
        ("n_sample", -1),
        ("epochs", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("momentum", 1),
        ("dropout_hidden", 1),
        ("sample_alpha", 2),
    ],
)
def test_bad_settings_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        GRU4RecConfig(**{setting: value})


TRAINING = """
import sys
from pathlib import Path
import numpy as np
from momentary.learn.checkpoint import Checkpoints
from momentary.learn.course import Course
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
from momentary.types import Sessions

folder, holdout = Path(sys.argv[1]), float(sys.argv[2])
chance = np.random.default_rng(5)
sessions = Sessions.from_lists([chance.integers(40, size=6) for _ in range(900)])
config = GRU4RecConfig(
    units=(9, 8), input="separate", embedding=7, dropout_embedding=0.2, momentum=0.3,
    batch_size=5, n_sample=20, epochs=3,
)
kept = Checkpoints(folder / "kept", every_s=0, announce=lambda text: print("resumed", flush=True))
model = GRU4Rec(config).train(
    sessions,
    n_items=40,
    rng=np.random.default_rng(1),
    progress=lambda done, total, note="": print("at", done, flush=True),
    course=Course(holdout=holdout, patience=5, checkpoints=kept if len(sys.argv) > 3 else None),
)
losses = np.array(model.record.losses + model.record.qualities)
np.savez(folder / "weights.npz", losses=losses, **model.state())
"""


@pytest.mark.parametrize("holdout", ["0", "0.1"])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, holdout):
    def run(folder, *, kept, kill_at=None):
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", TRAINING, str(folder), holdout, *(["kept"] * kept)]
        said = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                said.append(line.strip())
                if kill_at is not None and len(said) == kill_at:
                    process.send_signal(signal.SIGKILL)
        assert (process.returncode == 0) == (kill_at is None)
        return said

    run(tmp_path / "whole", kept=False)
    killed = tmp_path / "killed"
    for kill_at in (4, 9):  # once in the first epoch, and again, taken up, in the second
        run(killed, kept=True, kill_at=kill_at)
        assert [file.suffix for file in (killed / "kept").glob("*.safetensors")]
    said = run(killed, kept=True)
    assert said[0] == "resumed"
    first = int(said[1].split()[1])
    assert first > 900  # of 2,700 steps
    expected, found = (dict(np.load(each / "weights.npz")) for each in (tmp_path / "whole", killed))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert not list((killed / "kept").glob("*.safetensors"))


def cycle(visits=400, n_items=9):
    return Sessions.from_lists([[(i + step) % n_items for step in range(4)] for i in range(visits)])


def test_several_workers_learn_the_same_world():
    config = GRU4RecConfig(units=(16,), batch_size=4, n_sample=8, epochs=6, learning_rate=0.2)
    told = []
    model = GRU4Rec(config).train(
        cycle(),
        n_items=9,
        rng=np.random.default_rng(0),
        progress=lambda *said: told.append(said),
        course=Course(workers=3),
    )
    best = model.score(Sessions.from_lists([[i] for i in range(9)])).argmax(axis=1)
    np.testing.assert_array_equal(best, (np.arange(9) + 1) % 9)
    assert told[-1][0] == told[-1][1] == 6 * 3 * 102  # 3 plans of 134 or 133 sessions, 4 lanes
    assert model.losses[-1] < model.losses[0]


def test_several_workers_share_tables_and_agree_on_layers():
    config = GRU4RecConfig(units=(5,), batch_size=3, n_sample=4, input="separate", embedding=4)
    sessions = cycle(visits=60)
    crew = _Crew(config, sessions, numbers=np.arange(9), rng=np.random.default_rng(0), workers=2)
    with crew:
        first, second = crew.workers
        assert first.network.items is second.network.items
        assert first.network.layers[0].u is not second.network.layers[0].u
        assert first.rng is not second.rng
        assert sum(len(plan.targets) for plan in crew.plans) == 180
        crew.begin(0)
        before = first.network.layers[0].u.copy()
        while crew.walk():
            pass
        np.testing.assert_array_equal(first.network.layers[0].u, second.network.layers[0].u)
        assert (first.network.layers[0].u != before).any()
        memory = crew.memory()
    other = _Crew(config, sessions, numbers=np.arange(9), rng=np.random.default_rng(9), workers=2)
    with other:
        for name, array in other.weights().items():
            array[...] = crew.weights()[name]
        other.remember(memory)
        for mine, theirs in zip(other.workers, crew.workers, strict=True):
            np.testing.assert_array_equal(mine.network.layers[0].w, theirs.network.layers[0].w)
            assert mine.rng.random() == theirs.rng.random()
            for name, optimizer in mine.optimizers.items():
                np.testing.assert_array_equal(optimizer.squares, theirs.optimizers[name].squares)


def test_what_is_held_out_judges_and_is_not_learned():
    sessions = cycle()
    taught = sessions.take(np.arange(360))
    config = GRU4RecConfig(units=(8,), batch_size=4, n_sample=4, epochs=3)
    seen = []

    def note(epoch, model):
        seen.append((epoch, model().score(Sessions.from_lists([[1, 2]]))))

    course = Course(holdout=0.1, patience=3, on_epoch=note)
    held = GRU4Rec(config).train(sessions, n_items=9, rng=np.random.default_rng(2), course=course)
    alone = GRU4Rec(config).fit(taught, n_items=9, rng=np.random.default_rng(2))
    assert len(held.record.qualities) == 3
    assert held.losses == alone.losses
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    best = seen[held.record.best_epoch - 1][1]
    np.testing.assert_array_equal(held.score(Sessions.from_lists([[1, 2]])), best)
    with pytest.raises(MomentaryError, match="holdout"):
        GRU4Rec(config).train(
            sessions.take(np.arange(2)),
            n_items=9,
            rng=np.random.default_rng(0),
            course=Course(holdout=0.1),
        )


def test_a_state_travels_as_bytes():
    model = drawn(units=(6, 5))
    state = model.advance(model.advance(model.start(1), np.array([3])), np.array([1]))
    sent = state.tobytes()
    assert len(sent) == 4 * 11
    arrived = np.frombuffer(sent, dtype=np.float32).reshape(1, -1)
    np.testing.assert_array_equal(
        model.score_states(model.advance(arrived, np.array([6]))),
        model.score_states(model.advance(state, np.array([6]))),
    )
