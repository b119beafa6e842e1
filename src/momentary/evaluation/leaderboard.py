"""Several models on the same queries: who is better, by how much, and is it real?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.table import Table

from momentary.evaluation import metrics
from momentary.evaluation.compare import Difference, Estimate, Matrix, Resamples, bootstrap, holm
from momentary.evaluation.replay import Outcome

RANK_METRICS = {
    "recall": ("Recall", metrics.recall),
    "truncated_recall": ("Truncated recall", metrics.truncated_recall),
    "hit_rate": ("HitRate", metrics.hit_rate),
    "precision": ("Precision", metrics.precision),
    "mrr": ("MRR", metrics.mrr),
    "ndcg": ("NDCG", metrics.ndcg),
    "map": ("MAP", metrics.average_precision),
}
"""Metrics that a leaderboard can show: how they are written, and the function."""

_BEST, _TIED, _BEHIND, _INK, _FAINT = "#0b7285", "#74b3bf", "#868e96", "#212529", "#e9ecef"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardConfig:
    """What a leaderboard shows.

    Attributes:
        shown: Names of `RANK_METRICS`; the first decides the order of the models.
        headline_k: The cutoff that decides the order; None takes the largest.
        resamples: Bootstrap resamples; more are drawn when many models are compared.
        level: Probability that an interval covers the truth; 1 - level is the error that a
            verdict may make.
    """

    shown: tuple[str, ...] = ("recall", "mrr", "ndcg")
    headline_k: int | None = None
    resamples: int = 1000
    level: float = 0.95

    def __post_init__(self) -> None:
        unknown = [name for name in self.shown if name not in RANK_METRICS]
        if unknown or not self.shown or len({*self.shown}) != len(self.shown):
            raise ValueError(
                f"shown is {self.shown}; name each metric once, out of {', '.join(RANK_METRICS)}."
            )


_NARROW_METRICS = 3  # that fit 80 columns
_KEY = "gap: points to the best, ~ may be chance; fit: CPU s; ms: CPU ms a query"

DEFAULT_LEADERBOARD = LeaderboardConfig()
"""Recall decides; MRR and NDCG stand beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What is known of the items beside their scores.

    Attributes:
        popularity: Events of each item in the training data. Shape (items,).
        categories: A number for each item's category, -1 where unknown. Shape (items,).
    """

    popularity: NDArray[Any] | None = None
    categories: NDArray[np.integer[Any]] | None = None


NO_FACTS = ItemFacts()
"""Nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model on the leaderboard.

    Attributes:
        model: Its name.
        metrics: "recall@20" and so on, with intervals.
        beyond: Coverage, Gini and, where the facts are known, novelty, popularity bias,
            serendipity and diversity, at every cutoff that the kept lists reach.
        difference: This model minus the best by the headline metric; None for the best.
        p_corrected: The p-value of that difference, corrected for all pairs of models.
        real: Whether the difference to the best (for the best: to the second) is beyond chance.
        verdict: The same in words.
        fit_seconds: CPU seconds of training, where the caller measured them.
        score_seconds: CPU seconds of scoring all queries.
        score_ms: CPU milliseconds of scoring one query.
    """

    model: str
    metrics: dict[str, Estimate]
    beyond: dict[str, float]
    difference: Difference | None
    p_corrected: float | None
    real: bool | None
    verdict: str
    fit_seconds: float | None
    score_seconds: float
    score_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Models in order of the headline metric, best first.

    Attributes:
        rows: The best model first.
        headline: The metric that decides, such as "recall@20".
        queries: Questions that every model was asked.
        groups: Visitors (or sessions) that they came from; intervals resample these.
        n_items: Items that were ranked.
        level: Probability that an interval covers the truth.
        resamples: Bootstrap resamples drawn.
    """

    rows: tuple[Row, ...]
    headline: str
    queries: int
    groups: int
    n_items: int
    level: float
    resamples: int

    @classmethod
    def of(
        cls,
        outcomes: Mapping[str, Outcome],
        *,
        rng: np.random.Generator,
        config: LeaderboardConfig = DEFAULT_LEADERBOARD,
        fit_seconds: Mapping[str, float] | None = None,
        facts: ItemFacts = NO_FACTS,
    ) -> Leaderboard:
        """Compare models that answered the same queries.

        The best model is chosen by the very data that it is compared on, so Holm's correction
        runs over all pairs of models: over those with the best alone it would find winners among
        equal models too often.

        Args:
            outcomes: What each model answered, by its name.
            rng: Draws the bootstrap.
            config: What is shown.
            fit_seconds: CPU seconds of training by model name.
            facts: Popularity and categories of the items.

        Raises:
            ValueError: If the models were asked different queries.
        """
        first = _same_queries(outcomes)
        k = config.headline_k or first.cutoffs[-1]
        if k not in first.cutoffs:
            raise ValueError(f"headline_k is {k}; it must be one of the cutoffs {first.cutoffs}.")
        names = tuple(outcomes)
        keys = [f"{name}@{cut}" for name in config.shown for cut in first.cutoffs]
        resamples = max(config.resamples, _fewest_resamples(len(names), config.level))
        drawn = bootstrap(
            _values(outcomes, config.shown),
            first.groups,
            rng=rng,
            resamples=resamples,
            level=config.level,
        )
        headline = f"{config.shown[0]}@{k}"
        return cls(
            rows=_rows(
                outcomes,
                _Drawn(names, keys, headline, drawn),
                fit_seconds=fit_seconds,
                facts=facts,
            ),
            headline=headline,
            queries=len(first),
            groups=len(np.unique(first.groups)),
            n_items=first.n_items,
            level=config.level,
            resamples=resamples,
        )

    def to_json(self) -> str:
        """All numbers and verdicts."""
        return msgspec.json.encode(self).decode()

    def render(self, *, wide: bool = False) -> Table:
        """A table for the terminal, best first, that fits 80 columns.

        Args:
            wide: Show every cutoff, not the headline's alone.
        """
        caption = f"{self.caption()}\n{_KEY}"
        table = Table(
            title=self.title(),
            caption=caption,
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("model", no_wrap=True)
        name, _, k = self.headline.rpartition("@")
        shown = [
            key
            for key in self.rows[0].metrics
            if key.endswith(f"@{k}") or (wide and key.startswith(f"{name}@"))
        ]
        if not wide:
            shown = shown[:_NARROW_METRICS]
        for key in shown:
            table.add_column(label(key), justify="right", no_wrap=True)
        table.add_column("gap", justify="right", no_wrap=True)
        table.add_column("fit s", justify="right", no_wrap=True)
        table.add_column("ms", justify="right", no_wrap=True)
        for place, row in enumerate(self.rows):
            table.add_row(
                row.model,
                *(_cell(row.metrics[key], full=key == self.headline) for key in shown),
                _behind(row),
                "-" if row.fit_seconds is None else f"{row.fit_seconds:,.1f}",
                f"{row.score_ms:,.2f}",
                style="bold" if place == 0 else None,
            )
        return table

    def plot(self, path: Path) -> None:
        """Draw dots with intervals, the best model on top, as PNG or SVG by the file's ending."""
        name, _, k = self.headline.rpartition("@")
        names = dict.fromkeys(key.rpartition("@")[0] for key in self.rows[0].metrics)
        panels = [self.headline, *(f"{other}@{k}" for other in names if other != name)][:2]
        width = 4.0 + 3.2 * len(panels)
        title = textwrap.wrap(self.title(), int(11 * width))
        above = 0.85 + 0.2 * len(title)
        height = above + 0.6 + 0.46 * len(self.rows)
        figure = Figure(figsize=(width, height), dpi=160, facecolor="white")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for panel, key in zip(axes, panels, strict=True):
            self._panel(panel, key)
        axes[0].set_yticks(range(len(self.rows)), [row.model for row in self.rows])
        axes[0].get_yticklabels()[0].set_fontweight("bold")
        # Margins in inches, so that few models and many look alike.
        longest = max(len(row.model) for row in self.rows)
        figure.subplots_adjust(
            left=min(0.4 + 0.08 * longest, 3.4) / width,
            right=1 - 0.25 / width,
            top=1 - above / height,
            bottom=0.4 / height,
            wspace=0.14,
        )
        x, y = 0.15 / width, 1 - 0.16 / height
        figure.text(x, y, "\n".join(title), va="top", fontsize=10.5, fontweight="bold", color=_INK)
        y -= (0.08 + 0.2 * len(title)) / height
        figure.text(x, y, self._legend(), va="top", fontsize=8, color=_BEHIND)
        figure.savefig(path)

    def title(self) -> str:
        """The verdict on the best model."""
        return self.rows[0].verdict

    def caption(self) -> str:
        """What was asked, and what the intervals mean."""
        return (
            f"{self.queries:,} queries of {self.groups:,} visitors or sessions, all "
            f"{self.n_items:,} items ranked; {100 * self.level:g} % intervals, "
            f"{self.resamples:,} resamples"
        )

    def _legend(self) -> str:
        tied = any(row.real is False for row in self.rows[1:])
        return self.caption() + ("; pale: not distinguishable from the best" if tied else "")

    def _panel(self, axes: Axes, key: str) -> None:
        for place, row in enumerate(self.rows):
            estimate = row.metrics[key]
            color = _BEST if place == 0 else _BEHIND if row.real else _TIED
            axes.plot(
                [estimate.low, estimate.high],
                [place, place],
                color=color,
                linewidth=2.6,
                solid_capstyle="round",
                alpha=0.6,
            )
            axes.plot(estimate.value, place, "o", color=color, markersize=6)
            axes.annotate(
                f"{estimate.value:.3f}",
                (estimate.value, place),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_INK,
            )
        axes.set_title(label(key), loc="left", fontsize=9.5, color=_INK)
        axes.set_ylim(len(self.rows) - 0.5, -0.7)
        axes.margins(x=0.12)
        axes.grid(axis="x", color=_FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=6)
        axes.tick_params(axis="both", length=0, labelsize=8.5, labelcolor=_INK)
        axes.spines[:].set_visible(False)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The bootstrap of every model and metric; a model's metrics stand together."""

    names: tuple[str, ...]
    keys: list[str]
    headline: str
    means: Resamples

    def column(self, model: int, key: str) -> int:
        return model * len(self.keys) + self.keys.index(key)

    def difference(self, first: int, second: int) -> Difference:
        return self.means.difference(
            self.column(first, self.headline), self.column(second, self.headline)
        )

    def order(self) -> list[int]:
        values = [
            float(self.means.observed[self.column(model, self.headline)])
            for model in range(len(self.names))
        ]
        return sorted(range(len(self.names)), key=lambda model: -values[model])


def label(key: str) -> str:
    """How a metric is written: "recall@20" is Recall@20."""
    name, _, k = key.rpartition("@")
    return f"{RANK_METRICS[name][0]}@{k}"


def beyond_accuracy(outcome: Outcome, *, k: int, facts: ItemFacts = NO_FACTS) -> dict[str, float]:
    """Coverage and Gini of the lists and, where the facts are known, what more they tell.

    Popularity gives novelty, popularity bias and serendipity; categories give diversity.

    Empty if the replay kept lists shorter than `k`.
    """
    if outcome.lists.shape[1] < k:
        return {}
    lists = outcome.lists
    found = {
        f"coverage@{k}": metrics.coverage(lists, n_items=outcome.n_items, k=k),
        f"gini@{k}": metrics.gini(lists, n_items=outcome.n_items, k=k),
    }
    if facts.categories is not None:
        diversity = metrics.attribute_diversity(lists, facts.categories, k=k)
        found[f"diversity@{k}"] = float(diversity.mean())
    popularity = facts.popularity
    if popularity is not None:
        surprising = metrics.serendipity(
            outcome.ranks,
            outcome.target_offsets,
            outcome.target_items,
            popular=metrics.most_popular(popularity, k=k),
            k=k,
        )
        found[f"novelty@{k}"] = float(metrics.novelty(lists, popularity, k=k).mean())
        found[f"popularity_bias@{k}"] = float(
            metrics.popularity_bias(lists, popularity, k=k).mean()
        )
        found[f"serendipity@{k}"] = float(surprising.mean())
    return found


def _same_queries(outcomes: Mapping[str, Outcome]) -> Outcome:
    if not outcomes:
        raise ValueError("there are no outcomes; replay at least one model.")
    first_name, first = next(iter(outcomes.items()))
    for name, other in outcomes.items():
        same = (
            other.cutoffs == first.cutoffs
            and other.n_items == first.n_items
            and np.array_equal(other.target_items, first.target_items)
            and np.array_equal(other.target_offsets, first.target_offsets)
            and np.array_equal(other.groups, first.groups)
        )
        if not same:
            raise ValueError(
                f"{name!r} and {first_name!r} were asked different queries; replay both on the "
                "same queries, items and cutoffs."
            )
    return first


def _values(outcomes: Mapping[str, Outcome], shown: tuple[str, ...]) -> Matrix:
    """One value a query for every model, metric and cutoff. Shape (queries, columns)."""
    return np.stack(
        [
            RANK_METRICS[name][1](outcome.ranks, outcome.target_offsets, k=k)
            for outcome in outcomes.values()
            for name in shown
            for k in outcome.cutoffs
        ],
        axis=1,
    )


def _fewest_resamples(models: int, level: float) -> int:
    """Enough that the smallest p-value there can be survives the correction over all pairs."""
    pairs = models * (models - 1) // 2
    return int(np.ceil(4 * pairs / (1.0 - level)))


def _rows(
    outcomes: Mapping[str, Outcome],
    drawn: _Drawn,
    *,
    fit_seconds: Mapping[str, float] | None,
    facts: ItemFacts,
) -> tuple[Row, ...]:
    order = drawn.order()
    best = order[0]
    pairs = list(combinations(range(len(order)), 2))
    corrected = dict(
        zip(pairs, holm([drawn.difference(*pair).p_value for pair in pairs]).tolist(), strict=True)
    )
    rows = []
    for model in order:
        # The best model is held against the second; every other against the best.
        rival = best if model != best else next(iter(order[1:]), None)
        difference = p_corrected = real = None
        if rival is not None:
            difference = drawn.difference(model, rival)
            p_corrected = corrected[min(model, rival), max(model, rival)]
            real = p_corrected < 1.0 - drawn.means.level
        name, outcome = drawn.names[model], outcomes[drawn.names[model]]
        rows.append(
            Row(
                model=name,
                metrics={key: drawn.means.estimate(drawn.column(model, key)) for key in drawn.keys},
                beyond={
                    name: value
                    for k in outcome.cutoffs
                    for name, value in beyond_accuracy(outcome, k=k, facts=facts).items()
                },
                difference=None if model == best else difference,
                p_corrected=p_corrected,
                real=real,
                verdict=_verdict(drawn, model, rival, real=real),
                fit_seconds=None if fit_seconds is None else fit_seconds.get(name),
                score_seconds=outcome.score_seconds,
                score_ms=1000.0 * outcome.score_seconds / len(outcome),
            )
        )
    return tuple(rows)


def _verdict(drawn: _Drawn, model: int, rival: int | None, *, real: bool | None) -> str:
    name, metric = drawn.names[model], label(drawn.headline)
    if rival is None:
        return f"{name} is the only model on {metric}"
    other = drawn.names[rival]
    gap = drawn.difference(model, rival)
    if model == drawn.order()[0]:
        size = f"{_points(gap, gap.value, sign='+')} points"
        interval = _interval(gap, drawn.means.level)
        if real:
            return f"{name} wins on {metric}: {size} over {other}, {interval}, real"
        return (
            f"{name} leads on {metric} but is not distinguishable from {other}: {size}, {interval}"
        )
    behind = drawn.difference(rival, model)
    size = f"{_points(behind, behind.value)} points behind"
    interval = _interval(behind, drawn.means.level)
    if real:
        return f"{size} {other}, {interval}, real"
    return f"not distinguishable from {other}: {size}, {interval}"


def _interval(gap: Difference, level: float) -> str:
    return f"{100 * level:g} % interval {_points(gap, gap.low)} to {_points(gap, gap.high)}"


def _points(gap: Difference, value: float, *, sign: str = "") -> str:
    """Percentage points; narrow intervals are written finer."""
    digits = 2 if gap.high - gap.low < 0.005 else 1
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(100 * value, digits) + 0.0:{sign}.{digits}f}"


def _behind(row: Row) -> str:
    if row.difference is None:
        return ""
    return f"{'' if row.real else '~ '}{_points(row.difference, -row.difference.value)}"


def _cell(estimate: Estimate, *, full: bool) -> str:
    if not full:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} ±{(estimate.high - estimate.low) / 2:.3f}"
