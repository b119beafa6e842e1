"""HRNN: a network that remembers a visitor from one session to the next.

Quadrana, Karatzoglou, Hidasi, Cremonesi: "Personalizing Session-based Recommendations with
Hierarchical Recurrent Neural Networks", RecSys 2017 (arXiv 1706.04148). A session-level GRU reads
the clicks of a visit; when the visit ends, a user-level GRU takes in its last state; what the
user-level GRU knows starts the next visit. With x_t the embedding of click t of session m:

    s_t     = GRU_session(x_t, s_{t-1})                "init"
    s_t     = GRU_session([x_t; c_{m-1}], s_{t-1})     "all"
    c_m     = GRU_user(s_last of session m, c_{m-1}),  c_0 = 0
    s_0     = tanh(W c_{m-1} + b), and 0 in a visitor's first session
    score of item i = w_i . s_t + bias_i

Item vectors are tied (x of an item is its w); losses are those of GRU4Rec. Gradients go back one
click, or, where a session begins, through s_0 and the user-level GRU. A visitor nobody knows has
c = 0 and s_0 = 0: a session-based recommendation.

Beside the paper: minibatches go through the sessions in time order and keep every visitor's states
for the next session (`data.batches.VisitParallel`), where the paper walks through one visitor after
the other; a visit's last click counts towards s_last, and `first_click` also learns to
predict the first click from s_0 alone, for pages that are shown before anything is clicked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from momentary.data.batches import UserStep, VisitParallel, visitors_of
from momentary.errors import MomentaryError
from momentary.learn.adagrad import Adagrad
from momentary.learn.bounds import require_choices, require_negatives, require_ranges
from momentary.learn.fitted import require_fitted
from momentary.learn.loss_kernels import bpr_max, cross_entropy
from momentary.learn.names import Names
from momentary.learn.order import first_appearance, inverse
from momentary.learn.sampling import PopularitySampler
from momentary.learn.torch_threads import one_torch_thread
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

_STEPS_A_REPORT = 100
_STEPS_A_DRAW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchicalRNNConfig:
    """How the two networks are built and trained.

    Attributes:
        units: Width of the session-level GRU and of the item vectors.
        user_units: Width of the user-level GRU.
        variant: "init" starts a session from the user's state; "all" also shows that state to the
            session-level GRU at every click.
        first_click: Also learn to predict a known visitor's first click of a session.
        loss: "cross_entropy" or "bpr_max".
        logq: Strength of the logQ correction of the cross-entropy; 0 is none, 1 is full.
        elu: Exponential linear unit on the scores of BPR-max; 0 is none.
        regularization: Score regularisation of BPR-max.
        batch_size: Lanes of the minibatch.
        n_sample: Shared negatives drawn besides the other targets of the batch.
        sample_alpha: Negatives are drawn by popularity to this power.
        epochs: Passes over the sessions.
        learning_rate: Adagrad's.
        momentum: Adagrad's, 0 up to 1.
        dropout_session: Share of the session-level state that is dropped in training.
        dropout_user: Share of the user-level state that is dropped in training.
        dropout_init: Share of a session's initial state that is dropped in training.
    """

    units: int = 100
    user_units: int = 100
    variant: Literal["init", "all"] = "init"
    first_click: bool = False
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
    dropout_session: float = 0.2
    dropout_user: float = 0.0
    dropout_init: float = 0.0

    def __post_init__(self) -> None:
        require_choices(self, _CHOICES)
        require_ranges(self, _RANGES)
        require_negatives(batch_size=self.batch_size, n_sample=self.n_sample)


_CHOICES = {"variant": ("init", "all"), "loss": ("cross_entropy", "bpr_max")}
_RANGES = {
    "units": (1, 10_000),
    "user_units": (1, 10_000),
    "logq": (0, 10),
    "elu": (0, 100),
    "regularization": (0, 1_000),
    "batch_size": (1, 100_000),
    "n_sample": (0, 1_000_000),
    "sample_alpha": (0, 1),
    "epochs": (1, 10_000),
    "learning_rate": (1e-8, 100),
    "momentum": (0, 0.999),
    "dropout_session": (0, 0.999),
    "dropout_user": (0, 0.999),
    "dropout_init": (0, 0.999),
}

_GATES = ("w", "u", "b", "c")


class Network:
    """All weights: the two GRUs (gates in the order r, z, n), the bridge between them, the items.

    `dense` holds session_w, _u, _b, _c, user_w, _u, _b, _c, init_w, init_b; `tables` have one row
    an item: items and biases.
    """

    def __init__(
        self, config: HierarchicalRNNConfig, *, n_items: int, rng: torch.Generator
    ) -> None:
        self.shows_user = config.variant == "all"
        width = config.units + (config.user_units if self.shows_user else 0)
        self.dense: dict[str, Tensor] = {}
        for level, columns, units in (
            ("session", width, config.units),
            ("user", config.units, config.user_units),
        ):
            self.dense |= {
                f"{level}_w": torch.cat([_uniform(units, columns, rng) for _ in range(3)]),
                f"{level}_u": torch.cat([_uniform(units, units, rng) for _ in range(3)]),
                f"{level}_b": torch.zeros(3 * units),
                f"{level}_c": torch.zeros(3 * units),
            }
        self.dense["init_w"] = _uniform(config.units, config.user_units, rng)
        self.dense["init_b"] = torch.zeros(config.units)
        self.tables = {
            "items": _uniform(n_items, config.units, rng),
            "biases": torch.zeros(n_items, 1),
        }

    def click(self, x: Tensor, session: Tensor, user: Tensor) -> Tensor:
        """The session's state s after one more click.

        Shapes (batch, units), (batch, units), (batch, user units).
        """
        seen = torch.cat([x, user], dim=1) if self.shows_user else x
        return torch.gru_cell(seen, session, *(self.dense[f"session_{g}"] for g in _GATES))

    def finish(self, session: Tensor, user: Tensor) -> Tensor:
        """The user's state c after a session. Shapes (batch, units), (batch, user units)."""
        return torch.gru_cell(session, user, *(self.dense[f"user_{g}"] for g in _GATES))

    def begin(self, user: Tensor) -> Tensor:
        """s_0 of visitors with a past. Shapes (batch, user units) -> (batch, units)."""
        return torch.tanh(torch.addmm(self.dense["init_b"], user, self.dense["init_w"].T))

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over saved weights."""
        for group in (self.dense, self.tables):
            group.update({name: state[name] for name in group})


def _uniform(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    """Glorot's uniform initial weights."""
    bound = (6.0 / (rows + columns)) ** 0.5
    return torch.empty(rows, columns).uniform_(-bound, bound, generator=rng)


class HierarchicalRNN:
    """Recommendation across the sessions of a visitor; see the module for the paper.

    The memory of a visit is [s; c], the session's state beside the user's: `start_for` gives it
    at the door, `advance` takes a click, `finish` ends the visit and begins the next.
    """

    kind: ClassVar[str] = "hierarchical_rnn"

    def __init__(self, config: HierarchicalRNNConfig | None = None) -> None:
        self._config = config or HierarchicalRNNConfig()
        self._network: Network | None = None
        self._users = np.zeros((0, self._config.user_units), dtype=np.float32)
        self._finished = np.zeros(0, dtype=np.int64)
        self._unseen = np.zeros(0, dtype=np.int64)
        self.names = Names()
        """Who the visitors of the training were, if anybody has told."""
        self.until_us = 0
        """Time of the last event that was learned from."""
        self.losses: tuple[float, ...] = ()
        """Mean training loss of each epoch, known after `fit`."""

    @property
    def config(self) -> HierarchicalRNNConfig:
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
        """Train on sessions in time order, then take in every known visitor's sessions.

        Raises:
            MomentaryError: If no session has two events, or the loss stops being a number.
        """
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
        plan = VisitParallel.plan(ours, batch_size=self._config.batch_size)
        if not plan.predictions:
            raise MomentaryError(
                "No session has two events, so there is no next item to learn. "
                "Lower the item filter, or train a model that needs no order."
            )
        counts = np.bincount(ours.items, minlength=n_items)
        with one_torch_thread():
            trainer = _Trainer(self._config, counts=counts, places=plan.places, rng=rng)
            self.losses = trainer.run(plan, progress)
        network = trainer.network
        back = torch.from_numpy(number)
        network.load(network.dense | {name: table[back] for name, table in network.tables.items()})
        self._network = network
        self._unseen = np.sort(order[counts[: len(order)] == 0])
        self._users = np.zeros((0, self._config.user_units), dtype=np.float32)
        self._finished = np.zeros(0, dtype=np.int64)
        self._users, self._finished = self._taken_in(sessions)
        self.names = Names()
        self.until_us = int(sessions.times_us.max())
        return self

    def recognize(self, visitors: Sequence[str]) -> None:
        """Be told who the visitors of the training were, in the order of their indices."""
        self.names = Names.of(visitors)

    def places(self, visitors: Sequence[str]) -> IntArray:
        """Their indices, -1 for those that the training did not know. Shape (visitors,)."""
        return self.names.places(visitors)

    def score(self, sessions: Sessions) -> FloatArray:
        """Score every item after each session's last click. Shape (sessions, items).

        A visitor known from `fit` or `after` starts from what was learned of them, everybody
        else (-1, or a new index) from nothing. So the clicks of a visitor who signs in are scored
        by giving the whole session with the visitor's index.
        """
        return self.score_states(self._walked(sessions, self.start_for(sessions.users)))

    def after(self, sessions: Sessions) -> Self:
        """The same network, knowing these finished sessions of its visitors too.

        Sessions of unknown visitors (-1) and empty ones change nothing; a visitor's sessions
        come in time order. This model stays as it is.
        """
        network = require_fitted(self._network, self)
        users, finished = self._taken_in(sessions)
        other = self._with(
            self._config, network, users=users, finished=finished, unseen=self._unseen
        )
        other.losses = self.losses
        other.names = self.names
        other.until_us = max(self.until_us, int(sessions.times_us.max(initial=0)))
        return other

    def knows(self, users: IntArray) -> BoolArray:
        """Whether sessions of these visitors were taken in. Shape (users,)."""
        inside = (users >= 0) & (users < len(self._finished))
        known = np.zeros(len(users), dtype=np.bool_)
        known[inside] = self._finished[users[inside]] > 0
        return known

    def start(self, count: int) -> FloatArray:
        """The memory of unknown visitors before the first click. Shape (count, width)."""
        return np.zeros((count, self._config.units + self._config.user_units), dtype=np.float32)

    def start_for(self, users: IntArray) -> FloatArray:
        """The memory of these visitors before the first click. Shapes (count,), (count, width)."""
        known = self.knows(users)
        past = np.zeros((len(users), self._config.user_units), dtype=np.float32)
        past[known] = self._users[users[known]]
        return self._doors(past, known=known)

    def advance(self, states: FloatArray, items: IntArray) -> FloatArray:
        """The memory after one more click each. Shapes (count, width), (count,)."""
        network = require_fitted(self._network, self)
        with torch.inference_mode(), one_torch_thread():
            session, user = self._split(states)
            x = network.tables["items"][torch.from_numpy(items)]
            return torch.cat([network.click(x, session, user), user], dim=1).numpy()

    def finish(self, states: FloatArray) -> FloatArray:
        """The memory at the door of the next visit, once this one is over. Shape (count, width)."""
        network = require_fitted(self._network, self)
        with torch.inference_mode(), one_torch_thread():
            user = network.finish(*self._split(states))
            return torch.cat([network.begin(user), user], dim=1).numpy()

    def score_states(self, states: FloatArray) -> FloatArray:
        """Score every item from the memory; items never trained share the lowest score."""
        network = require_fitted(self._network, self)
        with torch.inference_mode(), one_torch_thread():
            session, _ = self._split(states)
            tables = network.tables
            scores = torch.addmm(tables["biases"].T, session, tables["items"].T).numpy()
        if len(self._unseen):
            scores[:, self._unseen] = np.inf
            scores[:, self._unseen] = scores.min(axis=1, keepdims=True)
        return scores

    def state(self) -> Arrays:
        """The weights by name, what is known of every visitor, and the items never trained.

        `users` holds c, `finished` how many sessions it rests on, `names` the digests of who they
        are, if it was told; rows are user indices.
        """
        network = require_fitted(self._network, self)
        weights = {**network.dense, **network.tables}
        return {name: tensor.numpy() for name, tensor in weights.items()} | {
            "users": self._users,
            "finished": self._finished,
            "unseen": self._unseen,
            "names": self.names.digests.view(np.int64),
            "until_us": np.array([self.until_us]),
        }

    @classmethod
    def from_state(cls, config: HierarchicalRNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`, with its visitors."""
        network = Network(config, n_items=1, rng=torch.Generator())
        network.load({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
        model = cls._with(
            config,
            network,
            users=np.array(state["users"], dtype=np.float32),
            finished=np.array(state["finished"], dtype=np.int64),
            unseen=np.array(state["unseen"], dtype=np.int64),
        )
        model.names = Names(np.array(state["names"]).view(np.uint64))
        model.until_us = int(state["until_us"][0])
        return model

    def _split(self, states: FloatArray) -> tuple[Tensor, Tensor]:
        widths = [self._config.units, self._config.user_units]
        session, user = torch.split(torch.from_numpy(states), widths, dim=1)
        return session, user

    def _walked(self, sessions: Sessions, states: FloatArray) -> FloatArray:
        lengths = sessions.lengths
        for place in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > place)
            clicked = sessions.items[sessions.offsets[rows] + place]
            states[rows] = self.advance(states[rows], clicked)
        return states

    def _doors(self, users: FloatArray, *, known: BoolArray) -> FloatArray:
        network = require_fitted(self._network, self)
        with torch.inference_mode(), one_torch_thread():
            begun = network.begin(torch.from_numpy(users)).numpy()
        return np.concatenate([begun * known[:, None], users], axis=1)

    def _taken_in(self, sessions: Sessions) -> tuple[FloatArray, IntArray]:
        """What is known of every visitor, and from how many sessions, after these as well."""
        known = sessions.take(np.flatnonzero((sessions.users >= 0) & (sessions.lengths > 0)))
        more = max(int(known.users.max(initial=-1)) + 1 - len(self._users), 0)
        users = np.pad(self._users, ((0, more), (0, 0)))
        finished = np.pad(self._finished, (0, more))
        for rows in _rounds(known):
            visits = known.take(rows)
            who = visits.users
            states = self._doors(users[who], known=finished[who] > 0)
            over = self.finish(self._walked(visits, states))
            users[who] = over[:, self._config.units :]
            finished[who] += 1
        return users, finished

    @classmethod
    def _with(
        cls,
        config: HierarchicalRNNConfig,
        network: Network,
        *,
        users: FloatArray,
        finished: IntArray,
        unseen: IntArray,
    ) -> Self:
        model = cls(config)
        model._network = network
        model._users, model._finished, model._unseen = users, finished, unseen
        return model


def _rounds(sessions: Sessions) -> Iterator[IntArray]:
    """Rows of every visitor's first session, then of every second one, and so on."""
    visitor = visitors_of(sessions)
    order = np.argsort(visitor, kind="stable")
    counts = np.bincount(visitor)
    place = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    by_round = order[np.argsort(place, kind="stable")]
    yield from np.split(by_round, np.cumsum(np.bincount(place))[:-1]) if len(order) else ()


class _Trainer:
    """One training run: the network, its optimizers, its negatives, the memory of the visitors."""

    def __init__(
        self,
        config: HierarchicalRNNConfig,
        *,
        counts: IntArray,
        places: int,
        rng: np.random.Generator,
    ) -> None:
        self.config = config
        self.rng = torch.Generator().manual_seed(int(rng.integers(2**63)))
        self.network = Network(config, n_items=len(counts), rng=self.rng)
        self.sampler = PopularitySampler(counts, alpha=config.sample_alpha, rng=rng)
        # A target of the batch is offered as often as it is seen, a drawn negative as often as it
        # is drawn.
        logq = config.logq if config.loss == "cross_entropy" else 0.0
        self.log_q = (logq * np.log(np.maximum(counts, 1))).astype(np.float32)
        self.optimizers = {
            name: Adagrad(
                tensor.numpy(), learning_rate=config.learning_rate, momentum=config.momentum
            )
            for name, tensor in {**self.network.dense, **self.network.tables}.items()
        }
        for tensor in self.network.dense.values():
            tensor.requires_grad_()
        self.session = torch.zeros(places, config.units)
        self.user = torch.zeros(places, config.user_units)
        self.negatives = np.empty((0, config.n_sample), dtype=np.int64)

    def run(self, plan: VisitParallel, progress: Progress) -> tuple[float, ...]:
        config = self.config
        losses = []
        total = config.epochs * len(plan)
        for epoch in range(config.epochs):
            summed, done = 0.0, 0
            for number, step in enumerate(plan, start=1):
                loss, predicted = self.step(step)
                summed, done = summed + loss, done + predicted
                if number % _STEPS_A_REPORT == 0 or number == len(plan):
                    note = f"epoch {epoch + 1}/{config.epochs}, loss {summed / max(done, 1):.3f}"
                    progress(epoch * len(plan) + number, total, note)
                    _check(summed)
            losses.append(summed / max(done, 1))
        self.network.dense = {name: t.detach() for name, t in self.network.dense.items()}
        return tuple(losses)

    def step(self, step: UserStep) -> tuple[float, int]:
        """One gradient step over the active lanes; the loss summed, and what it is summed over."""
        lanes = torch.from_numpy(step.lanes)
        session, user, opened = self.doors(step, lanes)
        asked = np.flatnonzero(step.targets >= 0)
        guess = opened if self.config.first_click else opened[:0]
        candidates = np.concatenate([step.targets[asked], step.inputs[guess], self.draw()])
        predicted = len(asked) + len(guess)

        rows = np.concatenate([candidates, step.inputs])
        taken = self.network.tables["items"][torch.from_numpy(rows)].requires_grad_()
        after = self.network.click(taken[len(candidates) :], session, user)
        after = self.drop(after, self.config.dropout_session)
        self.session[lanes], self.user[lanes] = after.detach(), user.detach()
        if not predicted or len(candidates) < 2:
            return 0.0, 0

        readout = torch.cat([after[torch.from_numpy(asked)], session[torch.from_numpy(guess)]])
        scores = readout @ taken[: len(candidates)].T
        loss = self.loss(scores, candidates)
        self.learn(scores, taken, rows)
        return loss, predicted

    def doors(self, step: UserStep, lanes: Tensor) -> tuple[Tensor, Tensor, IntArray]:
        """Both states of the lanes before the click, and the lanes to which a visitor returns."""
        session, user = self.session[lanes], self.user[lanes]
        changed = torch.from_numpy(step.changed)
        session[changed], user[changed] = 0, 0
        opened = np.flatnonzero(step.fresh & ~step.changed)
        if not len(opened):
            return session, user, opened
        at = torch.from_numpy(opened)
        over = self.network.finish(session[at], user[at])
        over = self.drop(over, self.config.dropout_user)
        begun = self.drop(self.network.begin(over), self.config.dropout_init)
        return session.index_copy(0, at, begun), user.index_copy(0, at, over), opened

    def loss(self, scores: Tensor, candidates: IntArray) -> float:
        """The summed loss; its gradient takes the place of the scores, and the biases move."""
        config = self.config
        biases = self.network.tables["biases"].numpy()[candidates, 0]
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
        self.optimizers["biases"].step_rows(candidates, by_biases)
        return loss

    def learn(self, scores: Tensor, taken: Tensor, rows: IntArray) -> None:
        """Move what the scores depend on; weights that this step did not use stay."""
        dense = self.network.dense
        gradients = torch.autograd.grad(
            scores, [taken, *dense.values()], grad_outputs=scores.detach(), allow_unused=True
        )
        self.optimizers["items"].step_rows(rows, gradients[0].numpy())
        for name, gradient in zip(dense, gradients[1:], strict=True):
            if gradient is not None:
                self.optimizers[name].step(gradient.contiguous().numpy())

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
