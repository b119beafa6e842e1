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

Where events have types and `event_weights` says what they count, each click's loss counts as much
as the click that it asks for; the network reads all clicks alike.

Gradients go back one step: h_{t-1} is taken as given. They are written out by hand, those of the
cell in `learn.gru` and those of the losses in `learn.loss_kernels`, and held against automatic
differentiation by the tests; so neither training nor serving needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from momentary.data.batches import SessionParallel, Step
from momentary.errors import MomentaryError, NotFittedError
from momentary.learn.adagrad import Adagrad, Rates, State, move, move_rows
from momentary.learn.arithmetic import kernel
from momentary.learn.bounds import require_choices, require_negatives, require_ranges
from momentary.learn.checkpoint import Checkpoint, chance_of, set_chance
from momentary.learn.course import DEFAULT_COURSE, Course, Record, fingerprint
from momentary.learn.course import run as run_course
from momentary.learn.dropout import Dropout, fill_mask
from momentary.learn.event_weights import EventWeights, require_event_weights, target_weights
from momentary.learn.gru import Cell, CellPass, PassArrays, glorot, go_back, go_there
from momentary.learn.loss_kernels import bpr_max, cross_entropy
from momentary.learn.order import first_appearance, inverse
from momentary.learn.sampling import PopularitySampler
from momentary.learn.tables import gather
from momentary.learn.threads import one_blas_thread
from momentary.learn.top_items import TopItems
from momentary.learn.validation import Validation, cut_newest
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

_STEPS_A_WALK = 100
_STEPS_A_DRAW = 25
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
        event_weights: How much events count as what comes next, by type (`learn.event_weights`):
            one of weight 0 is read, but never asked for.
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
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_event_weights(self.event_weights)
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

    def parameters(self) -> dict[str, FloatArray]:
        """All of them, by name."""
        return {**self.dense(), **self.tables}

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
            u, b, c = (np.asarray(state[f"{name}{depth}"]) for name in "ubc")
            layers.append(Cell(w=np.asarray(state.get(f"w{depth}", nothing)), u=u, b=b, c=c))
        tables = {name: np.asarray(state[name]) for name in _TABLES if name in state}
        return cls(tables, layers, config=config)


class GRU4Rec:
    """Session-based recommendation with a GRU; see the module for papers and equations."""

    kind: ClassVar[str] = "gru4rec"

    def __init__(self, config: GRU4RecConfig | None = None) -> None:
        self._config = config or GRU4RecConfig()
        self._network: Network | None = None
        self._unseen = np.zeros(0, dtype=np.int64)
        self._top: TopItems | None = None
        self.record = Record()
        """What the training went through: its losses, and its quality on what was held out."""

    @property
    def config(self) -> GRU4RecConfig:
        """What the network was made with."""
        return self._config

    @property
    def losses(self) -> tuple[float, ...]:
        """Mean training loss of each epoch, known after training."""
        return self.record.losses

    def fit(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
    ) -> Self:
        """Train on all the sessions, which come in time order, with one worker.

        Raises:
            MomentaryError: If no session has two events, or the loss stops being a number.
        """
        return self.train(sessions, n_items=n_items, rng=rng, progress=progress)

    def train(
        self,
        sessions: Sessions,
        *,
        n_items: int,
        rng: np.random.Generator,
        progress: Progress = silent,
        course: Course = DEFAULT_COURSE,
    ) -> Self:
        """Train as `fit` does, by several workers, with a validation or with checkpoints.

        Several workers share the weights without locks (Hogwild; Niu et al., NIPS 2011): each
        walks through sessions of its own with a minibatch of its own.

        Raises:
            MomentaryError: If no session has two events, or the loss stops being a number.
            ArtifactError: If a checkpoint is damaged.
            DataError: If nothing can be held out.
        """
        config = self._config
        name = fingerprint(
            sessions,
            {"kind": self.kind, "config": asdict(config), "n_items": n_items},
            course=course,
            rng=rng,
        )
        taught, validation = sessions, None
        if course.holdout > 0:
            taught, newest = cut_newest(sessions, course.holdout)
            validation = Validation.of(newest, known=taught)
        # Numbering the items by first appearance makes the initial weights, and so the scores,
        # independent of how the caller numbers them.
        order = first_appearance(taught.items, n_items=n_items)
        number = inverse(order)
        ours = replace(taught, items=number[taught.items])
        with _Crew(config, ours, numbers=number, rng=rng, workers=course.workers) as crew:
            if not any(len(plan) for plan in crew.plans):
                raise MomentaryError(
                    "No session has two events, so there is no next item to learn. "
                    "Lower the item filter, or train a model that needs no order."
                )
            with one_blas_thread():
                self.record = run_course(
                    crew,
                    epochs=config.epochs,
                    course=course,
                    name=name,
                    validation=validation,
                    progress=progress,
                )
            trained = crew.model()
        state = trained.state()
        self._network = Network.saved(state, config=config)
        self._unseen = state["unseen"]
        self._top = None
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

    def score_visit(self, items: IntArray, *, exact: int) -> FloatArray:
        """Score every item, all but the best from bytes (`learn.top_items`). Shape (items,)."""
        if self._top is None:
            self._top = TopItems(*self.item_vectors())
        states = self.start(1)
        with one_blas_thread():
            for item in items:
                states = self.advance(states, np.array([item]))
        return self._top.scores(self.queries(states)[0], exact=exact)

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

    def queries(self, states: FloatArray) -> FloatArray:
        """The last layer's part of the memory. Shape (count, units)."""
        return states[:, -self._config.units[-1] :]

    def item_vectors(self) -> tuple[FloatArray, FloatArray]:
        """Vectors and biases of the items; the bias of an item never trained is -inf."""
        network = self._fitted()
        biases = network.biases[:, 0].copy()
        biases[self._unseen] = -np.inf
        return network.items, biases

    def item_rows(self) -> tuple[FloatArray, BoolArray]:
        """Vector, bias and, unless tied, input of every item; and whether it was trained."""
        network = self._fitted()
        trained = np.ones(len(network.items), dtype=np.bool_)
        trained[self._unseen] = False
        return np.concatenate(list(network.tables.values()), axis=1), trained

    def with_items(self, rows: FloatArray) -> Self:
        """The same network with more items behind its own, as if it had learned their rows."""
        tables = self._fitted().tables
        edges = np.cumsum([table.shape[1] for table in tables.values()])[:-1]
        parts = np.split(rows.astype(np.float32, copy=False), edges, axis=1)
        grown = {
            name: np.concatenate([table, part])
            for (name, table), part in zip(tables.items(), parts, strict=True)
        }
        return self.from_state(self._config, {**self.state(), **grown})

    def tuned(self, rows: FloatArray, *, scale: float, offset: float) -> FloatArray:
        """Rows whose scores are scale * score + offset; how their clicks enter stays, if it can."""
        units = self._config.units[-1]
        changed = rows.copy()
        changed[:, : units + 1] *= np.float32(scale)
        changed[:, units] += np.float32(offset)
        return changed

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items never trained share the lowest score."""
        network = self._fitted()
        with one_blas_thread():
            scores: FloatArray = self.queries(states) @ network.items.T
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


class _Arrays(NamedTuple):
    """A `_Room` as compiled code sees it, with the table of inputs, empty if there is none."""

    rows: IntArray
    taken: FloatArray
    by_taken: FloatArray
    biases: FloatArray
    correction: FloatArray
    by_biases: FloatArray
    scores: FloatArray
    by_top: FloatArray
    x: FloatArray
    by_x: FloatArray
    inputs: FloatArray


class _Aim(NamedTuple):
    """What a step tries to make small.

    Attributes:
        compare: True for BPR-max, False for the cross-entropy.
        scale: Of the gradient.
        alpha: A drawn negative is offered as often as its count to this power.
    """

    compare: bool
    scale: float
    alpha: np.float32
    elu: float
    regularization: float


_Clicks = tuple[IntArray, IntArray, IntArray, IntArray, BoolArray, FloatArray]
"""Targets, negatives, inputs, lanes, whether a lane begins a session, and the targets' weights."""
_Drop = tuple[FloatArray, NDArray[np.uint16], int]
"""A mask, random bits by step, and the limit."""
_Tables = tuple[FloatArray, FloatArray, FloatArray]
"""Item vectors, biases and log q."""
_Sources = tuple[_Arrays, tuple[PassArrays, ...], _Tables, tuple[FloatArray, ...]]
"""The room, the layers, the tables, and the memory of all lanes by layer."""
_Moves = tuple[
    tuple[tuple[State, FloatArray], ...], tuple[tuple[State, IntArray], ...], _Arrays, Rates
]
"""The layers with their gradients, the tables with their notes, the room, and the rates."""


@kernel
def _walk(
    plan: tuple[IntArray, IntArray, IntArray, IntArray, BoolArray, FloatArray],
    chance: tuple[IntArray, tuple[_Drop, ...]],
    sources: _Sources,
    *,
    aim: _Aim,
    moves: _Moves,
) -> float:
    """Step after step of full width; the loss summed over them.

    Args:
        plan: Where the steps start, and the targets, inputs, lanes, beginnings and weights of all.
        chance: What `_Trainer.draw` gives, which says how many steps there are.
        sources: What `_Trainer.sources` gives.
        aim: An `_Aim`.
        moves: What `_Trainer.moves` gives.
    """
    starts, targets, inputs, lanes, fresh, weights = plan
    negatives, drops = chance
    summed = 0.0
    for step in range(len(negatives)):
        at, end = starts[step], starts[step + 1]
        clicks = (
            targets[at:end],
            negatives[step],
            inputs[at:end],
            lanes[at:end],
            fresh[at:end],
            weights[at:end],
        )
        summed += _there_and_back(clicks, sources, drops, step=step, aim=aim)
        _update(moves, clicks[2])
    return summed


@kernel
def _there_and_back(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    clicks: _Clicks, sources: _Sources, drops: tuple[_Drop, ...], step: int, aim: _Aim
) -> float:
    """From the clicks to the loss, summed over the lanes, and back to all gradients.

    Args:
        clicks: As `_Clicks`.
        sources: What `_Trainer.sources` gives.
        drops: Of the input, then of each layer's output.
        step: Which of the steps.
        aim: An `_Aim`.
    """
    room, layers = sources[0], sources[1]
    _take(room, sources[2], clicks, alpha=aim.alpha)
    _there(clicks, sources, drops, step=step)
    offered, top = room.taken[: len(room.biases)], layers[len(layers) - 1].after
    np.dot(top, offered.T, room.scores)
    # Without weights a copy runs that knows of none, so that not a bit of it changes.
    loss = _loss(room, clicks[5], aim) if len(clicks[5]) > 0 else _loss(room, None, aim)
    np.dot(room.scores.T, top, room.by_taken[: len(room.biases)])
    np.dot(room.scores, offered, room.by_top)
    _back(room, layers, drops)
    return loss


@kernel
def _loss(room: _Arrays, weights: FloatArray | None, aim: _Aim) -> float:
    """The loss of the scores, which become its gradient; each lane as its target counts."""
    sums = room.by_biases.reshape(-1)
    if aim.compare:
        loss = bpr_max(
            room.scores,
            room.biases,
            scale=aim.scale,
            column_sums=sums,
            elu=aim.elu,
            regularization=aim.regularization,
            weights=weights,
        )
    else:
        loss = cross_entropy(
            room.scores, room.biases, scale=aim.scale, column_sums=sums, weights=weights
        )
    return loss


@kernel
def _take(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    room: _Arrays, tables: _Tables, clicks: _Clicks, alpha: np.float32
) -> None:
    """Fetch the step's inputs, its candidates, and their biases less the correction."""
    targets, negatives, inputs = clicks[0], clicks[1], clicks[2]
    items, biases, log_q = tables
    batch, candidates = len(targets), len(room.biases)
    room.rows[:batch] = targets
    room.rows[batch:candidates] = negatives
    if len(room.inputs) > 0:
        gather(room.inputs, inputs, room.x)
    else:
        room.rows[candidates:] = inputs
    gather(items, room.rows, room.taken)
    for j in range(candidates):
        row = room.rows[j]
        power = np.float32(1) if j < batch else alpha
        room.biases[j] = biases[row, 0] - power * log_q[row]


@kernel
def _there(  # noqa: PLR0917 - compiled callers know no keyword-only ones
    clicks: _Clicks, sources: _Sources, drops: tuple[_Drop, ...], step: int
) -> None:
    """Through the layers; what is dropped stays out of the memory, too."""
    lanes, fresh = clicks[3], clicks[4]
    room, layers, hidden = sources[0], sources[1], sources[3]
    x = room.x
    _drop(x, drops[0], step)
    for depth in range(len(layers)):
        layer, memory = layers[depth], hidden[depth]
        for i in range(len(lanes)):
            if fresh[i]:
                layer.hidden[i] = np.float32(0)
            else:
                layer.hidden[i] = memory[lanes[i]]
        go_there(layer, x)
        x = layer.after
        _drop(x, drops[depth + 1], step)
        for i in range(len(lanes)):
            memory[lanes[i]] = x[i]


@kernel
def _back(room: _Arrays, layers: tuple[PassArrays, ...], drops: tuple[_Drop, ...]) -> None:
    """From the gradient by the last layer's output to those by all layers and by the input."""
    by_x = room.by_top
    for back in range(len(layers)):
        depth = len(layers) - 1 - back
        layer = layers[depth]
        _times(by_x, drops[depth + 1][0])
        go_back(layer, layers[depth - 1].after if depth > 0 else room.x, by_x)
        by_x = layer.by_inputs if len(layer.w) > 0 else layer.gates
    _times(by_x, drops[0][0])
    room.by_x[:] = by_x


@kernel
def _drop(x: FloatArray, drop: _Drop, step: int) -> None:
    mask, bits, limit = drop
    if limit > 0:
        fill_mask(mask.reshape(-1), bits[step], limit)
        _times(x, mask)


@kernel
def _times(x: FloatArray, mask: FloatArray) -> None:
    flat, factors = x.reshape(-1), mask.reshape(-1)
    for i in range(len(flat)):
        flat[i] *= factors[i]


@kernel
def _update(moves: _Moves, inputs: IntArray) -> None:
    """Move the layers, then the rows of the tables that the step has named."""
    dense, tables, room, rates = moves
    for state, gradient in dense:
        move(state, gradient, rates)
    candidates = len(room.biases)
    items, first = tables[0]
    move_rows(items, room.by_taken, rates, rows=room.rows, first=first)
    biases, first = tables[1]
    move_rows(biases, room.by_biases, rates, rows=room.rows[:candidates], first=first)
    if len(tables) > 2:
        own, first = tables[-1]
        move_rows(own, room.by_x, rates, rows=inputs, first=first)


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
        self.arrays = _Arrays(
            rows=self.rows,
            taken=self.taken,
            by_taken=self.by_taken,
            biases=self.biases,
            correction=self.correction,
            by_biases=self.by_biases,
            scores=self.scores,
            by_top=self.by_top,
            x=self.x,
            by_x=self.by_x,
            inputs=np.zeros((0, 0), dtype=np.float32) if network.inputs is None else network.inputs,
        )


class _Trainer:
    """One worker: the network, its optimizers, and what is the worker's own.

    Args:
        config: The network's.
        counts: How often each item is seen. Shape (items,).
        rng: First weights, negatives and dropout.
        partner: Another worker whose tables this one trains, too; the layers, which every step
            moves as a whole, are each worker's own, for two cores must not pass them to and fro.
    """

    def __init__(
        self,
        config: GRU4RecConfig,
        *,
        counts: IntArray,
        rng: np.random.Generator,
        partner: _Trainer | None = None,
    ) -> None:
        self.config = config
        self.rng = rng
        if partner is None:
            self.network = Network.random(config, n_items=len(counts), rng=rng)
        else:
            layers = [layer.copy() for layer in partner.network.layers]
            self.network = Network(partner.network.tables, layers, config=config)
        self.optimizers = {
            name: Adagrad(array, learning_rate=config.learning_rate, momentum=config.momentum)
            for name, array in self.network.parameters().items()
            if partner is None or name not in _TABLES
        }
        self.own = tuple(self.optimizers)
        if partner is not None:
            for name in self.network.tables:
                self.optimizers[name] = partner.optimizers[name].twin()
        self.sampler = PopularitySampler(counts, alpha=config.sample_alpha, rng=rng)
        self.dropouts = [Dropout(config.dropout_embedding, rng=rng)]
        self.dropouts += [Dropout(config.dropout_hidden, rng=rng) for _ in config.units]
        # A target of the batch is offered as often as it is seen, a drawn negative as often as it
        # is drawn.
        logq = config.logq if config.loss == "cross_entropy" else 0.0
        self.log_q = (logq * np.log(np.maximum(counts, 1))).astype(np.float32)
        self.hidden = [
            np.zeros((config.batch_size, units), dtype=np.float32) for units in config.units
        ]
        self.aim = _Aim(
            compare=config.loss == "bpr_max",
            scale=1.0 / config.batch_size,
            alpha=np.float32(config.sample_alpha),
            elu=config.elu,
            regularization=config.regularization,
        )
        self.room = self._room(config.batch_size)

        self.cursor, self.predictions, self.summed = 0, 0, 0.0

    def walk(self, plan: SessionParallel) -> None:
        """The next steps of a pass over the plan; counts predictions and sums the loss."""
        end = min(self.cursor + _STEPS_A_WALK, len(plan))
        full = int((np.diff(plan.starts) == self.config.batch_size).sum())  # these come first
        while self.cursor < end:
            count = min(full, end, self.cursor + _STEPS_A_DRAW) - self.cursor
            if count > 0:
                self.summed += self.steps(plan, count)
                self.predictions += count * self.config.batch_size
            else:
                count, step = 1, plan.step(self.cursor)
                if len(step.inputs) + self.config.n_sample > 1:  # else a lane has no negative
                    self.summed += self.step(step)
                    self.predictions += len(step.inputs)
            self.cursor += count
        _check(self.summed)

    def memory(self) -> Checkpoint:
        """What the next step depends on besides the network and its optimizers."""
        arrays: Arrays = {f"hidden{depth}": array for depth, array in enumerate(self.hidden)}
        arrays |= {f"dropped{place}": each.bits for place, each in enumerate(self.dropouts)}
        for name in self.own:
            arrays[f"squares {name}"] = self.optimizers[name].squares
            arrays[f"velocity {name}"] = self.optimizers[name].velocity
        facts = {
            "rng": chance_of(self.rng),
            "cursor": self.cursor,
            "predictions": self.predictions,
            "summed": self.summed,
        }
        return Checkpoint(arrays=arrays, facts=facts)

    def remember(self, memory: Checkpoint) -> None:
        """Take up what `memory` gave."""
        facts = memory.facts
        set_chance(self.rng, facts["rng"])
        self.cursor, self.predictions = facts["cursor"], facts["predictions"]
        self.summed = facts["summed"]
        for depth in range(len(self.hidden)):
            self.hidden[depth] = memory.arrays[f"hidden{depth}"]
        for place, dropout in enumerate(self.dropouts):
            dropout.bits = memory.arrays[f"dropped{place}"]
        for name in self.own:
            self.optimizers[name].squares[...] = memory.arrays[f"squares {name}"]
            self.optimizers[name].velocity[...] = memory.arrays[f"velocity {name}"]

    def step(self, step: Step) -> float:
        """One gradient step over the active lanes; the loss summed over them."""
        if len(step.inputs) != len(self.room.scores):
            self.room = self._room(len(step.inputs))
        negatives, drops = self.draw(1)
        own = (step.inputs, step.lanes, step.fresh, step.weights)
        clicks = (step.targets, negatives[0], *own)
        loss: float = _there_and_back(clicks, self.sources(), drops, step=0, aim=self.aim)
        self.update(step)
        return loss

    def steps(self, plan: SessionParallel, count: int) -> float:
        """The next steps, all of full width, in one go; the loss summed over them."""
        if len(self.room.scores) != self.config.batch_size:
            self.room = self._room(self.config.batch_size)
        starts = plan.starts[self.cursor :]
        summed: float = _walk(
            (starts, plan.targets, plan.inputs, plan.lanes, plan.fresh, plan.weights),
            self.draw(count),
            self.sources(),
            aim=self.aim,
            moves=self.moves(),
        )
        return summed

    def sources(self) -> _Sources:
        """What a step reads, and the room it writes to."""
        return (
            self.room.arrays,
            tuple(each.arrays for each in self.room.passes),
            (self.network.items, self.network.biases, self.log_q),
            tuple(self.hidden),
        )

    def update(self, step: Step) -> None:
        """Move all that has a gradient."""
        _update(self.moves(), step.inputs)

    def moves(self) -> _Moves:
        """What a step moves, and by which gradients."""
        room, optimizers = self.room, self.optimizers
        dense = tuple(
            (optimizers[f"{name}{depth}"].flat(), gradient.reshape(-1))
            for depth, layer in enumerate(room.passes)
            for name, gradient in layer.gradients.items()
        )
        tables = tuple(
            (optimizers[name].tables(), optimizers[name].first) for name in self.network.tables
        )
        return dense, tables, room.arrays, optimizers["items"].rates

    def draw(self, count: int) -> tuple[IntArray, tuple[_Drop, ...]]:
        """What chance decides in the next steps: the negatives, and what is dropped."""
        drawn = self.sampler.draw(count * self.config.n_sample)
        drops = tuple(
            (mask, dropout.take(count * mask.size).reshape(count, -1), dropout.limit)
            for mask, dropout in zip(self.room.masks, self.dropouts, strict=True)
        )
        return drawn.reshape(count, self.config.n_sample), drops

    def _room(self, batch: int) -> _Room:
        return _Room(self.network, batch=batch, n_sample=self.config.n_sample)


class _Crew:
    """The workers of one training: a `Trainee` that walks them side by side.

    Args:
        config: The network's.
        sessions: What is learned, its items numbered by first appearance.
        numbers: That number by item. Shape (items,).
        rng: The chance of the first worker; it seeds that of the others.
        workers: How many; each takes every so-manieth session.
    """

    def __init__(
        self,
        config: GRU4RecConfig,
        sessions: Sessions,
        *,
        numbers: IntArray,
        rng: np.random.Generator,
        workers: int,
    ) -> None:
        self.config = config
        self.numbers = numbers
        self.counts = np.bincount(sessions.items, minlength=len(numbers))
        first = _Trainer(config, counts=self.counts, rng=rng)
        self.workers = [first]
        while len(self.workers) < workers:
            own = np.random.default_rng(rng.integers(2**63, size=4))
            self.workers.append(_Trainer(config, counts=self.counts, rng=own, partner=first))
        weights = target_weights(sessions, config.event_weights)
        self.plans = [
            SessionParallel.plan(
                sessions,
                batch_size=config.batch_size,
                chosen=np.arange(at, len(sessions), workers),
                weights=weights,
            )
            for at in range(workers)
        ]
        self._pool = None if workers == 1 else ThreadPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def begin(self, epoch: int) -> None:  # noqa: ARG002 - every epoch walks the same plan
        """Go to the first step of an epoch."""
        for worker in self.workers:
            worker.cursor, worker.predictions, worker.summed = 0, 0, 0.0

    def walk(self) -> bool:
        """Train on a little; False when the epoch has come to its end."""
        if self._pool is None:
            self.workers[0].walk(self.plans[0])
        else:
            for _ in self._pool.map(_Trainer.walk, self.workers, self.plans):
                pass
            self._agree(self.workers)
        return any(
            worker.cursor < len(plan) for worker, plan in zip(self.workers, self.plans, strict=True)
        )

    def _agree(self, heard: list[_Trainer]) -> None:
        """Give every worker the mean of some workers' layers (local SGD; Stich, ICLR 2019)."""
        layers = [worker.network.dense() for worker in heard]
        for name in layers[0]:
            mean = np.mean([own[name] for own in layers], axis=0)
            for worker in self.workers:
                worker.network.dense()[name][...] = mean

    def done(self) -> tuple[int, int]:
        """Steps done in this epoch, and its steps in all."""
        return sum(worker.cursor for worker in self.workers), sum(map(len, self.plans))

    def loss(self) -> float:
        """Mean loss of this epoch so far."""
        summed = sum(worker.summed for worker in self.workers)
        return summed / max(sum(worker.predictions for worker in self.workers), 1)

    def weights(self) -> Arrays:
        """The arrays themselves that make up the network."""
        return dict(self.workers[0].network.parameters())

    def memory(self) -> Checkpoint:
        """Everything else that the next step depends on."""
        arrays: Arrays = {}
        facts = {}
        for at, worker in enumerate(self.workers):
            own = worker.memory()
            arrays |= {f"{at} {name}": array for name, array in own.arrays.items()}
            facts[str(at)] = own.facts
        return Checkpoint(arrays=arrays, facts=facts)

    def remember(self, memory: Checkpoint) -> None:
        """Take up what `memory` gave."""
        for at, worker in enumerate(self.workers):
            start = f"{at} "
            own = {
                name.removeprefix(start): array
                for name, array in memory.arrays.items()
                if name.startswith(start)
            }
            worker.remember(Checkpoint(arrays=own, facts=memory.facts[str(at)]))
        self._agree(self.workers[:1])

    def model(self) -> GRU4Rec:
        """The network as it stands, with the caller's numbers of items."""
        network = self.workers[0].network
        state: Arrays = {name: table[self.numbers] for name, table in network.tables.items()}
        state |= {name: array.copy() for name, array in network.dense().items()}
        state["unseen"] = np.flatnonzero(self.counts[self.numbers] == 0)
        return GRU4Rec.from_state(self.config, state)


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
