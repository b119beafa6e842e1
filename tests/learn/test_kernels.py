"""The small compiled parts: functions, dropout, rows, the GRU cell, ranks."""

import numpy as np
import pytest

from momentary.learn.arithmetic import exp, kernel, sigmoid, tanh
from momentary.learn.dropout import Dropout
from momentary.learn.gru import Cell, CellPass
from momentary.learn.ranking import rank_and_list, rank_blocks
from momentary.learn.tables import gather


@kernel
def over(x, found):
    for i in range(len(x)):
        found[0, i] = exp(x[i])
        found[1, i] = sigmoid(x[i])
        found[2, i] = tanh(x[i])


def test_functions_are_as_exact_as_their_numbers():
    x = np.linspace(-86, 87, 100_001, dtype=np.float32)
    found = np.empty((3, len(x)), dtype=np.float32)
    over(x, found)
    true = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(found[0], true, rtol=2e-7)
    np.testing.assert_allclose(found[1], true / (1 + true), rtol=4e-7)
    np.testing.assert_allclose(found[2], np.tanh(x.astype(np.float64)), atol=3e-7)


def test_functions_keep_nan_and_end_softly():
    x = np.array([np.nan, -np.inf, np.inf], dtype=np.float32)
    found = np.empty((3, 3), dtype=np.float32)
    over(x, found)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_allclose(found[1:, 1:], [[0, 1], [-1, 1]], atol=1e-30)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_dropout_keeps_the_mean(share):
    dropout = Dropout(share, rng=np.random.default_rng(0))
    masks = np.empty((50, 33, 41), dtype=np.float32)
    for mask in masks:
        dropout.fill(mask)
    assert set(np.unique(masks)) <= {0.0, np.float32(1 / (1 - share))}
    assert (masks == 0).mean() == pytest.approx(share, abs=0.01)
    if share:
        assert (masks[0] != masks[1]).any()


def test_rows_are_gathered():
    table = np.arange(70, dtype=np.float32).reshape(10, 7)
    rows = np.array([9, 0, 3, 3, 9, 1, 2, 0])
    taken = np.empty((8, 7), dtype=np.float32)
    gather(table, rows, taken)
    np.testing.assert_array_equal(taken, table[rows])


@pytest.mark.parametrize("width", [3, 0])
def test_the_way_there_is_the_step_of_serving(width):
    rng = np.random.default_rng(0)
    cell = Cell.random(width=width, units=5, rng=rng)
    cell.b += rng.normal(size=15).astype(np.float32)
    cell.c += rng.normal(size=15).astype(np.float32)
    inputs = rng.normal(size=(4, width or 15)).astype(np.float32)
    forth = CellPass(cell, 4)
    forth.hidden[:] = rng.normal(size=(4, 5))
    expected = cell.step(inputs, forth.hidden)
    np.testing.assert_allclose(forth.forward(inputs), expected, atol=1e-6)


def test_ranks_are_counted_in_the_scores_themselves():
    rng = np.random.default_rng(0)
    vectors = rng.integers(-2, 3, size=(2900, 3)).astype(np.float32)  # whole numbers: many ties
    biases = rng.integers(-2, 3, size=2900).astype(np.float32)
    hidden = rng.integers(-2, 3, size=(700, 3)).astype(np.float32)
    targets = rng.integers(2900, size=700)
    scores = hidden @ vectors.T + biases
    expected = (scores >= scores[np.arange(700), targets][:, None]).sum(axis=1)
    ranks = rank_blocks(hidden, vectors, biases, targets=targets)
    np.testing.assert_array_equal(ranks, expected)
    biases[7] = -np.inf
    last = rank_blocks(hidden[:2], vectors, biases, targets=np.array([7, 7]))
    np.testing.assert_array_equal(last, [2900, 2900])


def test_a_rank_counts_the_target_itself_however_its_product_is_rounded():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(1500, 37)).astype(np.float32)
    hidden = rng.normal(size=(600, 37)).astype(np.float32)
    biases = rng.normal(size=1500).astype(np.float32)
    targets = rng.integers(1500, size=600)
    exact = hidden.astype(np.float64) @ vectors.T.astype(np.float64) + biases
    expected = (exact >= exact[np.arange(600), targets][:, None]).sum(axis=1)
    ranks = rank_blocks(hidden, vectors, biases, targets=targets)
    assert (ranks == expected).mean() > 0.99  # near-ties fall either way in float32
    assert np.abs(ranks - expected).max() <= 1
    assert ranks.min() >= 1


def test_a_target_without_a_score_is_refused():
    ones = np.ones((2, 1), dtype=np.float32)
    with pytest.raises(ValueError, match="target 1 is NaN"):
        rank_blocks(ones, ones, np.array([0, np.nan], dtype=np.float32), targets=np.array([0, 1]))


def test_lists_hold_the_best_items_in_the_order_of_ties():
    rng = np.random.default_rng(2)
    vectors = rng.integers(-2, 3, size=(1300, 3)).astype(np.float32)
    biases = rng.integers(-2, 3, size=1300).astype(np.float32)
    hidden = rng.integers(-2, 3, size=(530, 3)).astype(np.float32)
    rows = np.sort(rng.integers(530, size=900))
    targets = rng.integers(1300, size=900)
    ranks, lists = rank_and_list(hidden, vectors, biases, rows=rows, targets=targets, k=7)
    scores = hidden @ vectors.T + biases
    expected = (scores[rows] >= scores[rows, targets][:, None]).sum(axis=1)
    np.testing.assert_array_equal(ranks, expected)
    np.testing.assert_array_equal(lists, np.argsort(-scores, axis=1, kind="stable")[:, :7])
    short = rank_and_list(
        hidden[:2], vectors[:3], biases[:3], rows=rows[:0], targets=targets[:0], k=5
    )[1]
    np.testing.assert_array_equal(short[:, :3], np.argsort(-scores[:2, :3], axis=1, kind="stable"))
    assert (short[:, 3:] == -1).all()
