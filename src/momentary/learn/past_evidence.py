"""What was known of items before each stretch of time: who led where, and what was popular.

A model that weighs counts must learn to do so from what they held before the sessions that it is
asked about: counted from all sessions they would hold its own answers and its future (Dawid, "The
prequential approach", JRSS A 1984). Counting anew before every session costs too much, so the
sessions are cut into stretches of equal size, and a stretch knows what came before it.

With P(j | i) the share of j among what followed i, fading with time, and P'(j | i) the share of j
among what i followed, a visit i_1 .. i_t says of an item c:

    f_1..3 = log(1 + 1000 P(c | i)) of the last click, of the second last, of all before together
    f_4..6 = the same with P'
    f_7    = 1 if c is the last click
    f_8    = how often c was clicked before
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from momentary.learn.counts import session_rows
from momentary.learn.covisits import followers, session_weights
from momentary.learn.pruning import strongest_per_row
from momentary.types import BoolArray, FloatArray, IntArray, Sessions

FACTS = 8
"""Facts of an item in the light of a visit."""

_SCALE = 1000.0
_PRIOR = 0.5
_FAME_SIZE = 0.3  # brings the logs of shares to about the size of the other facts


class Links(NamedTuple):
    """Transitions one way, in rows: item i leads to `columns[starts[i]:starts[i + 1]]`.

    Attributes:
        starts: Shape (items + 1,).
        columns: Ascending in a row. Shape (entries,).
        shares: As known before each stretch. Shape (stretches, entries).
    """

    starts: IntArray
    columns: NDArray[np.int32]
    shares: FloatArray

    def last(self, *, number: IntArray, limit: int) -> Links:
        """What is known at the end, the strongest of every item, in the caller's numbers.

        Args:
            number: Our number of each of the caller's items. Shape (items,).
            limit: Entries kept in a row.
        """
        shares, n_items = self.shares[-1], len(number)
        rank = np.arange(n_items, dtype=np.int64)
        kept = strongest_per_row(shares, self.starts, self.columns, limit=limit, rank=rank)
        kept = kept[shares[kept] > 0]
        theirs = np.empty_like(number)
        theirs[number] = rank
        rows = theirs[np.repeat(rank, np.diff(self.starts))[kept]]
        found = sparse.csr_matrix(
            (shares[kept], (rows, theirs[self.columns[kept]])), shape=(n_items, n_items)
        )
        found.sort_indices()
        return Links(
            found.indptr.astype(np.int64), found.indices.astype(np.int32), found.data[None]
        )


class Facts(NamedTuple):
    """What there is to say of some candidates; all others have nothing.

    Attributes:
        questions: Shape (entries,).
        candidates: Each once a question. Shape (entries,).
        values: Shape (entries, FACTS).
    """

    questions: IntArray
    candidates: IntArray
    values: FloatArray


class PastEvidence(NamedTuple):
    """Counts before every stretch; the last ones are those at the end.

    Attributes:
        stretch: Of each session. Shape (sessions,).
        ahead: Items by what follows them.
        behind: Items by what they follow.
        fame: Log of each item's fading share of the clicks, against an equal share, by half-life.
            Shape (stretches + 1, items, half-lives).
    """

    stretch: IntArray
    ahead: Links
    behind: Links
    fame: FloatArray

    @classmethod
    def of(  # noqa: PLR0913 - one count, told once
        cls,
        sessions: Sessions,
        *,
        n_items: int,
        stretches: int,
        window: int,
        shrinkage: float,
        half_life: float,
        fame_half_lives: tuple[float, ...],
    ) -> PastEvidence:
        """Go through the sessions in the order of time.

        Args:
            sessions: In the order of time.
            n_items: Size of the catalogue.
            stretches: Into so many the sessions are cut.
            window: Events at most this far apart count as a transition.
            shrinkage: Added to the sum of an item's transitions, in sessions of full weight.
            half_life: A transition counts half when so many sessions have followed.
            fame_half_lives: The same for clicks, once for each kind of popularity.
        """
        cuts = np.linspace(0, len(sessions), min(stretches, len(sessions)) + 1).astype(np.int64)
        weights = np.ones(len(sessions))
        whole = followers(sessions, weights=weights, n_items=n_items, window=window)
        row = np.repeat(np.arange(n_items), np.diff(whole.indptr))
        keys = row * np.int64(n_items) + whole.indices
        turned = sparse.csr_matrix(
            (np.arange(whole.nnz), whole.indices, whole.indptr), shape=whole.shape
        ).T.tocsr()
        turned.sort_indices()
        known = np.zeros(whole.nnz)
        clicks = np.zeros((len(fame_half_lives), n_items))
        shares = np.zeros((2, len(cuts), whole.nnz), dtype=np.float32)
        fame = np.zeros((len(cuts), n_items, len(fame_half_lives)), dtype=np.float32)
        for place in range(len(cuts)):
            if place:
                part = sessions.take(np.arange(cuts[place - 1], cuts[place]))
                known *= 0.5 ** (len(part) / half_life)
                fading = session_weights(len(part), half_life=half_life)
                new = followers(part, weights=fading, n_items=n_items, window=window)
                at = np.repeat(np.arange(n_items), np.diff(new.indptr)) * np.int64(n_items)
                known[np.searchsorted(keys, at + new.indices)] += new.data
                for each, life in enumerate(fame_half_lives):
                    clicks[each] *= 0.5 ** (len(part) / life)
                    clicks[each] += np.bincount(
                        part.items,
                        weights=session_weights(len(part), half_life=life)[session_rows(part)],
                        minlength=n_items,
                    )
            followed = np.bincount(row, weights=known, minlength=n_items) + shrinkage
            preceded = np.bincount(whole.indices, weights=known, minlength=n_items) + shrinkage
            shares[0, place] = known / followed[row]
            shares[1, place] = (known / preceded[whole.indices])[turned.data]
            guessed = clicks.T + _PRIOR
            fame[place] = _FAME_SIZE * np.log(guessed / guessed.mean(axis=0))
        starts = (whole.indptr.astype(np.int64), turned.indptr.astype(np.int64))
        columns = (whole.indices.astype(np.int32), turned.indices.astype(np.int32))
        return cls(
            stretch=np.searchsorted(cuts[1:], np.arange(len(sessions)), side="right"),
            ahead=Links(starts[0], columns[0], shares[0]),
            behind=Links(starts[1], columns[1], shares[1]),
            fame=fame,
        )


def facts_of(
    clicks: tuple[IntArray, BoolArray],
    stretch: IntArray,
    links: tuple[Links, Links],
    *,
    place: IntArray,
    candidates: int,
) -> Facts:
    """What visits say of the candidates, one question for every place that is asked about.

    Args:
        clicks: Padded visits and the places asked about, both of shape (visits, clicks); a
            question knows the clicks up to its place.
        stretch: Which stretch each visit knows. Shape (visits,).
        links: `PastEvidence.ahead` and `behind`.
        place: Where an item stands among the candidates, -1 for none. Shape (items,).
        candidates: How many there are.
    """
    room = _room(clicks, links, candidates)
    likely = _blank(0, 0)
    return _facts_of(_facts(clicks, stretch, links, (place, room), likely))


class Likely(NamedTuple):
    """The items of which the evidence says most to each question.

    Attributes:
        items: -1 where there are fewer. Shape (questions, limit).
        values: Their facts. Shape (questions, limit, FACTS).
    """

    items: IntArray
    values: FloatArray


def facts_and_likely(
    clicks: tuple[IntArray, BoolArray],
    stretch: IntArray,
    links: tuple[Links, Links],
    *,
    place: IntArray,
    candidates: int,
    limit: int,
) -> tuple[Facts, Likely]:
    """Find what `facts_of` finds, and the likely items, candidates or not.

    What is likely depends on the visit and its past alone: it is the same, whatever the
    candidates are.
    """
    likely = _blank(int(clicks[1].sum()), limit)
    room = _room(clicks, links, candidates)
    return _facts_of(_facts(clicks, stretch, links, (place, room), likely)), likely


def _facts_of(written: tuple[int, IntArray, IntArray, FloatArray]) -> Facts:
    count, questions, candidates, values = written
    return Facts(questions[:count], candidates[:count], values[:count])


def _blank(questions: int, limit: int) -> Likely:
    return Likely(
        np.full((questions, limit), -1, dtype=np.int64),
        np.zeros((questions, limit, FACTS), dtype=np.float32),
    )


@numba.njit(cache=True, nogil=True)
def _facts(  # noqa: PLR0917 - kernels are called by position
    visits: tuple[IntArray, BoolArray],
    stretch: IntArray,
    links: tuple[Links, Links],
    offered: tuple[IntArray, int],
    likely: Likely,
) -> tuple[int, IntArray, IntArray, FloatArray]:
    """How many facts there are, then their questions, candidates and values."""
    clicks, asked = visits
    place, room = offered
    questions = np.empty(room, dtype=np.int64)
    found = np.empty(room, dtype=np.int64)
    values = np.empty((room, FACTS), dtype=np.float32)
    named = np.empty(len(place), dtype=np.int64)
    said = np.empty((len(place), FACTS), dtype=np.float32)
    slot = np.full(len(place), -1, dtype=np.int64)
    limit = likely.items.shape[1]
    strength = np.empty(limit, dtype=np.float32)
    count, question = 0, 0
    for visit in range(len(clicks)):
        for last in range(clicks.shape[1]):
            if not asked[visit, last]:
                continue
            shares = (links[0].shares[stretch[visit]], links[1].shares[stretch[visit]])
            told = _tell(clicks[visit, : last + 1], shares, links, (slot, named, said))
            for at in range(told):
                if place[named[at]] >= 0:
                    questions[count], found[count] = question, place[named[at]]
                    values[count] = said[at]
                    count += 1
            if limit > 0:
                kept = _strongest(said[:told], strength, likely.items[question])
                for at in range(kept):
                    likely.values[question, at] = said[likely.items[question, at]]
                    likely.items[question, at] = named[likely.items[question, at]]
            question += 1
    return count, questions, found, values


@numba.njit(cache=True, nogil=True)
def _tell(  # noqa: PLR0917 - kernels are called by position
    visit: IntArray,
    shares: tuple[FloatArray, FloatArray],
    links: tuple[Links, Links],
    out: tuple[IntArray, IntArray, FloatArray],
) -> int:
    """Write what one visit says; of how many items it says something."""
    slot, found, values = out
    count, last = 0, len(visit) - 1
    for click in range(last, -1, -1):
        item, back = visit[click], min(last - click, 2)
        for way in range(2):
            side = links[way]
            for entry in range(side.starts[item], side.starts[item + 1]):
                share = shares[way][entry]
                if share > 0:
                    count = _seat(side.columns[entry], out, count)
                    values[slot[side.columns[entry]], 3 * way + back] += share
        count = _seat(item, out, count)
        values[slot[item], 6 if click == last else 7] += 1
    for at in range(count):
        slot[found[at]] = -1
        for column in range(6):
            if values[at, column] > 0:
                values[at, column] = np.log1p(np.float32(_SCALE) * values[at, column])
    return count


@numba.njit(cache=True, nogil=True)
def _seat(item: int, out: tuple[IntArray, IntArray, FloatArray], count: int) -> int:
    """Give an item a row if it has none yet; how many rows are taken."""
    slot, found, values = out
    if slot[item] >= 0:
        return count
    slot[item] = count
    found[count] = item
    values[count] = 0
    return count + 1


@numba.njit(cache=True, nogil=True)
def _strongest(said: FloatArray, strength: FloatArray, rows: IntArray) -> int:
    """Write the rows whose six logs sum to most, the largest first; how many there are."""
    kept = 0
    for row in range(len(said)):
        value = np.float32(0)
        for column in range(6):
            value += said[row, column]
        if value <= 0 or (kept == len(rows) and value <= strength[kept - 1]):
            continue
        at = min(kept, len(rows) - 1)
        while at > 0 and strength[at - 1] < value:
            strength[at], rows[at] = strength[at - 1], rows[at - 1]
            at -= 1
        strength[at], rows[at] = value, row
        kept = min(kept + 1, len(rows))
    return kept


@numba.njit(cache=True, nogil=True)
def _room(asked: tuple[IntArray, BoolArray], links: tuple[Links, Links], candidates: int) -> int:
    """The most entries that there can be."""
    clicks, wanted = asked
    room = 0
    for visit in range(len(clicks)):
        entries = 0
        for click in range(clicks.shape[1]):
            item = clicks[visit, click]
            entries += 1
            for way in range(2):
                entries += links[way].starts[item + 1] - links[way].starts[item]
            if wanted[visit, click]:
                room += min(entries, candidates)
    return room
