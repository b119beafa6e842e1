"""Losses over the scores of shared candidates: target i of the batch stands in column i."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, "batch candidates"]


def cross_entropy(scores: Scores, *, log_q: Float[Tensor, " candidates"] | None = None) -> Tensor:
    """Softmax cross-entropy of each row's target, summed over the batch.

    `log_q` is subtracted from the scores: the log of how often a candidate is offered, which
    undoes the bias of sampling (logQ correction; Bengio & Senecal 2008, used for GRU4Rec by
    Hidasi & Czapp 2023, arXiv 2307.14956).
    """
    corrected = scores if log_q is None else scores - log_q
    return -torch.log_softmax(corrected, dim=1).diagonal().sum()


def bpr_max(scores: Scores, *, elu: float, regularization: float) -> Tensor:
    """BPR-max with score regularisation, summed over the batch.

    -log sum_j s_j sigmoid(r_i - r_j) + lambda sum_j s_j r_j^2, where s is the softmax over the
    negatives j (Hidasi & Karatzoglou, CIKM 2018, equations 10 and 12).

    Args:
        scores: r, target i in column i; every other column is a negative.
        elu: Width of the exponential linear unit on the scores; 0 leaves them linear.
        regularization: lambda.
    """
    bounded = torch.nn.functional.elu(scores, elu) if elu > 0 else scores
    targets = bounded.diagonal().unsqueeze(1)
    own = torch.eye(*bounded.shape, dtype=torch.bool)
    weights = torch.softmax(bounded.masked_fill(own, float("-inf")), dim=1)
    won = (torch.sigmoid(targets - bounded) * weights).sum(dim=1)
    penalty = (bounded.square() * weights).sum(dim=1)
    return (-torch.log(won + 1e-24) + regularization * penalty).sum()
