r"""AttentiveRNN: a GRU that reads the visit, looks back over it, and may point instead of guess.

Sources, each for one part:

- Li et al., "Neural Attentive Session-based Recommendation" (NARM), CIKM 2017,
  arXiv 1711.04725: attention over the visit beside the GRU; Wu et al., SR-GNN, AAAI 2019,
  arXiv 1811.00855: the last click enters the readout by itself.
- Gupta et al., "NISER", 2019, arXiv 1909.04276: item and session vectors of length 1 and a
  temperature, which keeps popular items from winning by their length.
- Ren et al., "RepeatNet", AAAI 2019, arXiv 1812.02646, after See et al., ACL 2017,
  arXiv 1704.04368: a gate between the catalogue and the items of the visit itself.
- Garg et al., STAN, SIGIR 2019: what is counted close to each other in time says a lot; how far
  counts are trusted is learned from what they held before (Dawid, JRSS A 1984).

With e_i = E_i / |E_i| in d numbers, x_j = e of click j after dropout, h = GRU(0.3 sqrt(d) x),
u_t = [h_t; x_t], positions counted back from t, r = t - j, and k the width of a key:

    attention   a_tj = softmax_j((Q h_t + b) . K u_j / sqrt(k) + p_r)
    session     s_t = M [sum_j a_tj x_j; h_t; x_t] + x_t,  scaled to length 1
    evidence    w_t = W u_t + b_w,  over f_t(i): recent popularity, counted transitions from the
                visit's clicks, repeats (`learn.past_evidence`)
    catalogue   V_t(i) = softmax_i(temperature * s_t . e_i + w_t . f_t(i))
    visit       C_t(i) = sum of softmax_j((Q' u_t + b') . K' u_j / sqrt(k) + p'_r) over j with i
    gates       g_t = softmax(G [u_t; log(1 + t)] + b_g)
    score       p(i) = g_1 V_t(i) + g_2 C_t(i)

Training maximises log p of every next item, times what its event counts if `event_weights` says
so, gradients through the whole visit; a session is told only what was counted before its stretch
of time. The sum of V's softmax is estimated from the batch's targets and a drawn sample. E starts
at the items' association vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from momentary.errors import MomentaryError
from momentary.learn.arithmetic import kernel, sigmoid, softmax, tanh
from momentary.learn.bounds import require_ranges
from momentary.learn.candidates import CandidateSampler
from momentary.learn.counts import last_events
from momentary.learn.covisits import (
    association_vectors,
    followers,
    session_weights,
)
from momentary.learn.estimated_softmax import Offer, estimated_log_softmax
from momentary.learn.event_weights import EventWeights, require_event_weights, target_weights
from momentary.learn.fitted import require_fitted
from momentary.learn.order import first_appearance, inverse
from momentary.learn.past_evidence import (
    FACTS,
    Links,
    PastEvidence,
    facts_and_likely,
    facts_of,
)
from momentary.learn.row_adam import RowAdam
from momentary.learn.threads import one_blas_thread
from momentary.learn.top_items import TopItems
from momentary.learn.torch_threads import one_torch_thread
from momentary.learn.windows import Padded, Windows
from momentary.models.protocol import Arrays
from momentary.types import BoolArray, FloatArray, IntArray, Progress, Sessions, silent

_STEPS_A_REPORT = 50
_INPUT_SIZE = 0.3  # of each number, about, that enters the GRU
_FIRST_GATES = (0.0, -1.5)
_FIRST_TRUST = 0.1
_NEVER = 1e-9
_BLOCKED = -1e9
_FIRST = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentiveRNNConfig:
    """How the network is built and trained.

    Attributes:
        units: Width of the item vectors and of the GRU.
        attention: Width in which queries and keys meet.
        temperature: Multiplies the cosines of the catalogue's softmax.
        max_session: Only this many last events of a longer session are read.
        window: Events at most this far apart count as a transition.
        shrinkage: Added to the sum of an item's transitions: the larger, the less a rare item
            promises.
        half_life: A transition counts half when this many sessions have followed; infinity turns
            that off.
        fame_half_lives: The same for clicks, in the popularities that the evidence holds.
        stretches: The sessions are cut into so many for the evidence; more are fresher and cost
            memory.
        transitions_per_item: The strongest that are kept, each way.
        batch_predictions: Next items asked for in one step, about.
        likely: Every question's denominator holds so many items of which its evidence says most.
        n_sample: Items drawn for the denominator of a step besides its targets.
        sample_alpha: They are drawn by popularity to this power.
        epochs: Passes over the sessions.
        learning_rate: Adam's highest: it rises over the first twentieth and falls to 0.
        dropout_items: Share of the item vectors' numbers that is dropped in training.
        dropout_hidden: Share of the GRU's outputs that is dropped in training.
        event_weights: How much events count as next items, by type (`learn.event_weights`): one
            of weight 0 is read, and counted in the evidence, but never asked for.
    """

    units: int = 128
    attention: int = 32
    temperature: float = 12.0
    max_session: int = 20
    window: int = 8
    shrinkage: float = 1.0
    half_life: float = float("inf")
    fame_half_lives: tuple[float, ...] = (1_000.0, 8_000.0)
    stretches: int = 12
    transitions_per_item: int = 300
    batch_predictions: int = 800
    likely: int = 64
    n_sample: int = 1024
    sample_alpha: float = 0.5
    epochs: int = 6
    learning_rate: float = 0.005
    dropout_items: float = 0.3
    dropout_hidden: float = 0.2
    event_weights: EventWeights = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        require_event_weights(self.event_weights)
        if not all(life >= 1 for life in self.fame_half_lives):
            raise ValueError(
                f"fame_half_lives is {self.fame_half_lives}; each must be 1 session or more."
            )


_RANGES: dict[str, tuple[float, float]] = {
    "units": (1, 10_000),
    "attention": (1, 10_000),
    "temperature": (0.1, 1_000),
    "max_session": (1, 10_000),
    "window": (1, 10_000),
    "shrinkage": (0.001, 1e6),
    "half_life": (1, float("inf")),
    "stretches": (1, 1_000),
    "transitions_per_item": (1, 1_000_000),
    "batch_predictions": (1, 1_000_000),
    "likely": (1, 100_000),
    "n_sample": (1, 1_000_000),
    "sample_alpha": (0, 1),
    "epochs": (1, 10_000),
    "learning_rate": (1e-8, 10),
    "dropout_items": (0, 0.999),
    "dropout_hidden": (0, 0.999),
}


class Reading(NamedTuple):
    """What the network makes of a place in a visit.

    Attributes:
        session: s_t. Shape (..., units).
        log_gates: log g_t: catalogue, visit. Shape (..., 2).
        pointer: The weight of every click in C_t. Shape (..., clicks).
        evidence: w_t: popularity by half-life, then the facts. Shape (..., half-lives + FACTS).
    """

    session: Tensor
    log_gates: Tensor
    pointer: Tensor
    evidence: Tensor


class Network(nn.Module):
    """All weights but the transitions, which are counted."""

    def __init__(self, config: AttentiveRNNConfig, items: Tensor) -> None:
        super().__init__()
        units, places = config.units, config.max_session
        self.config = config
        self.items: Tensor
        self.register_buffer("items", items)
        self.gru = nn.GRU(units, units, batch_first=True, device="meta").to_empty(device="cpu")
        self.look = _linear(units, config.attention)
        self.seen = _linear(2 * units, config.attention, bias=False)
        self.mix = _linear(3 * units, units, bias=False)
        self.point = _linear(2 * units, config.attention)
        self.pointed = _linear(2 * units, config.attention, bias=False)
        self.gates = _linear(2 * units + 1, 2)
        self.evidence = _linear(2 * units, len(config.fame_half_lives) + FACTS)
        self.places = nn.Parameter(torch.zeros(2, places))

    def start(self, rng: torch.Generator) -> None:
        """Draw the first weights; the catalogue's gate starts widest."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if name != "places":
                    bound = max(weight.shape[-1], self.config.units) ** -0.5
                    weight.uniform_(-bound, bound, generator=rng)
            self.gates.weight.mul_(0.3)
            self.gates.bias.copy_(torch.tensor(_FIRST_GATES))
            self.evidence.weight.mul_(_FIRST_TRUST)
            self.evidence.bias.zero_()
            self.evidence.bias[-FACTS:] = _FIRST_TRUST

    def forward(
        self,
        clicked: Float[Tensor, "batch clicks units"],
        drop: Drop,
        at: Int[Tensor, "batch 1"] | None = None,
    ) -> Reading:
        """Read visits and look back from one place of each, or from every place."""
        read = self.gru(clicked * (_INPUT_SIZE * self.config.units**0.5))[0]
        states = drop(read, self.config.dropout_hidden)
        places = torch.arange(clicked.shape[1])
        x, h = clicked, states
        if at is not None:
            rows = torch.arange(len(clicked))[:, None]
            x, h = clicked[rows, at], states[rows, at]
        back = (places[None] if at is None else at)[:, :, None] - places
        later = back < 0
        back = back.clamp(min=0)
        both, own = torch.cat([states, clicked], -1), torch.cat([h, x], -1)

        def attend(query: Tensor, key: Tensor, place: int) -> Tensor:
            scores = query @ key.transpose(1, 2) * self.config.attention**-0.5
            placed: Tensor = scores + self.places[place][back]
            return placed.masked_fill(later, _BLOCKED)

        context = torch.softmax(attend(self.look(h), self.seen(both), 0), -1) @ clicked
        session = self.mix(torch.cat([context, h, x], -1)) + x
        pointer = torch.softmax(attend(self.point(own), self.pointed(both), 1), -1)
        depth = torch.log1p(back[:, :, :1].float()).expand(len(x), -1, 1)
        return Reading(
            session=normalize(session, dim=-1),
            log_gates=torch.log_softmax(self.gates(torch.cat([own, depth], -1)), -1),
            pointer=pointer,
            evidence=self.evidence(own),
        )


def _linear(width: int, units: int, *, bias: bool = True) -> nn.Linear:
    return nn.Linear(width, units, bias=bias, device="meta").to_empty(device="cpu")


class Drop:
    """Dropout whose chance is an argument; without one nothing is dropped."""

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        self.rng = rng

    def __call__(self, x: Tensor, share: float) -> Tensor:
        """Zero a share of the numbers, and raise the others to keep the mean."""
        if self.rng is None or share == 0:
            return x
        keep = self.rng.random(tuple(x.shape), dtype=np.float32) >= share
        return x * torch.from_numpy(keep) * (1 / (1 - share))


class AttentiveRNN:
    """GRU with attention, a pointer and counted evidence; see the module for the equations."""

    kind: ClassVar[str] = "attentive_rnn"

    def __init__(self, config: AttentiveRNNConfig | None = None) -> None:
        self._config = config or AttentiveRNNConfig()
        self._learned: _Learned | None = None
        self.losses: tuple[float, ...] = ()
        """Mean training loss of each epoch, known after `fit`."""

    @property
    def config(self) -> AttentiveRNNConfig:
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
        config = self._config
        # Items are numbered by first appearance, so that the draws, and with them the scores, do
        # not depend on how the caller numbers them.
        order = first_appearance(sessions.items, n_items=n_items)
        number = inverse(order)
        ours = replace(sessions, items=number[sessions.items])
        weights = target_weights(ours, config.event_weights)
        windows = Windows.cut(ours, longest=config.max_session, weights=weights)
        if not len(windows):
            raise MomentaryError(
                "No session has two events, so there is no next item to learn. "
                "Lower the item filter, or train a model that needs no order."
            )
        recency = session_weights(len(ours), half_life=config.half_life)
        counts = followers(ours, weights=recency, n_items=n_items, window=config.window)
        with one_torch_thread(), one_blas_thread():
            past = PastEvidence.of(
                ours,
                n_items=n_items,
                stretches=config.stretches,
                window=config.window,
                shrinkage=config.shrinkage,
                half_life=config.half_life,
                fame_half_lives=config.fame_half_lives,
            )
            trainer = _Trainer(config, windows, counts=counts, past=past, rng=rng)
            self.losses = trainer.run(progress)
        network = trainer.network.requires_grad_(requires_grad=False)
        network.items = normalize(network.items, dim=-1)[torch.from_numpy(number)]
        seen = np.bincount(sessions.items, minlength=n_items)
        most = config.transitions_per_item
        self._learned = _Learned(
            network=network,
            ahead=past.ahead.last(number=number, limit=most),
            behind=past.behind.last(number=number, limit=most),
            fame=past.fame[-1][number],
            popularity=(seen / seen.sum()).astype(np.float32),
        )
        return self

    def score(self, sessions: Sessions) -> FloatArray:
        """The chance of every item to come next. Shape (sessions, items).

        Items never trained have none and tell nothing about a visit; a visit without any other
        click is given each item's share of all clicks.
        """
        learned = require_fitted(self._learned, self)
        visits = last_events(_keep(sessions, learned.popularity > 0), self._config.max_session)
        rows = np.flatnonzero(visits.lengths)
        if not len(rows):
            return np.tile(learned.popularity, (len(visits), 1))
        with torch.inference_mode(), one_torch_thread():
            chances = learned.chances(visits.take(rows))
        if len(rows) == len(visits):
            return chances
        scores = np.tile(learned.popularity, (len(visits), 1))
        scores[rows] = chances
        return scores

    def score_visit(self, items: IntArray, *, exact: int) -> FloatArray:
        """The chance of every item, all but the best from bytes (`learn.top_items`). (items,)."""
        learned = require_fitted(self._learned, self)
        visit = items[learned.popularity[items] > 0][-self._config.max_session :]
        if not len(visit):
            return learned.popularity.copy()
        return learned.chances_of_one(visit, exact=exact)

    def state(self) -> Arrays:
        """The weights by name, the transitions each way, and the items' shares of clicks."""
        learned = require_fitted(self._learned, self)
        arrays: Arrays = {name: w.numpy() for name, w in learned.network.state_dict().items()}
        for way, links in (("ahead", learned.ahead), ("behind", learned.behind)):
            arrays |= {f"{way}_{part}": array for part, array in links._asdict().items()}
        return arrays | {"popularity": learned.popularity, "fame": learned.fame}

    @classmethod
    def from_state(cls, config: AttentiveRNNConfig, state: Mapping[str, NDArray[Any]]) -> Self:
        """The network that gave `state`."""
        model = cls(config)
        network = Network(config, torch.empty(state["items"].shape))
        weights = {name: torch.from_numpy(np.array(state[name])) for name in network.state_dict()}
        network.load_state_dict(weights)
        ahead, behind = (
            Links(*(np.array(state[f"{way}_{part}"]) for part in Links._fields))
            for way in ("ahead", "behind")
        )
        model._learned = _Learned(
            network=network.requires_grad_(requires_grad=False),
            ahead=ahead,
            behind=behind,
            fame=np.array(state["fame"]),
            popularity=np.array(state["popularity"]),
        )
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learned:
    """What `fit` leaves; the item vectors have length 1.

    Attributes:
        ahead: Items by what follows them.
        behind: Items by what they follow.
        fame: Log of each item's recent share of clicks, by half-life. Shape (items, half-lives).
        popularity: Each item's share of all clicks, 0 if it was never seen. Shape (items,).
        unseen: Items that were never seen. Shape (items,).
        everything: The numbers of all items. Shape (items,).
        tables: Item vectors beside popularity, so that one product gives both. Shape (items,
            units + half-lives).
        top: The item vectors once more, for visits that come one at a time.
        weights: Those of the network, for the same.
    """

    network: Network
    ahead: Links
    behind: Links
    fame: FloatArray
    popularity: FloatArray
    unseen: IntArray = field(init=False)
    everything: IntArray = field(init=False)
    tables: FloatArray = field(init=False)
    top: TopItems = field(init=False)
    weights: _Weights = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unseen", np.flatnonzero(self.popularity == 0))
        object.__setattr__(self, "everything", np.arange(len(self.popularity)))
        tables = np.concatenate([self.network.items.numpy(), self.fame], axis=1)
        object.__setattr__(self, "tables", tables)
        nothing = np.zeros(len(tables), dtype=np.float32)
        object.__setattr__(self, "top", TopItems(self.network.items.numpy(), nothing))
        object.__setattr__(self, "weights", _weights_of(self.network))

    def chances(self, visits: Sessions) -> FloatArray:
        """The chance of every item after visits of one or more clicks. Shape (visits, items)."""
        network, lengths = self.network, visits.lengths
        places = np.arange(int(lengths.max()))
        events = np.minimum(visits.offsets[:-1, None] + places, len(visits.items) - 1)
        clicks = visits.items[events]
        last = torch.from_numpy(lengths - 1)[:, None]
        vectors = embedding(torch.from_numpy(clicks), network.items)
        reading = network(vectors, Drop(), at=last)
        evidence = reading.evidence[:, 0].numpy()
        session = reading.session[:, 0].numpy() * np.float32(network.config.temperature)
        scores = self.logits(session, evidence)
        facts = facts_of(
            (clicks, places == lengths[:, None] - 1),
            np.zeros(len(clicks), dtype=np.int64),
            (self.ahead, self.behind),
            place=self.everything,
            candidates=len(self.popularity),
        )
        told = (facts.values * evidence[facts.questions, -FACTS:]).sum(axis=1)
        scores[facts.questions, facts.candidates] += told
        scores[:, self.unseen] = -np.inf
        gates = reading.log_gates[:, 0].exp()
        scores = torch.softmax(torch.from_numpy(scores), 1).mul_(gates[:, :1]).numpy()
        _point(
            visits.items,
            visits.offsets,
            (reading.pointer[:, 0] * gates[:, 1:2]).numpy(),
            scores,
        )
        return scores

    def chances_of_one(self, visit: IntArray, *, exact: int) -> FloatArray:
        """What `chances` gives for one visit, all but the best items roughly. Shape (items,)."""
        network = self.network
        clicked = network.items.numpy()[visit]
        session, pointer, gates, evidence = _read(clicked, self.weights)
        biases = self.fame @ evidence[:-FACTS]
        facts = facts_of(
            (visit[None], np.arange(len(visit))[None] == len(visit) - 1),
            _FIRST,
            (self.ahead, self.behind),
            place=self.everything,
            candidates=len(self.popularity),
        )
        biases[facts.candidates] += facts.values @ evidence[-FACTS:]
        biases[self.unseen] = -np.inf
        scores = self.top.scores(
            session * np.float32(network.config.temperature), exact=exact, biases=biases
        )
        softmax(scores, gates[0])
        scores[self.unseen] = 0
        _point(visit, np.array([0, len(visit)]), (pointer * gates[1])[None], scores[None])
        return scores

    def logits(self, session: FloatArray, evidence: FloatArray) -> FloatArray:
        """The part of the catalogue's logits that no single click tells. Shape (visits, items)."""
        query = np.concatenate([session, evidence[:, :-FACTS]], axis=1)
        with one_blas_thread():
            # One vector against a matrix takes half the time of a product of two matrices.
            one = len(query) == 1
            found: FloatArray = (self.tables @ query[0])[None] if one else query @ self.tables.T
        return found


class _Weights(NamedTuple):
    """The network's weights as compiled code reads them."""

    inputs: FloatArray
    memory: FloatArray
    by_inputs: FloatArray
    by_memory: FloatArray
    look: FloatArray
    looking: FloatArray
    seen: FloatArray
    mix: FloatArray
    point: FloatArray
    pointing: FloatArray
    pointed: FloatArray
    gates: FloatArray
    gating: FloatArray
    evidence: FloatArray
    evident: FloatArray
    places: FloatArray


def _weights_of(network: Network) -> _Weights:
    names = (
        "gru.weight_ih_l0 gru.weight_hh_l0 gru.bias_ih_l0 gru.bias_hh_l0 look.weight look.bias "
        "seen.weight mix.weight point.weight point.bias pointed.weight gates.weight gates.bias "
        "evidence.weight evidence.bias places"
    )
    found = network.state_dict()
    return _Weights(*(found[name].numpy() for name in names.split()))


@kernel
def _read(
    clicked: FloatArray, weights: _Weights
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """What `Network` makes of the last place of one visit, its gates no longer as logs."""
    count, units = clicked.shape
    both = _walk(clicked, weights)
    own = both[count - 1]
    attention = _attend(
        both, own[:units], (weights.look, weights.looking, weights.seen), weights.places[0]
    )
    pointer = _attend(
        both, own, (weights.point, weights.pointing, weights.pointed), weights.places[1]
    )
    mixed = np.zeros(3 * units, dtype=np.float32)
    for click in range(count):
        mixed[:units] += attention[click] * clicked[click]
    mixed[units:] = own
    session = np.empty(units, dtype=np.float32)
    _times(weights.mix, mixed, clicked[count - 1], session)
    length = np.float32(0)
    for j in range(units):
        length += session[j] * session[j]
    session /= max(np.sqrt(length), np.float32(1e-12))
    gates = np.empty(len(weights.gating), dtype=np.float32)
    deep = np.empty(2 * units + 1, dtype=np.float32)
    deep[:-1] = own
    deep[-1] = np.log1p(np.float32(count - 1))
    _times(weights.gates, deep, weights.gating, gates)
    softmax(gates, np.float32(1))
    evidence = np.empty(len(weights.evident), dtype=np.float32)
    _times(weights.evidence, own, weights.evident, evidence)
    return session, pointer, gates, evidence


@kernel
def _walk(clicked: FloatArray, weights: _Weights) -> FloatArray:
    """The GRU's outputs beside the clicks. Shape (clicks, 2 units)."""
    count, units = clicked.shape
    both = np.empty((count, 2 * units), dtype=np.float32)  # h_j beside x_j
    memory = np.zeros(units, dtype=np.float32)
    size = np.float32(_INPUT_SIZE) * np.sqrt(np.float32(units))
    from_input = np.empty(3 * units, dtype=np.float32)
    from_memory = np.empty(3 * units, dtype=np.float32)
    for click in range(count):
        _times(weights.inputs, clicked[click] * size, weights.by_inputs, from_input)
        _times(weights.memory, memory, weights.by_memory, from_memory)
        for j in range(units):
            reset = sigmoid(from_input[j] + from_memory[j])
            keep = sigmoid(from_input[units + j] + from_memory[units + j])
            new = tanh(from_input[2 * units + j] + reset * from_memory[2 * units + j])
            memory[j] = (np.float32(1) - keep) * new + keep * memory[j]
        both[click, :units] = memory
        both[click, units:] = clicked[click]
    return both


@kernel
def _attend(  # noqa: PLR0917 - kernels are called by position
    both: FloatArray,
    own: FloatArray,
    weights: tuple[FloatArray, FloatArray, FloatArray],
    places: FloatArray,
) -> FloatArray:
    """How much the last click looks at each click. Shape (clicks,)."""
    by_own, bias, by_click = weights
    width, count = len(bias), len(both)
    query, key = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float32)
    nothing = np.zeros(width, dtype=np.float32)
    _times(by_own, own, bias, query)
    scores = np.empty(count, dtype=np.float32)
    for click in range(count):
        _times(by_click, both[click], nothing, key)
        total = np.float32(0)
        for j in range(width):
            total += query[j] * key[j]
        scores[click] = total / np.sqrt(np.float32(width)) + places[count - 1 - click]
    softmax(scores, np.float32(1))
    return scores


@kernel
def _times(  # noqa: PLR0917 - kernels are called by position
    matrix: FloatArray, vector: FloatArray, bias: FloatArray, out: FloatArray
) -> None:
    for i in range(len(out)):
        total = np.float32(0)
        for j in range(len(vector)):
            total += matrix[i, j] * vector[j]
        out[i] = total + bias[i]


@numba.njit(cache=True, nogil=True)
def _point(  # noqa: PLR0917 - kernels are called by position
    items: IntArray, offsets: IntArray, pointer: FloatArray, scores: FloatArray
) -> None:
    """Add the chances of the visit's items."""
    for row in range(len(scores)):
        for place in range(offsets[row + 1] - offsets[row]):
            scores[row, items[offsets[row] + place]] += pointer[row, place]


def _keep(sessions: Sessions, known: BoolArray) -> Sessions:
    """The sessions without the events of items that are not `known`."""
    kept = known[sessions.items]
    return sessions if kept.all() else sessions.keep(kept)


class _Trainer:
    """One training run: the network, its optimizer, its candidates."""

    def __init__(
        self,
        config: AttentiveRNNConfig,
        windows: Windows,
        *,
        counts: sparse.csr_matrix,
        past: PastEvidence,
        rng: np.random.Generator,
    ) -> None:
        self.config, self.windows, self.past, self.rng = config, windows, past, rng
        self.place = np.full(counts.shape[0], -1, dtype=np.int64)
        vectors = association_vectors(counts, width=config.units, rng=rng)
        self.network = Network(config, torch.from_numpy(vectors))
        self.network.start(torch.Generator().manual_seed(int(rng.integers(2**63))))
        self.drop = Drop(rng)
        seen = np.bincount(windows.items, minlength=len(self.place))
        self.candidates = CandidateSampler(
            seen, n_sample=config.n_sample, alpha=config.sample_alpha, rng=rng
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)
        self.item_optimizer = RowAdam(vectors)
        self.rate = 0.0

    def run(self, progress: Progress) -> tuple[float, ...]:
        """All epochs; the mean loss of each."""
        config = self.config
        losses, done = [], 0
        for epoch in range(config.epochs):
            batches = self.windows.batches(predictions=config.batch_predictions, rng=self.rng)
            total = config.epochs * len(batches)
            summed, asked = 0.0, 0
            for number, rows in enumerate(batches, start=1):
                self.pace(done / total)
                loss, count = self.step(rows)
                summed, asked, done = summed + loss, asked + count, done + 1
                if number % _STEPS_A_REPORT == 0 or number == len(batches):
                    note = f"epoch {epoch + 1}/{config.epochs}, loss {summed / asked:.3f}"
                    progress(done, total, note)
                    _check(summed)
            losses.append(summed / asked)
        return tuple(losses)

    def pace(self, done: float) -> None:
        """Set the learning rate after a share of all steps: up over a twentieth, then down."""
        self.rate = self.config.learning_rate * min(1.0, 20 * done) * (1 - done)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def step(self, rows: IntArray) -> tuple[float, int]:
        """One gradient step; the loss summed over the next items, and how many there were."""
        padded = self.windows.padded(rows)
        items, asked = torch.from_numpy(padded.items), torch.from_numpy(padded.asked)
        clicks, targets = items[:, :-1], items[:, 1:][asked]
        offer = self.offer(rows, padded)
        drawn, likely = offer.drawn, offer.likely
        # Each vector that the step needs is taken once, so that its gradient stays small.
        own, near = padded.items[:, :-1].ravel(), np.maximum(likely.items, drawn.items[0])
        touched, place = np.unique(
            np.concatenate([own, drawn.items, near.ravel()]), return_inverse=True
        )
        ends = np.cumsum([len(own), len(drawn.items)])
        vectors = embedding(torch.from_numpy(touched), self.network.items).requires_grad_()
        unit = normalize(vectors, dim=-1)
        clicked = embedding(torch.from_numpy(place[: ends[0]]).view(clicks.shape), unit)
        offered = embedding(torch.from_numpy(place[ends[0] : ends[1]]), unit)

        reading = self.network(self.drop(clicked, self.config.dropout_items), self.drop)
        same = clicks[asked.nonzero()[:, 0]] == targets[:, None]
        catalogue = estimated_log_softmax(
            reading.session[asked] * self.config.temperature,
            (offered, unit, place[ends[1] :].reshape(near.shape)),
            reading.evidence[asked],
            offer=offer,
        )
        pointed = torch.log((reading.pointer[asked] * same).sum(1) + _NEVER)
        parts = torch.stack([catalogue, pointed], dim=1)
        chances = torch.logsumexp(reading.log_gates[asked] + parts, dim=1)
        if padded.weights is not None:
            chances = chances * torch.from_numpy(padded.weights)[asked]
        loss = -chances.sum()
        weights = list(self.network.parameters())
        by_vectors, *by_weights = torch.autograd.grad(loss / len(targets), [vectors, *weights])
        for weight, gradient in zip(weights, by_weights, strict=True):
            weight.grad = gradient
        self.optimizer.step()
        self.item_optimizer.step(touched, by_vectors.numpy(), learning_rate=self.rate)
        return loss.item(), len(targets)

    def offer(self, rows: IntArray, padded: Padded) -> Offer:
        """Draw candidates, and look up what was known before the stretch of each window."""
        events = int((self.windows.inputs[rows] + 1).sum())
        drawn = self.candidates.draw(padded.items, events=events)
        stretch = self.past.stretch[self.windows.sessions[rows]]
        self.place[drawn.items] = np.arange(len(drawn.items))
        facts, likely = facts_and_likely(
            (padded.items[:, :-1], padded.asked),
            stretch,
            (self.past.ahead, self.past.behind),
            place=self.place,
            candidates=len(drawn.items),
            limit=self.config.likely,
        )
        twice = np.where(likely.items >= 0, self.place[likely.items], -1)
        self.place[drawn.items] = -1
        window, click = np.nonzero(padded.asked)
        known = stretch[window]
        fame = self.past.fame[:-1, drawn.items]
        return Offer(
            drawn=drawn,
            own=drawn.places[window],
            targets=drawn.places[window, click + 1],
            facts=facts,
            likely=likely,
            twice=twice,
            fame=np.ascontiguousarray(fame.transpose(0, 2, 1)),
            likely_fame=self.past.fame[known[:, None], np.maximum(likely.items, 0)],
            stretch=known,
        )


def _check(loss: float) -> None:
    if not np.isfinite(loss):
        raise MomentaryError(
            f"The loss became {loss}: training diverged. Halve learning_rate, or raise n_sample."
        )
