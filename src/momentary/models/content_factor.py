r"""Content to factors: what behaviour would have said of an item that nobody has touched.

van den Oord, Dieleman & Schrauwen, "Deep content-based music recommendation" (NIPS 2013) predict
collaborative factors from content by a weighted squared error. With views x_v of an item (its
tags, its text's vector, its picture's), each of length 1, items are compared by

    k(c, d) = sum over v of w_v <x_v(c), x_v(d)> + sum over (v, u) of w_vu <x_v, x_v> <x_u, x_u>,

and the factors f of an item are predicted as the weighted ridge solution over landmark items l,

    f(c) = sum over l of k(c, l) a_l,
    a = argmin sum over i of n_i^p |f_i - sum over l of k(i, l) a_l|^2 + lambda a'K a

(subset of regressors: Smola & Bartlett, NIPS 2000; exact when every item is a landmark). The
length of a factor is the item's popularity, and a few hits would decide a squared error. So f_i may
be shortened to f_i / |f_i|^p, log |f_i| predicted beside it, and the prediction lengthened by
exp(q log |f|); p = 0 leaves factors as they are, p = 1 and q = 0 predicts directions alone. The
ranking loss goes on from there. Items are dropped from the histories (the idea of DropoutNet:
Volkovs, Yu & Poutanen, NIPS 2017) and predicted by landmarks of which they are none, f0(c); a
small network g learns what to add, by a softmax over the dropped items d,

    v(c) = s f0(c) + g(phi(c), f0(c)),
    loss = -mean of log( exp u.v(c) / sum over d of exp u.v(d) ),

u being the sum of the factors of the visitor's other items, and phi the leading principal
directions of k.

An item that lacks a view is like no other in it, so that less is predicted. Where views say much
the same, such as a picture and a tag that names what it shows, k may instead be guessed: what an
item lacks is then the mean of what those ten landmarks have that are likest in the views that it
has, each counting as much as its likeness.

Factors of the shrunken linear autoencoder are at `autoencoder_factors`; those of
`models.factorization`, or the item embeddings of a session model, fit as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.learn.bounds import require_choices, require_ranges
from momentary.learn.fitted import require_fitted
from momentary.types import BoolArray, FloatArray, IntArray, Progress, silent

View: TypeAlias = Any  # FloatArray or scipy.sparse.csr_array, which has no types
"""One row an item; a row of zeros says that the item lacks it. Shape (items, width)."""

Content = Mapping[str, View]
"""Views by name, such as genres, text and image; all with the same items."""

_JITTER = 1e-6
_SHORTEST = 1e-6
_FOLDS = 5
_GUESSED_FROM = 10
_LEAST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFactorConfig:
    """How items are compared and factors predicted.

    Attributes:
        weights: Of the views in the similarity; a view that is not named weighs 1.
        products: Pairs of views whose agreement in both counts, with its weight.
        ridge: Lambda; larger trusts the content less.
        length_power: P, by which factors are shortened before they are predicted.
        length_share: Q, by which predictions are lengthened again; p restores what was taken.
        count_power: An item with n events weighs n^power when factors are fitted.
        landmarks: Most items to compare with; the most clicked ones are taken.
        lacking: What is said of a view that an item lacks when its factors are predicted:
            "nothing", or what is "guessed" from the likest landmarks; see the module.
        loss: "squared" (the paper's), or "ranking", which goes on from it.
        directions: Principal directions that the network sees.
        hidden: Its width.
        epochs: Times that every item is dropped.
        learning_rate: Adam's.
        weight_decay: Adam's.
        dropout: Share of the network's hidden units that is dropped in training.
        visitors: Drawn for one step.
    """

    weights: Mapping[str, float] | None = None
    products: tuple[tuple[str, str, float], ...] = ()
    ridge: float = 15.0
    length_power: float = 0.0
    length_share: float = 0.0
    count_power: float = 0.0
    landmarks: int = 4_000
    lacking: Literal["nothing", "guessed"] = "nothing"
    loss: Literal["squared", "ranking"] = "squared"
    directions: int = 256
    hidden: int = 256
    epochs: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    dropout: float = 0.3
    visitors: int = 1_500

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        require_choices(self, {"loss": ("squared", "ranking"), "lacking": ("nothing", "guessed")})
        negative = [name for name, weight in (self.weights or {}).items() if weight < 0]
        negative += [f"{a} x {b}" for a, b, weight in self.products if weight < 0]
        if negative:
            raise ValueError(f"the weight of {negative[0]} is below 0; use 0 to leave it out.")


_RANGES: dict[str, tuple[float, float]] = {
    "ridge": (1e-9, 1e9),
    "length_power": (0, 1),
    "length_share": (0, 1),
    "count_power": (0, 2),
    "landmarks": (1, 20_000),
    "directions": (1, 20_000),
    "hidden": (1, 10_000),
    "epochs": (1, 100_000),
    "learning_rate": (1e-9, 10),
    "weight_decay": (0, 10),
    "dropout": (0, 0.99),
    "visitors": (1, 1_000_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What `fit` found.

    Attributes:
        centers: Mean of each dense view. Shapes (width,).
        landmarks: Views of the landmarks, centred and of length 1.
        a: What each landmark says of the shortened factors and, last, of the logarithm of their
            length. Shape (landmarks, factors + 1).
        mean: Of the same, for an item without any content. Shape (factors + 1,).
        precision: Inverse of K + lambda I over the landmarks, for the confidence.
        basis: Similarities to the landmarks to principal directions. (landmarks, directions).
        network: Of the ranking loss; empty with the squared one.
    """

    centers: Mapping[str, FloatArray]
    landmarks: Mapping[str, View]
    a: FloatArray
    mean: FloatArray
    precision: FloatArray
    basis: FloatArray
    network: Mapping[str, FloatArray]


class ContentFactor:
    """Predicts factors from content; see the module for papers and equations."""

    def __init__(self, config: ContentFactorConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._learned: _Learned | None = None

    def fit(
        self,
        content: Content,
        factors: FloatArray,
        *,
        visits: scipy.sparse.csr_array,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Learn from items with behaviour.

        Args:
            content: Of those items.
            factors: Shape (items, factors).
            visits: 1 where a visitor chose an item. Shape (visitors, items).
            rng: Draws folds, visitors and initial weights; the squared loss draws nothing.
            progress: Told of every step.

        Raises:
            DataError: If views, factors and visits do not have the same items, or the settings
                name a view that is not there.
        """
        n_items = _count(content)
        if factors.shape[0] != n_items or visits.shape[1] != n_items:
            raise DataError(
                f"content has {n_items} items, factors {factors.shape[0]} and visits "
                f"{visits.shape[1]}; give all three for the same items."
            )
        _require_views(self.config, content)
        centers = {
            name: np.asarray(view[np.any(view != 0, axis=1)].mean(axis=0), dtype=np.float32)
            for name, view in content.items()
            if not scipy.sparse.issparse(view) and np.any(view)
        }
        unit = {name: _unit(view, centers.get(name)) for name, view in content.items()}
        counts = np.asarray(visits.sum(axis=0), dtype=np.float64).ravel()
        chosen = np.sort(np.argsort(-counts, kind="stable")[: self.config.landmarks])
        landmarks = {name: view[chosen] for name, view in unit.items()}
        k = self._similarities(unit, landmarks).astype(np.float64)  # (items, landmarks)
        own = k[chosen]
        importance = np.maximum(counts, 1.0) ** self.config.count_power
        targets = self._shortened(factors)
        mean = np.asarray(targets.mean(axis=0), dtype=np.float64)
        a = _ridge(k, own, targets - mean, importance=importance, ridge=self.config.ridge)
        noisy = own + self.config.ridge * np.eye(len(own))
        values, vectors = scipy.linalg.eigh(own)
        leading = np.argsort(-values)[: self.config.directions]
        basis = vectors[:, leading] / np.sqrt(np.maximum(values[leading], _JITTER))
        self._learned = _Learned(
            centers=centers,
            landmarks=landmarks,
            a=a.astype(np.float32),
            mean=mean.astype(np.float32),
            precision=np.linalg.inv(noisy).astype(np.float32),
            basis=basis.astype(np.float32),
            network={},
        )
        if self.config.loss == "ranking":
            shortened = self._cross_fitted(k, chosen, targets, importance=importance, rng=rng)
            unseen = self._lengthened(shortened)
            network = _learn_ranking(
                k.astype(np.float32) @ self._learned.basis,
                unseen,
                factors,
                visits=visits,
                config=self.config,
                rng=rng,
                progress=progress,
            )
            self._learned = _replaced(self._learned, network)
        return self

    def predict(self, content: Content) -> FloatArray:
        """The factors of items, seen or not. Shape (items, factors).

        Raises:
            DataError: If a view is missing or has another width.
        """
        learned = require_fitted(self._learned, self)
        k = self._compare(content, guessed=self.config.lacking == "guessed")
        plain = self._lengthened(k @ learned.a + learned.mean)
        if not learned.network:
            return plain
        return _run_network(k @ learned.basis, plain, learned.network)

    def confidence(self, content: Content) -> FloatArray:
        """How much the landmarks know of an item: 0 nothing, 1 all. Shape (items,).

        1 - (variance given the landmarks) / (variance without them) of the Gaussian process whose
        mean `predict` is with the squared loss.
        """
        learned = require_fitted(self._learned, self)
        k = self._compare(content, guessed=False)  # a guess is no knowledge
        explained = np.einsum("il,lm,im->i", k, learned.precision, k, optimize=True)
        unit = {name: _unit(view, learned.centers.get(name)) for name, view in content.items()}
        prior = self._self_similarities(unit)
        share = np.divide(explained, prior, out=np.zeros_like(explained), where=prior > 0)
        return np.asarray(np.clip(share, 0, 1), dtype=np.float32)

    def widths(self) -> dict[str, int]:
        """The views that `fit` saw, and how wide each is."""
        learned = require_fitted(self._learned, self)
        return {name: int(view.shape[1]) for name, view in learned.landmarks.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """What `fit` learned; sparse views as three arrays."""
        learned = require_fitted(self._learned, self)
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(learned, name) for name in ("a", "mean", "precision", "basis")
        }
        arrays |= {f"center.{name}": center for name, center in learned.centers.items()}
        arrays |= {f"network.{name}": array for name, array in learned.network.items()}
        for name, view in learned.landmarks.items():
            if scipy.sparse.issparse(view):
                parts = {"data": view.data, "indices": view.indices, "indptr": view.indptr}
                arrays |= {f"sparse.{name}.{part}": array for part, array in parts.items()}
                arrays[f"sparse.{name}.shape"] = np.array(view.shape)
            else:
                arrays[f"dense.{name}"] = view
        return arrays

    @classmethod
    def from_state(
        cls, config: ContentFactorConfig, state: Mapping[str, NDArray[Any]]
    ) -> ContentFactor:
        """The model that gave `state`, ready to predict."""
        landmarks: dict[str, View] = _below(state, "dense.")
        for name in [
            key[7:-6] for key in state if key.startswith("sparse.") and key[-6:] == ".shape"
        ]:
            part = _below(state, f"sparse.{name}.")
            landmarks[name] = scipy.sparse.csr_array(
                (part["data"], part["indices"], part["indptr"]), shape=tuple(part["shape"])
            )
        model = cls(config)
        model._learned = _Learned(
            centers=_below(state, "center."),
            landmarks=landmarks,
            network=_below(state, "network."),
            **{name: state[name] for name in ("a", "mean", "precision", "basis")},
        )
        return model

    def _compare(self, content: Content, *, guessed: bool) -> FloatArray:
        learned = require_fitted(self._learned, self)
        for name, view in learned.landmarks.items():
            width = content[name].shape[1] if name in content else None
            if width != view.shape[1]:
                raise DataError(
                    f"view {name!r} has width {width}; it must have {view.shape[1]}, "
                    "as when the model was fitted. Rows of zeros say that an item lacks it."
                )
        unit = {name: _unit(content[name], learned.centers.get(name)) for name in learned.landmarks}
        single = _each(unit, learned.landmarks)
        if guessed:
            single = _guess(single, unit, learned.landmarks, weights=self.config.weights or {})
        return self._joined(single)

    def _similarities(self, left: Content, right: Content) -> FloatArray:
        """The k of every pair. Shape (left items, right items)."""
        return self._joined(_each(left, right))

    def _joined(self, single: Mapping[str, FloatArray]) -> FloatArray:
        """K from the similarities in each view. Shape (left items, right items)."""
        weights = self.config.weights or {}
        k = np.ones_like(next(iter(single.values())))  # what all items share
        for name, each in single.items():
            if weights.get(name, 1.0):
                k += np.float32(weights.get(name, 1.0)) * each
        for one, other, weight in self.config.products:
            k += np.float32(weight) * single[one] * single[other]
        return k

    def _self_similarities(self, unit: Content) -> FloatArray:
        weights = self.config.weights or {}
        there = {name: _squares(view) for name, view in unit.items()}
        k = np.ones(_count(unit), dtype=np.float32)
        for name, each in there.items():
            k += np.float32(weights.get(name, 1.0)) * each
        for one, other, weight in self.config.products:
            k += np.float32(weight) * there[one] * there[other]
        return k

    def _shortened(self, factors: FloatArray) -> FloatArray:
        """What the landmarks predict. Shape (items, factors + 1)."""
        lengths = np.maximum(np.linalg.norm(factors, axis=1, keepdims=True), _SHORTEST)
        return np.concatenate(
            [factors / lengths**self.config.length_power, np.log(lengths)], axis=1
        ).astype(np.float32)

    def _lengthened(self, shortened: FloatArray) -> FloatArray:
        """Factors from what the landmarks predict. Shape (items, factors)."""
        longer = np.exp(self.config.length_share * shortened[:, -1:])
        return np.asarray(shortened[:, :-1] * longer, dtype=np.float32)

    def _cross_fitted(
        self,
        k: NDArray[np.float64],
        chosen: IntArray,
        targets: FloatArray,
        *,
        importance: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> FloatArray:
        """Every item's targets predicted by items of which it is none. Shape (items, targets)."""
        fold_of = rng.permutation(len(k)) % _FOLDS
        predicted = np.empty_like(targets)
        for fold in range(_FOLDS):
            known = fold_of != fold
            columns = known[chosen]
            part = k[:, columns]
            mean = targets[known].mean(axis=0)
            own = part[chosen[columns]]
            a = _ridge(
                part[known],
                own,
                targets[known] - mean,
                importance=importance[known],
                ridge=self.config.ridge,
            )
            predicted[~known] = part[~known] @ a + mean
        return predicted


def autoencoder_factors(
    visits: scipy.sparse.csr_array, *, factors: int, shrinkage: float
) -> FloatArray:
    """Factors V of items such that visits @ V @ V' completes the visits.

    The linear autoencoder X (X'X + lambda I)^-1 X'X (Steck, WWW 2019, without the zero diagonal)
    has the eigenvectors Q of X'X; V = Q sqrt(e / (e + lambda)), for the largest eigenvalues e.

    Args:
        visits: 1 where a visitor chose an item. Shape (visitors, items).
        factors: At most so many.
        shrinkage: Lambda, in visitors.

    Returns:
        Shape (items, factors), a column less for each that the visits do not support.
    """
    gram = (visits.T @ visits).toarray().astype(np.float64)
    kept = min(factors, len(gram))
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[len(gram) - kept, len(gram) - 1])
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    found = vectors * signs * np.sqrt(values / (values + shrinkage))
    return np.ascontiguousarray(found[:, values > 1e-9 * max(values[0], 1e-30)], dtype=np.float32)


def clicked_factors(
    clicks: scipy.sparse.csr_array,
    visitors: FloatArray,
    predicted: FloatArray,
    *,
    ridge: float,
) -> FloatArray:
    """What an item's first clicks say of its factors.

    With U the visitors' factors and x the item's n clicks, b = (U'U + ridge I)^-1 U'x. A new item
    has been seen by few, so b is scaled from n to the clicks that its content promises, 1'U f(c),
    where those are more: the direction is behaviour's, the popularity still content's.

    Args:
        clicks: 1 where a visitor chose an item. Shape (visitors, items).
        visitors: Shape (visitors, factors).
        predicted: From content. Shape (items, factors).
        ridge: Larger trusts the clicks less.
    """
    gram = visitors.T.astype(np.float64) @ visitors
    gram[np.diag_indices_from(gram)] += ridge
    told = np.asarray(clicks.T @ visitors, dtype=np.float64)  # (items, factors)
    folded = scipy.linalg.solve(gram, told.T, assume_a="pos").T
    counts = np.maximum(np.asarray(clicks.sum(axis=0), dtype=np.float64).ravel(), 1.0)
    promised = predicted @ visitors.sum(axis=0)
    scale = np.maximum(promised / counts, 1.0)[:, None]
    return np.asarray(folded * scale, dtype=np.float32)


def blend(
    predicted: FloatArray, behaviour: FloatArray, counts: NDArray[Any], *, half: float
) -> FloatArray:
    """Factors that move from content to behaviour as clicks arrive.

    Args:
        predicted: From content. Shape (items, factors).
        behaviour: From the clicks so far. Shape (items, factors).
        counts: Clicks so far. Shape (items,).
        half: Clicks at which both count the same.

    >>> one, three = np.ones((1, 2), np.float32), np.full((1, 2), 3, np.float32)
    >>> blend(one, three, np.array([5]), half=5).tolist()
    [[2.0, 2.0]]
    """
    if not half > 0:
        raise ValueError(f"half is {half}; it must be above 0 clicks.")
    share = (counts / (counts + half)).astype(np.float32)[:, None]
    return predicted + share * (behaviour - predicted)


def _ridge(
    k: NDArray[np.float64],
    own: NDArray[np.float64],
    targets: NDArray[Any],
    *,
    importance: NDArray[np.float64],
    ridge: float,
) -> NDArray[np.float64]:
    """What the landmarks say. Shape (landmarks, factors)."""
    if len(k) == len(own):  # every item is a landmark: (K + lambda / C) a = targets
        system = own + np.diag(ridge / importance)
        return np.asarray(scipy.linalg.solve(system, targets, assume_a="pos"))
    weighted = k.T * importance
    system = weighted @ k + ridge * own
    system[np.diag_indices_from(system)] += _JITTER * np.trace(system) / len(system)
    return np.asarray(scipy.linalg.solve(system, weighted @ targets, assume_a="pos"))


def _learn_ranking(  # noqa: PLR0913, PLR0915 - one training loop, read top to bottom
    phi: FloatArray,
    unseen: FloatArray,
    factors: FloatArray,
    *,
    visits: scipy.sparse.csr_array,
    config: ContentFactorConfig,
    rng: np.random.Generator,
    progress: Progress,
) -> dict[str, FloatArray]:
    """Train the network that corrects predicted factors. Shapes as in the module."""
    import torch

    torch_rng = torch.Generator().manual_seed(int(rng.integers(2**31)))
    spread = np.maximum(phi.std(axis=0), 1e-6)
    size = float(np.abs(unseen).mean()) or 1.0
    x = torch.from_numpy(np.concatenate([phi / spread, unseen / size], axis=1))
    width, n_factors = x.shape[1], unseen.shape[1]

    def start(*shape: int) -> torch.Tensor:
        drawn = torch.randn(*shape, generator=torch_rng) / shape[0] ** 0.5
        return torch.Tensor.requires_grad_(drawn)

    weights = {
        "w1": start(width, config.hidden),
        "b1": torch.zeros(config.hidden, requires_grad=True),
        "w2": torch.zeros(config.hidden, n_factors, requires_grad=True),
        "scale": torch.ones(n_factors, requires_grad=True),
        "temperature": torch.zeros(1, requires_grad=True),
    }
    adam = torch.optim.AdamW(
        list(weights.values()), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    f0 = torch.from_numpy(unseen)
    usable = np.flatnonzero(np.asarray(visits.sum(axis=0)).ravel() > 0)
    parts = max(len(usable) // 650, 2)
    total = config.epochs * parts
    first_spread: float | None = None
    for step in range(total):
        if step % parts == 0:
            order = rng.permutation(usable)
        dropped = order[step % parts :: parts]
        rows = rng.choice(visits.shape[0], min(config.visitors, visits.shape[0]), replace=False)
        history = visits[rows]
        chosen = torch.from_numpy(history[:, dropped].toarray().astype(np.float32))
        there = chosen.sum(dim=1) > 0
        left = factors.copy()
        left[dropped] = 0
        visitors = torch.from_numpy(np.asarray(history @ left, dtype=np.float32))[there]
        hidden = torch.relu(x[dropped] @ weights["w1"] + weights["b1"])
        keep = (torch.rand(hidden.shape, generator=torch_rng) >= config.dropout) / (
            1 - config.dropout
        )
        v = f0[dropped] * weights["scale"] + size * (hidden * keep) @ weights["w2"]
        logits = visitors @ v.T
        if first_spread is None:
            first_spread = float(logits.detach().std()) or 1.0
        logits = logits / first_spread * weights["temperature"].exp()
        chosen = chosen[there]
        per_visitor = (torch.log_softmax(logits, dim=1) * chosen).sum(dim=1) / chosen.sum(dim=1)
        loss = -per_visitor.mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        progress(step + 1, total, f"loss {float(loss.detach()):.4f}")
    learned = {name: value.detach().numpy() for name, value in weights.items()}
    del learned["temperature"]
    return {**learned, "spread": spread, "size": np.array([size], dtype=np.float32)}


def _run_network(
    phi: FloatArray, plain: FloatArray, network: Mapping[str, FloatArray]
) -> FloatArray:
    size = network["size"][0]
    x = np.concatenate([phi / network["spread"], plain / size], axis=1)
    hidden = np.maximum(x @ network["w1"] + network["b1"], 0)
    corrected: FloatArray = plain * network["scale"] + size * (hidden @ network["w2"])
    return corrected


def _replaced(learned: _Learned, network: Mapping[str, FloatArray]) -> _Learned:
    return replace(learned, network=network)


def _unit(view: View, center: FloatArray | None) -> View:
    """Rows of length 1, dense ones around their mean; rows of zeros stay."""
    lengths: FloatArray
    if scipy.sparse.issparse(view):
        lengths = np.sqrt(np.asarray(view.multiply(view).sum(axis=1)).ravel()).astype(np.float32)
        scaled = scipy.sparse.diags_array(1 / np.where(lengths > 0, lengths, 1)) @ view
        return scipy.sparse.csr_array(scaled.astype(np.float32))
    there: BoolArray = np.any(view != 0, axis=1)
    moved = view if center is None else (view - center) * there[:, None]
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def _products(left: View, right: View) -> FloatArray:
    found = left @ right.T
    return np.asarray(found.toarray() if scipy.sparse.issparse(found) else found, dtype=np.float32)


def _each(left: Content, right: Content) -> dict[str, FloatArray]:
    """Similarities by view. Shape (left items, right items) each.

    Raises:
        DataError: If the views of a side are not of the same items.
    """
    for content in (left, right):
        _count(content)
    return {name: _products(left[name], right[name]) for name in left}


def _guess(
    single: Mapping[str, FloatArray],
    items: Content,
    landmarks: Content,
    *,
    weights: Mapping[str, float],
) -> dict[str, FloatArray]:
    """The similarities, with a guess in place of those of views that items lack.

    Args:
        single: Similarities by view. Shape (items, landmarks) each.
        items: Views of length 1, or of zeros.
        landmarks: The same.
        weights: Of views in likeness; where the views of an item weigh nothing, all of them count.
    """
    there = {name: _squares(view) > 0 for name, view in items.items()}
    # The least weight is for views that alone would count for nothing.
    counting = {name: max(weights.get(name, 1.0), _LEAST_WEIGHT) for name in single}
    likeness = np.sum([counting[name] * each for name, each in single.items()], axis=0)
    found = dict(single)
    for name, each in single.items():
        lacking = np.flatnonzero(~there[name])
        if not len(lacking):
            continue
        likest = np.where(_squares(landmarks[name]) > 0, np.maximum(likeness[lacking], 0), 0)
        if likest.shape[1] > _GUESSED_FROM:
            bar = -np.partition(-likest, _GUESSED_FROM - 1, axis=1)[:, [_GUESSED_FROM - 1]]
            likest = np.where(likest >= bar, likest, 0)
        shares = likest / np.maximum(likest.sum(axis=1, keepdims=True), 1e-30)
        each = each.copy()
        each[lacking] = shares @ _products(landmarks[name], landmarks[name])
        found[name] = each
    return found


def _squares(view: View) -> FloatArray:
    squared = view.multiply(view) if scipy.sparse.issparse(view) else view * view
    return np.asarray(squared.sum(axis=1), dtype=np.float32).ravel()


def _count(content: Content) -> int:
    sizes = {view.shape[0] for view in content.values()}
    if len(sizes) != 1:
        raise DataError(f"the views have {sorted(sizes)} items; give every view the same items.")
    return int(sizes.pop())


def _require_views(config: ContentFactorConfig, content: Content) -> None:
    named: Sequence[str] = [
        *(config.weights or {}),
        *(name for one, other, _ in config.products for name in (one, other)),
    ]
    for name in named:
        if name not in content:
            raise DataError(f"the settings name view {name!r}; there are {', '.join(content)}.")


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}
