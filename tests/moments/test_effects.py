from dataclasses import replace

import numpy as np
import pytest

from momentary.errors import DataError, NotFittedError
from momentary.moments.effects import EffectsDesign, ImageEffects
from momentary.moments.results import read_table, write_table
from momentary.moments.rungs import LadderConfig
from momentary.moments.spells import PictureTable
from tests.moments.world import shop


def table_of(drawn, **settings):
    design = EffectsDesign(outcomes=("click",), **settings)
    return ImageEffects(design).fit(*drawn, rng=np.random.default_rng(0)).table()


def named(table, attribute):
    return next(each for each in table.effects if each.attribute == attribute)


def test_a_null_world_finds_nothing():
    found = [table_of(shop(seed), curves=False) for seed in range(8)]
    discovered = [any(each.discovered for each in table.effects) for table in found]
    assert sum(discovered) <= 2
    differs = [any(each.differs for each in table.heterogeneity) for table in found]
    assert sum(differs) <= 2


def test_a_known_effect_is_found_and_survives_its_file(tmp_path):
    table = table_of(shop(1, effect=0.15), placebo_rounds=2)
    effect = named(table, "brightness")
    assert (effect.discovered, effect.rung, effect.refused) == (True, 3, "")
    assert effect.low < 100 * np.expm1(0.15) < effect.high
    assert effect.family_p is not None
    assert effect.family_p < 0.05
    assert "raises clicks per impression" in effect.words
    assert not any(named(table, name).discovered for name in ("warmth", "clutter", "thirds"))
    assert named(table, "warmth").naive.low > 0  # plain correlation is fooled
    curve = next(each for each in table.curves if each.attribute == "brightness")
    assert curve.percent[0] < 0 < curve.percent[-1]
    write_table(table, tmp_path / "effects.json")
    assert read_table(tmp_path / "effects.json") == table


def test_a_confounded_world_climbs_to_the_within_item_rung():
    table = table_of(shop(2, effect=0.15, unseen=0.6))
    assert table.fit("click").rung == 3
    assert table.fit("click").divergence_p < 0.01
    assert named(table, "brightness").discovered
    assert not named(table, "warmth").discovered
    assert any("something unseen" in each for each in table.warnings)


def test_few_changes_are_refused_in_plain_words():
    """A tenth of the pictures changed: enough to see that adjusting fails, not to know better."""
    table = table_of(
        shop(3, unseen=0.6, changes=0.1), ladder=LadderConfig(min_switchers=250), curves=False
    )
    warmth = named(table, "warmth")
    assert warmth.rung == 2  # nothing to check it against ...
    assert "Not enough pictures changed" in warmth.warnings[-1]  # ... and it says so
    spells, pictures, _ = shop(3, unseen=0.6, changes=0.1)
    bare = table_of((spells, pictures), ladder=LadderConfig(min_switchers=250))
    refused = named(bare, "warmth")
    assert refused.rung == 1
    assert not refused.discovered
    assert "not enough pictures changed" in refused.refused


def test_chance_climbs_to_the_highest_rung():
    spells, pictures, facts = shop(4, effect=0.2, randomized=True, items=200)
    both = type(spells)(
        **{
            **{name: getattr(spells, name) for name in spells.__dataclass_fields__},
            # One period, so that every item shows all its pictures at once.
            "period": np.zeros(len(spells), dtype=np.int64),
        }
    )
    effect = named(table_of((both, pictures, facts), curves=False), "brightness")
    assert effect.rung == 4
    assert effect.discovered


def test_near_duplicates_are_merged_and_constants_left_out():
    spells, pictures, facts = shop(5)
    rng = np.random.default_rng(0)
    twin = pictures.values[:, :1] * 3 + 0.1 * rng.normal(size=(len(pictures.pictures), 1))
    flat = np.ones((len(pictures.pictures), 1))
    wider = PictureTable(
        pictures=pictures.pictures,
        attributes=(*pictures.attributes, "twin", "flat"),
        values=np.concatenate([pictures.values, twin, flat], axis=1),
    )
    table = table_of((spells, wider, facts), curves=False)
    assert {frozenset(pair) for pair in table.merged} == {frozenset({"brightness", "twin"})}
    assert any("flat" in each for each in table.warnings)


def test_the_same_seed_gives_the_same_table():
    assert table_of(shop(6)) == table_of(shop(6))


def test_what_cannot_be_analysed_is_refused():
    spells, pictures, facts = shop(7, items=30)
    with pytest.raises(DataError, match="No outcome has enough"):
        table_of((spells, pictures, facts), ladder=LadderConfig(min_events=10**9))
    with pytest.raises(NotFittedError):
        ImageEffects().table()
    with pytest.raises(ValueError, match="no outcome 'smile'"):
        EffectsDesign(outcomes=("smile",))
    fewer = PictureTable(
        pictures=pictures.pictures[1:], attributes=pictures.attributes, values=pictures.values[1:]
    )
    with pytest.raises(DataError, match="not measured"):
        table_of((spells, fewer, facts))


def test_a_shop_too_small_to_adjust_is_told_so_and_keeps_what_it_can_say():
    """Eight attributes, 35 items: double machine learning does not settle on one answer."""
    spells, pictures, facts = shop(0, effect=0.3, unseen=1.0, items=35)
    rng = np.random.default_rng(0)
    more = rng.normal(size=(len(pictures.pictures), 4))
    pictures = PictureTable(
        pictures=pictures.pictures,
        attributes=(*pictures.attributes, "a", "b", "c", "d"),
        values=np.concatenate([pictures.values, more], axis=1),
    )
    loose = LadderConfig(min_switchers=10)
    table = table_of((spells, pictures, facts), curves=False, ladder=loose)
    assert named(table, "brightness").rung == 3
    assert any("Not checked" in each and "too few" in each for each in table.warnings)
    strict = LadderConfig(min_switchers=36)
    refused = table_of((spells, pictures, facts), curves=False, ladder=strict)
    assert not any(each.discovered for each in refused.effects)
    assert "too few items" in named(refused, "brightness").refused
    # With enough items the same question is answered.
    spells, pictures, facts = shop(4, effect=0.3, items=300)
    assert not any(
        "too few to adjust" in each for each in table_of((spells, pictures, facts)).warnings
    )


def test_an_attribute_that_nothing_tells_is_refused_with_valid_numbers(tmp_path):
    """The sum of two others: no rung can tell it, and no number of another is shown for it."""
    spells, pictures, facts = shop(1, effect=0.15)
    both = pictures.values[:, :2].sum(axis=1, keepdims=True)
    wider = PictureTable(
        pictures=pictures.pictures,
        attributes=(*pictures.attributes, "both"),
        values=np.concatenate([pictures.values, both], axis=1),
    )
    table = table_of((spells, wider, facts), merge_above=0.99, curves=False)
    effect = named(table, "both")
    assert (effect.discovered, effect.p, effect.percent) == (False, 1.0, 0.0)
    assert (effect.low, effect.high) == (-100.0, 1e6)
    assert "Nothing can be said" in effect.words
    write_table(table, tmp_path / "effects.json")
    assert read_table(tmp_path / "effects.json") == table
    assert named(table, "brightness").discovered


@pytest.mark.parametrize("events", [8, 15])
def test_a_handful_of_events_is_not_enough(events):
    """Within items each of so few events can be explained perfectly."""
    spells, pictures, facts = shop(2, items=60)
    rng = np.random.default_rng(0)
    few = np.zeros(len(spells))
    few[rng.choice(len(few), events, replace=False)] = 1.0
    rare = replace(spells, counts={"click": few})
    loose = LadderConfig(min_events=5, min_switchers=2)
    table = table_of((rare, pictures, facts), ladder=loose, curves=False, heterogeneity=False)
    for effect in table.effects:
        assert (effect.rung, effect.discovered) == (1, False)
        assert "not enough events" in effect.refused
