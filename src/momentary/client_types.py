"""What the client sends and gets, as types; the guide says what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Required, TypedDict

import msgspec

EventType = Literal[
    "view_item",
    "view_item_list",
    "select_item",
    "add_to_cart",
    "remove_from_cart",
    "view_cart",
    "purchase",
    "refund",
    "rate",
    "review",
    "share",
    "search",
]

Values = Mapping[str, Sequence[str]]
"""Attribute -> values."""


class Event(TypedDict, total=False):
    """What one visitor did with one item; one of the three ids of the visitor is needed.

    Without `event_id` and `timestamp`, the client gives a new one and the time now.
    """

    item_id: Required[str]
    event_type: Required[EventType]
    timestamp: float | str
    event_id: str
    user_id: str
    anonymous_id: str
    session_id: str
    value: float
    price: float
    currency: str
    quantity: float
    recommendation_id: str
    position: int
    properties: Mapping[str, Any]


class Outcome(TypedDict, total=False):
    """What came of an item of an answer; its time is that of its arrival if left out."""

    timestamp: float | str
    event_id: str
    value: float
    price: float
    currency: str
    quantity: float


class Item(TypedDict, total=False):
    """One thing that can be recommended; a picture or a sound may be sent with it, as bytes."""

    group_id: str
    name: str
    description: str
    image: str
    audio: str
    video: str
    brand: str
    category: str
    price: float
    currency: str
    available: bool
    hidden: bool
    properties: Mapping[str, Any]
    image_data: bytes
    audio_data: bytes


class Boost(TypedDict, total=False):
    """Lifts or lowers the items for which the condition `when` holds."""

    when: Required[str]
    multiply: float
    add: float


class Pin(TypedDict):
    """Puts an item on a place, from 1."""

    item_id: str
    rank: int


class Diversity(TypedDict, total=False):
    """Avoids what is alike `by` an attribute, or by "content"."""

    by: str
    strength: float


class Explore(TypedDict, total=False):
    """Leaves a share of the places to chance."""

    share: Required[float]
    pool: int


class Rules(TypedDict, total=False):
    """What may stand on a list, and where."""

    allow: str | Values | Sequence[str | Values]
    deny: str | Values | Sequence[str | Values]
    exclude_seen: bool
    in_stock: bool
    price_min: float
    price_max: float
    max_per: Mapping[str, int]
    exclude_items: Sequence[str]
    boosts: Sequence[Boost]
    pins: Sequence[Pin]
    diversity: Diversity
    explore: Explore
    unknown: Literal["refuse", "empty"]


class Wish(TypedDict, total=False):
    """What a list that is asked for by its address may be told."""

    k: int
    explain: bool
    scenario: str
    rule_sets: Sequence[str]
    allow: str
    deny: str
    exclude_seen: bool
    in_stock: bool
    price_min: float
    price_max: float


class Near(Wish, total=False):
    """The same, and whether contents are compared by what was learned from attributes."""

    likeness: Literal["auto", "learned", "plain"]


class Alike(Near, total=False):
    """The same, and what counts alone, neither the rest of the content nor visits."""

    by: Literal["image", "colour", "text", "music", "sound", "timbre", "film", "tags"]


class Search(TypedDict, total=False):
    """What a list of things that look or sound alike may be told."""

    k: int
    likeness: Literal["auto", "learned", "plain"]
    rule_sets: Sequence[str]
    rules: Rules


class Curve(TypedDict, total=False):
    """`price`, or an attribute of numbers, that is to rise or fall along a playlist."""

    of: Required[str]
    shape: Literal["rise", "fall", "arch", "valley"]


class Walk(TypedDict, total=False):
    """How the items of a playlist follow each other."""

    length: int
    apart: Mapping[str, int]
    curve: Curve
    smoothness: float
    spread: float
    rule_sets: Sequence[str]
    rules: Rules


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that have a name, and how many items they let through now."""

    name: str
    source: str
    rules: Mapping[str, Any]
    items: int


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults of one kind of list."""

    name: str
    k: int
    scorer: str
    explain: bool
    rules: Mapping[str, Any]
    rule_sets: tuple[str, ...]


class Recommended(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a list."""

    item_id: str
    score: float
    rank: int
    reasons: tuple[str, ...] = ()
    name: str | None = None
    propensity: float | None = None


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """A list, best first; lists that no visit was asked about have no id and no variant."""

    model_version: str
    items: tuple[Recommended, ...]
    recommendation_id: str | None = None
    variant: str | None = None
    likeness: Literal["learned", "plain"] | None = None


class Playlist(msgspec.Struct, frozen=True, kw_only=True):
    """An ordered list; `score` is each item's likeness to the one before."""

    model_version: str
    items: tuple[Recommended, ...]
    smoothness: float
    spread: float


class SeenContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the service has seen of an item; see `serving.content.ItemContent`."""

    item_id: str
    state: str
    views: tuple[str, ...]
    placed: bool
    visits: int
    set_aside: Mapping[str, str]


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """Events that are on the service's disk now, and those that were there already."""

    accepted: int
    duplicates: int


class ErasureReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """The proof that a user was erased; see `data.erasure.Receipt`."""

    receipt_id: str
    events: int
    exposures: int
    segments: int
    rejects: int
    erased_us: int
    retrain_by_us: int
    models: tuple[str, ...]


class SavedModel(msgspec.Struct, frozen=True, kw_only=True):
    """One model of the service."""

    version: str
    kind: str
    created: str
    aliases: tuple[str, ...]
    at_work: bool
    facts: Mapping[str, Any]


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The service answers, and its event log takes writes; of tenants, nothing more is told."""

    status: str
    model_version: str | None = None
    items: int | None = None
    search: str | None = None
    notes: tuple[str, ...] = ()
