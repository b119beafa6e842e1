"""Why an item is on a list, in plain sentences that the training data bears out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from momentary.encoders.protocol import WORDS
from momentary.types import IntArray, ItemTable

_MOST_KINDS = 2


class Neighbours(Protocol):
    """Items that occur together with one item in the training data, best first.

    Attributes:
        items: Item indices. Shape (neighbours,).
        similarities: Higher is closer. Shape (neighbours,).
        counts: Sessions of the training data that hold both. Shape (neighbours,).
    """

    @property
    def items(self) -> NDArray[Any]: ...  # noqa: D102 - described above
    @property
    def similarities(self) -> NDArray[Any]: ...  # noqa: D102 - described above
    @property
    def counts(self) -> NDArray[Any]: ...  # noqa: D102 - described above


class Related(Protocol):
    """Anything that knows which items occur together, such as an item kNN."""

    def related(self, item: int, k: int) -> Neighbours:
        """At most `k` neighbours of one item, best first."""
        ...


@runtime_checkable
class Sources(Protocol):
    """Anything that knows what put an item on a list, such as a blend of models."""

    def sources(self, session: IntArray, items: IntArray) -> list[dict[str, float]]:
        """For each item the share of every model and kind of evidence; they sum to 1."""
        ...


@runtime_checkable
class Likest(Protocol):
    """Anything that knows what items are like."""

    def likest(self, session: IntArray, item: int) -> tuple[int, tuple[str, ...]] | None:
        """The visit's item that an item is most like, and in which kinds of content; or None."""
        ...


_TOPICS = {
    "seen in this visit": "again",
    "personal_popularity": "again",
    "together": "together",
    "follows": "together",
    "item_knn": "together",
    "sequential_rules": "together",
    "slist": "together",
    "popular": "popular",
    "popularity": "popular",
    "vstan": "alike",
    "vsknn": "alike",
    "factorization": "taste",
    "content": "content",
    "content_knn": "content",
    "attentive_rnn": "order",
    "gru4rec": "order",
    "feature_rnn": "order",
    "hierarchical_rnn": "order",
}
"""What a source has to do with; a second source of a kind has a number after its name."""

_FROM_MODELS = {
    "alike": "chosen in {noun}s like this one",
    "order": "fits the order of this {noun}",
    "taste": "fits the taste of this {noun}",
}
"""Said where no count could bear it out: the model itself is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonsConfig:
    """How reasons are worded and when they are given.

    Attributes:
        noun: What a session is called in this data: visit, basket, playlist.
        popular_top: An item is called popular if it is among this many.
        popular_when: What the popularity counts cover, in words.
        often_from: Fewer common sessions than this are not called "often".
        at_most: Most sentences an item.
        latest: Only this many of the session's latest distinct items are evidence.
        neighbours: How deep the list of each session item's neighbours is searched.
        least_share: A model is given as a reason when at least this share of what put the item
            there is its doing.
        otherwise: Said of an item that nothing else explains; None says nothing. It must be
            true of the model: one that ignores the order should not speak of it.
    """

    noun: str = "visit"
    popular_top: int = 20
    popular_when: str = "right now"
    often_from: int = 10
    at_most: int = 2
    latest: int = 10
    neighbours: int = 200
    least_share: float = 0.15
    otherwise: str | None = "fits the order of this {noun}"

    def __post_init__(self) -> None:
        if not self.noun.strip():
            raise ValueError(f"noun is {self.noun!r}; name a session, such as 'visit'.")
        for name in ("popular_top", "often_from", "at_most", "latest", "neighbours"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1.")
        if not 0 < self.least_share <= 1:
            raise ValueError(
                f"least_share is {self.least_share}; it must be above 0 and at most 1."
            )


DEFAULT_REASONS = ReasonsConfig()
"""Visits, at most two sentences an item."""


class Reasons:
    """Explains the items of a list from counts of the training data.

    Args:
        table: Names of the items; an item without a name is called by its id.
        related: Which items occur together; None leaves that reason out.
        popularity: Events of each item over what `popular_when` says. Shape (items,).
        sources: What put an item on the list: what weighed most is said first, and models are
            named by what they go by. None says what the counts show, the most personal first.
        config: Wording and thresholds.
    """

    def __init__(
        self,
        table: ItemTable,
        *,
        related: Related | None = None,
        popularity: NDArray[Any] | None = None,
        sources: Sources | None = None,
        config: ReasonsConfig = DEFAULT_REASONS,
    ) -> None:
        if popularity is not None and len(popularity) != len(table):
            raise ValueError(
                f"{len(popularity)} popularity counts but {len(table)} items; "
                "count every item of the table, in its order."
            )
        self.related = related
        self._sources = sources
        # Looked up once, since it takes long to find out.
        source: object = sources
        self._likest = source if isinstance(source, Likest) else None
        self._table = table
        self._config = config
        self._popular = _popular(popularity, config.popular_top)

    def with_table(self, table: ItemTable) -> Reasons:
        """The same evidence in the names of another table over the same items."""
        renamed = Reasons(table, related=self.related, sources=self._sources, config=self._config)
        renamed._popular = self._popular
        return renamed

    def explain(self, session: IntArray, listed: IntArray) -> list[tuple[str, ...]]:
        """Say why each item of a list is on it.

        Args:
            session: Item indices of the session, oldest first. Shape (events,).
            listed: Item indices of the list. Shape (k,).

        Returns:
            For each listed item at most `at_most` sentences, the weightiest or the most
            personal first.
        """
        times = Counter(session.tolist())
        together = self._together(self._evidence(session), listed)
        visited = len(session) > 0
        shares: list[dict[str, float]] = [{}] * len(listed)
        if self._sources is not None and visited and len(listed):
            shares = [_by_topic(each) for each in self._sources.sources(session, listed)]
        return [
            self._sentences(
                item,
                times[item],
                bond,
                like=self._likeness(session, item, share),
                visited=visited,
                shares=share,
            )
            for item, bond, share in zip(listed.tolist(), together, shares, strict=True)
        ]

    def explain_similar(self, item: int, listed: IntArray) -> list[tuple[str, ...]]:
        """Say how each item of a list goes together with one item."""
        together = self._together([item], listed)
        return [() if bond is None else (bond,) for bond in together]

    def _evidence(self, session: IntArray) -> list[int]:
        # dict.fromkeys keeps the first of equals: reversed, that is the latest event of an item.
        latest = dict.fromkeys(session[::-1].tolist())
        return list(latest)[: self._config.latest]

    def _together(self, evidence: list[int], listed: IntArray) -> list[str | None]:
        """For each listed item, the sentence on the evidence that is most similar to it."""
        if self.related is None or len(listed) == 0:
            return [None] * len(listed)
        bonds: dict[int, tuple[float, int, int]] = {}
        order = np.sort(listed)
        for source in evidence:
            found = self.related.related(source, self._config.neighbours)
            # Most neighbours are not on the list: find those that are before looking closer.
            place = np.minimum(order.searchsorted(found.items), len(order) - 1)
            rows = ((order[place] == found.items) & (found.counts > 0)).nonzero()[0]
            columns = (found.items[rows], found.similarities[rows], found.counts[rows])
            for item, similarity, count in zip(*(each.tolist() for each in columns), strict=True):
                if item != source and (item not in bonds or similarity > bonds[item][0]):
                    bonds[item] = (similarity, source, count)
        return [self._bond(*bonds[item][1:]) if item in bonds else None for item in listed.tolist()]

    def _bond(self, source: int, count: int) -> str:
        noun = self._config.noun
        often = "often together" if count >= self._config.often_from else "together"
        return f"{often} with {self._name(source)} (in {count:,} {noun}{'' if count == 1 else 's'})"

    def _likeness(self, session: IntArray, item: int, shares: Mapping[str, float]) -> str | None:
        """What an item is like, if content has much to do with it."""
        if self._likest is None or shares.get("content", 0.0) < self._config.least_share:
            return None
        found = self._likest.likest(session, item)
        if found is None:
            return None
        other, kinds = found
        said = " and ".join(WORDS.get(each, each) for each in kinds[:_MOST_KINDS])
        return f"like {self._name(other)}: alike in {said}"

    def _sentences(
        self,
        item: int,
        times: int,
        bond: str | None,
        *,
        like: str | None,
        visited: bool,
        shares: Mapping[str, float],
    ) -> tuple[str, ...]:
        config = self._config
        said: dict[str, str] = {}
        if times:
            often = "once" if times == 1 else f"{times} times"
            said["again"] = f"you have had it before ({often})"
        if bond is not None:
            said["together"] = bond
        if like is not None:
            said["content"] = like
        if item in self._popular:
            said["popular"] = f"among the {config.popular_top} most popular {config.popular_when}"
        for topic, words in _FROM_MODELS.items():
            if shares.get(topic, 0.0) >= config.least_share:
                said[topic] = words.format(noun=config.noun)
        if not said and visited and config.otherwise is not None:
            said["otherwise"] = config.otherwise.format(noun=config.noun)
        weightiest = sorted(said, key=lambda topic: -shares.get(topic, 0.0))
        return tuple(said[topic] for topic in weightiest[: config.at_most])

    def _name(self, item: int) -> str:
        name = self._table.names[item]
        return str(self._table.item_ids[item] if name is None else name)


def _by_topic(shares: Mapping[str, float]) -> dict[str, float]:
    """Add up what has to do with the same thing; the rest has no words."""
    found: dict[str, float] = {}
    for name, share in shares.items():
        topic = _TOPICS.get(name) or _TOPICS.get(name.rsplit(" ", 1)[0])
        if topic is not None:
            found[topic] = found.get(topic, 0.0) + share
    return found


def _popular(popularity: NDArray[Any] | None, top: int) -> frozenset[int]:
    """Items that are among the `top` most frequent however ties are broken."""
    if popularity is None:
        return frozenset()
    # 1 + how many items have at least as many events, minus the item itself.
    ascending = np.sort(popularity)
    places = len(popularity) - np.searchsorted(ascending, popularity, side="left")
    return frozenset(np.flatnonzero((places <= top) & (popularity > 0)).tolist())
