"""The estimated softmax and its gradients, against the plain one and torch's own gradients."""

import numpy as np
import pytest
import torch

from momentary.learn.candidates import Candidates
from momentary.learn.estimated_softmax import Offer, estimated_log_softmax
from momentary.learn.past_evidence import FACTS, Facts, Likely

QUESTIONS, SHARED, OTHERS, WIDTH, KINDS, STRETCHES, OWN = 5, 7, 4, 6, 2, 3, 2


def offer_of(rng):
    """Items 0 .. 6 are shared, 7 .. 10 are likely to some; likely ones may be shared, too."""
    entries = [(q, c) for q in range(QUESTIONS) for c in range(SHARED) if rng.random() < 0.4]
    likely = np.full((QUESTIONS, 3), -1)
    for q in range(QUESTIONS):
        some = rng.permutation(SHARED + OTHERS)[: q % 4]
        likely[q, : len(some)] = some
    certain = rng.integers(SHARED, size=(QUESTIONS, OWN))  # the target among them, as in a visit
    return Offer(
        drawn=Candidates(
            items=np.arange(SHARED),
            places=np.arange(SHARED),
            log_inclusion=np.log(rng.random(SHARED)).astype(np.float32),
        ),
        own=certain,
        targets=certain[:, 0].copy(),
        facts=Facts(
            questions=np.array([q for q, _ in entries]),
            candidates=np.array([c for _, c in entries]),
            values=rng.normal(size=(len(entries), FACTS)).astype(np.float32),
        ),
        likely=Likely(likely, rng.normal(size=(*likely.shape, FACTS)).astype(np.float32)),
        twice=np.where(likely < SHARED, likely, -1),
        fame=rng.normal(size=(STRETCHES, KINDS, SHARED)).astype(np.float32),
        likely_fame=rng.normal(size=(*likely.shape, KINDS)).astype(np.float32),
        stretch=rng.integers(STRETCHES, size=QUESTIONS),
    )


def plainly(session, items, trust, offer):
    """The module's equation, one question and one item at a time."""
    found = []
    for q in range(QUESTIONS):
        logits = items[:SHARED] @ session[q]
        logits = (
            logits + torch.from_numpy(offer.fame[offer.stretch[q]]).T.double() @ trust[q, :KINDS]
        )
        for entry in np.flatnonzero(offer.facts.questions == q):
            told = torch.from_numpy(offer.facts.values[entry]).double() @ trust[q, KINDS:]
            row = torch.zeros(SHARED, dtype=torch.float64)
            row[offer.facts.candidates[entry]] = 1
            logits = logits + row * told
        target, terms = logits[offer.targets[q]], []
        for i in range(SHARED):
            if i not in offer.twice[q]:
                chance = 1.0 if i in offer.own[q] else np.exp(float(offer.drawn.log_inclusion[i]))
                terms.append(torch.exp(logits[i]) / chance)
        for j, item in enumerate(offer.likely.items[q]):
            if item >= 0:
                told = torch.from_numpy(offer.likely.values[q, j]).double() @ trust[q, KINDS:]
                fame = torch.from_numpy(offer.likely_fame[q, j]).double() @ trust[q, :KINDS]
                terms.append(torch.exp(items[item] @ session[q] + told + fame))
        found.append(target - torch.log(torch.stack(terms).sum()))
    return torch.stack(found)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_equation_and_so_are_its_gradients(seed):
    rng = np.random.default_rng(seed)
    offer = offer_of(rng)
    given = [
        torch.from_numpy(rng.normal(size=shape)).requires_grad_()
        for shape in ((QUESTIONS, WIDTH), (SHARED + OTHERS, WIDTH), (QUESTIONS, KINDS + FACTS))
    ]
    session, items, trust = given
    vectors = (items[:SHARED], items, np.maximum(offer.likely.items, 0))
    found = estimated_log_softmax(session, vectors, trust, offer=offer)
    expected = plainly(session, items, trust, offer)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    by_value = torch.from_numpy(rng.normal(size=QUESTIONS))
    for ours, theirs in zip(
        torch.autograd.grad(found, given, by_value),
        torch.autograd.grad(expected, given, by_value),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_logits_too_large_for_an_exponential_are_no_matter():
    offer = offer_of(np.random.default_rng(0))
    ones = torch.ones(SHARED + OTHERS, WIDTH)
    found = estimated_log_softmax(
        torch.full((QUESTIONS, WIDTH), 1e4),
        (ones[:SHARED], ones, np.maximum(offer.likely.items, 0)),
        torch.zeros(QUESTIONS, KINDS + FACTS),
        offer=offer,
    )
    assert torch.isfinite(found).all()
    assert (found < 0).all()
