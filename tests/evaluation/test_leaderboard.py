"""The leaderboard: order, verdicts that do not overclaim, and its three forms."""

import json

import numpy as np
import pytest
from rich.console import Console

from momentary.evaluation.leaderboard import (
    ItemFacts,
    Leaderboard,
    LeaderboardConfig,
    beyond_accuracy,
)
from momentary.evaluation.replay import Outcome

QUERIES = 600


def outcome(seed, *, hits, n_items=100, queries=QUERIES, **changes):
    """A model that finds the target among the first 20 with probability `hits`."""
    rng = np.random.default_rng(seed)
    found = rng.random(queries) < hits
    fields = {
        "ranks": np.where(found, rng.integers(1, 21, size=queries), n_items),
        "target_items": np.arange(queries) % n_items,
        "target_offsets": np.arange(queries + 1),
        "groups": np.arange(queries) // 3,
        "lists": rng.integers(n_items, size=(queries, 20)).astype(np.int32),
        "cutoffs": (5, 10, 20),
        "n_items": n_items,
        "score_seconds": 1.2,
    }
    return Outcome(**(fields | changes))


def board(outcomes, **options):
    return Leaderboard.of(outcomes, rng=np.random.default_rng(0), **options)


CLEAR = {
    "popularity": outcome(1, hits=0.1),
    "GRU4Rec": outcome(2, hits=0.7),
    "session kNN": outcome(3, hits=0.5),
}


def test_the_best_comes_first_and_a_clear_win_is_called_real():
    found = board(CLEAR, fit_seconds={"GRU4Rec": 31.5})
    assert [row.model for row in found.rows] == ["GRU4Rec", "session kNN", "popularity"]
    best, second, last = found.rows
    assert best.verdict.startswith("GRU4Rec wins on Recall@20: +")
    assert best.verdict.endswith(", real")
    assert "over session kNN, 95 % interval" in best.verdict
    assert best.difference is None
    assert best.metrics["recall@20"].value == pytest.approx((CLEAR["GRU4Rec"].ranks <= 20).mean())
    gap = best.metrics["recall@20"].value - second.metrics["recall@20"].value
    assert f"{100 * gap:.1f} points behind GRU4Rec" in second.verdict
    assert second.difference.value == pytest.approx(-gap)
    assert second.difference.low < -gap < second.difference.high < 0
    assert last.real is True
    assert (best.fit_seconds, last.fit_seconds) == (31.5, None)
    assert best.score_ms == pytest.approx(2.0)
    assert (found.queries, found.groups, found.n_items) == (600, 200, 100)


def test_equal_models_are_not_told_apart():
    same = {"a": outcome(5, hits=0.5), "b": outcome(6, hits=0.5), "c": outcome(5, hits=0.5)}
    found = board(same)
    assert "is not distinguishable from" in found.rows[0].verdict
    assert all(row.real is False for row in found.rows)
    assert found.rows[1].verdict.startswith("not distinguishable from")
    assert {row.p_corrected for row in found.rows} != {0.0}


def test_the_best_of_many_equal_models_is_seldom_called_real():
    # Uncorrected, about a third of these would be wrong; 7 of 60 is beyond 1 in 20 by chance.
    wrong = 0
    for seed in range(60):
        equal = {
            str(model): outcome(1000 + 8 * seed + model, hits=0.5, queries=300)
            for model in range(6)
        }
        config = LeaderboardConfig(shown=("recall",), resamples=300)
        wrong += any(row.real for row in board(equal, config=config).rows)
    assert wrong <= 7


def test_another_metric_and_cutoff_may_decide():
    config = LeaderboardConfig(shown=("mrr", "map"), headline_k=5)
    found = board(CLEAR, config=config)
    assert found.headline == "mrr@5"
    assert "wins on MRR@5" in found.title()
    assert list(found.rows[0].metrics) == ["mrr@5", "mrr@10", "mrr@20", "map@5", "map@10", "map@20"]


def test_one_model_alone_makes_no_claim():
    (row,) = board({"solo": outcome(1, hits=0.3)}).rows
    assert (row.difference, row.real, row.p_corrected) == (None, None, None)
    assert row.verdict == "solo is the only model on Recall@20"


def test_beyond_accuracy_needs_lists_and_popularity():
    one = CLEAR["GRU4Rec"]
    assert set(beyond_accuracy(one, k=20)) == {"coverage@20", "gini@20"}
    full = beyond_accuracy(one, k=20, facts=ItemFacts(popularity=np.arange(100)))
    assert set(full) - {"coverage@20", "gini@20"} == {
        "novelty@20",
        "popularity_bias@20",
        "serendipity@20",
    }
    assert full["coverage@20"] == 1.0
    assert full["popularity_bias@20"] == pytest.approx(0.5, abs=0.02)
    unpopular = (one.ranks <= 20) & (one.target_items < 80)
    assert full["serendipity@20"] == pytest.approx(unpopular.mean() / 20)
    assert beyond_accuracy(one, k=50) == {}


def test_categories_tell_how_diverse_the_lists_are():
    one = next(iter(CLEAR.values()))
    same = beyond_accuracy(one, k=5, facts=ItemFacts(categories=np.zeros(100, dtype=int)))
    assert same["diversity@5"] == 0
    distinct = beyond_accuracy(one, k=5, facts=ItemFacts(categories=np.arange(100)))
    assert distinct["diversity@5"] > 0.95  # the simulated lists repeat an item now and then


def test_what_lies_beyond_accuracy_is_told_at_every_cutoff():
    beyond = board(CLEAR).rows[0].beyond
    assert {"coverage@5", "coverage@10", "coverage@20", "gini@5"} <= set(beyond)


def test_json_holds_numbers_and_verdicts():
    found = board(CLEAR, facts=ItemFacts(popularity=np.arange(100)))
    read = json.loads(found.to_json())
    assert read["headline"] == "recall@20"
    assert read["rows"][0]["verdict"] == found.rows[0].verdict
    assert read["rows"][1]["difference"]["high"] < 0
    assert "novelty@20" in read["rows"][2]["beyond"]


def shown(found, *, width, wide):
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        console.print(found.render(wide=wide))
    return captured.get()


def test_the_table_shows_every_model_and_fits_a_small_terminal():
    found = board(CLEAR, fit_seconds={"GRU4Rec": 31.5})
    text = shown(found, width=80, wide=False)
    best = found.rows[0].metrics["recall@20"]
    for part in ("GRU4Rec", "popularity", "NDCG@20", "31.5", "±", f"{best.value:.4f}"):
        assert part in text
    assert "Recall@5" not in text
    assert "…" not in text


def test_a_wide_table_shows_every_cutoff():
    text = shown(board(CLEAR), width=160, wide=True)
    assert "Recall@5" in text
    assert "Recall@10" in text


def test_a_gap_that_may_be_chance_is_marked():
    text = shown(board(CLEAR), width=80, wide=False)
    rows = {row.model: row for row in board(CLEAR).rows}
    for name, row in rows.items():
        line = next(
            line
            for line in text.splitlines()
            if line.split()[:1] == [name.split()[0]] and "±" in line
        )
        assert ("~" in line) == (row.real is False and row.difference is not None)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_a_picture(tmp_path, ending):
    path = tmp_path / f"board.{ending}"
    board(CLEAR).plot(path)
    content = path.read_bytes()
    start = b"\x89PNG" if ending == "png" else b"<?xml"
    assert content.startswith(start)
    assert len(content) > 10_000


def test_different_questions_and_wrong_settings_are_refused():
    other = outcome(2, hits=0.5, target_items=np.zeros(QUERIES, dtype=np.int64))
    with pytest.raises(ValueError, match="were asked different queries"):
        board({"a": CLEAR["GRU4Rec"], "b": other})
    with pytest.raises(ValueError, match="no outcomes"):
        board({})
    with pytest.raises(ValueError, match="headline_k is 7"):
        board(CLEAR, config=LeaderboardConfig(headline_k=7))
    with pytest.raises(ValueError, match="name each metric once"):
        LeaderboardConfig(shown=("recal",))
