r"""The log of a softmax whose sum is estimated, with gradients that are written out.

A question q asks for an item t among too many. Its logits are

    l_qi = temperature * s_q . e_i + w_q . f_q(i),

f being what is known of items in its light. Some items the batch's questions share, each there with
a chance c_i; others a question has for itself, and those are there for certain (S_q). Then

    log V_q = l_qt - log( sum over i in S_q of exp l_qi + sum over shared i not in S_q of
                          exp(l_qi) / c_i )

(Horvitz & Thompson, JASA 1952). With p the shares that make up the sum, the gradient by a logit is
[i = t] - p_qi. What a question has for itself should be what is likely: drawn by chance, likely
items are mostly missing, and the sum comes out too small.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from momentary.learn.arithmetic import kernel, largest, prefetch_row
from momentary.learn.candidates import Candidates
from momentary.learn.past_evidence import FACTS, Facts, Likely
from momentary.types import FloatArray, IntArray

_AHEAD = 6


class Offer(NamedTuple):
    """What stands in the sums of one batch.

    Attributes:
        drawn: The shared items and their chances.
        own: Shared items that are there for certain, by place. Shape (questions, some).
        targets: Place of t among the shared items. Shape (questions,).
        facts: What each question's past says of the shared items, question by question.
        likely: What each question has for itself.
        twice: Where those stand among the shared items, -1 where they do not. Shape of `likely`.
        fame: What is known of the shared items besides. Shape (stretches, kinds, shared).
        likely_fame: The same of the likely items. Shape (questions, some, kinds).
        stretch: What each question knows. Shape (questions,).
    """

    drawn: Candidates
    own: IntArray
    targets: IntArray
    facts: Facts
    likely: Likely
    twice: IntArray
    fame: FloatArray
    likely_fame: FloatArray
    stretch: IntArray


def estimated_log_softmax(
    session: Tensor, vectors: tuple[Tensor, Tensor, IntArray], trust: Tensor, *, offer: Offer
) -> Tensor:
    """Compute log V of every question. Shape (questions,).

    Args:
        session: temperature * s. Shape (questions, width).
        vectors: e of the shared items; e of whatever is likely to anyone; where in it each likely
            item stands. Shapes (shared, width), (some, width), and that of `offer.likely.items`.
        trust: w, by kind of fame and then by fact. Shape (questions, kinds + FACTS).
        offer: What stands in the sums.
    """
    offered, near, places = vectors
    value: Tensor = _EstimatedLogSoftmax.apply(  # type: ignore[no-untyped-call]
        session, offered, near, trust, places, offer
    )
    return value


class _EstimatedLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:  # noqa: ANN401
        """Compute log V; p is kept for the way back."""
        *tensors, places, offer = given
        session, offered, near, trust = (each.detach().contiguous().numpy() for each in tensors)
        shared = session @ offered.T
        own = np.empty(places.shape, dtype=session.dtype)
        log_v = np.empty(len(session), dtype=session.dtype)
        bounds = np.searchsorted(offer.facts.questions, np.arange(len(session) + 1))
        _there((session, near, trust), (places, bounds), offer, (shared, own, log_v))
        # NumPy's exp is made of vector instructions for either width of numbers.
        np.exp(shared, out=shared)
        np.exp(own, out=own)
        _sum_up(shared, own, log_v)
        ctx.kept = (session, offered, near, trust), (places, bounds), offer, (shared, own)
        return torch.from_numpy(log_v)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Go from the gradient by log V to those by the vectors and by w."""
        (session, offered, near, trust), where, offer, (shared, own) = ctx.kept
        found = [np.zeros_like(each) for each in (session, near, trust)]
        _back(
            (session, near),
            where,
            offer,
            (gradients[0].contiguous().numpy(), shared, own),
            (found[0], found[1], found[2]),
        )
        by_session = found[0] + shared @ offered
        by_offered = shared.T @ session
        by = (by_session, by_offered, found[1], found[2])
        return (*(torch.from_numpy(each) for each in by), None, None)


_Where = tuple[IntArray, IntArray]
"""Rows of the likely items' vectors, and where each question's facts begin."""
_Values = NDArray[Any]  # float32, or float64 where gradients are checked


@kernel
def _there(  # noqa: PLR0917 - kernels are called by position
    sources: tuple[_Values, _Values, _Values],
    where: _Where,
    offer: Offer,
    out: tuple[_Values, _Values, _Values],
) -> None:
    """Write every logit less its log chance and less the row's largest; l_t less that to log V."""
    trust = sources[2]
    shared, own, log_v = out
    kinds = trust.shape[1] - FACTS
    for q in range(len(shared)):
        row = shared[q]
        for kind in range(kinds):
            _add(offer.fame[offer.stretch[q], kind], trust[q, kind], row)
        for entry in range(where[1][q], where[1][q + 1]):
            told = _dot(offer.facts.values[entry], trust[q, kinds:])
            row[offer.facts.candidates[entry]] += told
        log_v[q] = row[offer.targets[q]]
        _divide_by_chance(row, offer, q)
        _own_logits(q, sources, where[0], offer, own[q])
        top = largest(_top(row), _top(own[q]))
        for i in range(len(row)):
            row[i] -= top
        for j in range(own.shape[1]):
            own[q, j] -= top
        log_v[q] -= top


@kernel
def _add(what: _Values, weight: Any, to: _Values) -> None:  # noqa: ANN401 - of either width
    for i in range(len(to)):
        to[i] += weight * what[i]


@kernel
def _dot(a: _Values, b: _Values) -> Any:  # noqa: ANN401
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total += a[i] * b[i]
    return total


@kernel
def _top(row: _Values) -> Any:  # noqa: ANN401
    top = row[0]
    for i in range(1, len(row)):
        top = largest(top, row[i])
    return top


@kernel
def _divide_by_chance(row: _Values, offer: Offer, q: int) -> None:
    """Take off the log chances, but those of what is certain; leave out what comes by itself."""
    certain = offer.own[q]
    kept = np.empty(len(certain), dtype=row.dtype)
    for j in range(len(certain)):
        kept[j] = row[certain[j]]
    for i in range(len(row)):
        row[i] -= offer.drawn.log_inclusion[i]
    for j in range(len(certain)):
        row[certain[j]] = kept[j]
    for place in offer.twice[q]:
        if place >= 0:
            row[place] = -np.inf


@kernel
def _own_logits(  # noqa: PLR0917 - kernels are called by position
    q: int,
    sources: tuple[_Values, _Values, _Values],
    places: IntArray,
    offer: Offer,
    out: _Values,
) -> None:
    session, near, trust = sources
    kinds = trust.shape[1] - FACTS
    for j in range(len(out)):
        if offer.likely.items[q, j] < 0:
            out[j] = -np.inf
            continue
        prefetch_row(near, places[q, min(j + _AHEAD, len(out) - 1)])
        out[j] = (
            _dot(session[q], near[places[q, j]])
            + _dot(offer.likely_fame[q, j], trust[q, :kinds])
            + _dot(offer.likely.values[q, j], trust[q, kinds:])
        )


@kernel
def _sum_up(shared: _Values, own: _Values, log_v: _Values) -> None:
    """Turn the exponentials into shares, and take the log of their sum off log V."""
    for q in range(len(shared)):
        total = own[q, 0]
        for j in range(1, own.shape[1]):
            total += own[q, j]
        for i in range(shared.shape[1]):
            total += shared[q, i]
        share = 1 / total
        for i in range(shared.shape[1]):
            shared[q, i] *= share
        for j in range(own.shape[1]):
            own[q, j] *= share
        log_v[q] -= np.log(total)


@kernel
def _back(  # noqa: PLR0917 - kernels are called by position
    sources: tuple[_Values, _Values],
    where: _Where,
    offer: Offer,
    shares: tuple[_Values, _Values, _Values],
    out: tuple[_Values, _Values, _Values],
) -> None:
    """Turn the shares into gradients by the logits; add up those by w and what is likely."""
    session, near = sources
    gradient, shared, own = shares
    by_session, by_near, by_trust = out
    places, bounds = where
    kinds = by_trust.shape[1] - FACTS
    for q in range(len(session)):
        row, g = shared[q], gradient[q]
        for i in range(len(row)):
            row[i] *= -g
        row[offer.targets[q]] += g
        for kind in range(kinds):
            by_trust[q, kind] = _dot(row, offer.fame[offer.stretch[q], kind])
        for entry in range(bounds[q], bounds[q + 1]):
            by = row[offer.facts.candidates[entry]]
            _add(offer.facts.values[entry], by, by_trust[q, kinds:])
        for j in range(own.shape[1]):
            if offer.likely.items[q, j] >= 0:
                by = -g * own[q, j]
                _add(offer.likely_fame[q, j], by, by_trust[q, :kinds])
                _add(offer.likely.values[q, j], by, by_trust[q, kinds:])
                _add(near[places[q, j]], by, by_session[q])
                _add(session[q], by, by_near[places[q, j]])
