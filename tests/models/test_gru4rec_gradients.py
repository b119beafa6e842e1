"""The gradients written by hand against automatic differentiation."""

import itertools

import numpy as np
import pytest
import torch

from momentary.data.batches import SessionParallel
from momentary.learn.threads import one_blas_thread
from momentary.models.gru4rec import GRU4RecConfig, _Trainer
from momentary.types import Sessions
from tests.models.gru4rec_reference import Reference

N_ITEMS = 60

OPTIONS = {
    "tied": {},
    "tied_bpr": {"loss": "bpr_max"},
    "no_logq": {"logq": 0.0},
    "half_logq": {"logq": 0.5, "sample_alpha": 0.0},
    "linear_bpr": {"loss": "bpr_max", "elu": 0.0, "regularization": 0.3},
    "separate": {"input": "separate", "embedding": 7},
    "separate_bpr": {"input": "separate", "embedding": 7, "loss": "bpr_max", "units": (9, 6)},
    "one_hot": {"input": "one_hot"},
    "one_hot_two_layers": {"input": "one_hot", "units": (9, 6), "loss": "bpr_max"},
    "three_layers": {"units": (8, 9, 6)},
    "no_dropout": {"dropout_embedding": 0.0, "dropout_hidden": 0.0},
    "no_momentum": {"momentum": 0.0},
    "no_negatives": {"n_sample": 0},
    "no_negatives_bpr": {"n_sample": 0, "loss": "bpr_max"},
    "one_lane": {"batch_size": 1},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with one_blas_thread():
        yield
    torch.set_num_threads(before)


def pair(changes):
    settings = {
        "units": (11,),
        "batch_size": 10,
        "n_sample": 30,
        "dropout_embedding": 0.25,
        "dropout_hidden": 0.3,
        "momentum": 0.3,
        "learning_rate": 0.05,
        **changes,
    }
    rng = np.random.default_rng(7)
    popular = rng.zipf(1.6, size=4000) % N_ITEMS  # named again and again, within a step too
    lengths = rng.integers(2, 7, size=900)
    sessions = Sessions.from_lists(np.split(popular[: lengths.sum()], np.cumsum(lengths)[:-1]))
    counts = np.bincount(sessions.items, minlength=N_ITEMS)
    trainer = _Trainer(GRU4RecConfig(**settings), counts=counts, rng=np.random.default_rng(1))
    plan = SessionParallel.plan(sessions, batch_size=trainer.config.batch_size)
    return trainer, Reference(trainer, counts=counts), plan


def both(trainer, reference, step):
    loss = trainer.step(step)
    batch, candidates = len(step.inputs), trainer.room.candidates
    negatives = trainer.room.rows[batch:candidates].copy()
    return loss, reference.step(step, negatives=negatives, masks=trainer.room.masks)


def gradients(trainer, step):
    """The trainer's gradients, before it moved; duplicates are added up here."""
    room = trainer.room
    found = {
        f"{name}{depth}": gradient
        for depth, layer in enumerate(room.passes)
        for name, gradient in layer.gradients.items()
    }
    named = {"items": (room.rows, room.by_taken)}
    named["biases"] = (room.rows[: room.candidates], room.by_biases)
    if trainer.network.inputs is not None:
        named["inputs"] = (step.inputs, room.by_x)
    for name, (rows, by_rows) in named.items():
        found[name] = np.zeros_like(trainer.network.tables[name])
        np.add.at(found[name], rows, by_rows)
    return found


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_gradients_are_those_of_automatic_differentiation(changes):
    trainer, reference, plan = pair(changes)
    steps = list(itertools.islice(plan, 4))
    for step in steps[:3]:  # so that memories, squares and velocities are not at 0
        both(trainer, reference, step)
    for name, weight in {**trainer.network.dense(), **trainer.network.tables}.items():
        weight[:] = reference.weights[name].detach().numpy()
    trainer.hidden = [hidden.numpy().astype(np.float32) for hidden in reference.hidden]
    trainer.update = lambda _: None
    loss, expected_loss = both(trainer, reference, steps[3])
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    found = gradients(trainer, steps[3])
    assert found.keys() == reference.gradients.keys()
    for name, expected in reference.gradients.items():
        size = expected.abs().max().item()
        # A lone lane at the first click of its session has no memory, so that U has no gradient.
        assert size > 0 or (name.startswith("u") and steps[3].fresh.all()), name
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5 * size, err_msg=name)


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_two_hundred_steps_keep_to_the_reference(changes):
    trainer, reference, plan = pair(changes)
    steps = [step for step in plan if len(step.inputs) + trainer.config.n_sample > 1][:200]
    losses = np.array([both(trainer, reference, step) for step in steps])
    assert len(losses) == 200
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-4)
    for name, weight in {**trainer.network.dense(), **trainer.network.tables}.items():
        expected = reference.weights[name].detach().numpy()
        np.testing.assert_allclose(weight, expected, atol=2e-3, err_msg=name)


def test_the_last_lanes_of_an_epoch_shrink_the_step():
    trainer, reference, plan = pair({})
    widths = [len(step.inputs) for step in plan]
    assert widths[0] == 10
    assert widths[-1] < 10
    losses = [both(trainer, reference, step) for step in plan]
    np.testing.assert_allclose(*np.array(losses[-8:]).T, rtol=1e-3)
