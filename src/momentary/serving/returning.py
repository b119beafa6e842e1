"""Visitors who come again: whose past a visit continues, and what a model knows at its door.

A visitor has several names: the browser's, and the account's once they sign in. Clicks before and
after that belong to one visit, and it starts from what is known of the account; of a new account
the browser's past is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec.structs import replace

from momentary.models.protocol import Remembering
from momentary.serving.state import EMPTY, ID_COLUMNS, Key, Visit, ended
from momentary.serving.visits import Visits

VISITOR_COLUMNS = ("user_id", "anonymous_id")
"""Names that outlast a visit; the first one that a model knows anything of counts."""


def stitched(
    ids: Mapping[str, str], visits: Visits, *, knows: Callable[[str], bool], since_us: int
) -> tuple[Visit, Key | None]:
    """The clicks of this visit with the past of whose it is.

    Args:
        ids: The ids that were given, by column.
        visits: Holds the visits of all of them.
        knows: Whether the model learned from a visitor, by the event log's name.
        since_us: A visitor silent since then stands at the door of a new visit.

    Returns:
        The visit, and the key under which it may be kept; None if it is that of no single key.
    """
    keys: list[Key] = [(column, ids[column]) for column in ID_COLUMNS if column in ids]
    owners = [(key, visits.get(key)) for key in keys if key[0] in VISITOR_COLUMNS]
    if not owners:
        return (visits.get(keys[0]), keys[0]) if keys else (EMPTY, None)
    remembered = (each for each in owners if _remembered(each[1], knows))
    owner_key, owner = next(remembered, owners[0])
    key, visit = keys[0], visits.get(keys[0])
    if key[0] == "session_id":
        return _with_past(visit, owner, since_us=since_us), key
    over = ended(owner) if _over(owner, since_us) else owner
    key, visit = _current(owners, since_us) or (owner_key, over)
    if key == owner_key:
        return visit, key
    return _continuing(visit, over), None


def _with_past(visit: Visit, owner: Visit, *, since_us: int) -> Visit:
    """A visit that its sender has named, as one of the visitor who makes it."""
    if visit.visitor == owner.visitor:
        return visit
    # The visitor's latest clicks are those of this visit, unless they are older than it.
    if visit.items:
        before = bool(owner.items) and owner.times_us[-1] < visit.times_us[0]
    else:
        before = _over(owner, since_us)
    return _continuing(visit, ended(owner) if before else owner)


def _continuing(visit: Visit, owner: Visit) -> Visit:
    """The same clicks, with the past of `owner`."""
    return Visit(
        items=visit.items,
        times_us=visit.times_us,
        types=visit.types,
        pending=visit.items,
        visitor=owner.visitor,
        door=owner.door,
        past=owner.past,
    )


def under_way(keys: Sequence[Key], visits: Visits, *, since_us: int) -> tuple[Visit, Key | None]:
    """The visit that is asked about, of a model that forgets visitors.

    A session that the sender names is that one. Else it is the visit that began first of those
    that go on: whoever signs in goes on with what the browser was shown.

    Args:
        keys: Names of the visit and the visitor.
        visits: Holds the visits of all of them.
        since_us: A visitor silent since then stands at the door of a new visit.
    """
    if len(keys) < 2 or keys[0][0] == "session_id":
        return (visits.get(keys[0]), keys[0]) if keys else (EMPTY, None)
    owners = [(key, visits.get(key)) for key in keys]
    key, visit = _current(owners, since_us) or owners[0]
    return visit, key


def _current(owners: list[tuple[Key, Visit]], since_us: int) -> tuple[Key, Visit] | None:
    """The visit that began first of those that still go on: signing in does not end one."""
    going = [each for each in owners if each[1].items and not _over(each[1], since_us)]
    return min(going, key=lambda each: (each[1].times_us[0], -len(each[1].items)), default=None)


def _over(visit: Visit, since_us: int) -> bool:
    return bool(visit.items) and visit.times_us[-1] < since_us


def _remembered(visit: Visit, knows: Callable[[str], bool]) -> bool:
    door = visit.door
    return bool(visit.past) or (door is not None and bool(door.any())) or knows(visit.visitor)


def at_the_door(model: Remembering, visit: Visit) -> Visit:
    """The visit with the state that its visitor's past gives, if anybody is known to make it."""
    if not visit.visitor or (visit.door is not None and not visit.past):
        return visit
    door = visit.door
    place = model.places([visit.visitor])
    if door is None:
        door = model.start_for(place)[0]
    state = door[None].copy()
    for over in visit.past:
        if place[0] >= 0 and over.times_us[-1] <= model.until_us:
            continue  # the model has learned from it
        for item in over.items:
            state = model.advance(state, np.array([item], dtype=np.int64))
        state = model.finish(state)
    return replace(visit, door=state[0].copy(), past=())
