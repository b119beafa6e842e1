"""Candidates of a question, and what there is to say of each of them in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from momentary.learn.arithmetic import kernel, largest, product
from momentary.learn.content_evidence import A_STREAM, FADING, LATEST, say_content
from momentary.learn.facts import (
    AHEAD,
    BEHIND,
    ITEM,
    LATELY,
    NEXT,
    PAIR,
    SECOND,
    TOGETHER,
    Facts,
)
from momentary.types import FloatArray, IntArray, Sessions

_LEAST_LOG = -16.0
_CHUNK = 64  # of items that are looked at together

A_PART = 5
"""Numbers that are said of a candidate for each part; the third is 1 / (1 + rank)."""
# Of the candidate's place in the session, of it and its items, and of the session alone.
_REPEAT, _LAST, _EARLIER, _VISIT, _NEAR, _SESSION = 8, 14, 9, 4, 6, 5


def groups(parts: int, streams: int = 0) -> list[slice]:
    """The columns of each source of evidence; those of the session alone belong to none."""
    widths = [A_PART] * parts + [_REPEAT, ITEM, _LAST + _EARLIER, _VISIT + _NEAR]
    ends = np.cumsum(widths)
    found = [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]
    begin = width_of(parts)
    return found + [
        slice(at, at + A_STREAM) for at in range(begin, begin + streams * A_STREAM, A_STREAM)
    ]


def width_of(parts: int, streams: int = 0) -> int:
    """How many numbers are said of a candidate, with so many streams of content."""
    plain = parts * A_PART + _REPEAT + ITEM + _LAST + _EARLIER + _VISIT + _NEAR + _SESSION
    return plain + streams * A_STREAM


class _Questions(NamedTuple):
    """What the kernels read.

    Attributes:
        probabilities: Shape (parts, rows, items).
        limits: Items of each part among which the candidates are. Shape (parts,).
        shares: Weights of the parts. Shape (parts,).
        items: Of the sessions, end to end. Shape (events,).
        offsets: Shape (rows + 1,).
    """

    probabilities: FloatArray
    limits: IntArray
    shares: FloatArray
    items: IntArray
    offsets: IntArray


class Answers(NamedTuple):
    """What the kernels write; rows hold the likeliest candidate first.

    Attributes:
        candidates: Item indices, -1 where there are fewer. Shape (rows, most).
        counts: How many of them there are. Shape (rows,).
        features: Shape (rows, most, features).
    """

    candidates: NDArray[np.int32]
    counts: IntArray
    features: FloatArray


class _Room(NamedTuple):
    """Room to work in.

    Attributes:
        items: Of all parts' best. Shape (all,).
        ranks: By part from 0, -1 for what is not among its best. Shape (all, parts).
        chances: In the mixture. Shape (all,).
        order: The candidates among them. Shape (most,).
        slot: Place of an item among the candidates, -1 for none. Shape (items,).
    """

    items: NDArray[np.int32]
    ranks: NDArray[np.int32]
    chances: FloatArray
    order: NDArray[np.int32]
    slot: NDArray[np.int32]


def describe(  # noqa: PLR0913 - each says something else
    probabilities: FloatArray,
    limits: IntArray,
    *,
    shares: FloatArray,
    most: int,
    sessions: Sessions,
    facts: Facts,
    content: Sequence[FloatArray] = (),
) -> Answers:
    """Find the candidates of some sessions and what there is to say of each.

    Candidates are the likeliest of all parts' best items in a mixture of the parts; of equally
    likely ones those that an earlier part names, and names first.

    Args:
        probabilities: Of every item, by part. Shape (parts, rows, items).
        limits: How many items count as a part's best. Shape (parts,).
        shares: Weights of the parts in the mixture. Shape (parts,).
        most: Candidates of a session.
        sessions: The rows.
        facts: Of the past.
        content: Unit rows by stream, zeros where nothing is known. Shapes (items, dim).
    """
    parts, rows, n_items = probabilities.shape
    named = int(min(np.minimum(limits, n_items).sum(), n_items))
    answers = Answers(
        candidates=np.full((rows, min(most, named)), -1, dtype=np.int32),
        counts=np.zeros(rows, dtype=np.int64),
        features=np.zeros(
            (rows, min(most, named), width_of(parts, len(content))), dtype=np.float32
        ),
    )
    room = _Room(
        items=np.zeros(named, dtype=np.int32),
        ranks=np.zeros((named, parts), dtype=np.int32),
        chances=np.zeros(named, dtype=np.float32),
        order=np.zeros(min(most, named), dtype=np.int32),
        slot=np.full(n_items, -1, dtype=np.int32),
    )
    # Copies, because a read-only array would have the kernels compiled once more.
    queries = (np.array(sessions.items), np.array(sessions.offsets))
    _describe(_Questions(probabilities, limits, np.array(shares), *queries), facts, answers, room)
    say_content(
        content,
        candidates=answers.candidates,
        counts=answers.counts,
        sessions=sessions,
        out=answers.features[:, :, width_of(parts) :],
    )
    return answers


@numba.njit(cache=True, nogil=True)
def _describe(  # noqa: PLR0917 - kernels are called by position
    asked: _Questions, facts: Facts, answers: Answers, room: _Room
) -> None:
    for row in range(len(asked.offsets) - 1):
        count = _gather(asked, answers, room, row)
        query = asked.items[asked.offsets[row] : asked.offsets[row + 1]]
        chosen = answers.candidates[row, :count]
        features = answers.features[row, :count]
        at = _say_parts(asked, chosen, features, room, row)
        at = _say_repeats(query, chosen, features, at)
        features[:, at : at + ITEM] = facts.items[chosen]
        at += ITEM
        _say_pairs(query, facts, room.slot, features[:, at:])
        at += _LAST + _EARLIER + _VISIT
        _say_near(query, chosen, facts.vectors, features[:, at:])
        at += _NEAR
        _say_session(query, facts, features[:, at:])
        for item in chosen:
            room.slot[item] = -1


@numba.njit(cache=True, nogil=True)
def _worse(probabilities: FloatArray, one: int, other: int) -> bool:
    """Of equal items the one that appeared later is worse."""
    if probabilities[one] == probabilities[other]:
        return one > other
    return bool(probabilities[one] < probabilities[other])


@numba.njit(cache=True, nogil=True)
def _sink(  # noqa: PLR0917 - kernels are called by position
    probabilities: FloatArray, heap: NDArray[np.int32], start: int, size: int
) -> None:
    """Let an entry of a heap, whose worst item is on top, sink to where it belongs."""
    at = start
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _worse(probabilities, heap[child + 1], heap[child]):
            child += 1
        if not _worse(probabilities, heap[child], heap[at]):
            break
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@numba.njit(cache=True, nogil=True)
def _best(probabilities: FloatArray, limit: int) -> NDArray[np.int32]:
    """The most probable items, best first."""
    size = min(limit, len(probabilities))
    heap = np.arange(size).astype(np.int32)
    for start in range(size - 1, -1, -1):
        _sink(probabilities, heap, start, size)
    if size:
        bound = probabilities[heap[0]]
        for begin in range(size, len(probabilities), _CHUNK):
            end = min(begin + _CHUNK, len(probabilities))
            # Most chunks hold nothing better, which vector instructions see at once.
            if _highest(probabilities[begin:end]) <= bound:
                continue
            for item in range(begin, end):
                if probabilities[item] > bound:
                    heap[0] = item
                    _sink(probabilities, heap, 0, size)
                    bound = probabilities[heap[0]]
    for last in range(size - 1, 0, -1):
        heap[0], heap[last] = heap[last], heap[0]
        _sink(probabilities, heap, 0, last)
    return heap


@kernel
def _highest(numbers: FloatArray) -> np.float32:
    top: np.float32 = numbers[0]
    for i in range(1, len(numbers)):
        top = largest(top, numbers[i])
    return top


@numba.njit(cache=True, nogil=True)
def _gather(  # noqa: PLR0917 - kernels are called by position
    asked: _Questions, answers: Answers, room: _Room, row: int
) -> int:
    """Join the parts' best items and keep the likeliest; how many there are."""
    count = 0
    for part in range(len(asked.limits)):
        best = _best(asked.probabilities[part, row], asked.limits[part])
        for rank in range(len(best)):
            item = best[rank]
            place = room.slot[item]
            if place < 0:
                place = count
                room.slot[item] = place
                room.items[place] = item
                room.ranks[place] = -1
                room.chances[place] = 0.0
                for each in range(len(asked.limits)):
                    chance = asked.probabilities[each, row, item]
                    room.chances[place] += asked.shares[each] * chance
                count += 1
            room.ranks[place, part] = rank
    for item in room.items[:count]:
        room.slot[item] = -1
    likeliest = _best(room.chances[:count], answers.candidates.shape[1])
    for place in range(len(likeliest)):
        room.order[place] = likeliest[place]
        item = room.items[likeliest[place]]
        answers.candidates[row, place] = item
        room.slot[item] = place
    answers.counts[row] = len(likeliest)
    return len(likeliest)


@numba.njit(cache=True, nogil=True)
def _say_parts(  # noqa: PLR0917 - kernels are called by position
    asked: _Questions, chosen: NDArray[np.int32], features: FloatArray, room: _Room, row: int
) -> int:
    at = 0
    for part in range(len(asked.limits)):
        chances = asked.probabilities[part, row]
        top = _LEAST_LOG
        for place in range(len(chosen)):
            value = max(math.log(chances[chosen[place]] + 1e-30), _LEAST_LOG)
            features[place, at] = value
            top = max(top, value)
        for place in range(len(chosen)):
            said = features[place, at : at + A_PART]
            rank = room.ranks[room.order[place], part]
            said[1] = said[0] - top
            said[2] = 1.0 / (rank + 1.0) if rank >= 0 else 0.0
            said[3] = math.log(rank + 1.0 if rank >= 0 else 2.0 * asked.limits[part] + 1.0)
            said[4] = top
        at += A_PART
    return at


@numba.njit(cache=True, nogil=True)
def _say_repeats(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, chosen: NDArray[np.int32], features: FloatArray, at: int
) -> int:
    size = len(query)
    for place in range(len(chosen)):
        said = features[place, at : at + _REPEAT]
        times, steps, followed = 0, -1, 0.0
        for position in range(size - 1, -1, -1):
            if query[position] == chosen[place]:
                times += 1
                if steps < 0:
                    steps = size - 1 - position
                if position > 0 and query[position - 1] == query[size - 1]:
                    followed += 1.0
        if times:
            said[0] = 1.0
            said[1] = math.log(times)
            said[2] = 1.0 / (steps + 1.0)
            said[3] = 1.0 if steps == 0 else 0.0
            said[4] = math.log(steps + 1.0)
            said[5] = 1.0 if steps == 1 else 0.0
            said[6] = followed
            said[7] = times / size
    return at + _REPEAT


@numba.njit(cache=True, nogil=True)
def _say_pairs(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, facts: Facts, slot: NDArray[np.int32], features: FloatArray
) -> None:
    """Read the pairs of the latest distinct items of the session."""
    size = len(query)
    distinct = 0
    for step in range(min(size, LATEST)):
        item = query[size - 1 - step]
        if _asked_later(query, size - 1 - step):
            continue
        distinct += 1
        for entry in range(facts.indptr[item], facts.indptr[item + 1]):
            place = slot[facts.partners[entry]]
            if place >= 0:
                _say_pair(entry, item, step, facts, features[place])
    for place in range(len(features)):
        features[place, _LAST + _EARLIER + 2] /= max(distinct, 1)


@numba.njit(cache=True, nogil=True)
def _asked_later(query: IntArray, position: int) -> bool:
    for later in range(position + 1, len(query)):  # noqa: SIM110 - Numba knows no generators
        if query[later] == query[position]:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _say_pair(  # noqa: PLR0917 - kernels are called by position
    entry: int, item: int, step: int, facts: Facts, features: FloatArray
) -> None:
    values = facts.values[entry]
    other = facts.partners[entry]
    ahead = values[AHEAD] / (facts.totals[item, AHEAD] + 1.0)
    if step == 0:
        _say_last(values, item, other, facts, features)
    elif step == 1:
        _say_second(values, item, facts, features[_LAST:])
    elif step == 2:
        features[_LAST + 7] = math.log1p(values[AHEAD])
        features[_LAST + 8] = ahead
    near = values[TOGETHER] / math.sqrt((facts.counts[item] + 5.0) * (facts.counts[other] + 5.0))
    said = features[_LAST + _EARLIER :]
    said[0] += near * 0.8**step
    said[1] = max(said[1], near)
    said[2] += 1.0
    said[3] += ahead


@numba.njit(cache=True, nogil=True)
def _say_last(  # noqa: PLR0917 - kernels are called by position
    values: FloatArray, item: int, other: int, facts: Facts, said: FloatArray
) -> None:
    totals = facts.totals[item]
    for column in range(PAIR):
        said[column] = math.log1p(values[column])
    said[7] = values[NEXT] / (totals[NEXT] + 1.0)
    said[8] = values[AHEAD] / (totals[AHEAD] + 1.0)
    said[9] = values[BEHIND] / (totals[BEHIND] + 1.0)
    said[10] = values[LATELY] / (totals[LATELY] + 0.1)
    said[11] = values[AHEAD] / (facts.totals[other, BEHIND] + 1.0)
    said[12] = math.log1p(
        1000.0 * values[TOGETHER] / ((facts.counts[item] + 5.0) * (facts.counts[other] + 5.0))
    )
    said[13] = math.log((values[NEXT] + 0.2) / (totals[NEXT] + 1.0)) + 6.0


@numba.njit(cache=True, nogil=True)
def _say_second(  # noqa: PLR0917 - kernels are called by position
    values: FloatArray, item: int, facts: Facts, said: FloatArray
) -> None:
    said[0] = math.log1p(values[NEXT])
    said[1] = math.log1p(values[SECOND])
    said[2] = math.log1p(values[AHEAD])
    said[3] = math.log1p(values[BEHIND])
    said[4] = math.log1p(values[TOGETHER])
    said[5] = values[SECOND] / (facts.totals[item, SECOND] + 1.0)
    said[6] = values[AHEAD] / (facts.totals[item, AHEAD] + 1.0)


@kernel
def _say_near(  # noqa: PLR0917 - kernels are called by position
    query: IntArray, chosen: NDArray[np.int32], vectors: FloatArray, features: FloatArray
) -> None:
    """Cosines with the last three items, with all that came lately, and with their like."""
    size = len(query)
    if size == 0:
        return
    lately = np.zeros(vectors.shape[1], dtype=np.float32)
    weight = np.float32(1)
    for step in range(min(size, LATEST)):
        lately += weight * vectors[query[size - 1 - step]]
        weight *= FADING
    length = np.float32(0)
    for number in lately:
        length += number * number
    lately /= np.sqrt(length) + np.float32(1e-9)
    for place in range(len(chosen)):
        vector, said = vectors[chosen[place]], features[place, :_NEAR]
        highest, total = np.float32(-1), np.float32(0)
        for step in range(min(size, LATEST)):
            near = product(vector, vectors[query[size - 1 - step]])
            highest = max(highest, near)
            total += near
            if step < 3:
                said[step] = near
        said[3] = product(vector, lately)
        said[4] = highest
        said[5] = total / min(size, LATEST)


@numba.njit(cache=True, nogil=True)
def _say_session(query: IntArray, facts: Facts, features: FloatArray) -> None:
    size = len(query)
    if size == 0:
        return
    last = query[size - 1]
    distinct = 0
    for position in range(size):
        if not _asked_later(query, position):
            distinct += 1
    again = 0.0
    for position in range(size - 1):
        if query[position] == last:
            again = 1.0
    for place in range(len(features)):
        features[place, 0] = math.log(size)
        features[place, 1] = distinct / size
        features[place, 2] = facts.items[last, 0]
        features[place, 3] = math.log1p(facts.totals[last, NEXT])
        features[place, 4] = again
