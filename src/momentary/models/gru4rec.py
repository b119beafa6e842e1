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

Gradients go back one step: h_{t-1} is taken as given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding

from momentary.data.batches import SessionParallel, Step
from momentary.errors import MomentaryError, NotFittedError
from momentary.learn.losses import bpr_max, cross_entropy
from momentary.learn.optimizer import Adagrad
from momentary.learn.order import first_appearance
from momentary.learn.sampling import PopularitySampler
from momentary.learn.threads import one_torch_thread
from momentary.models.protocol import Arrays
from momentary.types import FloatArray, IntArray, Progress, Sessions, silent

Hidden = Float[Tensor, "batch units"]

_STEPS_A_REPORT = 100
_STEPS_A_DRAW = 256


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
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}."
                )
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be from {low} to {high}."
                )
        if self.batch_size + self.n_sample < 2:
            raise ValueError(
                "batch_size is 1 and n_sample is 0; there is no negative to learn from. "
                "Raise either."
            )


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


class Layer:
    """The weights of one GRU layer; the three gates stand in the order r, z, n."""

    def __init__(self, *, width_in: int, units: int, one_hot: bool, rng: torch.Generator) -> None:
        gates = [] if one_hot else [_uniform(units, width_in, rng) for _ in range(3)]
        self.w = torch.cat(gates) if gates else torch.zeros(0, units)
        self.u = torch.cat([_uniform(units, units, rng) for _ in range(3)])
        self.b = torch.zeros(3 * units)
        self.c = torch.zeros(3 * units)

    def parameters(self) -> dict[str, Tensor]:
        """Name to tensor; a layer fed by one-hot rows has no w."""
        named = {"w": self.w, "u": self.u, "b": self.b, "c": self.c}
        return {name: tensor for name, tensor in named.items() if len(tensor)}

    def step(self, inputs: Tensor, hidden: Hidden) -> Hidden:
        """One click: embeddings (batch, width), or gate inputs (batch, 3 units), to h_t."""
        from_input = (inputs @ self.w.T if len(self.w) else inputs) + self.b
        from_hidden = hidden @ self.u.T + self.c
        input_r, input_z, input_n = from_input.chunk(3, dim=1)
        hidden_r, hidden_z, hidden_n = from_hidden.chunk(3, dim=1)
        r = torch.sigmoid(input_r + hidden_r)
        z = torch.sigmoid(input_z + hidden_z)
        n = torch.tanh(input_n + r * hidden_n)
        return n + z * (hidden - n)


def _uniform(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """Glorot's uniform initial weights."""
    bound = (6.0 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=rng)


class Network:
    """All weights: item vectors and biases, an input table unless tied, and the GRU layers."""

    def __init__(self, config: GRU4RecConfig, *, n_items: int, rng: torch.Generator) -> None:
        one_hot = config.input == "one_hot"
        width = config.embedding if config.input == "separate" else config.units[-1]
        self.layers = []
        for depth, units in enumerate(config.units):
            width_in = config.units[depth - 1] if depth else width
            self.layers.append(
                Layer(width_in=width_in, units=units, one_hot=one_hot and not depth, rng=rng)
            )
        self.items = _uniform(n_items, config.units[-1], rng)
        self.biases = torch.zeros(n_items, 1)
        self.inputs: Tensor | None = None
        if config.input != "tied":
            columns = 3 * config.units[0] if one_hot else config.embedding
            self.inputs = _uniform(n_items, columns, rng)

    @property
    def tables(self) -> dict[str, Tensor]:
        """The parameters with one row an item."""
        tables = {"items": self.items, "biases": self.biases}
        return tables if self.inputs is None else {**tables, "inputs": self.inputs}

    def dense(self) -> dict[str, Tensor]:
        """The parameters of the layers, by name."""
        return {
            f"{name}{depth}": tensor
            for depth, layer in enumerate(self.layers)
            for name, tensor in layer.parameters().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved weights."""
        self.items, self.biases = state["items"], state["biases"]
        self.inputs = state.get("inputs")
        for depth, layer in enumerate(self.layers):
            for name in layer.parameters():
                setattr(layer, name, state[f"{name}{depth}"])


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
        with one_torch_thread():
            trainer = _Trainer(self._config, counts=counts, rng=rng)
            self.losses = trainer.run(plan, progress)
        network = trainer.network
        back = torch.from_numpy(number)
        network.load(
            {name: weight.detach() for name, weight in network.dense().items()}
            | {name: table[back] for name, table in network.tables.items()}
        )
        self._network = network
        self._unseen = np.sort(order[counts[: len(order)] == 0])
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
        """The memory of visits before the first click. Shape (count, units of all layers)."""
        return np.zeros((count, sum(self._config.units)), dtype=np.float32)

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The memory after one more click each. Shapes (count, width), (count,)."""
        network = self._fitted()
        with torch.inference_mode(), one_torch_thread():
            hidden = torch.split(torch.from_numpy(states), list(self._config.units), dim=1)
            table = network.items if network.inputs is None else network.inputs
            x = table[torch.from_numpy(items)]
            after = []
            for layer, h in zip(network.layers, hidden, strict=True):
                x = layer.step(x, h)
                after.append(x)
            return torch.cat(after, dim=1).numpy()

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items never trained share the lowest score."""
        network = self._fitted()
        with torch.inference_mode(), one_torch_thread():
            top = torch.from_numpy(states)[:, -self._config.units[-1] :]
            scores = torch.addmm(network.biases.T, top, network.items.T).numpy()
        if len(self._unseen):
            scores[:, self._unseen] = np.inf
            scores[:, self._unseen] = scores.min(axis=1, keepdims=True)
        return scores

    def state(self) -> Arrays:
        """The weights by name, and the items that training never saw."""
        network = self._fitted()
        weights = {**network.tables, **network.dense()}
        return {name: tensor.numpy() for name, tensor in weights.items()} | {"unseen": self._unseen}

    @classmethod
    def from_state(cls, config: GRU4RecConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`."""
        model = cls(config)
        weights = {name: torch.from_numpy(np.array(array)) for name, array in state.items()}
        model._unseen = np.asarray(state["unseen"], dtype=np.int64)
        network = Network(config, n_items=1, rng=torch.Generator())
        network.load(weights)
        model._network = network
        return model

    def _fitted(self) -> Network:
        if self._network is None:
            raise NotFittedError("GRU4Rec has not learned anything yet; call fit first.")
        return self._network


class _Rows(NamedTuple):
    """What one step takes from the tables.

    Attributes:
        input: Shape (batch, width).
        output: Shape (candidates, units).
        bias: Shape (candidates, 1).
        leaves: By table, the rows taken and their differentiable copy.
    """

    input: Tensor
    output: Tensor
    bias: Tensor
    leaves: dict[str, tuple[Tensor, Tensor]]


class _Trainer:
    """One training run: the network, its optimizers, its negatives."""

    def __init__(
        self, config: GRU4RecConfig, *, counts: IntArray, rng: np.random.Generator
    ) -> None:
        self.config = config
        self.rng = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.network = Network(config, n_items=len(counts), rng=self.rng)
        for parameter in self.network.dense().values():
            parameter.requires_grad_()
        self.sampler = PopularitySampler(counts, alpha=config.sample_alpha, rng=rng)
        self.log_counts = torch.from_numpy(np.log(np.maximum(counts, 1)).astype(np.float32))
        self.optimizers = {
            name: Adagrad(tensor, learning_rate=config.learning_rate, momentum=config.momentum)
            for name, tensor in {**self.network.dense(), **self.network.tables}.items()
        }
        self.hidden: list[Hidden] = []
        self.negatives = torch.zeros(0, 0, dtype=torch.int64)
        self.drawn = 0

    def run(self, plan: SessionParallel, progress: Progress) -> tuple[float, ...]:
        config = self.config
        losses = []
        total = config.epochs * len(plan)
        for epoch in range(config.epochs):
            self.hidden = [torch.zeros(config.batch_size, units) for units in config.units]
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
        lanes = torch.from_numpy(step.lanes)
        before = [hidden[lanes] for hidden in self.hidden]
        for hidden in before:
            hidden[torch.from_numpy(step.fresh)] = 0
        candidates = torch.cat([torch.from_numpy(step.targets), self.draw()])
        rows = self.touched(torch.from_numpy(step.inputs), candidates)

        after = self.forward(rows.input, before)
        scores = after[-1] @ rows.output.T + rows.bias.T
        loss = self.loss(scores, candidates)

        # torch.autograd.grad gives gradients without leaving any behind on the parameters.
        dense = self.network.dense()
        wanted = [*dense.values(), *(leaf for _, leaf in rows.leaves.values())]
        gradients = iter(torch.autograd.grad(loss / self.config.batch_size, wanted))
        for name in dense:
            self.optimizers[name].step(next(gradients))
        for name, (which, _) in rows.leaves.items():
            self.optimizers[name].step_rows(which, next(gradients))
        for hidden, new in zip(self.hidden, after, strict=True):
            hidden[lanes] = new.detach()
        return loss.item()

    def touched(self, inputs: Tensor, candidates: Tensor) -> _Rows:
        """The table rows of one step, each taken once, so that their gradient stays small."""
        network = self.network
        tied = network.inputs is None
        named = torch.cat([candidates, inputs]) if tied else candidates
        which, place = torch.unique(named, return_inverse=True)
        items = network.items[which].requires_grad_()
        biases = network.biases[which].requires_grad_()
        leaves = {"items": (which, items), "biases": (which, biases)}
        if network.inputs is None:
            x = embedding(place[len(candidates) :], items)
        else:
            which_inputs, input_place = torch.unique(inputs, return_inverse=True)
            leaf = network.inputs[which_inputs].requires_grad_()
            leaves["inputs"] = (which_inputs, leaf)
            x = embedding(input_place, leaf)
        chosen = place[: len(candidates)]
        return _Rows(x, embedding(chosen, items), embedding(chosen, biases), leaves)

    def forward(self, x: Tensor, before: list[Hidden]) -> list[Hidden]:
        """The layers' outputs after one click; what is dropped stays out of the memory too."""
        x = self.drop(x, self.config.dropout_embedding)
        after = []
        for layer, hidden in zip(self.network.layers, before, strict=True):
            x = self.drop(layer.step(x, hidden), self.config.dropout_hidden)
            after.append(x)
        return after

    def loss(
        self,
        scores: Float[Tensor, "batch candidates"],
        candidates: Int[Tensor, " candidates"],
    ) -> Tensor:
        config = self.config
        if config.loss == "bpr_max":
            return bpr_max(scores, elu=config.elu, regularization=config.regularization)
        log_q = None
        if config.logq > 0:
            # A target of the batch is offered as often as it is seen, a drawn negative as often
            # as it is drawn.
            power = torch.ones(len(candidates))
            power[len(scores) :] = config.sample_alpha
            log_q = config.logq * power * self.log_counts[candidates]
        return cross_entropy(scores, log_q=log_q)

    def drop(self, x: Tensor, share: float) -> Tensor:
        if share == 0:
            return x
        keep = torch.empty_like(x).bernoulli_(1 - share, generator=self.rng)
        return x * keep / (1 - share)

    def draw(self) -> Int[Tensor, " negatives"]:
        if self.drawn == len(self.negatives):
            drawn = self.sampler.draw(_STEPS_A_DRAW * self.config.n_sample)
            self.negatives = torch.from_numpy(drawn).view(_STEPS_A_DRAW, self.config.n_sample)
            self.drawn = 0
        self.drawn += 1
        return self.negatives[self.drawn - 1]


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
