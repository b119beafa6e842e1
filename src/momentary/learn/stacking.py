r"""A learned stack: a small network that orders the candidates of a question.

Stacked generalisation (Wolpert, Neural Networks 1992): what several models say of a candidate,
and whatever else is known of it, are the features x of a network f, which learns on questions
that the models have not seen by the softmax over the candidates of a question,

    loss = -log( exp f(x_target) / sum over candidates c of exp f(x_c) ).

Each candidate is seen beside the mean of its rivals (as in deep sets; Zaheer et al., NIPS 2017):
with z the standardised features and m their mean over the candidates of the question,

    f(x) = u . relu(W_2 relu(W_1 z + C m + b_1) + b_2) + v . z
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from momentary.learn.torch_threads import one_torch_thread
from momentary.types import BoolArray, FloatArray, IntArray, Progress, silent

_FARTHEST = 6.0
"""Standard deviations at which a feature is cut."""
_ENOUGH = 200_000
"""Candidates that mean and spread of the features are taken from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The network over the candidates, and how it learns.

    Attributes:
        candidates: Of the parts' best items it looks at so many, the likeliest in the mixture.
        hidden: Width of each layer.
        networks: How many are trained, from different seeds; their outputs are averaged.
        epochs: Passes over the questions.
        batch_size: Questions in one step.
        learning_rate: Adam's at the start; it falls to 0 along a line.
        weight_decay: Adam's.
        dropout: Share of each layer's output that is dropped in training.
        max_questions: Learn from at most this many, drawn at random.
        least_questions: With fewer there is no stack, only the probability blend.
    """

    candidates: int = 120
    hidden: tuple[int, ...] = (64, 32)
    networks: int = 1
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    dropout: float = 0.1
    max_questions: int = 60_000
    least_questions: int = 200

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden is {self.hidden}; name at least one width, such as (64,).")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be 0 or more and below 1.")
        if not self.learning_rate > 0 or self.weight_decay < 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; "
                "the first must be above 0 and the second not below."
            )


_COUNTS = ("candidates", "networks", "epochs", "batch_size", "max_questions", "least_questions")


class Network(NamedTuple):
    """u, v, C, and W and b of each layer; see the module."""

    out: FloatArray
    linear: FloatArray
    rivals: FloatArray
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]


class Stacked(NamedTuple):
    """A stack that has learned.

    Attributes:
        center: Mean of each feature. Shape (features,).
        spread: Standard deviation of each feature. Shape (features,).
        networks: None of them if there were too few questions.
    """

    center: FloatArray
    spread: FloatArray
    networks: tuple[Network, ...]

    def scores(self, features: FloatArray, rivals: FloatArray | None = None) -> FloatArray:
        """Score the candidates of one question by f, averaged over the networks.

        Args:
            features: Of the candidates. Shape (candidates, features).
            rivals: Of all candidates of the question, if `features` are not them.

        Returns:
            Shape (candidates,).
        """
        inputs = self._standard(features)
        mean = (inputs if rivals is None else self._standard(rivals)).mean(axis=0)
        scores = np.zeros(len(inputs), dtype=np.float32)
        for network in self.networks:
            scores += forward(inputs, mean, network)
        return scores / np.float32(len(self.networks))

    def _standard(self, features: FloatArray) -> FloatArray:
        standard: FloatArray = (features - self.center) / self.spread
        return standard.clip(-_FARTHEST, _FARTHEST)


class Lesson(NamedTuple):
    """Questions with their answers.

    Attributes:
        features: Of the candidates; 0 where there are fewer. (questions, candidates, features)
        counts: How many candidates there are. Shape (questions,).
        targets: Place of the target among them, -1 if it was none. Shape (questions,).
    """

    features: NDArray[np.float16]
    counts: IntArray
    targets: IntArray

    @classmethod
    def blank(cls, questions: int, *, candidates: int, features: int) -> Lesson:
        """Room for so many questions of at most so many candidates."""
        return cls(
            features=np.zeros((questions, candidates, features), dtype=np.float16),
            counts=np.zeros(questions, dtype=np.int64),
            targets=np.full(questions, -1, dtype=np.int64),
        )

    def take(self, rows: slice) -> Lesson:
        """Some of the questions, in the same memory."""
        return Lesson(self.features[rows], self.counts[rows], self.targets[rows])

    @property
    def filled(self) -> BoolArray:
        """Where there is a candidate. Shape (questions, candidates)."""
        return np.arange(self.features.shape[1]) < self.counts[:, None]


def forward(inputs: FloatArray, mean: FloatArray, network: Network) -> FloatArray:
    """Compute f from z and m. Shapes (candidates, features), (features,) to (candidates,)."""
    hidden = np.maximum(
        inputs @ network.weights[0] + (mean @ network.rivals + network.biases[0]), 0
    )
    for weight, bias in zip(network.weights[1:], network.biases[1:], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    scores: FloatArray = hidden @ network.out + inputs @ network.linear
    return scores


def learn_stack(
    lesson: Lesson, config: Stack, *, rng: np.random.Generator, progress: Progress = silent
) -> Stacked:
    """Train the networks; none if there are too few questions."""
    asked = np.flatnonzero(lesson.targets >= 0)
    width = lesson.features.shape[2]
    if len(asked) < config.least_questions:
        return Stacked(np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32), ())
    some = max(_ENOUGH // lesson.features.shape[1], 1)
    drawn = np.sort(rng.permutation(len(lesson.counts))[:some])
    known = lesson.features[drawn][lesson.filled[drawn]].astype(np.float32)
    center, spread = known.mean(axis=0), known.std(axis=0) + np.float32(1e-3)
    networks = []
    with one_torch_thread():
        for number in range(config.networks):
            networks.append(_train(lesson, config, center=center, spread=spread, rng=rng))
            progress(number + 1, config.networks, "stack learned")
    return Stacked(center, spread, tuple(networks))


def _train(
    lesson: Lesson,
    config: Stack,
    *,
    center: FloatArray,
    spread: FloatArray,
    rng: np.random.Generator,
) -> Network:
    chance = torch.Generator().manual_seed(int(rng.integers(2**63)))
    tensors = _initial(config.hidden, len(center), chance)
    optimizer = torch.optim.AdamW(
        tensors, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    middle, scale = torch.from_numpy(center), torch.from_numpy(1 / spread)
    asked = np.flatnonzero(lesson.targets >= 0)
    steps = config.epochs * math.ceil(len(asked) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(0.05 * steps, 1)) * (1 - step / steps)
    )
    for _ in range(config.epochs):
        shuffled = rng.permutation(asked)
        for start in range(0, len(shuffled), config.batch_size):
            chosen = shuffled[start : start + config.batch_size]
            features = torch.from_numpy(lesson.features[chosen]).float()
            inputs = ((features - middle) * scale).clamp_(-_FARTHEST, _FARTHEST)
            filled = torch.from_numpy(
                np.arange(lesson.features.shape[1]) < lesson.counts[chosen, None]
            )
            scores = trained_forward(inputs, filled, tensors, dropout=config.dropout, chance=chance)
            loss = cross_entropy(scores, torch.from_numpy(lesson.targets[chosen]))
            optimizer.zero_grad()
            # The stubs of torch leave backward untyped.
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    out, linear, rivals, *layers = (tensor.detach().numpy() for tensor in tensors)
    return Network(out, linear, rivals, tuple(layers[::2]), tuple(layers[1::2]))


def _initial(hidden: tuple[int, ...], width: int, chance: torch.Generator) -> list[torch.Tensor]:
    """Of u, v, C, and then W and b of each layer (He et al., ICCV 2015)."""
    tensors = [
        torch.empty(hidden[-1]).normal_(0, hidden[-1] ** -0.5, generator=chance),
        torch.zeros(width),
        torch.empty(width, hidden[0]).normal_(0, width**-0.5, generator=chance),
    ]
    for wide, narrow in zip((width, *hidden), hidden, strict=False):
        tensors.append(torch.empty(wide, narrow).normal_(0, (2 / wide) ** 0.5, generator=chance))
        tensors.append(torch.zeros(narrow))
    for tensor in tensors:
        tensor.requires_grad_()
    return tensors


def trained_forward(
    inputs: torch.Tensor,
    filled: torch.Tensor,
    tensors: list[torch.Tensor],
    *,
    dropout: float,
    chance: torch.Generator,
) -> torch.Tensor:
    """Compute f with dropout, -inf where there is no candidate. Shape (questions, candidates).

    Args:
        inputs: z. Shape (questions, candidates, features).
        filled: Where there is a candidate. Shape (questions, candidates).
        tensors: u, v, C, and W and b of each layer.
        dropout: Share of each layer's output that is dropped.
        chance: Draws what is dropped.
    """
    out, linear, rivals, *layers = tensors
    mean = (inputs * filled[:, :, None]).sum(1) / filled.sum(1, keepdim=True)
    hidden = inputs @ layers[0] + (mean @ rivals + layers[1])[:, None]
    for weight, bias in zip([None, *layers[2::2]], layers[1::2], strict=True):
        if weight is not None:
            hidden = hidden @ weight + bias
        hidden = torch.relu(hidden)
        if dropout > 0:
            kept = torch.empty_like(hidden).bernoulli_(1 - dropout, generator=chance)
            hidden = hidden * kept / (1 - dropout)
    return (hidden @ out + inputs @ linear).masked_fill(~filled, -torch.inf)
