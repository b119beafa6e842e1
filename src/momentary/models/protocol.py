"""What every model can do: fit, score, and give its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from momentary.learn.course import DEFAULT_COURSE, Course
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

Arrays = dict[str, NDArray[Any]]
"""A fitted model's numbers by name; numbers only, so that they are saved without pickle."""


class Scorer(Protocol):
    """Anything that can score the whole catalogue for a batch of sessions.

    `Model(ModelConfig(...))` makes one; `tests/contract` holds the laws that all of them keep.
    """

    kind: ClassVar[str]
    """The name of the model in artifacts, settings and on the command line."""

    @property
    def config(self) -> Any:  # noqa: ANN401 - each model has a frozen dataclass of its own
        """The frozen dataclass that the model was made with."""
        ...

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Learn from sessions in time order; an item index is below `n_items`."""
        ...

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item for every session, higher is better. Shape (sessions, items)."""
        ...

    def state(self) -> Arrays:
        """What `fit` learned."""
        ...

    @classmethod
    def from_state(cls, config: Any, state: Mapping[str, NDArray[Any]]) -> Self:  # noqa: ANN401
        """The model that gave `state`, ready to score."""
        ...


@runtime_checkable
class Incremental(Protocol):
    """A model whose view of a visit is a small array that one click advances.

    Law: advancing click by click scores the same as `score` on the whole session.
    """

    def start(self, count: int) -> FloatArray:
        """The state of `count` visits before the first click. Shape (count, width)."""
        ...

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The states after one more click each. Shapes (count, width), (count,)."""
        ...

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the states. Shape (count, items)."""
        ...


@runtime_checkable
class Remembering(Incremental, Protocol):
    """An incremental model that knows visitors again by what their earlier visits were like.

    Law: going through a visitor's visits one by one, `finish` after each, leads to the state that
    `start_for` gives a model which learned from them.
    """

    @property
    def until_us(self) -> int:
        """Time of the last event that was learned from, in microseconds since 1970."""
        ...

    def recognize(self, visitors: Sequence[str]) -> None:
        """Be told who the visitors of the training were, in the order of their indices."""
        ...

    def places(self, visitors: Sequence[str]) -> IntArray:
        """Their indices, -1 for those that the training did not know. Shape (visitors,)."""
        ...

    def start_for(self, users: IntArray) -> FloatArray:
        """The state at the door of these visitors' next visit. Shapes (count,), (count, width)."""
        ...

    def finish(self, states: FloatArray) -> FloatArray:
        """The state at the door of the next visit, once this one is over. Shape (count, width)."""
        ...


@runtime_checkable
class Described(Protocol):
    """A model that reads what items are like, beside what visitors do with them.

    It keeps what it was given: a saved model needs nobody to tell it again.
    """

    @property
    def features(self) -> Mapping[str, FloatArray]:
        """What it reads, by stream, one row an item; empty if it was told nothing."""
        ...

    @property
    def takes_new_items(self) -> bool:
        """Whether it is fitted on the whole catalogue, since content alone can bring an item up."""
        ...

    def describe(self, features: Mapping[str, FloatArray]) -> None:
        """Be given vectors by stream before `fit`, one row an item; zeros where there is none."""
        ...


@runtime_checkable
class Factored(Incremental, Protocol):
    """An incremental model whose score is a product with an item's vector.

    Law: `score_states(states)` is `queries(states) @ vectors.T + biases`, except that an item whose
    bias is -inf scores as low as the lowest other. So ranks and lists need no rows of scores.
    """

    def item_vectors(self) -> tuple[FloatArray, FloatArray]:
        """Vectors and biases of the items. Shapes (items, width), (items,)."""
        ...

    def queries(self, states: FloatArray) -> FloatArray:
        """What the item vectors are multiplied with. Shape (count, width)."""
        ...


@runtime_checkable
class Placeable(Scorer, Protocol):
    """A model that knows each item by a row of numbers, so that more items can be placed.

    Laws: `with_items` scores the items that the model had as before; a model's own rows, placed
    again, score the same as the items that they are of; and rows that were `tuned` score
    scale * score + offset.
    """

    def item_rows(self) -> tuple[FloatArray, BoolArray]:
        """Every item's row, and whether training saw the item. Shapes (items, width), (items,)."""
        ...

    def with_items(self, rows: FloatArray) -> Self:
        """The same model with more items behind its own. Shape (items more, width)."""
        ...

    def tuned(self, rows: FloatArray, *, scale: float, offset: float) -> FloatArray:
        """Rows with other scores. Shape (rows, width)."""
        ...


@runtime_checkable
class Quick(Protocol):
    """A model that scores one visit in less time than `score` takes.

    Law: the best `exact` items are those of `score`, in the same order; all others score lower.
    Scores are those of `score` up to what rounding some vectors to bytes changes.
    """

    def score_visit(self, items: IntArray, *, exact: int) -> FloatArray:
        """Score every item after the clicks of one visit; -inf leaves one out. Shape (items,)."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A model that learns in epochs, so that it can be watched, stopped early and taken up again.

    Law: with one worker and no holdout `train` learns what `fit` learns, interrupted or not.
    """

    def train(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
        course: Course = DEFAULT_COURSE,
    ) -> Self:
        """Learn as `fit` does, in the way that `course` says."""
        ...
