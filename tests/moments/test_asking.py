"""What-if, plans and concepts: predictions, refusals, sizes, alarms, directions."""

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.concepts import learn_concept
from momentary.moments.plan import PlanConfig, anytime_lift, plan, power, sample_ratio_p
from momentary.moments.results import read_table, write_table
from momentary.moments.whatif import predict
from tests.moments.pictures import made_up_table, measured


@pytest.fixture(scope="module")
def table():
    return made_up_table(measured())


def test_a_table_survives_its_file(table, tmp_path):
    write_table(table, tmp_path / "t.json")
    assert read_table(tmp_path / "t.json").fits == table.fits
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match="not an effects table"):
        read_table(tmp_path / "bad.json")


def test_lift_is_the_sum_of_what_moved(table):
    before = {scale.attribute: scale.mean for scale in table.scales}
    first, last = table.scales[0], table.scales[-1]
    after = before | {
        first.attribute: first.mean + first.sd,
        last.attribute: last.mean + 0.5 * last.sd,
    }
    lift = predict(table, "click", before=before, after=after)
    assert lift.interval.percent == pytest.approx(100 * np.expm1(0.12 - 0.05))
    reach = 1.959964 * np.sqrt(0.0004 * (1 + 0.25))
    assert lift.interval.low == pytest.approx(100 * np.expm1(0.07 - reach), abs=1e-4)


def test_outside_the_observed_range_there_is_no_number(table):
    before = {scale.attribute: scale.mean for scale in table.scales}
    lift = predict(table, "click", before=before, after=before | {"brightness": 2.0})
    assert lift.interval is None
    assert "outside the range" in lift.words
    with pytest.raises(DataError, match="give a number"):
        predict(table, "click", before={}, after=before)


def test_a_planned_test_has_its_power():
    made = plan(PlanConfig(rate=0.1, lift=20.0))
    rng = np.random.default_rng(0)
    old = rng.binomial(made.old_exposures, 0.10, 4000) / made.old_exposures
    new = rng.binomial(made.new_exposures, 0.12, 4000) / made.new_exposures
    error = np.sqrt(old * (1 - old) / made.old_exposures + new * (1 - new) / made.new_exposures)
    assert (np.abs(new - old) / error > 1.96).mean() == pytest.approx(0.8, abs=0.03)
    total = made.old_exposures + made.new_exposures
    assert power(made.config, exposures=total) == pytest.approx(0.8, abs=0.01)
    grouped = plan(PlanConfig(rate=0.1, lift=20.0, per_user=5, alike=0.1))
    assert grouped.old_exposures == pytest.approx(1.4 * made.old_exposures, rel=0.01)
    with pytest.raises(ValueError, match="not 0"):
        PlanConfig(rate=0.1, lift=0)


def test_the_sample_ratio_alarm_holds_under_peeking_and_sees_faults():
    rng = np.random.default_rng(1)
    looks = np.arange(1_000, 60_001, 1_000)

    def alarms(share, runs):
        heads = rng.binomial(1_000, share, (runs, len(looks))).cumsum(axis=1)
        return np.mean(
            [
                any(
                    sample_ratio_p([int(a), int(n - a)], shares=[0.5, 0.5]) < 0.01
                    for a, n in zip(row, looks, strict=True)
                )
                for row in heads
            ]
        )

    assert alarms(0.5, 200) <= 0.03
    assert alarms(0.52, 60) >= 0.99


def test_intervals_hold_at_every_look():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(150):
        old = rng.binomial(500, 0.1, 40).cumsum()
        new = rng.binomial(500, 0.11, 40).cumsum()
        exposures = 500 * np.arange(1, 41)
        found = [
            anytime_lift((int(a), int(n)), (int(b), int(n)))
            for a, b, n in zip(old, new, exposures, strict=True)
        ]
        held += all(each.low <= 10.0 <= each.high for each in found)
    assert held / 150 >= 0.95
    with pytest.raises(ValueError, match="wait"):
        anytime_lift((0, 10), (1, 10))


def test_a_concept_is_found_and_noise_is_not():
    rng = np.random.default_rng(3)
    before = rng.normal(size=(80, 32))
    step = np.zeros(32)
    step[4] = 1.0
    after = before + step + rng.normal(scale=0.3, size=before.shape)
    concept = learn_concept(before, after, rng=rng)
    assert concept.direction[4] > 0.9
    assert concept.agreement > 0.95
    assert concept.p < 0.05
    found = [
        learn_concept(before, before + rng.normal(size=before.shape), rng=rng).p < 0.05
        for _ in range(60)
    ]
    assert np.mean(found) < 0.15
    assert len(ATTRIBUTES) == 16
