"""Drawn pictures and a made-up table of effects: known answers for the visual side."""

import numpy as np

from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.results import (
    OUTCOMES,
    Curve,
    DecisionCard,
    Effect,
    EffectTable,
    Fit,
    Heterogeneity,
    Influence,
    Interval,
    Scale,
    WeeksAround,
)


def drawn(seed, *, height=224, width=168):
    """A textured, coloured shirt-like shape with a second small part on an uneven ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    ground = rng.integers(120, 225, 3)
    image = ground + rng.normal(0, 3, (height, width, 1)) + 8 * np.sin(rows / 40)[..., None]
    centre = np.array([height * rng.uniform(0.4, 0.6), width * rng.uniform(0.35, 0.65)])
    radius = min(height, width) * rng.uniform(0.2, 0.3)
    body = ((rows - centre[0]) / 1.4) ** 2 + (columns - centre[1]) ** 2 < radius**2
    stripes = 25 * np.sin(columns * rng.uniform(0.2, 0.5) + rows * 0.1)[..., None]
    colour = rng.integers(10, 200, 3)
    image = np.where(
        body[..., None], colour + stripes + rng.normal(0, 8, (height, width, 3)), image
    )
    tag = (abs(rows - height * 0.15) < 9) & (abs(columns - width * 0.2) < 9)
    image = np.where(tag[..., None], (colour[::-1] + 60) % 256, image)
    return image.clip(0, 255).astype(np.uint8)


def made_up_table(measured):
    """Effects that nobody estimated, on scales of real measurements; it says simulated."""
    names = list(ATTRIBUTES)
    outcomes = tuple(OUTCOMES[name] for name in ("click", "return"))
    scales = tuple(
        Scale(
            attribute=name,
            label=ATTRIBUTES[name].label,
            unit=ATTRIBUTES[name].unit,
            mean=float(column.mean()),
            sd=float(column.std()) + 1e-9,
            low=float(column.min()),
            high=float(column.max()),
            noisy=name == "text",
        )
        for name, column in zip(names, measured.T, strict=True)
    )
    effects, fits = [], []
    for outcome in outcomes:
        coefficients = np.linspace(0.12, -0.1, len(names))
        for name, value in zip(names, coefficients, strict=True):
            low, high = (100 * np.expm1(value + side * 0.04) for side in (-1, 1))
            effects.append(
                Effect(
                    attribute=name,
                    outcome=outcome.name,
                    rung=3,
                    method="made up",
                    percent=100 * np.expm1(value),
                    low=low,
                    high=high,
                    coefficient=value,
                    standard_error=0.02,
                    p=0.001,
                    q=0.01,
                    discovered=low > 0 or high < 0,
                    words=f"{name} moves {outcome.label}.",
                    robustness=0.2,
                    naive=Interval(percent=9.0, low=8.0, high=10.0),
                )
            )
        fits.append(
            Fit(
                outcome=outcome.name,
                rung=3,
                method="made up",
                attributes=tuple(names),
                coefficients=tuple(coefficients.tolist()),
                covariance=tuple(map(tuple, (np.eye(len(names)) * 0.0004).tolist())),
                rate=0.05,
                items=100,
                exposures=10_000,
                events=500,
            )
        )
    doses = tuple(np.linspace(scales[0].low, scales[0].high, 9).tolist())
    lift = np.linspace(-8, 12, 9)
    return EffectTable(
        title="Pictures </script><b>& sales",
        source="Drawn for a test.",
        simulated=True,
        outcomes=outcomes,
        scales=scales,
        effects=tuple(effects),
        fits=tuple(fits),
        curves=(
            Curve(
                attribute="brightness",
                outcome="click",
                doses=doses,
                percent=tuple(lift.tolist()),
                low=tuple((lift - 3).tolist()),
                high=tuple((lift + 3).tolist()),
                rug=doses,
            ),
        ),
        heterogeneity=(
            Heterogeneity(
                attribute="brightness",
                outcome="click",
                p=0.01,
                differs=True,
                categories=("shirt", "shoe"),
                effects=(Interval(percent=5, low=2, high=8), Interval(percent=-1, low=-3, high=1)),
                words="It differs.",
            ),
        ),
        around=(
            WeeksAround(
                attribute="brightness",
                outcome="click",
                weeks=(-1, 0, 1),
                percent=(1.0, 12.0, -2.0),
                low=(-2.0, 8.0, -5.0),
                high=(4.0, 16.0, 1.0),
            ),
        ),
        decision=DecisionCard(
            influences=(Influence(part="taste", share=0.5, low=0.4, high=0.6, words="Half."),),
            coefficients=(),
            people=10,
            choices=50,
        ),
        warnings=("Not real.",),
    )


def measured(count=24):
    return np.array([measure(drawn(seed)) for seed in range(count)])
