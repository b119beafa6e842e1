import json
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from test_trials import SPLIT

from momentary.errors import SettingsError
from momentary.evaluation import tuning
from momentary.evaluation.tuning import SPACES, Choice, Range, TuneConfig, read_settings, tune
from momentary.models.artifact import KINDS, make

CONFIG = TuneConfig(trials=4, max_queries=60)


def ends(space):
    return (
        (space.values[0], space.values[-1])
        if isinstance(space, Choice)
        else (
            space.low,
            space.high,
        )
    )


def test_every_model_has_a_space():
    assert set(SPACES) == set(KINDS)


@pytest.mark.parametrize("kind", SPACES)
def test_every_space_holds_settings_that_the_model_takes(kind):
    assert kind in KINDS
    space = SPACES[kind]
    known = {field.name for field in fields(make(kind).config)}
    assert set(space) <= known
    for end in (0, 1):
        make(kind, {name: ends(each)[end] for name, each in space.items()})


def test_a_search_goes_on_where_it_stopped_and_finds_the_better_setting(tmp_path):
    journal = tmp_path / "tuning.sqlite"
    told = []
    first = tune("sequential_rules", SPLIT, journal=journal, config=CONFIG)
    assert first.trials == 4
    more = tune(
        "sequential_rules",
        SPLIT,
        journal=journal,
        config=TuneConfig(trials=6, max_queries=60),
        progress=lambda done, total, note="": told.append((done, total, note)),
    )
    assert [done for done, *_ in told] == [5, 6]
    assert "mrr@20" in told[-1][2]
    assert more.trials == 6
    assert more.metrics["mrr@20"] >= first.metrics["mrr@20"]
    again = tune("sequential_rules", SPLIT, journal=journal, config=CONFIG)
    assert again.settings == more.settings
    assert again.trials == 6


def test_the_first_trial_has_the_defaults(tmp_path):
    found = tune("sequential_rules", SPLIT, journal=tmp_path / "t.sqlite", config=CONFIG)
    assert found.tried[0].settings == {"steps": make("sequential_rules").config.steps}
    assert len({each.settings["steps"] for each in found.tried}) > 1


def test_another_question_is_another_search(tmp_path):
    journal = tmp_path / "tuning.sqlite"
    tune("popularity", SPLIT, journal=journal, config=CONFIG)
    other = TuneConfig(trials=1, max_queries=60, metric="recall")
    assert tune("popularity", SPLIT, journal=journal, config=other).trials == 1


def test_found_settings_go_through_toml_to_the_model(tmp_path):
    found = tune("popularity", SPLIT, journal=tmp_path / "t.sqlite", config=CONFIG)
    file = tmp_path / "popularity.toml"
    file.write_text(found.to_toml())
    assert "recall@20" in file.read_text().splitlines()[0]
    model = make("popularity", read_settings(file)["popularity"])
    assert model.config.half_life_days == found.settings["half_life_days"]


def test_lists_and_words_are_written_as_toml():
    from momentary.evaluation.tuning import Tuned

    text = Tuned(
        kind="gru4rec", settings={"units": (64, 32), "loss": "bpr_max"}, metrics={}, trials=1
    ).to_toml()
    assert tomllib.loads(text) == {"gru4rec": {"units": [64, 32], "loss": "bpr_max"}}


def test_bad_requests_name_the_remedy(tmp_path):
    with pytest.raises(SettingsError, match="no search space for 'magic'"):
        tune("magic", SPLIT, journal=tmp_path / "t.sqlite", config=CONFIG)
    with pytest.raises(SettingsError, match="check the path"):
        read_settings(tmp_path / "none.toml")
    (tmp_path / "flat.toml").write_text("epochs = 3")
    with pytest.raises(SettingsError, match=r"epochs.*outside a table"):
        read_settings(tmp_path / "flat.toml")
    with pytest.raises(ValueError, match="trials is 0"):
        TuneConfig(trials=0)


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_network_that_falls_behind_is_given_up_after_an_epoch(tmp_path, monkeypatch):
    space = {
        "learning_rate": Range(1e-7, 0.3, log=True),  # most of which learns nothing
        "units": Choice(((8,),)),
        "batch_size": Choice((8,)),
        "n_sample": Choice((8,)),
        "epochs": Choice((5,)),
    }
    monkeypatch.setitem(SPACES, "gru4rec", space)
    config = TuneConfig(trials=14, max_queries=60)
    found = tune("gru4rec", SPLIT, journal=tmp_path / "t.sqlite", config=config)
    pruned = [each for each in found.tried if each.outcome == "pruned"]
    done = [each for each in found.tried if each.outcome == "done"]
    assert pruned
    assert len(pruned) + len(done) == found.trials == 14
    assert min(len(each.reports) for each in pruned) < 5
    assert all(len(each.reports) == 5 and each.metrics for each in done)
    assert found.metrics["mrr@20"] == max(each.metrics["mrr@20"] for each in done)
    assert max(each.reports[-1] for each in pruned) < found.metrics["mrr@20"]
    written = lines(found.log)
    assert [each["outcome"] for each in written] == [each.outcome for each in found.tried]
    assert written[0]["settings"]["units"] == [8]
    assert all(each["seconds"] > 0 for each in written)
    every = tune(
        "gru4rec",
        SPLIT,
        journal=tmp_path / "whole.sqlite",
        config=TuneConfig(trials=6, max_queries=60, prune=False),
    )
    assert [len(each.reports) for each in every.tried] == [5] * 6


def test_a_model_without_epochs_is_judged_on_the_newest_sessions_first(tmp_path, monkeypatch):
    monkeypatch.setitem(SPACES, "popularity", {"half_life_days": Range(1e-3, 1e3, log=True)})
    fitted = []
    made = tuning.make("popularity")
    learn = type(made).fit

    def fit(self, sessions, **named):
        fitted.append(len(sessions))
        return learn(self, sessions, **named)

    monkeypatch.setattr(type(made), "fit", fit)
    config = TuneConfig(trials=12, max_queries=60)
    found = tune("popularity", SPLIT, journal=tmp_path / "t.sqlite", config=config)
    n_sessions = len(SPLIT.train.sessions)
    done = sum(each.outcome == "done" for each in found.tried)
    assert sum(each.outcome == "pruned" for each in found.tried) == 12 - done > 0
    assert set(fitted) == {-(-n_sessions // 10), -(-3 * n_sessions // 10), n_sessions}
    assert fitted.count(-(-n_sessions // 10)) == 12
    assert fitted.count(n_sessions) < 12
    whole = TuneConfig(trials=2, max_queries=60, prune=False)
    fitted.clear()
    tune("popularity", SPLIT, journal=tmp_path / "whole.sqlite", config=whole)
    assert fitted == [n_sessions] * 2


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_trials import SPLIT
from momentary.evaluation import tuning

asked = []
ask = tuning.replay

def replay(*given, **named):
    asked.append(1)
    if len(asked) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(*given, **named)

tuning.replay = replay
config = tuning.TuneConfig(trials=5, max_queries=60, prune=False)
tuning.tune("sequential_rules", SPLIT, journal=Path(sys.argv[1]), config=config)
"""


def test_a_killed_search_goes_on_with_the_trial_it_was_at(tmp_path):
    journal = tmp_path / "t.sqlite"
    command = [sys.executable, "-c", KILLED, str(journal), str(Path(__file__).parent)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(lines(tmp_path / "t-sequential_rules.jsonl")) == 2
    config = TuneConfig(trials=5, max_queries=60, prune=False)
    found = tune("sequential_rules", SPLIT, journal=journal, config=config)
    assert [each.number for each in found.tried] == [0, 1, 3, 4, 5]  # 2 was killed
    import optuna

    storage = f"sqlite:///{journal}"
    (study,) = optuna.load_study(study_name=None, storage=storage).trials[2:3]
    assert found.tried[2].settings == study.params
    assert len(lines(found.log)) == 5


def test_a_search_that_goes_on_draws_anew(tmp_path):
    journal = tmp_path / "t.sqlite"
    for trials in (1, 2, 3, 4):
        config = TuneConfig(trials=trials, max_queries=60, prune=False)
        found = tune("item_knn", SPLIT, journal=journal, config=config)
    assert len({each.settings["shrinkage"] for each in found.tried}) == 4
