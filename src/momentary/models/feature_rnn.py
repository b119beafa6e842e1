"""p-RNN: parallel recurrent networks that read item ids and item content side by side.

Hidasi, Quadrana, Karatzoglou, Tikk: "Parallel Recurrent Neural Network Architectures for
Feature-rich Session-based Recommendations", RecSys 2016. One GRU, a stream, reads the ids of the
clicks; one more reads each kind of content (the vector of a picture, of a text). They meet at the
output. With x_t the input of stream s at click t (the item's id vector, or its content vector),
h the state of that stream and o_s the vector by which stream s scores item i:

    h_t  = GRU_s(x_t, h_{t-1})
    parallel     score of i = sum_s o_s . h_s + bias_i
    shared       score of i = o . (sum_s a_s h_s) + bias_i        one o for all streams
    interaction  score of i = o_id . h_id + sum_f o_f . (h_id * h_f) + bias_i

Streams that learn at once learn the same thing twice, so the paper trains them in turns:

    simultaneous  all streams on every minibatch (the baseline)
    alternating   one stream an epoch, the others fixed, and around
    residual      one stream after the other; the earlier ones fixed, the later ones absent
    interleaving  one stream after the other on every minibatch, the others fixed

Beside the paper: o_f may be a projection of the item's content instead of a free vector. And so
that items nobody has touched can be clicked and recommended, training withholds the ids of a share
of the items at every step (item dropout: Volkovs, Yu, Poutanen, "DropoutNet", NIPS 2017). What
stands in for each row of an item that is withheld or new, its bias included, is learned:

    stand-in of i = S [1; content of i in every stream]

Such items stand too low among those that were learned. With `holdout_items` a first training goes
without a share of the items and without the newest sessions, and finds by how much the biases of
new items can be raised before it costs too many good answers over all.

Losses and minibatches are those of GRU4Rec. Gradients go back one step and are written out by
hand, those of the GRUs in `learn.gru` and those of the losses in `learn.loss_kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from momentary.data.batches import SessionParallel, Step
from momentary.data.sessions import renumber_items
from momentary.errors import DataError, MomentaryError
from momentary.learn.adagrad import Adagrad
from momentary.learn.bounds import require_choices, require_negatives, require_ranges
from momentary.learn.content import (
    named_arrays,
    require_row_an_item,
    streams_of,
    unit_rows,
)
from momentary.learn.dropout import Dropout
from momentary.learn.fitted import require_fitted
from momentary.learn.gru import Cell, CellPass, glorot
from momentary.learn.order import first_appearance, inverse
from momentary.learn.sampled_loss import SampledLoss
from momentary.learn.threads import one_blas_thread
from momentary.learn.validation import Validation, cut_newest
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

ID = "id"
"""The stream of item ids; content streams have other names."""

_STEPS_A_REPORT = 100
_ITEMS_A_BLOCK = 4096
_NEWEST = 0.06
"""Share of the sessions, the newest, that say how high new items may stand."""
_QUESTIONS, _QUESTIONS_AT_ONCE = 4_000, 256
_LEVELS = np.arange(0.0, 4.01, 0.25, dtype=np.float32)
"""What is tried, from the level that training gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRNNConfig:
    """How the streams are built, joined and trained.

    Attributes:
        units: Width of every stream's GRU.
        architecture: How the streams meet: "parallel", "shared" or "interaction".
        training: "simultaneous", "alternating", "residual" or "interleaving".
        output: A content stream scores items by "items", a free vector for each (the paper), or
            by "content", a projection of their content.
        dropout_items: Share of the items with content whose ids a step withholds, so that new
            items are understood by their content; 0 (the paper) leaves new items out.
        holdout_items: Share of the items with content that a first training does without, to find
            the level of new items; it costs as much as the training itself. 0 leaves the level.
        cost_of_new: Share of the recall over all that raising new items may cost.
        loss: "cross_entropy" or "bpr_max".
        logq: Strength of the logQ correction of the cross-entropy; 0 is none, 1 is full.
        elu: Exponential linear unit on the scores of BPR-max; 0 is none.
        regularization: Score regularisation of BPR-max.
        batch_size: Lanes of the session-parallel minibatch.
        n_sample: Shared negatives drawn besides the other targets of the batch.
        sample_alpha: Negatives are drawn by popularity to this power.
        epochs: Passes over the sessions for each stream.
        learning_rate: Adagrad's.
        momentum: Adagrad's, 0 up to 1.
        dropout_input: Share of a stream's input that is dropped in training.
        dropout_hidden: Share of a stream's state that is dropped in training.
    """

    units: int = 100
    architecture: Literal["parallel", "shared", "interaction"] = "parallel"
    training: Literal["simultaneous", "alternating", "residual", "interleaving"] = "interleaving"
    output: Literal["items", "content"] = "items"
    dropout_items: float = 0.0
    holdout_items: float = 0.0
    cost_of_new: float = 0.01
    loss: Literal["cross_entropy", "bpr_max"] = "cross_entropy"
    logq: float = 1.0
    elu: float = 0.5
    regularization: float = 1.0
    batch_size: int = 64
    n_sample: int = 1024
    sample_alpha: float = 0.5
    epochs: int = 3
    learning_rate: float = 0.1
    momentum: float = 0.1
    dropout_input: float = 0.0
    dropout_hidden: float = 0.2

    def __post_init__(self) -> None:
        require_choices(self, _CHOICES)
        require_ranges(self, _RANGES)
        if self.architecture == "shared" and self.output == "content":
            raise ValueError(
                'architecture is "shared" and output is "content"; streams that share one output '
                'matrix cannot score by their own content. Use output "items" with dropout_items, '
                "or another architecture."
            )
        require_negatives(batch_size=self.batch_size, n_sample=self.n_sample)


_CHOICES = {
    "architecture": ("parallel", "shared", "interaction"),
    "training": ("simultaneous", "alternating", "residual", "interleaving"),
    "output": ("items", "content"),
    "loss": ("cross_entropy", "bpr_max"),
}
_RANGES = {
    "units": (1, 10_000),
    "dropout_items": (0, 0.999),
    "holdout_items": (0, 0.9),
    "cost_of_new": (0, 1),
    "logq": (0, 10),
    "elu": (0, 100),
    "regularization": (0, 1_000),
    "batch_size": (1, 100_000),
    "n_sample": (0, 1_000_000),
    "sample_alpha": (0, 1),
    "epochs": (1, 10_000),
    "learning_rate": (1e-8, 100),
    "momentum": (0, 0.999),
    "dropout_input": (0, 0.999),
    "dropout_hidden": (0, 0.999),
}


class Turn(NamedTuple):
    """Who learns and who takes part in the scores.

    Attributes:
        learns: Streams whose weights move.
        present: Streams that are added up.
    """

    learns: tuple[str, ...]
    present: tuple[str, ...]


def turns(training: str, *, streams: tuple[str, ...], epochs: int) -> tuple[tuple[Turn, ...], ...]:
    """The turns of every minibatch, pass by pass.

    >>> turns("alternating", streams=("id", "title"), epochs=1)[1][0].learns
    ('title',)
    """
    if training == "simultaneous":
        return ((Turn(streams, streams),),) * epochs
    if training == "alternating":
        return tuple((Turn((name,), streams),) for name in streams) * epochs
    if training == "interleaving":
        return (tuple(Turn((name,), streams) for name in streams),) * epochs
    return tuple(
        (Turn((name,), streams[: place + 1]),)
        for place, name in enumerate(streams)
        for _ in range(epochs)
    )


class Network:
    """All weights by stream; `content` holds unit rows, zeros where nothing is known.

    `tables` have one row an item: `items` and `biases` of the ids, and `items` of a content stream
    that scores freely. `dense` holds a stream's p, its projection of content to output vectors, or
    its a, and `stand_in.TABLE`, the S of a table if ids are withheld.
    """

    def __init__(
        self,
        config: FeatureRNNConfig,
        *,
        content: Mapping[str, FloatArray],
        n_items: int,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self.content = dict(content)
        self.streams = (ID, *content)
        units = config.units
        facts = 1 + sum(matrix.shape[1] for matrix in content.values())
        self.cells: dict[str, Cell] = {}
        self.dense: dict[str, dict[str, FloatArray]] = {}
        self.tables: dict[str, dict[str, FloatArray]] = {}
        for name in self.streams:
            width = units if name == ID else content[name].shape[1]
            self.cells[name] = Cell.random(width=width, units=units, rng=rng)
            dense: dict[str, FloatArray] = {}
            tables: dict[str, FloatArray] = {}
            if name == ID:
                zeros = np.zeros((n_items, 1), dtype=np.float32)
                tables = {"items": glorot(n_items, units, rng), "biases": zeros}
            elif config.architecture == "shared":
                dense["a"] = np.ones(1, dtype=np.float32)
            elif config.output == "content":
                dense["p"] = glorot(units, width, rng)
            else:
                tables = {"items": glorot(n_items, units, rng)}
            if config.dropout_items and content:
                for table, rows in tables.items():
                    zeros = np.zeros((rows.shape[1], facts), dtype=np.float32)
                    dense[f"stand_in.{table}"] = zeros
            self.dense[name], self.tables[name] = dense, tables

    def facts(self, items: IntArray) -> FloatArray:
        """What stand-ins are made of: 1, then the content of every stream. Shape (items, facts)."""
        ones = np.ones((len(items), 1), dtype=np.float32)
        return np.concatenate([ones, *(matrix[items] for matrix in self.content.values())], axis=1)

    def described(self) -> BoolArray:
        """Which items have content in any stream. Shape (items,)."""
        known = np.zeros(len(self.tables[ID]["items"]), dtype=np.bool_)
        for matrix in self.content.values():
            known |= matrix.any(axis=1)
        return known

    def readout(self, hidden: Mapping[str, FloatArray]) -> FloatArray:
        """What the streams present give to the output. Shape (batch, units of those that score).

        Its product with their output vectors, side by side, is the scores without biases.
        """
        if self.config.architecture == "shared":
            shares = [h * self.share(name) for name, h in hidden.items()]
            summed: FloatArray = np.sum(shares, axis=0)
            return summed
        crossed = self.config.architecture == "interaction"
        return np.concatenate(
            [hidden[ID] * h if crossed and name != ID else h for name, h in hidden.items()], axis=1
        )

    def share(self, name: str) -> FloatArray:
        """The a of a stream where all share the output vectors; 1 for the ids."""
        return self.dense[name].get("a", np.ones(1, dtype=np.float32))

    def vectors(self, name: str, items: IntArray) -> FloatArray:
        """Output vectors of some items in a stream that has any. Shape (items, units)."""
        if "p" in self.dense[name]:
            projected: FloatArray = self.content[name][items] @ self.dense[name]["p"].T
            return projected
        return self.tables[name]["items"][items]

    @property
    def scoring(self) -> tuple[str, ...]:
        """The streams that have output vectors."""
        return (ID,) if self.config.architecture == "shared" else self.streams

    def arrays(self) -> Arrays:
        """Every weight and content vector, by part and stream."""
        weights = {
            f"{part}.{name}": array
            for name in self.streams
            for group in (
                self.cells[name].parameters(),
                self.dense[name],
                self.tables[name],
            )
            for part, array in group.items()
        }
        return weights | named_arrays(self.content)

    @classmethod
    def saved(cls, config: FeatureRNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network whose `arrays` are in `state`."""
        content = {name: np.array(rows) for name, rows in streams_of(state).items()}
        network = cls(config, content=content, n_items=1, rng=np.random.default_rng(0))
        for name in network.streams:
            gates = {part: np.array(state[f"{part}.{name}"]) for part in "wubc"}
            network.cells[name] = Cell(**gates)
            for group in (network.dense[name], network.tables[name]):
                group.update({part: np.array(state[f"{part}.{name}"]) for part in group})
        return network


class FeatureRNN:
    """Session-based recommendation from ids and content; see the module for the paper.

    Without features it reads the ids alone. A saved model brings its content along.

    Args:
        config: Architecture and training.
        features: Content vectors by stream, one row an item; a row of NaN or of zeros means
            that the item has none. Rows are brought to unit length. Each (items, dim).

    Raises:
        DataError: If a matrix cannot be used; the message says which and why.
    """

    kind: ClassVar[str] = "feature_rnn"

    def __init__(
        self,
        config: FeatureRNNConfig | None = None,
        *,
        features: Mapping[str, NDArray[np.floating[Any]]] | None = None,
    ) -> None:
        self._config = config or FeatureRNNConfig()
        self._features: dict[str, FloatArray] = {}
        self.describe(features or {})
        self._network: Network | None = None
        self._outputs = np.zeros((0, 0), dtype=np.float32)
        self._unseen = np.zeros(0, dtype=np.int64)
        self.losses: tuple[float, ...] = ()
        """Mean training loss of each pass, known after `fit`."""
        self.raised = 0.0
        """What `fit` added to the biases of new items; see `FeatureRNNConfig.holdout_items`."""

    @property
    def config(self) -> FeatureRNNConfig:
        """What the network was made with."""
        return self._config

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, ids first, in the order in which they are trained."""
        return (ID, *self._features)

    @property
    def features(self) -> Mapping[str, FloatArray]:
        """The content that it reads, by stream. Shapes (items, dim)."""
        return self._features

    @property
    def takes_new_items(self) -> bool:
        """It recommends items of which it knows the content alone."""
        return True

    def describe(self, features: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        """Take these features in place of those that it has; see the class.

        Raises:
            DataError: If a matrix cannot be used; the message says which and why.
        """
        for name in features:
            if name == ID or not name:
                raise DataError(f"a stream cannot be named {name!r}; name it after its content.")
        self._features = {name: unit_rows(name, matrix) for name, matrix in features.items()}

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Train on sessions in time order.

        Raises:
            DataError: If a matrix of features has not one row an item.
            MomentaryError: If no session has two events, or the loss stops being a number.
        """
        require_row_an_item(self._features, n_items)
        # Numbering the items by first appearance makes the initial weights, and so the scores,
        # independent of how the caller numbers them.
        order = first_appearance(sessions.items, n_items=n_items)
        number = inverse(order)
        ours = Sessions(
            items=number[sessions.items],
            offsets=sessions.offsets,
            times_us=sessions.times_us,
            users=sessions.users,
        )
        plan = SessionParallel.plan(ours, batch_size=self._config.batch_size)
        if not len(plan):
            raise MomentaryError(
                "No session has two events, so there is no next item to learn. "
                "Lower the item filter, or train a model that needs no order."
            )
        counts = np.bincount(ours.items, minlength=n_items)
        content = {name: matrix[order] for name, matrix in self._features.items()}
        self.raised = 0.0
        if self._config.holdout_items > 0 and self._understands and content:
            chance = np.random.default_rng(rng.integers(2**63, size=4))
            self.raised = _level_of_new(
                self._config, ours, content=content, rng=chance, progress=progress
            )
        with one_blas_thread():
            trainer = _Trainer(self._config, content=content, counts=counts, rng=rng)
            self.losses = trainer.run(plan, progress)
        network = trainer.network
        _stand_in_for_the_unseen(network, counts > 0)
        network.tables[ID]["biases"][(counts == 0) & network.described()] += self.raised
        network.content = dict(self._features)
        for tables in network.tables.values():
            tables.update({part: table[number] for part, table in tables.items()})
        seen = counts[number] > 0
        known = seen | (network.described() & self._understands)
        self._use(network, unseen=np.flatnonzero(~known))
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item after each session's last click. Shape (sessions, items)."""
        states = self.start(len(sessions))
        lengths = sessions.lengths
        with one_blas_thread():
            for place in range(int(lengths.max(initial=0))):
                rows = np.flatnonzero(lengths > place)
                clicked = sessions.items[sessions.offsets[rows] + place]
                states[rows] = self.advance(states[rows], clicked)
            return self.score_states(states)

    def start(self, count: int) -> FloatArray:
        """The memory of visits before the first click. Shape (count, units of all streams)."""
        network = require_fitted(self._network, self)
        return np.zeros((count, len(network.streams) * self._config.units), dtype=np.float32)

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The memory after one more click each. Shapes (count, width), (count,)."""
        network = require_fitted(self._network, self)
        after = []
        for name, hidden in self._split(states).items():
            table = network.tables[ID]["items"] if name == ID else network.content[name]
            after.append(network.cells[name].step(table[items], hidden))
        return np.concatenate(after, axis=1)

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items of which nothing is known share the lowest."""
        network = require_fitted(self._network, self)
        with one_blas_thread():
            scores: FloatArray = network.readout(self._split(states)) @ self._outputs.T
        scores += network.tables[ID]["biases"][:, 0]
        if len(self._unseen):
            scores[:, self._unseen] = np.inf
            scores[:, self._unseen] = scores.min(axis=1, keepdims=True)
        return scores

    def state(self) -> Arrays:
        """The weights and content by part and stream, and the items of which nothing is known."""
        return require_fitted(self._network, self).arrays() | {"unseen": self._unseen}

    @classmethod
    def from_state(cls, config: FeatureRNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`; the content comes with it."""
        model = cls(config)
        network = Network.saved(config, state)
        model._features = dict(network.content)
        model._use(network, unseen=np.array(state["unseen"], dtype=np.int64))
        return model

    @property
    def _understands(self) -> bool:
        """Whether new items can be told by their content."""
        return self._config.dropout_items > 0 or self._config.output == "content"

    def _use(self, network: Network, *, unseen: IntArray) -> None:
        self._unseen = unseen
        everything = np.arange(len(network.tables[ID]["items"]))
        vectors = [network.vectors(name, everything) for name in network.scoring]
        self._outputs = np.concatenate(vectors, axis=1)
        self._network = network

    def _split(self, states: FloatArray) -> dict[str, FloatArray]:
        parts = np.split(states, len(self.streams), axis=1)
        return dict(zip(self.streams, parts, strict=True))


def _stand_in_for_the_unseen(network: Network, seen: BoolArray) -> None:
    """Fill the rows of items that training never saw: with their stand-ins, or with the average."""
    unseen = np.flatnonzero(~seen)
    for name, tables in network.tables.items():
        for part, table in tables.items():
            stand_in = network.dense[name].get(f"stand_in.{part}")
            if stand_in is None:
                table[unseen] = table[seen].mean(axis=0)
                continue
            for start in range(0, len(unseen), _ITEMS_A_BLOCK):
                block = unseen[start : start + _ITEMS_A_BLOCK]
                table[block] = network.facts(block) @ stand_in.T


def _level_of_new(
    config: FeatureRNNConfig,
    sessions: Sessions,
    *,
    content: Mapping[str, FloatArray],
    rng: np.random.Generator,
    progress: Progress,
) -> float:
    """By how much new items can be raised: what a training without some of the items says.

    Raises:
        DataError: If there are too few sessions to keep some for validation.
    """
    taught, newest = cut_newest(sessions, _NEWEST)
    n_items = len(next(iter(content.values())))
    known = np.any([matrix.any(axis=1) for matrix in content.values()], axis=0)
    known &= np.bincount(taught.items, minlength=n_items) > 0
    able = np.flatnonzero(known)
    held = rng.choice(able, round(config.holdout_items * len(able)), replace=False)
    if not len(held):
        return 0.0
    kept = np.arange(n_items)
    kept[held] = -1
    model = FeatureRNN(replace(config, holdout_items=0.0), features=content)
    model.fit(renumber_items(taught, kept), n_items=n_items, rng=rng, progress=progress)
    asked = Validation.of(newest, known=taught, most=_QUESTIONS)
    return highest_level(
        model, asked.history, targets=asked.targets, new=held, cost=config.cost_of_new
    )


def highest_level(
    model: FeatureRNN,
    history: Sessions,
    *,
    targets: IntArray,
    new: IntArray,
    cost: float,
    k: int = 20,
) -> float:
    """The highest constant that can be added to the scores of new items at no higher cost.

    Args:
        model: Trained without the new items.
        history: One row a question.
        targets: The answers, new items among them. Shape (questions,).
        new: Item indices.
        cost: Share of the recall over all that may be lost.
        k: Recall is the share of answers among the first `k`, ties counted against them.
    """
    hits = np.zeros(len(_LEVELS))
    with one_blas_thread():
        for begin in range(0, len(targets), _QUESTIONS_AT_ONCE):
            rows = np.arange(begin, min(begin + _QUESTIONS_AT_ONCE, len(targets)))
            scores, wanted = model.score(history.take(rows)), targets[rows]
            raised = scores[:, new].copy()
            scores[:, new] = -np.inf
            is_new = np.isin(wanted, new)
            for place, level in enumerate(_LEVELS):
                own = np.where(
                    is_new,
                    raised[np.arange(len(rows)), np.argmax(new == wanted[:, None], axis=1)] + level,
                    scores[np.arange(len(rows)), wanted],
                )[:, None]
                ahead = (scores >= own).sum(axis=1) + (raised + level >= own).sum(axis=1)
                hits[place] += (ahead <= k).sum()
    return float(_LEVELS[np.flatnonzero(hits >= (1 - cost) * hits[0])[-1]])


class _Items(NamedTuple):
    """The items of a step: candidates, then inputs.

    Attributes:
        rows: Shape (rows,).
        kept: Places whose ids are not withheld. Shape (kept,).
        withheld: The other places. Shape (withheld,).
        facts: What stands in for the withheld is made of these. Shape (withheld, facts).
    """

    rows: IntArray
    kept: IntArray
    withheld: IntArray
    facts: FloatArray


class _Trainer:
    """One training run: the network, its optimizers, its loss, the memory of the lanes."""

    def __init__(
        self,
        config: FeatureRNNConfig,
        *,
        content: Mapping[str, FloatArray],
        counts: IntArray,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self.rng = rng
        self.network = network = Network(config, content=content, n_items=len(counts), rng=rng)
        self.loss = SampledLoss(config, counts=counts, rng=rng)
        self.dropout_input = Dropout(config.dropout_input, rng=rng)
        self.dropout_hidden = Dropout(config.dropout_hidden, rng=rng)
        self.described = network.described()
        self.optimizers = {
            (part, name): Adagrad(
                array, learning_rate=config.learning_rate, momentum=config.momentum
            )
            for name in network.streams
            for group in (
                network.cells[name].parameters(),
                network.dense[name],
                network.tables[name],
            )
            for part, array in group.items()
        }
        self.hidden = {
            name: np.zeros((config.batch_size, config.units), dtype=np.float32)
            for name in network.streams
        }
        self.passes: dict[str, CellPass] = {}

    def run(self, plan: SessionParallel, progress: Progress) -> tuple[float, ...]:
        config, streams = self.config, self.network.streams
        passes = turns(config.training, streams=streams, epochs=config.epochs)
        losses = []
        for number, each in enumerate(passes):
            summed, done = 0.0, 0
            for place, step in enumerate(plan, start=1):
                if len(step.inputs) + config.n_sample > 1:  # else the last lane has no negative
                    summed += self.step(step, each)
                    done += len(step.inputs)
                if place % _STEPS_A_REPORT == 0 or place == len(plan):
                    who = " ".join(each[0].learns) if len(each) == 1 else "in turns"
                    note = (
                        f"pass {number + 1}/{len(passes)} ({who}), loss {summed / max(done, 1):.3f}"
                    )
                    progress(number * len(plan) + place, len(passes) * len(plan), note)
                    _check(summed)
            losses.append(summed / max(done, 1))
        return tuple(losses)

    def step(self, step: Step, each: tuple[Turn, ...]) -> float:
        """One minibatch, a gradient step a turn; the loss of the last one, summed over lanes."""
        before = {name: hidden[step.lanes] for name, hidden in self.hidden.items()}
        for hidden in before.values():
            hidden[step.fresh] = 0
        rows = np.concatenate([step.targets, self.loss.draw(), step.inputs])
        items = self.withhold(rows)
        loss = 0.0
        for turn in each:
            loss, after = self.take(turn, items, before=before)
            for name, new in after.items():
                self.hidden[name][step.lanes] = new
        return loss

    def withhold(self, rows: IntArray) -> _Items:
        """Draw the items of this step whose ids are not shown, wherever they stand in it."""
        share = self.config.dropout_items
        if not share or len(self.network.streams) == 1:
            nothing = np.empty(0, dtype=np.int64)
            return _Items(rows, np.arange(len(rows)), nothing, np.empty((0, 0), dtype=np.float32))
        items, place = np.unique(rows, return_inverse=True)
        hidden = ((self.rng.random(len(items)) < share) & self.described[items])[place]
        withheld = np.flatnonzero(hidden)
        return _Items(rows, np.flatnonzero(~hidden), withheld, self.network.facts(rows[withheld]))

    def take(
        self, turn: Turn, items: _Items, *, before: Mapping[str, FloatArray]
    ) -> tuple[float, dict[str, FloatArray]]:
        """One gradient step of those whose turn it is, and the new states of those present."""
        network, batch = self.network, len(before[ID])
        candidates, inputs = items.rows[:-batch], items.rows[-batch:]
        shown = self.shown(ID, "items", items)
        hidden, masks = {}, {}
        for name in turn.present:
            x = shown[-batch:] if name == ID else network.content[name][inputs]
            hidden[name], masks[name] = self.click(name, x, before[name])
        vectors = {
            name: shown[:-batch] if name == ID else self.outputs(name, items, batch)
            for name in turn.present
            if name in network.scoring
        }
        readouts, joined = network.readout(hidden), np.concatenate(list(vectors.values()), axis=1)
        scores = readouts @ joined.T
        biases = self.shown(ID, "biases", items)[:-batch, 0]
        loss, by_biases = self.loss(scores, biases, candidates)  # scores are now their gradient

        by_vectors = dict(zip(vectors, _split(scores.T @ readouts, len(vectors)), strict=True))
        by_readouts = scores @ joined
        by_hidden = self.by_hidden(hidden, by_readouts)
        by_inputs = np.zeros((batch, network.config.units), dtype=np.float32)
        for name in turn.learns:
            by_x = self.learn(name, by_hidden[name], masks[name])
            if name == ID:
                by_inputs = by_x
            elif "a" in network.dense[name]:
                by_a = np.vdot(by_readouts, hidden[name])
                self.optimizers["a", name].step(np.array([by_a], dtype=np.float32))
            else:
                self.learn_outputs(name, items, by_vectors[name])
        # A table that all streams share is nobody's own and always learns.
        if ID in turn.learns or self.config.architecture == "shared":
            none = np.zeros((batch, 1), dtype=np.float32)
            self.move((ID, "items"), items, np.concatenate([by_vectors[ID], by_inputs]))
            self.move((ID, "biases"), items, np.concatenate([by_biases[:, None], none]))
        return loss, hidden

    def shown(self, name: str, part: str, items: _Items) -> FloatArray:
        """Rows of a table, with stand-ins where ids are withheld. Shape (rows, width)."""
        rows = self.network.tables[name][part][items.rows]
        if len(items.withheld):
            stand_in = self.network.dense[name][f"stand_in.{part}"]
            rows[items.withheld] = items.facts @ stand_in.T
        return rows

    def outputs(self, name: str, items: _Items, batch: int) -> FloatArray:
        """Output vectors of the candidates in a content stream. Shape (candidates, units)."""
        if "p" in self.network.dense[name]:
            return self.network.vectors(name, items.rows[:-batch])
        return self.shown(name, "items", items)[:-batch]

    def learn_outputs(self, name: str, items: _Items, by_vectors: FloatArray) -> None:
        """Move what a content stream scores the candidates by."""
        candidates = items.rows[: len(by_vectors)]
        if "p" in self.network.dense[name]:
            by_p = by_vectors.T @ self.network.content[name][candidates]
            self.optimizers["p", name].step(by_p)
            return
        by_rows = np.zeros((len(items.rows), by_vectors.shape[1]), dtype=np.float32)
        by_rows[: len(by_vectors)] = by_vectors
        self.move((name, "items"), items, by_rows)

    def move(self, table: tuple[str, str], items: _Items, by_rows: FloatArray) -> None:
        """Let a stream's table, and what stands in for its rows, go along the gradient."""
        name, part = table
        if len(items.withheld):
            by_stand_in = by_rows[items.withheld].T @ items.facts
            self.optimizers[f"stand_in.{part}", name].step(by_stand_in)
        self.optimizers[part, name].step_rows(items.rows[items.kept], by_rows[items.kept])

    def click(
        self, name: str, x: FloatArray, before: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """The states after one click, and what was dropped; that stays forgotten."""
        if name not in self.passes or len(self.passes[name].hidden) != len(before):
            self.passes[name] = CellPass(self.network.cells[name], len(before))
        seen, of_input = _dropped(x, self.dropout_input)
        layer = self.passes[name]
        layer.hidden[:] = before
        hidden, of_hidden = _dropped(layer.forward(seen), self.dropout_hidden)
        return hidden, (of_input, of_hidden)

    def by_hidden(
        self, hidden: Mapping[str, FloatArray], by_readouts: FloatArray
    ) -> dict[str, FloatArray]:
        """From the gradient by what the streams gave to the output to that by their states."""
        if self.config.architecture == "shared":
            return {name: by_readouts * self.network.share(name) for name in hidden}
        found = dict(zip(hidden, _split(by_readouts, len(hidden)), strict=True))
        if self.config.architecture == "interaction":
            of_ids = found[ID].copy()
            for name in hidden:
                if name != ID:
                    of_ids += found[name] * hidden[name]
                    found[name] = found[name] * hidden[ID]
            found[ID] = of_ids
        return found

    def learn(
        self, name: str, by_hidden: FloatArray, masks: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        """Move the weights of a stream's GRU; the gradient by its input."""
        of_input, of_hidden = masks
        layer = self.passes[name]
        by_x = layer.backward(by_hidden * of_hidden) * of_input
        for part, gradient in layer.gradients.items():
            self.optimizers[part, name].step(gradient)
        return by_x


def _dropped(x: FloatArray, dropout: Dropout) -> tuple[FloatArray, FloatArray]:
    """A copy of x with a share dropped, and the mask."""
    mask = np.ones_like(x)
    if dropout.share > 0:
        dropout.fill(mask)
    return x * mask, mask


def _split(joined: FloatArray, parts: int) -> list[FloatArray]:
    return [np.ascontiguousarray(part) for part in np.split(joined, parts, axis=1)]


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
