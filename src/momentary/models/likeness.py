r"""Likeness: what counts when two items are called alike, learned from the items that have labels.

A network reads an item's views (picture, colours, title), each of length 1, and gives for every
kind of label (type, colour, gender) the chances of its values,

    h = relu(W x + b),    p_a = softmax(V_a h + c_a),
    loss = -sum over kinds a of the mean of log p_a(label), over the items that have a label,

the late fusion of multi-task classification (Caruana, "Multitask learning", 1997). The vector of an
item is [sqrt(w_1) p_1; sqrt(w_2) p_2; ...; epsilon x], so the product of two vectors is

    sum over a of w_a sum over values v of p_a(v | i) p_a(v | j) + epsilon^2 x_i . x_j,

the chance that both have the same label, and their plain likeness where the chances tie. An item
needs no label to have a vector: labels teach the network, and no label of a query is ever read.
In training some views of some items are hidden (as in Neverova et al., "ModDrop", TPAMI 2016), so
that a picture without a title is understood as well as a network can that had both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from momentary.errors import DataError
from momentary.learn.bounds import require_ranges
from momentary.learn.fitted import require_fitted
from momentary.types import FloatArray, IntArray, Progress, silent

_UNKNOWN = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class LikenessConfig:
    """How the network is built and trained.

    Attributes:
        weights: Of each kind of label in the likeness; a kind that is not named weighs 1.
        hidden: Units between the views and the chances.
        dropout: Share of the views' numbers, and of the hidden units, that is dropped in training.
        epochs: Passes over the items.
        batch_size: Items of one step.
        learning_rate: Adam's; it falls to 0 along a line.
        weight_decay: Adam's.
        plain: Epsilon; the weight of the views themselves.
        lacking: Chance that what comes of one content is hidden from a step of training; something
            is always left.
        together: Views that come of one content, such as a picture and its colours, and are
            hidden together.
    """

    weights: Mapping[str, float] | None = None
    hidden: int = 256
    dropout: float = 0.3
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    plain: float = 0.1
    lacking: float = 0.3
    together: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        for name, weight in (self.weights or {}).items():
            if weight < 0:
                raise ValueError(f"the weight of {name} is {weight}; use 0 to leave it out.")


_RANGES: dict[str, tuple[float, float]] = {
    "hidden": (1, 100_000),
    "dropout": (0, 0.99),
    "epochs": (1, 100_000),
    "batch_size": (2, 100_000),
    "learning_rate": (1e-8, 10),
    "weight_decay": (0, 10),
    "plain": (0, 10),
    "lacking": (0, 0.9),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What `fit` found.

    Attributes:
        centers: Mean of each view. Shapes (width,).
        kinds: Of labels, with how many values each.
        network: Weights by name.
    """

    centers: Mapping[str, FloatArray]
    kinds: Mapping[str, int]
    network: Mapping[str, FloatArray]


class Likeness:
    """Vectors whose product says how surely two items agree; see the module."""

    def __init__(self, config: LikenessConfig) -> None:
        """Make a model that has learned nothing yet."""
        self.config = config
        self._learned: _Learned | None = None

    def fit(
        self,
        views: Mapping[str, FloatArray],
        labels: Mapping[str, IntArray],
        *,
        rng: np.random.Generator,
        values: Mapping[str, int] | None = None,
        progress: Progress = silent,
    ) -> Self:
        """Learn from items with labels.

        Args:
            views: Of the items; a row of zeros says that an item lacks the view.
            labels: By kind, from 0, -1 where unknown. Shapes (items,).
            rng: Draws weights, order and what is dropped.
            values: How many each kind has, where some of the last may be on none of the items.
            progress: Told after every epoch.

        Raises:
            DataError: If views and labels do not have the same items, or no label is known.
        """
        sizes = {len(each) for each in views.values()} | {len(each) for each in labels.values()}
        if len(sizes) != 1:
            raise DataError(f"views and labels have {sorted(sizes)} items; give both the same.")
        kinds = {name: int(each.max(initial=_UNKNOWN)) + 1 for name, each in labels.items()}
        if not kinds or not all(kinds.values()):
            raise DataError("a kind of label is known of no item; leave that kind out.")
        kinds |= values or {}
        centers = {name: _center(view) for name, view in views.items()}
        x = _joined(views, centers)
        # A service that only asks what was learned does not pay for torch.
        from momentary.learn.torch_threads import one_torch_thread

        with one_torch_thread():
            network = _train(
                x,
                labels,
                kinds,
                contents=_contents(centers, self.config.together),
                config=self.config,
                rng=rng,
                progress=progress,
            )
        self._learned = _Learned(centers=centers, kinds=kinds, network=network)
        return self

    @property
    def centers(self) -> Mapping[str, FloatArray]:
        """By view, what is taken off a vector before it is brought to length 1. Shapes (width,)."""
        return require_fitted(self._learned, self).centers

    def chances(self, views: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The chances of each kind's values. Shapes (items, values)."""
        learned = require_fitted(self._learned, self)
        return _chances(_joined(views, learned.centers), learned)

    def chances_of_units(self, units: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The same for views that are centred and of length 1; one that is not given is lacking."""
        learned = require_fitted(self._learned, self)
        count = len(next(iter(units.values())))
        parts = [
            units.get(name, np.zeros((count, len(center)), dtype=np.float32))
            for name, center in learned.centers.items()
        ]
        return _chances(np.concatenate(parts, axis=1), learned)

    def embed(self, views: Mapping[str, FloatArray]) -> FloatArray:
        """One vector an item; likeness is the product of two. Shape (items, dim).

        Raises:
            DataError: If a view is missing or has another width.
        """
        learned = require_fitted(self._learned, self)
        x = _joined(views, learned.centers)
        weights = self.config.weights or {}
        parts = [
            each * np.float32(weights.get(name, 1.0) ** 0.5)
            for name, each in _chances(x, learned).items()
        ]
        return np.concatenate([*parts, np.float32(self.config.plain) * x], axis=1)

    def state(self) -> dict[str, NDArray[Any]]:
        """What `fit` learned."""
        learned = require_fitted(self._learned, self)
        arrays: dict[str, NDArray[Any]] = {
            f"center.{place:04}.{name}": center
            for place, (name, center) in enumerate(learned.centers.items())
        }
        for place, (name, count) in enumerate(learned.kinds.items()):
            arrays[f"kind.{place:04}.{name}"] = np.array([count])
        return arrays | {f"network.{name}": array for name, array in learned.network.items()}

    @classmethod
    def from_state(cls, config: LikenessConfig, state: Mapping[str, NDArray[Any]]) -> Likeness:
        """The model that gave `state`."""
        model = cls(config)
        model._learned = _Learned(
            centers=_in_order(state, "center."),
            kinds={name: int(count[0]) for name, count in _in_order(state, "kind.").items()},
            network=_below(state, "network."),
        )
        return model


def _train(  # noqa: PLR0913 - each says something else
    x: FloatArray,
    labels: Mapping[str, IntArray],
    kinds: Mapping[str, int],
    *,
    contents: IntArray,
    config: LikenessConfig,
    rng: np.random.Generator,
    progress: Progress,
) -> dict[str, FloatArray]:
    import torch
    from torch.nn import functional

    draw = torch.Generator().manual_seed(int(rng.integers(2**31)))
    wide, values, rest = x.shape[1], sum(kinds.values()), 1 - config.dropout
    w1 = (torch.randn(wide, config.hidden, generator=draw) * (2 / wide) ** 0.5).requires_grad_()
    w2 = (torch.randn(config.hidden, values, generator=draw) / config.hidden**0.5).requires_grad_()
    b1, b2 = (torch.zeros(size, requires_grad=True) for size in (config.hidden, values))
    scale = float(np.sqrt(wide))  # rows of length about 1 become numbers of size about 1
    adam = torch.optim.AdamW(
        [w1, b1, w2, b2], lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    known = np.any(np.stack([each >= 0 for each in labels.values()]), axis=0)
    rows = np.flatnonzero(known)
    steps = max(len(rows) // config.batch_size, 1)
    for epoch in range(config.epochs):
        order = rng.permutation(rows)
        total = 0.0
        for step in range(steps):
            adam.param_groups[0]["lr"] = config.learning_rate * (
                1 - (epoch * steps + step) / (config.epochs * steps)
            )
            batch = order[step::steps]
            there = _left(len(batch), contents, lacking=config.lacking, rng=rng)
            seen = torch.from_numpy(x[batch] * there) * scale
            keep = torch.rand(seen.shape, generator=draw) >= config.dropout
            hidden = torch.relu(seen * keep / rest @ w1 + b1)
            keep = torch.rand(hidden.shape, generator=draw) >= config.dropout
            logits = hidden * keep / rest @ w2 + b2
            parts = zip(logits.split(list(kinds.values()), 1), kinds, strict=True)
            loss = torch.stack(
                [
                    functional.cross_entropy(
                        part, torch.from_numpy(labels[kind][batch]), ignore_index=_UNKNOWN
                    )
                    for part, kind in parts
                    if np.any(labels[kind][batch] >= 0)
                ]
            ).sum()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            total += float(loss.detach())
        progress(epoch + 1, config.epochs, f"loss {total / steps:.3f}")
    return {
        "w1": w1.detach().numpy() * np.float32(scale),
        "b1": b1.detach().numpy(),
        "w2": w2.detach().numpy(),
        "b2": b2.detach().numpy(),
    }


def _contents(centers: Mapping[str, FloatArray], together: Sequence[Sequence[str]]) -> IntArray:
    """For every number of the views side by side, which content it comes of. Shape (width,)."""
    first = {name: min(group) for group in together for name in group}
    names = [first.get(name, name) for name in centers]
    order = list(dict.fromkeys(names))
    widths = [len(center) for center in centers.values()]
    return np.repeat([order.index(name) for name in names], widths)


def _left(
    count: int, contents: IntArray, *, lacking: float, rng: np.random.Generator
) -> FloatArray | float:
    """1 for every number that a step of training sees, 0 for the others. (count, width)."""
    kinds = int(contents.max()) + 1
    if not lacking or kinds == 1:
        return 1.0
    there = rng.random((count, kinds)) >= lacking
    there[np.arange(count), rng.integers(kinds, size=count)] = True
    return there[:, contents].astype(np.float32)


def _chances(x: FloatArray, learned: _Learned) -> dict[str, FloatArray]:
    network = learned.network
    hidden = np.maximum(x @ network["w1"] + network["b1"], 0)
    logits = hidden @ network["w2"] + network["b2"]
    places = np.cumsum(list(learned.kinds.values()))[:-1]
    found = {}
    for name, part in zip(learned.kinds, np.split(logits, places, axis=1), strict=True):
        powers = np.exp(part - part.max(axis=1, keepdims=True))
        found[name] = np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
    return found


def _joined(views: Mapping[str, FloatArray], centers: Mapping[str, FloatArray]) -> FloatArray:
    """All views side by side, each centred and of length 1. Shape (items, width)."""
    parts = []
    for name, center in centers.items():
        width = views[name].shape[1] if name in views else None
        if width != len(center):
            raise DataError(
                f"view {name!r} has width {width}; it must have {len(center)}, as when the model "
                "was fitted. Rows of zeros say that an item lacks it."
            )
        view = views[name]
        moved = (view - center) * np.any(view != 0, axis=1)[:, None]
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        parts.append(moved / np.where(lengths > 0, lengths, 1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _center(view: FloatArray) -> FloatArray:
    there = np.any(view != 0, axis=1)
    return np.asarray(view[there].mean(axis=0) if there.any() else view[0] * 0, dtype=np.float32)


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}


def _in_order(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The same without the places before the names, which may have come in another order."""
    found = _below(state, prefix)
    return {name.partition(".")[2]: found[name] for name in sorted(found)}
