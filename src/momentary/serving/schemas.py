"""What goes over the wire, and how it becomes events and items."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from momentary.data.events import new_id
from momentary.data.synonyms import known_type
from momentary.data.trackers import EXPANDERS, measured, named_by_content
from momentary.encoders.protocol import Modality
from momentary.recommend.rules import DEFAULT_RULES, Rules
from momentary.serving.problems import Problem, undecodable
from momentary.types import Event, Item

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Word = Annotated[str, msgspec.Meta(max_length=512)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
RuleNames = Annotated[tuple[Name, ...], msgspec.Meta(max_length=20)]
Text = Annotated[str, msgspec.Meta(max_length=100_000)]
Price = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=100, description="Length of the list.")]
Timestamp = Annotated[
    int | float | str,
    msgspec.Meta(
        description="ISO 8601 (UTC unless it says otherwise), or seconds or milliseconds "
        "since 1970.",
        examples=["2026-01-31T12:00:00Z", 1769860800, 1769860800000],
    ),
]
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


class _Texts:
    """Fields of a body that hold text; each may be None."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._of = attrgetter(*names)

    def of(self, wire: object) -> tuple[str | None, ...]:
        found: tuple[str | None, ...] = self._of(wire)
        return found


_VISITOR = _Texts("session_id", "user_id", "anonymous_id")
_EVENT_TEXTS = _Texts("item_id", "event_id", *_VISITOR.names, "currency", "recommendation_id")
_FEEDBACK_TEXTS = _Texts("recommendation_id", "item_id")
_ITEM_TEXTS = _Texts(
    *("group_id", "name", "description", "image", "audio", "video"),
    *("brand", "category", "currency"),
)
_MS_FROM = 100_000_000_000
_LATEST_S = 32_503_680_000
_AHEAD_US = 86_400_000_000
_PROPERTIES_DEPTH = 16
_PROPERTIES_BYTES = 20_000


class EventIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that one visitor did with one item.

    One of `session_id`, `user_id` and `anonymous_id` is required; an `event_id` makes sending it
    twice harmless.
    """

    item_id: Id
    event_type: EventType
    timestamp: Timestamp
    event_id: Id | None = None
    user_id: Id | None = None
    anonymous_id: Id | None = None
    session_id: Id | None = None
    value: float | None = None
    price: Price | None = None
    currency: Word | None = None
    quantity: float | None = None
    recommendation_id: Id | None = None
    position: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    properties: dict[str, Any] | None = None


class EventsIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many events, all of which are taken or none."""

    events: list[EventIn]


class EventsOut(msgspec.Struct, frozen=True, kw_only=True):
    """Sent once the events are on the disk."""

    accepted: int
    duplicates: int


class RecommendIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose visit to continue.

    `event` is recorded first and counts in this answer; `items` are a basket in progress that
    counts in this answer only. `scenario` gives defaults, `rule_sets` adds rules that have a name,
    and what `k`, `explain` and `rules` say wins over both.
    """

    session_id: Id | None = None
    user_id: Id | None = None
    anonymous_id: Id | None = None
    items: Annotated[list[Id], msgspec.Meta(max_length=500)] = []
    event: EventIn | None = None
    k: Count | None = None
    scenario: Name | None = None
    rule_sets: RuleNames = ()
    rules: Rules = DEFAULT_RULES
    explain: bool | None = None


class ItemOut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One item of an answer; `score` is comparable inside one answer only.

    `propensity` is the chance that it had to stand there, given those above; left out if it is 1.
    """

    item_id: str
    score: float
    rank: int
    reasons: tuple[str, ...]
    name: str | None = None
    propensity: float | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A list, best first. `variant` is `fallback` when the model failed and popularity answered."""

    recommendation_id: str
    model_version: str
    variant: str
    items: list[ItemOut]


class FeedbackIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of one item of an answer; who it was and where the item stood are known."""

    recommendation_id: Id
    item_id: Id
    event_type: EventType = "select_item"
    timestamp: Timestamp | None = None
    event_id: Id | None = None
    value: float | None = None
    price: Price | None = None
    currency: Word | None = None
    quantity: float | None = None


Likeness = Literal["auto", "learned", "plain"]
"""By what was learned from attributes (`momentary train-likeness`), without it, or as it can be."""

View = Literal["image", "colour", "text", "music", "sound", "timbre", "film", "tags"]
"""What two items may be compared by; "tags" are their attributes."""


class ListOut(msgspec.Struct, frozen=True, kw_only=True):
    """Items, best first, that no visit was asked about.

    `likeness` says how contents were compared: with what was `learned` from the items' attributes,
    `plain` without it, or null where none were.
    """

    model_version: str
    items: list[ItemOut]
    likeness: Literal["learned", "plain"] | None = None


class ItemIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that can be recommended; the fields are those of schema.org's Product.

    `image`, `audio` and `video` are read only where the settings allow it. A picture or a sound may
    be sent instead, as base64 in `image_data` or `audio_data`: it is looked at and not kept.
    """

    item_id: Id | None = None
    group_id: Id | None = None
    name: Text | None = None
    description: Text | None = None
    image: Text | None = None
    audio: Text | None = None
    video: Text | None = None
    brand: Word | None = None
    category: Word | None = None
    price: Price | None = None
    currency: Word | None = None
    available: bool = True
    hidden: bool = False
    properties: dict[str, Any] | None = None
    image_data: bytes | None = None
    audio_data: bytes | None = None


class PictureIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A picture (JPEG, PNG, WebP, GIF, BMP or TIFF) as base64: what looks like it?"""

    picture: bytes
    k: Count = 20
    likeness: Likeness = "auto"
    rule_sets: RuleNames = ()
    rules: Rules = DEFAULT_RULES


class SoundIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sound (WAV, FLAC, Ogg, MP3 or AIFF) as base64: what sounds like it?"""

    sound: bytes
    k: Count = 20
    likeness: Likeness = "auto"
    rule_sets: RuleNames = ()
    rules: Rules = DEFAULT_RULES


class CurveIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`price`, or an attribute of numbers, that is to rise or fall along the list."""

    of: Word
    shape: Literal["rise", "fall", "arch", "valley"] = "rise"


class PlaylistIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ordered list in which each item is like the one before.

    `apart` names, by attribute, how many others stand between two items that share a value.
    """

    start: Id
    end: Id | None = None
    length: Annotated[int, msgspec.Meta(ge=1, le=200)] = 20
    apart: dict[str, Annotated[int, msgspec.Meta(ge=0, le=200)]] = {}
    curve: CurveIn | None = None
    smoothness: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    spread: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.3
    rule_sets: RuleNames = ()
    rules: Rules = DEFAULT_RULES


class PlaylistOut(msgspec.Struct, frozen=True, kw_only=True):
    """A playlist; `score` is each item's likeness to the one before.

    `smoothness` is the mean likeness of neighbours, `spread` one minus that of any two items.
    """

    model_version: str
    items: list[ItemOut]
    smoothness: float
    spread: float


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """A model is loaded and the event log takes writes.

    Attributes:
        search: How the best items are found: along a graph where that is as good, by an exact
            search, or among scores of every item.
        notes: What is not as it was asked for; the service's log says why.
    """

    model_version: str
    items: int
    search: Literal["graph", "exact", "scores"] = "exact"
    notes: tuple[str, ...] = ()
    status: Literal["ready"] = "ready"


class _Outline(msgspec.Struct):
    events: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_OUTLINE = msgspec.json.Decoder(_Outline)
_ONE = msgspec.json.Decoder(EventIn)
_ARRAY = msgspec.json.Decoder(list[EventIn])
_WRAPPED = msgspec.json.Decoder(EventsIn)
_FEEDBACK = msgspec.json.Decoder(FeedbackIn)
_RECOMMEND = msgspec.json.Decoder(RecommendIn)
_ITEM = msgspec.json.Decoder(ItemIn)


def read_events(body: bytes, *, now_us: int, most: int) -> list[Event]:
    """The events of a body that holds one, an array, or `{"events": [...]}`."""
    try:
        wire = _wire_events(body)
    except (ValueError, RecursionError) as error:
        raise undecodable(error) from None
    if len(wire) > most:
        raise Problem(422, f"{len(wire)} events in one request; send at most {most}.")
    if len(wire) == 1 and not body.lstrip().startswith(b"["):
        return [to_event(wire[0], now_us=now_us)]
    return [to_event(each, now_us=now_us, place=f"[{at}].") for at, each in enumerate(wire)]


def read_recommend(body: bytes) -> RecommendIn:
    """The question that a body asks."""
    try:
        wire = _RECOMMEND.decode(body)
    except (ValueError, RecursionError) as error:
        raise undecodable(error) from None
    _refuse_nul(wire, _VISITOR, place="")
    return wire


def read_feedback(body: bytes) -> FeedbackIn:
    """What a body says of an answer."""
    try:
        wire = _FEEDBACK.decode(body)
    except (ValueError, RecursionError) as error:
        raise undecodable(error) from None
    _refuse_nul(wire, _FEEDBACK_TEXTS, place="")
    return wire


def read_tracked(body: bytes, tracker: str, *, now_us: int, most: int) -> list[Event]:
    """The events of a body as GA4 or Segment write it: one record, an array, or Segment's batch.

    Records without items, such as page views, hold no event. GA4 gives its records no id: those
    that say when they happened are known by what they hold, so that a repeated body counts once.
    """
    try:
        records = _records(msgspec.json.decode(body), tracker)
        flat = named_by_content(each for record in records for each in EXPANDERS[tracker](record))
        wire = [
            (place, msgspec.convert(_tracked(each, now_us), EventIn, strict=False))
            for place, each in enumerate(flat)
            if known_type(str(each.get("event_type"))) is not None
        ]
    except (ValueError, RecursionError) as error:
        raise undecodable(error) from None
    if len(wire) > most:
        raise Problem(422, f"{len(wire)} events in one request; send at most {most}.")
    return [to_event(each, now_us=now_us, place=f"[{place}].") for place, each in wire]


def _records(value: object, tracker: str) -> list[dict[str, Any]]:
    if isinstance(value, dict) and tracker == "segment" and "batch" in value:
        value = value["batch"]
    if isinstance(value, dict) and tracker == "ga4" and isinstance(value.get("events"), list):
        value = measured(value)
    records = value if isinstance(value, list) else [value]
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            raise Problem(422, f"[{place}] is no object; send {tracker}'s records.")
    return [record for record in records if isinstance(record, dict)]


def _tracked(record: dict[str, Any], now_us: int) -> dict[str, Any]:
    """A flat record of a tracker as the wire's event; what is not there is left out."""
    fields = {name: value for name, value in record.items() if value is not None}
    when = fields.get("timestamp")
    if when is None:
        fields["timestamp"] = now_us / 1e6
    elif isinstance(when, (int, float)) or str(when).isdigit():
        fields["timestamp"] = _finite(when, field="timestamp") / 1e6  # GA4 counts microseconds
    for name in ("item_id", "user_id", "anonymous_id", "session_id"):
        if name in fields:
            fields[name] = str(fields[name])
    fields["event_type"] = known_type(str(fields["event_type"]))
    if "position" in fields:
        fields["position"] = int(_finite(fields["position"], field="position"))
    return fields


def _finite(value: Any, *, field: str) -> float:  # noqa: ANN401 - whatever a tracker sends
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise Problem(422, f"{field} is {str(value)[:50]!r}; give a number.", field=field)
    return number


def read_item(body: bytes, *, item_id: str) -> tuple[Item, dict[Modality, bytes]]:
    """The item that a body describes, and what was sent to look at; its path names it."""
    try:
        wire = _ITEM.decode(body)
    except (ValueError, RecursionError) as error:
        raise undecodable(error) from None
    if wire.item_id not in (None, item_id):
        detail = "item_id differs from the id in the path; leave it out of the body."
        raise Problem(422, detail, field="item_id")
    _refuse_nul(wire, _ITEM_TEXTS, place="")
    _check_properties(wire.properties, place="")
    fields = {**msgspec.structs.asdict(wire), "item_id": item_id}
    image, audio = fields.pop("image_data"), fields.pop("audio_data")
    uploads: dict[Modality, bytes] = {}
    if image is not None:
        uploads["image"] = image
    if audio is not None:
        uploads["audio"] = audio
    return Item(**fields), uploads


def to_event(wire: EventIn, *, now_us: int, place: str = "") -> Event:
    """An event as the log keeps it; without `event_id` it gets a new one.

    Raises:
        Problem: Nobody did it, the time is no time, or `properties` are too large.
    """
    if wire.session_id is None and wire.user_id is None and wire.anonymous_id is None:
        detail = "An event needs somebody who did it; give session_id, user_id or anonymous_id."
        raise Problem(422, detail, field=f"{place}session_id")
    _refuse_nul(wire, _EVENT_TEXTS, place=place)
    if wire.properties is not None:
        _check_properties(wire.properties, place=place)
    return Event(
        item_id=wire.item_id,
        event_type=wire.event_type,
        timestamp_us=_happened_us(wire.timestamp, now_us=now_us, place=place),
        event_id=new_id(now_us) if wire.event_id is None else wire.event_id,
        user_id=wire.user_id,
        anonymous_id=wire.anonymous_id,
        session_id=wire.session_id,
        value=wire.value,
        price=wire.price,
        currency=wire.currency,
        quantity=wire.quantity,
        recommendation_id=wire.recommendation_id,
        position=wire.position,
        properties=wire.properties,
    )


def _wire_events(body: bytes) -> list[EventIn]:
    if body.lstrip()[:1] == b"[":
        return _ARRAY.decode(body)
    if _OUTLINE.decode(body).events is msgspec.UNSET:
        return [_ONE.decode(body)]
    return _WRAPPED.decode(body).events


def _happened_us(value: float | str, *, now_us: int, place: str) -> int:
    """When an event happened; what lies far ahead happened now, by a clock that is right.

    A visit that held it would take every later click for an old one.
    """
    time_us = _timestamp_us(value, place=place)
    return now_us if time_us > now_us + _AHEAD_US else time_us


def _timestamp_us(value: float | str, *, place: str) -> int:
    seconds = _iso_s(value) if isinstance(value, str) else _number_s(value)
    if seconds is None or not 0 <= seconds <= _LATEST_S:
        detail = (
            f"{place}timestamp is {str(value)[:50]!r}; give an ISO 8601 time, or seconds or "
            "milliseconds since 1970, before the year 3000."
        )
        raise Problem(422, detail, field=f"{place}timestamp")
    return round(seconds * 1_000_000)


def _number_s(value: float) -> float | None:
    if abs(value) < _MS_FROM:
        return value
    # An integer of any length may come in; dividing one that is too long would overflow.
    return value / 1000 if abs(value) < 1000 * _MS_FROM else None


def _iso_s(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.timestamp()
    except (ValueError, OverflowError):
        return None


def _refuse_nul(wire: object, texts: _Texts, *, place: str) -> None:
    """Refuse the one character that PostgreSQL's text cannot hold, whichever database there is."""
    values = texts.of(wire)
    if "\0" not in "".join(filter(None, values)):
        return
    name = next(
        name for name, text in zip(texts.names, values, strict=True) if text and "\0" in text
    )
    detail = f"{place}{name} holds the character U+0000; leave it out."
    raise Problem(422, detail, field=f"{place}{name}")


def _check_properties(properties: dict[str, Any] | None, *, place: str) -> None:
    deep = _depth(properties, _PROPERTIES_DEPTH) > _PROPERTIES_DEPTH
    if deep or len(msgspec.json.encode(properties)) > _PROPERTIES_BYTES:
        detail = (
            f"{place}properties may take {_PROPERTIES_BYTES} bytes and be nested "
            f"{_PROPERTIES_DEPTH} deep; keep what is large elsewhere and store its address."
        )
        raise Problem(422, detail, field=f"{place}properties")


def _depth(value: object, left: int) -> int:
    if left < 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(each, left - 1) for each in inner), default=0)
