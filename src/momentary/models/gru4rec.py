"""GRU4Rec: a recurrent network that recommends from the clicks of this visit alone.

Hidasi, Karatzoglou, Baltrunas, Tikk: "Session-based Recommendations with Recurrent Neural
Networks", ICLR 2016 (arXiv 1511.06939): the network and session-parallel minibatches.
Hidasi, Karatzoglou: "Recurrent Neural Networks with Top-k Gains for Session-based
Recommendations", CIKM 2018 (arXiv 1706.03847): both losses, shared additional negatives.
Hidasi, Czapp: "The Effect of Third Party Implementations on Reproducibility", RecSys 2023
(arXiv 2307.14956): tied embedding, logQ correction, and what goes wrong without them.

With x_t the embedding of click t and h_0 = 0:

    r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r + c_r)
    z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z + c_z)
    n_t = tanh(W_n x_t + b_n + r_t (U_n h_{t-1} + c_n))
    h_t = (1 - z_t) n_t + z_t h_{t-1}
    score of item i = w_i . h_t + bias_i

Gradients go back one step: h_{t-1} is taken as given. They are written out by hand, those of the
cell in `learn.gru` and those of the losses in `learn.loss_kernels`, and held against automatic
differentiation by the tests; so neither training nor serving needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from momentary.data.batches import SessionParallel, Step
from momentary.errors import MomentaryError, NotFittedError
from momentary.learn.adagrad import Adagrad
from momentary.learn.bounds import require_choices, require_negatives, require_ranges
from momentary.learn.dropout import Dropout
from momentary.learn.gru import Cell, CellPass, glorot
from momentary.learn.loss_kernels import bpr_max, cross_entropy
from momentary.learn.order import first_appearance
from momentary.learn.sampling import PopularitySampler
from momentary.learn.tables import gather
from momentary.learn.threads import one_blas_thread
from momentary.models.protocol import Arrays
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

_STEPS_A_REPORT = 100
_STEPS_A_DRAW = 64
_TABLES = ("items", "biases", "inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class GRU4RecConfig:
    """How the network is built and trained.

    Attributes:
        units: Width of each GRU layer, the first one nearest to the clicks.
        input: How a click enters: "tied" (the item's output vector, the paper's constrained
            embedding), "separate" (a table of its own, `embedding` wide) or "one_hot" (a row of
            gate inputs for each item, as in the first paper).
        embedding: Width of the separate table.
        loss: "cross_entropy" or "bpr_max".
        logq: Strength of the logQ correction of the cross-entropy; 0 is none, 1 is full.
        elu: Exponential linear unit on the scores of BPR-max; 0 is none.
        regularization: Score regularisation of BPR-max.
        batch_size: Lanes of the session-parallel minibatch.
        n_sample: Shared negatives drawn besides the other targets of the batch.
        sample_alpha: Negatives are drawn by popularity to this power.
        epochs: Passes over the sessions.
        learning_rate: Adagrad's.
        momentum: Adagrad's, 0 up to 1.
        dropout_embedding: Share of the input that is dropped in training.
        dropout_hidden: Share of each layer's output that is dropped in training.
    """

    units: tuple[int, ...] = (100,)
    input: Literal["tied", "separate", "one_hot"] = "tied"
    embedding: int = 100
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
    dropout_embedding: float = 0.0
    dropout_hidden: float = 0.2

    def __post_init__(self) -> None:
        if not self.units or min(self.units) < 1:
            raise ValueError(f"units is {self.units}; name at least one width, such as (100,).")
        require_choices(self, _CHOICES)
        require_ranges(self, _RANGES)
        require_negatives(batch_size=self.batch_size, n_sample=self.n_sample)


_CHOICES = {"input": ("tied", "separate", "one_hot"), "loss": ("cross_entropy", "bpr_max")}
_RANGES = {
    "embedding": (1, 10_000),
    "logq": (0, 10),
    "elu": (0, 100),
    "regularization": (0, 1_000),
    "batch_size": (1, 100_000),
    "n_sample": (0, 1_000_000),
    "sample_alpha": (0, 1),
    "epochs": (1, 10_000),
    "learning_rate": (1e-8, 100),
    "momentum": (0, 0.999),
    "dropout_embedding": (0, 0.999),
    "dropout_hidden": (0, 0.999),
}


class Network:
    """All weights: item vectors and biases, an input table unless tied, and the GRU layers."""

    def __init__(
        self, tables: Mapping[str, FloatArray], layers: list[Cell], *, config: GRU4RecConfig
    ) -> None:
        self.items, self.biases = tables["items"], tables["biases"]
        self.inputs = None if config.input == "tied" else tables["inputs"]
        self.layers = layers

    @classmethod
    def random(cls, config: GRU4RecConfig, *, n_items: int, rng: np.random.Generator) -> Network:
        """A network that has learned nothing."""
        one_hot, units = config.input == "one_hot", config.units
        first = {"one_hot": 0, "separate": config.embedding, "tied": units[-1]}[config.input]
        widths = (first, *units[:-1])
        layers = [
            Cell.random(width=w, units=u, rng=rng) for w, u in zip(widths, units, strict=True)
        ]
        tables = {
            "items": glorot(n_items, units[-1], rng),
            "biases": np.zeros((n_items, 1), dtype=np.float32),
        }
        if config.input != "tied":
            columns = 3 * units[0] if one_hot else config.embedding
            tables["inputs"] = glorot(n_items, columns, rng)
        return cls(tables, layers, config=config)

    @property
    def tables(self) -> dict[str, FloatArray]:
        """The parameters with one row an item."""
        tables = {"items": self.items, "biases": self.biases}
        return tables if self.inputs is None else {**tables, "inputs": self.inputs}

    def dense(self) -> dict[str, FloatArray]:
        """The parameters of the layers, by name."""
        return {
            f"{name}{depth}": array
            for depth, layer in enumerate(self.layers)
            for name, array in layer.parameters().items()
        }

    @classmethod
    def saved(cls, state: Mapping[str, NDArray[Any]], *, config: GRU4RecConfig) -> Network:
        """The network whose `tables` and `dense` make up `state`."""
        layers = []
        for depth, units in enumerate(config.units):
            nothing = np.zeros((0, units), dtype=np.float32)
            u, b, c = (np.array(state[f"{name}{depth}"]) for name in "ubc")
            layers.append(Cell(w=np.array(state.get(f"w{depth}", nothing)), u=u, b=b, c=c))
        tables = {name: np.array(state[name]) for name in _TABLES if name in state}
        return cls(tables, layers, config=config)


class GRU4Rec:
    """Session-based recommendation with a GRU; see the module for papers and equations."""

    kind: ClassVar[str] = "gru4rec"

    def __init__(self, config: GRU4RecConfig | None = None) -> None:
        self._config = config or GRU4RecConfig()
        self._network: Network | None = None
        self._unseen = np.zeros(0, dtype=np.int64)
        self.losses: tuple[float, ...] = ()
        """Mean training loss of each epoch, known after `fit`."""

    @property
    def config(self) -> GRU4RecConfig:
        """What the network was made with."""
        return self._config

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
            MomentaryError: If no session has two events, or the loss stops being a number.
        """
        # Numbering the items by first appearance makes the initial weights, and so the scores,
        # independent of how the caller numbers them.
        order = first_appearance(sessions.items, n_items=n_items)
        number = np.empty(n_items, dtype=np.int64)
        number[order] = np.arange(n_items)
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
        trainer = _Trainer(self._config, counts=counts, rng=rng)
        with one_blas_thread():
            self.losses = trainer.run(plan, progress)
        tables = {name: table[number] for name, table in trainer.network.tables.items()}
        self._network = Network(tables, trainer.network.layers, config=self._config)
        self._unseen = np.sort(order[counts[: len(order)] == 0])
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
        """The memory of visits before the first click. Shape (count, units of all layers)."""
        return np.zeros((count, sum(self._config.units)), dtype=np.float32)

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The memory after one more click each. Shapes (count, width), (count,)."""
        network = self._fitted()
        x = (network.items if network.inputs is None else network.inputs)[items]
        after = np.empty_like(states)
        start = 0
        for layer, units in zip(network.layers, self._config.units, strict=True):
            own = slice(start, start + units)
            x = after[:, own] = layer.step(x, states[:, own])
            start += units
        return after

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items never trained share the lowest score."""
        network = self._fitted()
        top = states[:, -self._config.units[-1] :]
        with one_blas_thread():
            scores: FloatArray = top @ network.items.T
        scores += network.biases[:, 0]
        if len(self._unseen):
            scores[:, self._unseen] = np.inf
            scores[:, self._unseen] = scores.min(axis=1, keepdims=True)
        return scores

    def state(self) -> Arrays:
        """The weights by name, and the items that training never saw."""
        network = self._fitted()
        return {**network.tables, **network.dense(), "unseen": self._unseen}

    @classmethod
    def from_state(cls, config: GRU4RecConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`."""
        model = cls(config)
        model._network = Network.saved(state, config=config)
        model._unseen = np.asarray(state["unseen"], dtype=np.int64)
        return model

    def _fitted(self) -> Network:
        if self._network is None:
            raise NotFittedError("GRU4Rec has not learned anything yet; call fit first.")
        return self._network


class _Room:
    """Where one step writes what it takes and finds; reused while as many lanes are active.

    Attributes:
        rows: The items of the step: the targets, the negatives and, when tied, the inputs.
        taken: Their vectors. Shape (rows, units).
        by_taken: The gradient by them. Shape (rows, units).
        biases: Those of the candidates, less the correction. Shape (candidates,).
        correction: logQ of the candidates. Shape (candidates,).
        by_biases: The gradient by them. Shape (candidates, 1).
        scores: Then the gradient by them. Shape (batch, candidates).
        by_top: The gradient by the last layer's output. Shape (batch, units).
        x: The input of the first layer. Shape (batch, width).
        by_x: The gradient by it. Shape (batch, width).
        passes: The layers.
        masks: Dropout of the input, then of each layer's output.
    """

    def __init__(self, network: Network, *, batch: int, n_sample: int) -> None:
        units = network.items.shape[1]
        self.candidates = batch + n_sample
        count = self.candidates + (batch if network.inputs is None else 0)
        self.rows = np.empty(count, dtype=np.int64)
        self.taken = np.empty((count, units), dtype=np.float32)
        self.by_taken = np.empty_like(self.taken)
        self.biases = np.empty(self.candidates, dtype=np.float32)
        self.correction = np.empty_like(self.biases)
        self.by_biases = np.empty((self.candidates, 1), dtype=np.float32)
        self.scores = np.empty((batch, self.candidates), dtype=np.float32)
        self.by_top = np.empty((batch, units), dtype=np.float32)
        if network.inputs is None:
            self.x, self.by_x = self.taken[self.candidates :], self.by_taken[self.candidates :]
        else:
            self.x = np.empty((batch, network.inputs.shape[1]), dtype=np.float32)
            self.by_x = np.empty_like(self.x)
        self.passes = [CellPass(layer, batch) for layer in network.layers]
        self.masks = [np.ones_like(a) for a in (self.x, *(each.after for each in self.passes))]


class _Trainer:
    """One training run: the network, its optimizers, its negatives, what it drops."""

    def __init__(
        self, config: GRU4RecConfig, *, counts: IntArray, rng: np.random.Generator
    ) -> None:
        self.config = config
        self.network = Network.random(config, n_items=len(counts), rng=rng)
        self.sampler = PopularitySampler(counts, alpha=config.sample_alpha, rng=rng)
        self.dropouts = [Dropout(config.dropout_embedding, rng=rng)]
        self.dropouts += [Dropout(config.dropout_hidden, rng=rng) for _ in config.units]
        # A target of the batch is offered as often as it is seen, a drawn negative as often as it
        # is drawn.
        logq = config.logq if config.loss == "cross_entropy" else 0.0
        self.log_q = (logq * np.log(np.maximum(counts, 1))).astype(np.float32)
        self.optimizers = {
            name: Adagrad(array, learning_rate=config.learning_rate, momentum=config.momentum)
            for name, array in {**self.network.dense(), **self.network.tables}.items()
        }
        self.hidden = [
            np.zeros((config.batch_size, units), dtype=np.float32) for units in config.units
        ]
        self.negatives = np.empty((0, config.n_sample), dtype=np.int64)
        self.room = self._room(config.batch_size)

    def run(self, plan: SessionParallel, progress: Progress) -> tuple[float, ...]:
        config = self.config
        losses = []
        total = config.epochs * len(plan)
        for epoch in range(config.epochs):
            summed, done = 0.0, 0
            for number, step in enumerate(plan, start=1):
                if len(step.inputs) + config.n_sample > 1:  # else the last lane has no negative
                    summed += self.step(step)
                    done += len(step.inputs)
                if number % _STEPS_A_REPORT == 0 or number == len(plan):
                    note = f"epoch {epoch + 1}/{config.epochs}, loss {summed / max(done, 1):.3f}"
                    progress(epoch * len(plan) + number, total, note)
                    _check(summed)
            losses.append(summed / max(done, 1))
        return tuple(losses)

    def step(self, step: Step) -> float:
        """One gradient step over the active lanes; the loss summed over them."""
        if len(step.inputs) != len(self.room.scores):
            self.room = self._room(len(step.inputs))
        self.take(step)
        self.forward(step)
        loss = self.loss()
        self.backward()
        self.update(step)
        return loss

    def take(self, step: Step) -> None:
        """Fetch what the step needs from the tables."""
        room, network = self.room, self.network
        batch, candidates = len(step.inputs), room.candidates
        room.rows[:batch] = step.targets
        room.rows[batch:candidates] = self.draw()
        if network.inputs is None:
            room.rows[candidates:] = step.inputs
        else:
            gather(network.inputs, step.inputs, room.x)
        gather(network.items, room.rows, room.taken)
        np.take(network.biases[:, 0], room.rows[:candidates], out=room.biases, mode="clip")
        np.take(self.log_q, room.rows[:candidates], out=room.correction, mode="clip")
        room.correction[batch:] *= np.float32(self.config.sample_alpha)
        np.subtract(room.biases, room.correction, out=room.biases)

    def forward(self, step: Step) -> None:
        """From the clicks to the scores; what is dropped stays out of the memory too."""
        room = self.room
        x = self.drop(0, room.x)
        for depth, layer in enumerate(room.passes):
            np.take(self.hidden[depth], step.lanes, axis=0, out=layer.hidden, mode="clip")
            layer.hidden[step.fresh] = 0
            x = self.drop(depth + 1, layer.forward(x))
            self.hidden[depth][step.lanes] = x
        np.matmul(x, room.taken[: room.candidates].T, out=room.scores)

    def loss(self) -> float:
        """The loss summed over the lanes; leaves its gradient in place of the scores."""
        room, config = self.room, self.config
        scale, sums = 1.0 / config.batch_size, room.by_biases[:, 0]
        if config.loss == "cross_entropy":
            return cross_entropy(room.scores, room.biases, scale=scale, column_sums=sums)
        return bpr_max(
            room.scores,
            room.biases,
            scale=scale,
            column_sums=sums,
            elu=config.elu,
            regularization=config.regularization,
        )

    def backward(self) -> None:
        """From the gradient by the scores to that by all that was taken and by the layers."""
        room = self.room
        by_scores, outputs = room.scores, slice(0, room.candidates)
        np.matmul(by_scores.T, room.passes[-1].after, out=room.by_taken[outputs])
        by_x = np.matmul(by_scores, room.taken[outputs], out=room.by_top)
        for layer, mask in zip(reversed(room.passes), reversed(room.masks), strict=False):
            by_x *= mask
            by_x = layer.backward(by_x)
        np.multiply(by_x, room.masks[0], out=room.by_x)

    def update(self, step: Step) -> None:
        """Move all that has a gradient."""
        room = self.room
        for depth, layer in enumerate(room.passes):
            for name, gradient in layer.gradients.items():
                self.optimizers[f"{name}{depth}"].step(gradient)
        self.optimizers["biases"].step_rows(room.rows[: room.candidates], room.by_biases)
        self.optimizers["items"].step_rows(room.rows, room.by_taken)
        if self.network.inputs is not None:
            self.optimizers["inputs"].step_rows(step.inputs, room.by_x)

    def drop(self, place: int, x: FloatArray) -> FloatArray:
        """Drop a share of the input (place 0) or of a layer's output, in place."""
        dropout, mask = self.dropouts[place], self.room.masks[place]
        if dropout.share > 0:
            dropout.fill(mask)
            x *= mask
        return x

    def draw(self) -> IntArray:
        """The negatives of the next step."""
        if not len(self.negatives):
            drawn = self.sampler.draw(_STEPS_A_DRAW * self.config.n_sample)
            self.negatives = drawn.reshape(_STEPS_A_DRAW, self.config.n_sample)
        first: IntArray = self.negatives[0]
        self.negatives = self.negatives[1:]
        return first

    def _room(self, batch: int) -> _Room:
        return _Room(self.network, batch=batch, n_sample=self.config.n_sample)


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
