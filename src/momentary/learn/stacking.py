r"""A learned stack: a small network that orders the candidates of a question.

Stacked generalisation (Wolpert, Neural Networks 1992): what several models say of a candidate,
and whatever else is known of it, are the features x of a network f, which learns on questions
that the models have not seen by the softmax over the candidates of a question,

    loss = -log( exp f(x_target) / sum over candidates c of exp f(x_c) ).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from momentary.learn.torch_threads import one_torch_thread
from momentary.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The network over the candidates, and how it learns.

    Attributes:
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
        for name in ("networks", "epochs", "batch_size", "max_questions", "least_questions"):
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


class Network(NamedTuple):
    """Layers of rectified units beside a linear path, over standardised features z.

    f(z) = u . relu(W_2 relu(W_1 z + b_1) + b_2) + v . z
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    out: FloatArray
    linear: FloatArray


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

    def scores(self, features: FloatArray) -> FloatArray:
        """Score every candidate by f, averaged over the networks. Shape (candidates,)."""
        inputs = (features - self.center) / self.spread
        scores = np.zeros(len(inputs), dtype=np.float32)
        for network in self.networks:
            scores += forward(inputs, network)
        return scores / np.float32(len(self.networks))


class Lesson(NamedTuple):
    """Questions with their answers.

    Attributes:
        features: Of the candidates, question by question; half precision. (candidates, features)
        offsets: Where each question's candidates start. Shape (questions + 1,).
        targets: Row of the target in `features`, -1 if it was no candidate. Shape (questions,).
    """

    features: NDArray[np.float16]
    offsets: IntArray
    targets: IntArray


def joined(lessons: Sequence[Lesson]) -> Lesson:
    """One lesson after the other."""
    starts = np.cumsum([0] + [len(lesson.features) for lesson in lessons])[:-1]
    placed = list(zip(lessons, starts, strict=True))
    return Lesson(
        features=np.concatenate([lesson.features for lesson in lessons]),
        offsets=np.concatenate([[0], *(lesson.offsets[1:] + start for lesson, start in placed)]),
        targets=np.concatenate(
            [np.where(lesson.targets >= 0, lesson.targets + start, -1) for lesson, start in placed]
        ),
    )


def forward(inputs: FloatArray, network: Network) -> FloatArray:
    """f(x) of standardised features. Shapes (candidates, features) to (candidates,)."""
    hidden = inputs
    for weight, bias in zip(network.weights, network.biases, strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    return hidden @ network.out + inputs @ network.linear


def candidate_loss(
    scores: torch.Tensor, question: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Softmax cross-entropy of the target among its question's candidates, averaged.

    Args:
        scores: f of all candidates, question by question. Shape (candidates,).
        question: The question of each candidate, from 0. Shape (candidates,).
        targets: Place of each question's target among the candidates. Shape (questions,).
    """
    top = torch.full((len(targets),), -torch.inf).scatter_reduce(
        0, question, scores.detach(), "amax"
    )
    summed = torch.zeros(len(targets)).index_add(0, question, torch.exp(scores - top[question]))
    return (summed.log() + top - scores[targets]).mean()


def learn_stack(lesson: Lesson, config: Stack, *, rng: np.random.Generator) -> Stacked:
    """Train the networks; none if there are too few questions."""
    asked = np.flatnonzero(lesson.targets >= 0)
    if len(asked) < config.least_questions:
        width = lesson.features.shape[1]
        return Stacked(np.zeros(width, dtype=np.float32), np.ones(width, dtype=np.float32), ())
    sample = rng.integers(len(lesson.features), size=min(len(lesson.features), 200_000))
    drawn = lesson.features[np.sort(sample)].astype(np.float32)
    center, spread = drawn.mean(axis=0), drawn.std(axis=0) + np.float32(1e-3)
    with one_torch_thread():
        networks = [
            _train(lesson, config, center=center, spread=spread, rng=rng)
            for _ in range(config.networks)
        ]
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
    asked = np.flatnonzero(lesson.targets >= 0)
    steps = config.epochs * math.ceil(len(asked) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(0.05 * steps, 1)) * (1 - step / steps)
    )
    for _ in range(config.epochs):
        shuffled = rng.permutation(asked)
        for start in range(0, len(shuffled), config.batch_size):
            chosen = shuffled[start : start + config.batch_size]
            inputs, question, targets = _batch(lesson, chosen, center=center, spread=spread)
            scores = _trained_forward(inputs, tensors, dropout=config.dropout, chance=chance)
            optimizer.zero_grad()
            # The stubs of torch leave backward untyped.
            candidate_loss(scores, question, targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    arrays = [tensor.detach().numpy() for tensor in tensors]
    return Network(
        weights=tuple(arrays[2::2]), biases=tuple(arrays[3::2]), out=arrays[0], linear=arrays[1]
    )


def _initial(hidden: tuple[int, ...], width: int, chance: torch.Generator) -> list[torch.Tensor]:
    """Output and linear path, then weight and bias of each layer (He et al. 2015)."""
    tensors = [
        torch.empty(hidden[-1]).normal_(0, hidden[-1] ** -0.5, generator=chance),
        torch.zeros(width),
    ]
    for wide, narrow in zip((width, *hidden), hidden, strict=False):
        tensors.append(torch.empty(wide, narrow).normal_(0, (2 / wide) ** 0.5, generator=chance))
        tensors.append(torch.zeros(narrow))
    for tensor in tensors:
        tensor.requires_grad_()
    return tensors


def _trained_forward(
    inputs: torch.Tensor,
    tensors: list[torch.Tensor],
    *,
    dropout: float,
    chance: torch.Generator,
) -> torch.Tensor:
    hidden = inputs
    for weight, bias in zip(tensors[2::2], tensors[3::2], strict=True):
        hidden = torch.relu(torch.addmm(bias, hidden, weight))
        if dropout > 0:
            kept = torch.empty_like(hidden).bernoulli_(1 - dropout, generator=chance)
            hidden = hidden * kept / (1 - dropout)
    return hidden @ tensors[0] + inputs @ tensors[1]


def _batch(
    lesson: Lesson, chosen: IntArray, *, center: FloatArray, spread: FloatArray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Standardised candidates of the chosen questions, their questions, and the targets."""
    counts = lesson.offsets[chosen + 1] - lesson.offsets[chosen]
    starts = np.cumsum(counts) - counts
    rows = np.arange(counts.sum()) + np.repeat(lesson.offsets[chosen] - starts, counts)
    inputs = (lesson.features[rows].astype(np.float32) - center) / spread
    question = np.repeat(np.arange(len(chosen)), counts)
    targets = lesson.targets[chosen] - lesson.offsets[chosen] + starts
    return torch.from_numpy(inputs), torch.from_numpy(question), torch.from_numpy(targets)
