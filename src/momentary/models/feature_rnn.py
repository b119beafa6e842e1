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

Beside the paper: o_f may be a learned projection of the item's content instead of a free vector,
so that items nobody has touched can be recommended; losses and minibatches are those of GRU4Rec.
Gradients go back one step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from momentary.data.batches import SessionParallel, Step
from momentary.errors import DataError, MomentaryError
from momentary.learn.adagrad import Adagrad
from momentary.learn.bounds import require_choices, require_negatives, require_ranges
from momentary.learn.fitted import require_fitted
from momentary.learn.loss_kernels import bpr_max, cross_entropy
from momentary.learn.order import first_appearance, inverse
from momentary.learn.sampling import PopularitySampler
from momentary.learn.torch_threads import one_torch_thread
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

ID = "id"
"""The stream of item ids; content streams have other names."""

_STEPS_A_REPORT = 100
_STEPS_A_DRAW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRNNConfig:
    """How the streams are built, joined and trained.

    Attributes:
        units: Width of every stream's GRU.
        architecture: How the streams meet: "parallel", "shared" or "interaction".
        training: "simultaneous", "alternating", "residual" or "interleaving".
        output: A content stream scores items by "items", a free vector for each (the paper), or
            by "content", a projection of their content, which unseen items have too.
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
                'matrix cannot score by their own content. Use output "items" or another '
                "architecture."
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

    A stream's GRU has w, u, b, c with the gates in the order r, z, n. `tables` have one row an
    item: `items` and `biases` of the ids, and `items` of a content stream that scores freely.
    """

    def __init__(
        self,
        config: FeatureRNNConfig,
        *,
        content: Mapping[str, Tensor],
        n_items: int,
        rng: torch.Generator,
    ) -> None:
        self.config = config
        self.content = dict(content)
        self.streams = (ID, *content)
        units = config.units
        self.dense: dict[str, dict[str, Tensor]] = {}
        self.tables: dict[str, dict[str, Tensor]] = {}
        for name in self.streams:
            width = units if name == ID else content[name].shape[1]
            dense = {
                "w": torch.cat([_uniform(units, width, rng) for _ in range(3)]),
                "u": torch.cat([_uniform(units, units, rng) for _ in range(3)]),
                "b": torch.zeros(3 * units),
                "c": torch.zeros(3 * units),
            }
            tables = {}
            if name == ID:
                tables = {"items": _uniform(n_items, units, rng), "biases": torch.zeros(n_items, 1)}
            elif config.architecture == "shared":
                dense["a"] = torch.ones(1)
            elif config.output == "content":
                dense["p"] = _uniform(units, width, rng)
            else:
                tables = {"items": _uniform(n_items, units, rng)}
            self.dense[name], self.tables[name] = dense, tables

    def advance(self, name: str, x: Tensor, hidden: Tensor) -> Tensor:
        """One click of one stream. Shapes (batch, width), (batch, units)."""
        weights = self.dense[name]
        return torch.gru_cell(x, hidden, weights["w"], weights["u"], weights["b"], weights["c"])

    def readout(self, hidden: Mapping[str, Tensor]) -> Tensor:
        """What the streams present give to the output. Shape (batch, width of `vectors`)."""
        if self.config.architecture == "shared":
            return torch.stack(
                [h * self.dense[name].get("a", 1.0) for name, h in hidden.items()]
            ).sum(dim=0)
        if self.config.architecture == "interaction":
            return torch.cat(
                [h if name == ID else hidden[ID] * h for name, h in hidden.items()], dim=1
            )
        return torch.cat(list(hidden.values()), dim=1)

    def vectors(self, rows: Mapping[str, Tensor], content: Mapping[str, Tensor]) -> Tensor:
        """Output vectors of some items, from rows of the tables and of the content.

        Args:
            rows: For each stream present that scores freely, its rows. Each (items, units).
            content: For each stream present that scores by content, its rows. Each (items, dim).

        Returns:
            Shape (items, units of the streams present).
        """
        parts = [rows[ID]]
        if self.config.architecture != "shared":
            parts += [
                rows[name] if name in rows else content[name] @ self.dense[name]["p"].T
                for name in self.streams[1:]
                if name in rows or name in content
            ]
        return torch.cat(parts, dim=1)

    def scores_by_content(self, name: str) -> bool:
        """Whether a stream's output vectors are projections of its content."""
        return "p" in self.dense[name]

    def arrays(self) -> Arrays:
        """Every weight and content vector, by part and stream."""
        weights = {
            f"{part}.{name}": tensor.detach().numpy()
            for group in (self.dense, self.tables)
            for name, parts in group.items()
            for part, tensor in parts.items()
        }
        # The place keeps the order of the streams through a file that knows no order.
        return weights | {
            f"content.{place}.{name}": matrix.numpy()
            for place, (name, matrix) in enumerate(self.content.items())
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved weights."""
        for group in (self.dense, self.tables):
            for name, parts in group.items():
                for part in parts:
                    parts[part] = state[f"{part}.{name}"]


def _uniform(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """Glorot's uniform initial weights."""
    bound = (6.0 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=rng)


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
        self._features = {
            name: unit_rows(name, matrix) for name, matrix in (features or {}).items()
        }
        self._network: Network | None = None
        self._outputs = torch.zeros(0, 0)
        self._unseen = np.zeros(0, dtype=np.int64)
        self.losses: tuple[float, ...] = ()
        """Mean training loss of each pass, known after `fit`."""

    @property
    def config(self) -> FeatureRNNConfig:
        """What the network was made with."""
        return self._config

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, ids first, in the order in which they are trained."""
        return (ID, *self._features)

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
        for name, matrix in self._features.items():
            if len(matrix) != n_items:
                raise DataError(
                    f"features {name!r} has {len(matrix)} rows, but there are {n_items} items; "
                    "give one row an item in the order of the item indices, NaN where unknown."
                )
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
        content = {name: torch.from_numpy(matrix[order]) for name, matrix in self._features.items()}
        with one_torch_thread():
            trainer = _Trainer(self._config, content=content, counts=counts, rng=rng)
            self.losses = trainer.run(plan, progress)
        network = trainer.network
        _average_the_unseen(network, torch.from_numpy(counts > 0))
        back = torch.from_numpy(number)
        network.content = {
            name: torch.from_numpy(matrix) for name, matrix in self._features.items()
        }
        for tables in network.tables.values():
            tables.update({part: table[back] for part, table in tables.items()})
        self._use(network, seen=counts[number] > 0)
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item after each session's last click. Shape (sessions, items)."""
        states = self.start(len(sessions))
        lengths = sessions.lengths
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
        which = torch.from_numpy(items)
        with torch.inference_mode(), one_torch_thread():
            after = []
            for name, hidden in self._split(states).items():
                table = network.tables[ID]["items"] if name == ID else network.content[name]
                after.append(network.advance(name, table[which], hidden))
            return torch.cat(after, dim=1).numpy()

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items of which nothing is known share the lowest."""
        network = require_fitted(self._network, self)
        with torch.inference_mode(), one_torch_thread():
            readout = network.readout(self._split(states))
            biases = network.tables[ID]["biases"]
            scores = torch.addmm(biases.T, readout, self._outputs.T).numpy()
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
        held = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
        placed = sorted(
            (int(place), name, key)
            for key in held
            for part, _, rest in [key.partition(".")]
            if part == "content"
            for place, _, name in [rest.partition(".")]
        )
        content = {name: held[key] for _, name, key in placed}
        network = Network(config, content=content, n_items=1, rng=torch.Generator())
        network.load(held)
        model._features = {name: matrix.numpy() for name, matrix in content.items()}
        seen = np.ones(len(held["items.id"]), dtype=np.bool_)
        seen[state["unseen"]] = False
        model._use(network, seen=seen)
        return model

    def _use(self, network: Network, *, seen: BoolArray) -> None:
        known = seen.copy()
        if self._config.output == "content":
            for matrix in self._features.values():
                known |= matrix.any(axis=1)
        self._unseen = np.flatnonzero(~known)
        rows = {name: t["items"] for name, t in network.tables.items() if "items" in t}
        content = {n: m for n, m in network.content.items() if network.scores_by_content(n)}
        with torch.inference_mode():
            self._outputs = network.vectors(rows, content)
        self._network = network

    def _split(self, states: FloatArray) -> dict[str, Tensor]:
        parts = torch.split(torch.from_numpy(states), self._config.units, dim=1)
        return dict(zip(self.streams, parts, strict=True))


def unit_rows(name: str, matrix: NDArray[np.floating[Any]]) -> FloatArray:
    """A copy with rows of unit length, zeros where a row is missing. Shape (items, dim).

    Raises:
        DataError: If the matrix has not two dimensions, or a row is neither finite nor all NaN.
    """
    if name == ID or not name:
        raise DataError(f"a stream cannot be named {name!r}; name it after its content.")
    given = np.asarray(matrix, dtype=np.float32)
    if given.ndim != 2 or given.shape[1] < 1:
        raise DataError(
            f"features {name!r} has shape {given.shape}; it must be (items, dim), dim at least 1."
        )
    missing = np.flatnonzero(np.isnan(given).all(axis=1))
    broken = np.setdiff1d(np.flatnonzero(~np.isfinite(given).all(axis=1)), missing)
    if len(broken):
        raise DataError(
            f"features {name!r} is not finite in row {broken[0]}; make the whole row "
            "NaN if the item has no content."
        )
    rows = given.copy()
    rows[missing] = 0
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _average_the_unseen(network: Network, seen: Tensor) -> None:
    """As an id, an item that training never saw is an average item."""
    for tables in network.tables.values():
        for table in tables.values():
            table[~seen] = table[seen].mean(dim=0)


class _Trainer:
    """One training run: the network, its optimizers, its negatives, the memory of the lanes."""

    def __init__(
        self,
        config: FeatureRNNConfig,
        *,
        content: Mapping[str, Tensor],
        counts: IntArray,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self.rng = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.network = Network(config, content=content, n_items=len(counts), rng=self.rng)
        self.sampler = PopularitySampler(counts, alpha=config.sample_alpha, rng=rng)
        # A target of the batch is offered as often as it is seen, a drawn negative as often as it
        # is drawn.
        logq = config.logq if config.loss == "cross_entropy" else 0.0
        self.log_q = (logq * np.log(np.maximum(counts, 1))).astype(np.float32)
        self.optimizers = {
            (part, name): Adagrad(
                tensor.numpy(), learning_rate=config.learning_rate, momentum=config.momentum
            )
            for group in (self.network.dense, self.network.tables)
            for name, parts in group.items()
            for part, tensor in parts.items()
        }
        self.hidden = {
            name: torch.zeros(config.batch_size, config.units) for name in self.network.streams
        }
        self.negatives = np.empty((0, config.n_sample), dtype=np.int64)

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
        lanes = torch.from_numpy(step.lanes)
        before = {name: hidden[lanes] for name, hidden in self.hidden.items()}
        for hidden in before.values():
            hidden[torch.from_numpy(step.fresh)] = 0
        candidates = np.concatenate([step.targets, self.draw()])
        loss = 0.0
        for turn in each:
            loss, after = self.take(turn, step.inputs, candidates, before=before)
            for name, new in after.items():
                self.hidden[name][lanes] = new
        return loss

    def take(
        self, turn: Turn, inputs: IntArray, candidates: IntArray, *, before: Mapping[str, Tensor]
    ) -> tuple[float, dict[str, Tensor]]:
        """One gradient step of those whose turn it is, and the new states of those present."""
        network = self.network
        learning = {
            (part, name): tensor.requires_grad_()
            for name in turn.learns
            for part, tensor in network.dense[name].items()
        }
        rows = {
            name: np.concatenate([candidates, inputs]) if name == ID else candidates
            for name in turn.present
            if "items" in network.tables[name]
        }
        taken = {
            name: network.tables[name]["items"][torch.from_numpy(which)].requires_grad_(
                self.moves(name, turn)
            )
            for name, which in rows.items()
        }
        hidden = self.forward(turn, taken[ID][len(candidates) :], inputs, before=before)
        vectors = network.vectors(
            {name: vectors[: len(candidates)] for name, vectors in taken.items()},
            {
                name: network.content[name][torch.from_numpy(candidates)]
                for name in turn.present
                if network.scores_by_content(name)
            },
        )
        scores = network.readout(hidden) @ vectors.T
        loss = self.loss(turn, scores, candidates)

        learning |= {
            ("items", name): vectors for name, vectors in taken.items() if self.moves(name, turn)
        }
        gradients = torch.autograd.grad(
            scores, list(learning.values()), grad_outputs=scores.detach()
        )
        for (part, name), gradient in zip(learning, gradients, strict=True):
            found = gradient.contiguous().numpy()
            if part == "items":
                self.optimizers[part, name].step_rows(rows[name], found)
            else:
                self.optimizers[part, name].step(found)
                network.dense[name][part].requires_grad_(False)  # noqa: FBT003 - torch's own form
        return loss, {name: new.detach() for name, new in hidden.items()}

    def forward(
        self, turn: Turn, ids: Tensor, inputs: IntArray, *, before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The states after one click of the streams present; what is dropped stays forgotten."""
        hidden = {}
        for name in turn.present:
            if name == ID:
                x = ids if ID in turn.learns else ids.detach()
            else:
                x = self.network.content[name][torch.from_numpy(inputs)]
            x = self.drop(x, self.config.dropout_input)
            new = self.network.advance(name, x, before[name])
            hidden[name] = self.drop(new, self.config.dropout_hidden)
        return hidden

    def moves(self, name: str, turn: Turn) -> bool:
        """Whether a stream's table learns; one that all share is nobody's own and always does."""
        return name in turn.learns or self.config.architecture == "shared"

    def loss(self, turn: Turn, scores: Tensor, candidates: IntArray) -> float:
        """The summed loss; its gradient takes the place of the scores, and the biases move."""
        config = self.config
        biases = self.network.tables[ID]["biases"].numpy()[candidates, 0]
        power = np.full(len(candidates), config.sample_alpha, dtype=np.float32)
        power[: len(scores)] = 1
        offsets = biases - power * self.log_q[candidates]
        by_biases = np.empty((len(candidates), 1), dtype=np.float32)
        held, sums = scores.detach().numpy(), by_biases[:, 0]
        scale = 1.0 / config.batch_size
        if config.loss == "cross_entropy":
            loss = cross_entropy(held, offsets, scale=scale, column_sums=sums)
        else:
            loss = bpr_max(
                held,
                offsets,
                scale=scale,
                column_sums=sums,
                elu=config.elu,
                regularization=config.regularization,
            )
        if self.moves(ID, turn):
            self.optimizers["biases", ID].step_rows(candidates, by_biases)
        return loss

    def drop(self, x: Tensor, share: float) -> Tensor:
        """Drop a share of the numbers and raise the others to keep the mean."""
        if share == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - share, generator=self.rng)
        return x * keep / (1 - share)

    def draw(self) -> IntArray:
        """The negatives of the next step."""
        if not len(self.negatives):
            drawn = self.sampler.draw(_STEPS_A_DRAW * self.config.n_sample)
            self.negatives = drawn.reshape(_STEPS_A_DRAW, self.config.n_sample)
        first: IntArray = self.negatives[0]
        self.negatives = self.negatives[1:]
        return first


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
