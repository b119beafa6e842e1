import numpy as np
import pytest

from momentary.data.sessions import SessionLog
from momentary.data.splits import split_at
from momentary.data.vocabulary import Vocabulary
from momentary.errors import DataError
from momentary.evaluation.trials import TrialConfig, queries_of, run_trial
from momentary.models.artifact import make
from momentary.types import Sessions

DAY = 86_400_000_000
N_ITEMS = 12


def world(visits=240):
    """Six visitors; each always walks up the item numbers, three at a time. Simulated."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, N_ITEMS, visits)
    lists = [[(start + step) % N_ITEMS for step in range(5)] for start in starts]
    times = [[day * DAY // 4 + step for step in range(5)] for day in range(visits)]
    return SessionLog(
        sessions=Sessions.from_lists(lists, times_us=times, users=np.arange(visits) % 6),
        items=Vocabulary([f"i{n}" for n in range(N_ITEMS)]),
        visitors=Vocabulary([f"u{n}" for n in range(6)]),
    )


SPLIT = split_at(world(), 50 * DAY)


def test_the_model_that_fits_the_world_wins_and_chance_is_told_from_skill():
    told = []
    trial = run_trial(
        SPLIT,
        {"rules": make("sequential_rules"), "popularity": make("popularity")},
        config=TrialConfig(cutoffs=(1, 3)),
        progress=lambda what: lambda *_: told.append(what),
    )
    board = trial.boards["next_item"]
    assert [row.model for row in board.rows] == ["rules", "popularity"]
    assert board.rows[0].metrics["recall@1"].value == 1.0
    assert board.rows[1].real
    assert set(trial.fit_seconds) == {"rules", "popularity"}
    assert any("popularity" in what for what in told)


def test_every_task_asks_about_the_same_future():
    config = TrialConfig(tasks=("next_item", "completion", "next_basket"))
    trial = run_trial(SPLIT, {"knn": make("item_knn")}, config=config)
    assert set(trial.boards) == set(config.tasks)
    assert trial.boards["next_item"].queries == 4 * len(SPLIT.test.sessions)
    assert trial.boards["completion"].queries == len(SPLIT.test.sessions)
    assert trial.boards["next_basket"].queries == 6


def test_completion_never_lists_what_is_shown():
    config = TrialConfig(tasks=("completion",), cutoffs=(N_ITEMS,))
    trial = run_trial(SPLIT, {"knn": make("item_knn")}, config=config)
    assert trial.boards["completion"].rows[0].metrics[f"recall@{N_ITEMS}"].value == 1.0


def test_a_draw_of_queries_is_a_part_of_all_and_repeats_itself():
    every = queries_of(SPLIT, "next_item")
    some = [queries_of(SPLIT, "next_item", config=TrialConfig(max_queries=50)) for _ in range(2)]
    assert len(some[0]) == 50
    np.testing.assert_array_equal(some[0].target_items, some[1].target_items)
    known = {(every.groups[r], every.history.last_times_us[r]): r for r in range(len(every))}
    for row in range(50):
        same = known[some[0].groups[row], some[0].history.last_times_us[row]]
        assert some[0].targets(row).tolist() == every.targets(same).tolist()
        assert some[0].history.session(row).tolist() == every.history.session(same).tolist()


def test_a_basket_that_crosses_the_cut_is_not_the_next_basket():
    log = SessionLog(
        sessions=Sessions.from_lists(
            [[0, 1], [0, 1], [1, 0]], times_us=[[1, 2], [4, 6], [8, 9]], users=[0, 0, 0]
        ),
        items=Vocabulary(["a", "b"]),
        visitors=Vocabulary(["u"]),
    )
    queries = queries_of(split_at(log, 5), "next_basket")
    assert queries.history.session(0).tolist() == [0, 1]
    assert len(queries) == 1


def test_what_cannot_be_asked_is_refused_with_the_reason():
    log = SessionLog(
        sessions=Sessions.from_lists([[0], [0]], times_us=[[1], [9]]),
        items=Vocabulary(["a"]),
        visitors=Vocabulary([]),
    )
    split = split_at(log, 5)
    for task in ("next_item", "completion", "next_basket"):
        with pytest.raises(DataError, match=task):
            queries_of(split, task)


@pytest.mark.parametrize("wrong", [{"tasks": ("guess",)}, {"tasks": ()}, {"max_queries": 0}])
def test_bad_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrialConfig(**wrong)


def test_no_model_is_refused():
    with pytest.raises(ValueError, match="no models"):
        run_trial(SPLIT, {})
