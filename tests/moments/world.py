"""A small made-up shop: pictures with four attributes, one or two of which matter."""

import numpy as np

from momentary.moments.spells import ItemFacts, PictureTable, Spells

NAMES = ("brightness", "warmth", "clutter", "thirds")


def shop(seed, *, effect=0.0, unseen=0.0, changes=0.4, items=300, periods=4, randomized=False):
    """Spells, pictures and facts.

    effect: of brightness, per SD. unseen: how much unmeasured quality moves pictures and clicks.
    changes: chance that an item gets another picture in a period.
    """
    rng = np.random.default_rng(seed)
    quality, hidden = rng.normal(size=(2, items))
    start = rng.normal(size=(items, 4))
    start[:, :2] += 0.7 * quality[:, None] + unseen * hidden[:, None]
    picture = np.zeros((items, periods), dtype=np.int64)
    values = [*start]
    picture[:, 0] = np.arange(items)
    for period in range(1, periods):
        picture[:, period] = picture[:, period - 1]
        for item in np.flatnonzero(rng.random(items) < changes):
            values.append(start[item] + rng.normal(size=4))
            picture[item, period] = len(values) - 1
    table = np.array(values)
    standard = (table - table.mean(0)) / table.std(0)
    exposure = 100 * np.exp(0.3 * rng.normal(size=(items, periods)))
    log_rate = -2 + effect * standard[picture][:, :, 0] + (0.5 * quality + unseen * hidden)[:, None]
    clicks = rng.poisson(exposure * np.exp(log_rate))
    ids = tuple(f"item-{each}" for each in range(items))
    pictures = tuple(f"picture-{each}" for each in range(len(table)))
    spells = Spells(
        item=np.repeat(np.arange(items), periods),
        picture=picture.ravel(),
        period=np.tile(np.arange(periods), items),
        items=ids,
        pictures=pictures,
        exposure={"impression": exposure.ravel()},
        counts={"click": clicks.ravel().astype(float)},
        numbers=np.empty((items * periods, 0)),
        names=(),
        randomized=np.full(items * periods, randomized),
    )
    facts = ItemFacts(
        items=ids,
        category=tuple(f"kind {each % 3}" for each in range(items)),
        numbers=quality[:, None],
        names=("rating",),
    )
    return spells, PictureTable(pictures=pictures, attributes=NAMES, values=table), facts
