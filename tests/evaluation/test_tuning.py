import tomllib
from dataclasses import fields

import pytest
from test_trials import SPLIT

from momentary.errors import SettingsError
from momentary.evaluation.tuning import SPACES, Choice, TuneConfig, read_settings, tune
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
