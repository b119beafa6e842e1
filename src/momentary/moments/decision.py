"""What decides: taste, loyalty, price, position and the momentary image.

A panel mixed logit (Revelt & Train 1998). Person n's utility of alternative j at choice t is

    U = x'beta + s_b b_n[brand] + s_c c_n[category] + sum_k s_k v_nk visual_k + Gumbel noise

where x holds loyalty (the brand chosen last time), price, position, the momentary image and an
intercept for each brand; b, c and v are standard normal and stay with the person: long-term taste.
Left out, taste is mistaken for loyalty (Heckman 1981). The likelihood is simulated and climbed with
analytic gradients; errors are the sandwich over people.

Draws from the population alone hit what one person's choices allow so seldom that taste comes out
too small and loyalty too large. Each person's draws (scrambled Sobol points) therefore surround the
person's own likeliest tastes and are weighted back to the population: importance sampling from the
Laplace approximation (Richard & Zhang, Journal of Econometrics 2007, fit the density further).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from momentary.errors import DataError
from momentary.moments.estimates import Matrix
from momentary.moments.results import Coefficient, DecisionCard, Influence
from momentary.types import IntArray

PARTS = ("taste", "loyalty", "price", "position", "image")
"""What a decision is split into."""

_SPREAD = 0.5  # first guess of every spread of taste
_WIDER = 1.1  # than the curvature says: the tails of a person's tastes must be met, too

_kernel = numba.njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What people chose from what they saw; choices of one person in the order of time.

    Attributes:
        person: Ascending. Shape (choices,).
        chosen: Which alternative. Shape (choices,).
        brand: Of each alternative, from 0. Shape (choices, alternatives).
        category: Of each alternative, from 0. Shape (choices, alternatives).
        loyalty: 1 where it is the brand of the person's last choice. Same shape.
        price: Same shape.
        position: Such as the log of the place on the list. Same shape.
        image: The momentary image: attributes, or an index. Shape (..., image columns).
        visual: What long-term visual taste may differ in. Shape (..., visual columns).
        image_names: Of the image columns.
    """

    person: IntArray
    chosen: IntArray
    brand: IntArray
    category: IntArray
    loyalty: Matrix
    price: Matrix
    position: Matrix
    image: Matrix
    visual: Matrix
    image_names: tuple[str, ...]

    def __post_init__(self) -> None:  # noqa: C901 - one plain check after another
        shape = self.brand.shape
        for name in ("category", "loyalty", "price", "position"):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"{name} has shape {found}; it must be that of brand, {shape}.")
        for name in ("image", "visual"):
            found = getattr(self, name).shape
            if found[:2] != shape or len(found) != 3:
                raise ValueError(f"{name} has shape {found}; it must be {shape} and columns.")
        if len(self.person) != shape[0] or len(self.chosen) != shape[0]:
            raise ValueError(
                f"{len(self.person)} people and {len(self.chosen)} choices stand beside "
                f"{shape[0]} choice sets; each set has one of each."
            )
        if (np.diff(self.person) < 0).any():
            raise ValueError("person must ascend, so that one person's choices stand together.")
        if len(self.chosen) and not 0 <= self.chosen.min() <= self.chosen.max() < shape[1]:
            raise ValueError(f"chosen must be from 0 to {shape[1] - 1}.")
        if len(self.image_names) != self.image.shape[2]:
            raise ValueError(
                f"image has {self.image.shape[2]} columns and {len(self.image_names)} names."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionConfig:
    """How the model is fitted.

    Attributes:
        draws: Of each person's taste. They surround what the person's choices allow, so 128 are as
            good as thousands that do not.
        heterogeneity: False leaves taste out, to see what that does to loyalty.
        level: Coverage of the intervals.
        iterations: Most steps of the climb.
    """

    draws: int = 128
    heterogeneity: bool = True
    level: float = 0.95
    iterations: int = 200

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"draws is {self.draws}; it must be 1 or more; 128 is usual.")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it must be between 0 and 1.")
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; it must be 1 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFit:
    """The fitted model.

    Attributes:
        names: loyalty, price, position, the image columns, brands from the second on; then the
            spreads of taste: "taste for brands", "taste for categories", "visual taste ...".
        values: Shape (parameters,).
        covariance: Sandwich over people. Shape (parameters, parameters).
        log_likelihood: Simulated, at the values.
        fixed: How many of the parameters are no spreads.
    """

    names: tuple[str, ...]
    values: Matrix
    covariance: Matrix
    log_likelihood: float
    fixed: int

    @property
    def errors(self) -> Matrix:
        """Standard errors. Shape (parameters,)."""
        errors: Matrix = np.sqrt(np.diag(self.covariance))
        return errors


class DecisionModel:
    """Panel mixed logit by simulated likelihood.

    Args:
        config: How it is fitted.
    """

    def __init__(self, config: DecisionConfig | None = None) -> None:
        self.config = config or DecisionConfig()

    def fit(self, choices: Choices, *, rng: np.random.Generator) -> DecisionFit:
        """Climb the simulated likelihood.

        Args:
            choices: What people chose.
            rng: Scrambles the draws.

        Raises:
            DataError: If the climb does not arrive or the choices do not identify the model.
        """
        columns, names, fixed = _columns(choices)
        data = _Data(columns, choices.chosen, _owners(choices))
        none = _Kinds.of(choices, heterogeneity=False)
        kinds = none
        theta = np.zeros(fixed)
        simulated = none.surround(theta, data, draws=1, rng=rng)
        theta = self._climb(theta, data, kinds=none, simulated=simulated)
        if self.config.heterogeneity:
            kinds = _Kinds.of(choices, heterogeneity=True)
            theta = np.concatenate([theta, np.full(kinds.spreads, _SPREAD)])
            # The first draws surround tastes under a first guess and lead to a better one.
            for draws in (max(1, self.config.draws // 4), self.config.draws):
                simulated = kinds.surround(theta, data, draws=draws, rng=rng)
                theta = self._climb(theta, data, kinds=kinds, simulated=simulated)
        # The sign of a spread means nothing: the draws are symmetric.
        flip = np.ones(len(theta))
        flip[fixed:] = np.where(theta[fixed:] < 0, -1.0, 1.0)
        values, scores = kinds.likelihood(theta, data, simulated)
        bread = np.linalg.pinv(
            _hessian(lambda at: -kinds.likelihood(at, data, simulated)[1].sum(axis=0), theta),
            hermitian=True,
        )
        covariance = bread @ (scores.T @ scores) @ bread
        return DecisionFit(
            names=(*names, *kinds.names),
            values=theta * flip,
            covariance=covariance * np.outer(flip, flip),
            log_likelihood=float(values.sum()),
            fixed=fixed,
        )

    def _climb(self, start: Matrix, data: _Data, *, kinds: _Kinds, simulated: _Simulated) -> Matrix:
        def objective(theta: Matrix) -> tuple[float, Matrix]:
            value, scores = kinds.likelihood(theta, data, simulated)
            return -float(value.sum()), -scores.sum(axis=0)

        found = optimize.minimize(
            objective,
            start,
            jac=True,
            method="BFGS",
            options={"maxiter": self.config.iterations, "gtol": 0.05},
        )
        if np.abs(found.jac).max() > 0.5 or not np.isfinite(found.fun):
            raise DataError(
                f"The decision model did not settle ({found.message}); give more choices a person, "
                "or leave a column out."
            )
        return np.asarray(found.x, dtype=np.float64)


def decision_card(
    choices: Choices,
    fit: DecisionFit,
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    draws: int = 400,
) -> DecisionCard:
    """Each part's share of the variance of utility within the choice set.

    The variances of the parts are compared with each other; what parts share is not counted twice
    and not counted at all, and the noise of the logit is left out.

    Args:
        choices: What the model was fitted on.
        fit: The fitted model.
        rng: Draws parameters from their joint normal distribution, for the intervals.
        level: Coverage of the intervals.
        draws: How many.
    """
    variance = _part_variances(choices)
    middle = _shares(fit.values[None, :], variance)[0]
    drawn = _shares(
        rng.multivariate_normal(fit.values, fit.covariance, size=draws, check_valid="ignore"),
        variance,
    )
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    influences = tuple(
        Influence(
            part=part,
            share=float(middle[place]),
            low=float(low[place]),
            high=float(high[place]),
            words=f"{part.capitalize()} makes {100 * middle[place]:.0f} % of what differs between "
            "the alternatives that a person sees.",
        )
        for place, part in enumerate(PARTS)
    )
    first = max(influences, key=lambda each: each.share)
    return DecisionCard(
        influences=influences,
        coefficients=tuple(
            Coefficient(name=name, value=float(value), standard_error=float(error))
            for name, value, error in zip(fit.names, fit.values, fit.errors, strict=True)
        ),
        people=len(np.unique(choices.person)),
        choices=len(choices.person),
        words=(
            f"{first.part.capitalize()} decides most: {100 * first.share:.0f} % "
            f"({100 * first.low:.0f} to {100 * first.high:.0f}).",
            "This is a model of observed choices (rung 2): it adjusts for taste, loyalty, price "
            "and position, and for nothing that was not measured.",
        ),
    )


def _columns(choices: Choices) -> tuple[Matrix, tuple[str, ...], int]:
    brands = int(choices.brand.max()) + 1
    dummies = (choices.brand[:, :, None] == np.arange(1, brands)).astype(np.float64)
    plain = np.stack([choices.loyalty, choices.price, choices.position], axis=2)
    columns = np.ascontiguousarray(np.concatenate([plain, choices.image, dummies], axis=2))
    names = (
        *("loyalty", "price", "position"),
        *choices.image_names,
        *(f"brand {each}" for each in range(1, brands)),
    )
    return columns, names, columns.shape[2]


def _owners(choices: Choices) -> IntArray:
    """Where each person's choices begin, and where the last ends. Shape (people + 1,)."""
    _, first = np.unique(choices.person, return_index=True)
    return np.append(first, len(choices.person)).astype(np.int64)


class _Data(NamedTuple):
    """Choices as the likelihood wants them.

    Attributes:
        columns: Shape (choices, alternatives, fixed parameters).
        chosen: Shape (choices,).
        owner: Where each person's choices begin, and where the last ends. Shape (people + 1,).
    """

    columns: Matrix
    chosen: IntArray
    owner: IntArray


class _Simulated(NamedTuple):
    """Draws of tastes.

    Attributes:
        draws: Shape (people, draws, dimensions).
        log_weight: Logarithm of how much each draw counts. Shape (people, draws).
    """

    draws: Matrix
    log_weight: Matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """Every taste: which draw it uses, what multiplies it, and whose spread it has.

    Attributes:
        index: Which of a person's draws. Shape (choices, alternatives, tastes).
        value: What multiplies the draw. Same shape.
        spread: Which spread each taste has. Shape (tastes,).
        spreads: How many spreads there are.
        dimensions: How many draws a person has.
        names: Of the spreads.
    """

    index: IntArray
    value: Matrix
    spread: IntArray
    spreads: int
    dimensions: int
    names: tuple[str, ...]

    @classmethod
    def of(cls, choices: Choices, *, heterogeneity: bool) -> _Kinds:
        shape = choices.brand.shape
        if not heterogeneity:
            return cls(
                index=np.zeros((*shape, 0), dtype=np.int64),
                value=np.zeros((*shape, 0)),
                spread=np.zeros(0, dtype=np.int64),
                spreads=0,
                dimensions=1,
                names=(),
            )
        brands, categories = int(choices.brand.max()) + 1, int(choices.category.max()) + 1
        index, value, names = [choices.brand], [np.ones(shape)], ["taste for brands"]
        dimensions = brands
        # Where a choice set holds one category, its taste cancels out.
        if (np.ptp(choices.category, axis=1) > 0).any():
            index.append(choices.category + dimensions)
            value.append(np.ones(shape))
            names.append("taste for categories")
            dimensions += categories
        for column in range(choices.visual.shape[2]):
            index.append(np.full(shape, dimensions, dtype=np.int64))
            value.append(choices.visual[:, :, column])
            names.append(f"visual taste {column + 1}")
            dimensions += 1
        return cls(
            index=np.ascontiguousarray(np.stack(index, axis=2)).astype(np.int64),
            value=np.ascontiguousarray(np.stack(value, axis=2)),
            spread=np.arange(len(names)),
            spreads=len(names),
            dimensions=dimensions,
            names=tuple(names),
        )

    def points(self, people: int, draws: int, *, rng: np.random.Generator) -> Matrix:
        """Standard normal points. Shape (people, draws, dimensions)."""
        if not self.spreads:
            return np.zeros((people, 1, 1))
        sobol = stats.qmc.Sobol(self.dimensions, scramble=True, rng=rng)
        power = int(np.ceil(np.log2(people * draws)))
        uniform = sobol.random_base2(power)[: people * draws]
        # Neighbours in the sequence fill the space together, so they go to one person.
        normal = stats.norm.ppf(np.clip(uniform, 1e-9, 1 - 1e-9))
        return np.ascontiguousarray(normal.reshape(people, draws, self.dimensions))

    def surround(
        self, theta: Matrix, data: _Data, *, draws: int, rng: np.random.Generator
    ) -> _Simulated:
        """Draws around each person's likeliest tastes, weighted back to the population."""
        points = self.points(len(data.owner) - 1, draws, rng=rng)
        if not self.spreads:
            return _Simulated(points, np.zeros(points.shape[:2]))
        mode, root = _likeliest(theta, *data, self.index, self.value, self.spread, self.dimensions)
        wider = root * _WIDER
        tastes = mode[:, None, :] + np.einsum("pij,prj->pri", wider, points, optimize=True)
        size = np.log(np.einsum("pii->pi", wider)).sum(axis=1)
        log_weight = 0.5 * ((points**2).sum(axis=2) - (tastes**2).sum(axis=2)) + size[:, None]
        return _Simulated(np.ascontiguousarray(tastes), log_weight)

    def likelihood(
        self, theta: Matrix, data: _Data, simulated: _Simulated
    ) -> tuple[Matrix, Matrix]:
        """Each person's simulated log likelihood, shape (people,), and its gradient."""
        found: tuple[Matrix, Matrix] = _likelihood(
            theta, *data, self.index, self.value, self.spread, *simulated
        )
        return found


@_kernel
def _likeliest(  # type: ignore[no-untyped-def] # noqa: ANN202, C901, PLR0913, PLR0917
    theta: NDArray[np.float64],
    columns: NDArray[np.float64],
    chosen: NDArray[np.int64],
    owner: NDArray[np.int64],
    index: NDArray[np.int64],
    value: NDArray[np.float64],
    spread: NDArray[np.int64],
    dimensions: int,
):
    """Each person's likeliest tastes (Newton), and a root of the inverse curvature there."""
    people, alternatives, fixed = len(owner) - 1, columns.shape[1], columns.shape[2]
    modes = np.zeros((people, dimensions))
    roots = np.zeros((people, dimensions, dimensions))
    loading = np.zeros((alternatives, dimensions))
    p = np.zeros(alternatives)
    for person in range(people):
        at = np.zeros(dimensions)
        curvature = np.eye(dimensions)
        for _ in range(20):
            slope = -at.copy()
            curvature = np.eye(dimensions)
            for choice in range(owner[person], owner[person + 1]):
                loading[:] = 0.0
                for a in range(alternatives):
                    p[a] = 0.0
                    for k in range(fixed):
                        p[a] += columns[choice, a, k] * theta[k]
                    for k in range(len(spread)):
                        loading[a, index[choice, a, k]] += (
                            theta[fixed + spread[k]] * value[choice, a, k]
                        )
                    for d in range(dimensions):
                        p[a] += loading[a, d] * at[d]
                p[:] = np.exp(p - p.max())
                p /= p.sum()
                mean = np.zeros(dimensions)
                for a in range(alternatives):
                    for d in range(dimensions):
                        mean[d] += p[a] * loading[a, d]
                for d in range(dimensions):
                    slope[d] += loading[chosen[choice], d] - mean[d]
                for a in range(alternatives):
                    for d in range(dimensions):
                        for e in range(dimensions):
                            curvature[d, e] += (
                                p[a] * (loading[a, d] - mean[d]) * (loading[a, e] - mean[e])
                            )
            step = np.linalg.solve(curvature, slope)
            longest = np.abs(step).max()
            at += step if longest <= 1.0 else step / longest
            if longest < 1e-4:
                break
        modes[person] = at
        roots[person] = np.linalg.cholesky(np.linalg.inv(curvature))
    return modes, roots


@_kernel
def _likelihood(  # type: ignore[no-untyped-def] # noqa: ANN202, C901, PLR0913, PLR0915, PLR0917
    theta: NDArray[np.float64],
    columns: NDArray[np.float64],
    chosen: NDArray[np.int64],
    owner: NDArray[np.int64],
    index: NDArray[np.int64],
    value: NDArray[np.float64],
    spread: NDArray[np.int64],
    draws: NDArray[np.float64],
    log_weight: NDArray[np.float64],
):
    """Each person's simulated log likelihood and its gradient."""
    people = len(owner) - 1
    alternatives, fixed = columns.shape[1], columns.shape[2]
    tastes, repeats, size = len(spread), draws.shape[1], len(theta)
    found = np.zeros(people)
    scores = np.zeros((people, size))
    utility = np.zeros(alternatives)
    log_p = np.zeros(repeats)
    gradients = np.zeros((repeats, size))
    for person in range(people):
        first, last = owner[person], owner[person + 1]
        base = np.zeros((last - first, alternatives))
        for choice in range(first, last):
            for a in range(alternatives):
                for k in range(fixed):
                    base[choice - first, a] += columns[choice, a, k] * theta[k]
        gradients[:] = 0.0
        residuals = np.zeros((last - first, alternatives))
        weighted = np.zeros((repeats, last - first, alternatives))
        for r in range(repeats):
            log_p[r] = log_weight[person, r]
            for choice in range(first, last):
                largest = -1e300
                for a in range(alternatives):
                    u = base[choice - first, a]
                    for k in range(tastes):
                        u += (
                            theta[fixed + spread[k]]
                            * value[choice, a, k]
                            * draws[person, r, index[choice, a, k]]
                        )
                    utility[a] = u
                    largest = max(largest, u)
                total = 0.0
                for a in range(alternatives):
                    total += np.exp(utility[a] - largest)
                log_p[r] += utility[chosen[choice]] - largest - np.log(total)
                for a in range(alternatives):
                    gap = -np.exp(utility[a] - largest) / total
                    if a == chosen[choice]:
                        gap += 1.0
                    weighted[r, choice - first, a] = gap
                    for k in range(tastes):
                        gradients[r, fixed + spread[k]] += (
                            gap * value[choice, a, k] * draws[person, r, index[choice, a, k]]
                        )
        largest = log_p[0]
        for r in range(repeats):
            largest = max(largest, log_p[r])
        total = 0.0
        for r in range(repeats):
            total += np.exp(log_p[r] - largest)
        found[person] = largest + np.log(total / repeats)
        for r in range(repeats):
            share = np.exp(log_p[r] - largest) / total
            for k in range(fixed, size):
                scores[person, k] += share * gradients[r, k]
            for t in range(last - first):
                for a in range(alternatives):
                    residuals[t, a] += share * weighted[r, t, a]
        for t in range(last - first):
            for a in range(alternatives):
                for k in range(fixed):
                    scores[person, k] += residuals[t, a] * columns[first + t, a, k]
    return found, scores


def _hessian(gradient: Callable[[Matrix], Matrix], theta: Matrix) -> Matrix:
    """Central differences of the analytic gradient. Shape (parameters, parameters)."""
    size = len(theta)
    found = np.empty((size, size))
    for k in range(size):
        step = np.zeros(size)
        step[k] = 1e-4 * max(1.0, abs(theta[k]))
        found[k] = (gradient(theta + step) - gradient(theta - step)) / (2.0 * step[k])
    return (found + found.T) / 2.0


def _part_variances(choices: Choices) -> tuple[tuple[str, IntArray, Matrix], ...]:
    """By part: its parameters, and the mean covariance of their columns within a choice set."""
    columns, _, fixed = _columns(choices)
    image = choices.image.shape[2]
    brands = np.arange(3 + image, fixed)
    parts = [
        ("loyalty", np.array([0]), columns[:, :, :1]),
        ("price", np.array([1]), columns[:, :, 1:2]),
        ("position", np.array([2]), columns[:, :, 2:3]),
        ("image", np.arange(3, 3 + image), columns[:, :, 3 : 3 + image]),
        ("taste", brands, columns[:, :, 3 + image :]),
    ]
    found = [(name, place, _within_set(part)) for name, place, part in parts]
    kinds = _Kinds.of(choices, heterogeneity=True)
    for k in range(kinds.spreads):
        # Independent standard normal tastes: the variance is that over their own indicator columns.
        within = 0.0
        for each in np.unique(kinds.index[:, :, k]):
            own = kinds.value[:, :, k] * (kinds.index[:, :, k] == each)
            within += float(_within_set(own[:, :, None])[0, 0])
        found.append(("taste spread", np.array([fixed + k]), np.array([[within]])))
    return tuple(found)


def _within_set(columns: Matrix) -> Matrix:
    centred = columns - columns.mean(axis=1, keepdims=True)
    count = columns.shape[0] * columns.shape[1]
    covariance: Matrix = np.einsum("caj,cak->jk", centred, centred) / count
    return covariance


def _shares(thetas: Matrix, parts: tuple[tuple[str, IntArray, Matrix], ...]) -> Matrix:
    """Shape (draws, parts), in the order of `PARTS`."""
    found = dict.fromkeys(PARTS, np.zeros(len(thetas)))
    for name, place, covariance in parts:
        if place.max(initial=-1) >= thetas.shape[1]:
            continue
        chosen = thetas[:, place]
        variance = np.einsum("dj,jk,dk->d", chosen, covariance, chosen)
        part = "taste" if name.startswith("taste") else name
        found[part] = found[part] + variance
    joined = np.stack([found[part] for part in PARTS], axis=1)
    shares: Matrix = joined / np.maximum(joined.sum(axis=1, keepdims=True), 1e-300)
    return shares
