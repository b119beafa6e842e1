"""A typed client of the service, for programs that run elsewhere.

>>> client = Client("http://127.0.0.1:8080", key="mk_...")  # doctest: +SKIP
>>> client.record(item_id="tea", event_type="view_item", session_id="s-1")  # doctest: +SKIP
>>> [item.item_id for item in client.recommend(session_id="s-1").items]  # doctest: +SKIP
['milk']
"""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from momentary.client_types import (
    Alike,
    ErasureReceipt,
    Event,
    EventType,
    Item,
    Near,
    Outcome,
    Playlist,
    Ready,
    Recommendations,
    Recorded,
    Rules,
    RuleSet,
    SavedModel,
    Scenario,
    Search,
    SeenContent,
    Walk,
    Wish,
)
from momentary.errors import MomentaryError

_T = TypeVar("_T")
_RETRIED = (429, 503)
_TRIES = 4


class ClientError(MomentaryError):
    """The service refused a request, or cannot be reached.

    Attributes:
        status: Of the answer; 0 if there was none.
        field: What in the request was at fault, if the service said so.
        place: In a condition of rules, line and column of the fault, from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        field: str | None = None,
        place: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.place = place


class _Models(msgspec.Struct, frozen=True):
    models: list[SavedModel]


class _RuleSets(msgspec.Struct, frozen=True):
    rule_sets: list[RuleSet]


class _Scenarios(msgspec.Struct, frozen=True):
    scenarios: list[Scenario]


class _Live(msgspec.Struct, frozen=True):
    status: str


class _Problem(msgspec.Struct, frozen=True):
    detail: str = ""
    field: str | None = None
    line: int | None = None
    column: int | None = None


class Client:
    """Talks to one service over one connection; use one for each thread.

    What is recorded carries an event id, so a request whose answer was lost is sent again without
    counting twice. Requests that come at a bad time (429, 503) are repeated after the time that
    the service asks for.

    Args:
        url: Where the service listens, such as "https://recommend.shop.example".
        key: The API key, if the service asks for one.
        timeout_s: For one attempt.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 5.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ClientError(f"{url!r} is no address; write http://HOST:PORT.", status=0)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if key is not None:
            self._headers["X-API-Key"] = key
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()

    def record(self, **event: Unpack[Event]) -> Recorded:
        """Record one event: `item_id`, `event_type`, one of the ids; the time is now if left out.

        Raises:
            ClientError: If the service refuses it or cannot be reached.
        """
        return self.record_many([event])

    def record_many(self, events: Sequence[Event]) -> Recorded:
        """Record events, all of them or none."""
        return self._ask("POST", "/v1/events", Recorded, body=[_named(each) for each in events])

    def record_ga4(self, body: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Recorded:
        """Record what GA4 exports, or a body of its Measurement Protocol."""
        return self._ask("POST", "/v1/events/ga4", Recorded, body=body)

    def record_segment(self, body: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Recorded:
        """Record Segment's track calls: one, several or a batch."""
        return self._ask("POST", "/v1/events/segment", Recorded, body=body)

    def recommend(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        items: Sequence[str] = (),
        event: Event | None = None,
        scenario: str | None = None,
        rule_sets: Sequence[str] = (),
        rules: Rules | None = None,
        k: int | None = None,
        explain: bool | None = None,
    ) -> Recommendations:
        """Say what comes next, after recording `event`; `items` are a basket in progress.

        Raises:
            ClientError: With the place in the condition, if a rule cannot be followed.
        """
        ids = {"session_id": session_id, "user_id": user_id, "anonymous_id": anonymous_id}
        body: dict[str, Any] = {name: each for name, each in ids.items() if each is not None}
        if items:
            body["items"] = list(items)
        if event is not None:
            body["event"] = _named(event)
        if rule_sets:
            body["rule_sets"] = list(rule_sets)
        wish = {"scenario": scenario, "rules": rules, "k": k, "explain": explain}
        body |= {name: each for name, each in wish.items() if each is not None}
        return self._ask("POST", "/v1/recommend", Recommendations, body=body)

    def continue_session(self, session_id: str, **wish: Unpack[Wish]) -> Recommendations:
        """What comes next in a session, without recording anything but the answer."""
        return self._list(f"/v1/sessions/{_part(session_id)}/recommend", wish)

    def feedback(
        self,
        recommendation_id: str,
        item_id: str,
        *,
        event_type: EventType = "select_item",
        **facts: Unpack[Outcome],
    ) -> Recorded:
        """Record what came of one item of an answer."""
        body = {"recommendation_id": recommendation_id, "item_id": item_id, **facts}
        body = {"event_type": event_type, "event_id": secrets.token_hex(16), **body}
        return self._ask("POST", "/v1/feedback", Recorded, body=body)

    def similar(self, item_id: str, **wish: Unpack[Alike]) -> Recommendations:
        """Items like one item."""
        return self._list(f"/v1/items/{_part(item_id)}/similar", wish)

    def together(self, item_id: str, **wish: Unpack[Wish]) -> Recommendations:
        """Items that are bought with one item."""
        return self._list(f"/v1/items/{_part(item_id)}/together", wish)

    def popular(self, **wish: Unpack[Wish]) -> Recommendations:
        """What most wanted in the last week."""
        return self._list("/v1/popular", wish)

    def trending(self, **wish: Unpack[Wish]) -> Recommendations:
        """What is wanted more today than before."""
        return self._list("/v1/trending", wish)

    def search(self, text: str, **wish: Unpack[Near]) -> Recommendations:
        """Items by meaning, where the service knows it, and by their words."""
        return self._list("/v1/search", wish, q=text)

    def search_picture(self, picture: bytes, **how: Unpack[Search]) -> Recommendations:
        """Items that look like a picture: the content of a JPEG, PNG, WebP, GIF, BMP or TIFF."""
        body = {"picture": picture, **how}
        return self._ask("POST", "/v1/search/picture", Recommendations, body=body)

    def search_sound(self, sound: bytes, **how: Unpack[Search]) -> Recommendations:
        """Items that sound like a clip: the content of a WAV, FLAC, Ogg, MP3 or AIFF."""
        body = {"sound": sound, **how}
        return self._ask("POST", "/v1/search/sound", Recommendations, body=body)

    def playlist(self, start: str, *, end: str | None = None, **walk: Unpack[Walk]) -> Playlist:
        """An ordered list from one item, or from one to another."""
        return self._ask(
            "POST", "/v1/playlists", Playlist, body={"start": start, "end": end, **walk}
        )

    def rule_sets(self) -> list[RuleSet]:
        """The rules that have a name."""
        return self._ask("GET", "/v1/rules", _RuleSets).rule_sets

    def get_rules(self, name: str) -> RuleSet:
        """The rules of one name."""
        return self._ask("GET", f"/v1/rules/{_part(name)}", RuleSet)

    def put_rules(self, name: str, rules: Rules) -> RuleSet:
        """Give rules a name, or replace them; the next answer obeys them."""
        return self._ask("PUT", f"/v1/rules/{_part(name)}", RuleSet, body=rules)

    def delete_rules(self, name: str) -> None:
        """Forget the rules of one name."""
        self._ask("DELETE", f"/v1/rules/{_part(name)}", None)

    def scenarios(self) -> list[Scenario]:
        """What the scenarios stand for."""
        return self._ask("GET", "/v1/scenarios", _Scenarios).scenarios

    def content(self, item_id: str) -> SeenContent:
        """What the service has seen of an item's text, picture, sound or film."""
        return self._ask("GET", f"/v1/items/{_part(item_id)}/content", SeenContent)

    def put_item(self, item_id: str, **fields: Unpack[Item]) -> dict[str, Any]:
        """Add an item or replace it: name, brand, category, price, available, properties...

        A picture or a sound may be sent with it, as bytes in `image_data` or `audio_data`.
        """
        return self._ask("PUT", f"/v1/items/{_part(item_id)}", dict[str, Any], body=fields)

    def get_item(self, item_id: str) -> dict[str, Any]:
        """An item of the catalogue."""
        return self._ask("GET", f"/v1/items/{_part(item_id)}", dict[str, Any])

    def delete_item(self, item_id: str) -> None:
        """Remove an item from the catalogue and from every list."""
        self._ask("DELETE", f"/v1/items/{_part(item_id)}", None)

    def erase_user(self, user_id: str) -> ErasureReceipt:
        """Erase everything that a user did."""
        return self._ask("DELETE", f"/v1/users/{_part(user_id)}", ErasureReceipt)

    def models(self) -> list[SavedModel]:
        """The saved models, oldest first."""
        return self._ask("GET", "/v1/models", _Models).models

    def promote(self, version: str, *, alias: str = "prod") -> list[SavedModel]:
        """Let an alias mean a version; `prod` answers from then on."""
        return self._ask(
            "PUT", f"/v1/models/{_part(alias)}", _Models, body={"version": version}
        ).models

    def live(self) -> str:
        """That the process answers: "live"."""
        return self._ask("GET", "/health/live", _Live).status

    def ready(self) -> Ready:
        """That requests can be answered.

        Raises:
            ClientError: With status 503, if the service cannot answer now.
        """
        return self._ask("GET", "/health/ready", Ready)

    def _list(self, path: str, wish: Wish, **more: str) -> Recommendations:
        query: dict[str, Any] = {**more, **wish}
        if "rule_sets" in query:
            query["rule_sets"] = ",".join(query["rule_sets"])
        for name, value in query.items():
            if isinstance(value, bool):
                query[name] = str(value).lower()
        mark = "?" if query else ""
        return self._ask("GET", f"{path}{mark}{urlencode(query)}", Recommendations)

    def _ask(self, method: str, path: str, gives: type[_T] | None, *, body: object = None) -> _T:
        sent = None if body is None else msgspec.json.encode(body)
        for attempt in range(1, _TRIES + 1):
            last = attempt == _TRIES
            try:
                status, wait_s, answer = self._send(method, path, sent)
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if last:
                    where = f"{self._connection.host}:{self._connection.port}"
                    raise ClientError(
                        f"{where} does not answer ({error or type(error).__name__}); is the "
                        "service running?",
                        status=0,
                    ) from error
                self._sleep(0.1 * 2**attempt)
                continue
            if status in _RETRIED and not last:
                self._sleep(wait_s)
                continue
            if status >= 400:
                raise _refusal(status, answer)
            if gives is None:
                return None  # type: ignore[return-value]
            return msgspec.json.decode(answer, type=gives)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, method: str, path: str, body: bytes | None) -> tuple[int, float, bytes]:
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._connection.request(method, self._prefix + path, body=body, headers=headers)
        answer = self._connection.getresponse()
        wait = answer.headers.get("Retry-After", "")
        return answer.status, float(wait) if wait.isdigit() else 1.0, answer.read()


def _named(event: Event) -> dict[str, Any]:
    """An event with an id and a time, so that sending it again is harmless."""
    return {"event_id": secrets.token_hex(16), "timestamp": time.time(), **event}


def _part(text: str) -> str:
    # A path that is only dots would be folded on its way.
    return quote(text, safe="").replace(".", "%2E")


def _refusal(status: int, answer: bytes) -> ClientError:
    try:
        problem = msgspec.json.decode(answer, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    detail = problem.detail or f"The service answered with status {status}."
    place = None
    if problem.line is not None and problem.column is not None:
        place = (problem.line, problem.column)
    return ClientError(detail, status=status, field=problem.field, place=place)
