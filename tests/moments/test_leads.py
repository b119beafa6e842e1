"""Pictures that follow sales: the numbers stay, with intervals that allow for what shows before."""

import numpy as np

from momentary.moments.effects import EffectsDesign, ImageEffects
from momentary.moments.estimates import Estimate
from momentary.moments.refute import Leads
from momentary.moments.rungs import Rung, allowing
from momentary.moments.spells import PictureTable, Spells


def world(seed, *, items=400, periods=5):
    """After a good period items get a picture with more of `first`; only `second` does anything."""
    rng = np.random.default_rng(seed)
    shock = 0.2 * rng.normal(size=(items, periods))
    shown = rng.normal(size=(items, periods, 3))
    for period in range(1, periods):
        changed = rng.random(items) < 0.5
        shown[:, period, 0] += 3.0 * shock[:, period - 1]
        shown[~changed, period] = shown[~changed, period - 1]
    clicks = rng.poisson(100 * np.exp(-2 + shock + 0.15 * shown[:, :, 1]))
    count = items * periods
    pictures = tuple(map(str, range(count)))
    spells = Spells(
        item=np.repeat(np.arange(items), periods),
        picture=np.arange(count),
        period=np.tile(np.arange(periods), items),
        items=tuple(map(str, range(items))),
        pictures=pictures,
        exposure={"impression": np.full(count, 100.0)},
        counts={"click": clicks.ravel().astype(float)},
        numbers=np.empty((count, 0)),
        names=(),
        randomized=np.zeros(count, dtype=np.bool_),
    )
    names = ("first", "second", "third")
    return spells, PictureTable(pictures=pictures, attributes=names, values=shown.reshape(count, 3))


def test_what_follows_sales_is_not_called_an_effect_and_what_works_still_is():
    design = EffectsDesign(outcomes=("click",), curves=False)
    for seed in range(3):
        fitted = ImageEffects(design).fit(*world(seed))
        table = fitted.table()
        effects = {each.attribute: each for each in table.effects}
        assert fitted.fits["click"].ladder.leads < 0.001
        assert any("as large a difference" in each for each in table.warnings)
        assert not effects["first"].discovered
        assert effects["first"].low < 0 < effects["first"].high
        assert effects["second"].discovered
        assert effects["second"].rung == 3
        assert effects["second"].low < 100 * np.expm1(0.15) < effects["second"].high


def test_an_interval_is_as_much_wider_as_the_lead_is_large():
    rng = np.random.default_rng(0)
    clusters = np.arange(200)

    def estimate(values):
        return Estimate(
            coefficients=np.array(values),
            influence=0.002 * rng.normal(size=(200, 2)),
            clusters=clusters,
            effective=np.full(2, 100.0),
        )

    own = Rung(estimate=estimate([0.3, 0.1]), columns=np.array([0, 2]))
    leads = Leads(p=0.0, estimate=estimate([0.2, 0.0]), columns=np.array([2, 3]))
    wide = allowing(own, leads)
    # No lead of the first attribute is known; that of the second is .2.
    assert wide.columns.tolist() == [2]
    low, high = wide.estimate.interval(0.95)
    assert wide.estimate.coefficients[0] == 0.1
    assert 0.2 < (high - low)[0] / 2 < 0.2 + 3 * own.estimate.errors[1]
