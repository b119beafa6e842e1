"""Who may do what: keys with scopes, requests per second, and the sites that browsers may ask from.

A key is kept as its SHA-256 only. Where no key is set, whoever reaches the server may do
everything, which is why such a server listens to this machine alone.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import Scope

from momentary.serving.http import header
from momentary.serving.problems import Problem
from momentary.settings import KEY_SCOPES, ServeSettings, is_loopback, read_key

_BURST_S = 2.0
_ALLOWED_HEADERS = b"content-type, x-api-key"
_ALLOWED_METHODS = b"GET, POST, PUT, DELETE"
_PREFLIGHT_S = b"600"
_OWN_NAMES = (b"127.0.0.1", b"localhost", b"[::1]")
_PORT = re.compile(r":[0-9]*$")
_PREFLIGHT = (
    (b"access-control-allow-methods", _ALLOWED_METHODS),
    (b"access-control-allow-headers", _ALLOWED_HEADERS),
    (b"access-control-max-age", _PREFLIGHT_S),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks.

    Attributes:
        name: Start of the digest of the key, "" where no key is asked for.
        scopes: What the key may do, of `settings.KEY_SCOPES`.
    """

    name: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Refuse who may not do this.

        Raises:
            Problem: 403, naming the scope that is missing.
        """
        if scope not in self.scopes:
            detail = f"This key lacks the scope {scope!r}; use a key that has it."
            raise Problem(403, detail)


ANYONE = Caller(name="", scopes=KEY_SCOPES)
"""Who asks a server without keys."""


class Access:
    """The keys of one server, and how fast each may ask.

    Args:
        settings: Keys, requests a second, origins.
        clock_s: Seconds that never go back.
        allowances: Memory that several processes share, two zeros for each key and two more. They
            take no lock: two that count at the same instant may let one request too many pass.
    """

    def __init__(
        self,
        settings: ServeSettings,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        allowances: MutableSequence[float] | memoryview[float] | None = None,
    ) -> None:
        self._keys = [
            (digest, Caller(name=digest[:8], scopes=scopes))
            for scopes, digest in map(read_key, settings.api_keys)
        ]
        self._rate = settings.rate_limit
        self._burst = max(1.0, _BURST_S * settings.rate_limit)
        self._clock_s = clock_s
        names = ["", *dict.fromkeys(caller.name for _, caller in self._keys)]
        self._places = {name: 2 * place for place, name in enumerate(names)}
        self._allowances: MutableSequence[float] | memoryview[float]
        self._allowances = [0.0] * (2 * len(names)) if allowances is None else allowances
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)

    def caller(self, scope: Scope) -> Caller:
        """Whose key a request carries.

        Raises:
            Problem: 401 without a known key, 429 with a key that asks too often; 421 where no key
                is asked for and the request is meant for another machine's name.
        """
        if self._keys:
            caller = self._identified(header(scope, b"x-api-key"))
        else:
            caller = ANYONE
            _require_own_name(header(scope, b"host"))
        if self._rate > 0:
            self._take(caller)
        return caller

    def cors(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that let a page of an allowed site read the answer."""
        if not self._origins:
            return ()
        origin = header(scope, b"origin")
        if origin not in self._origins or origin is None:
            return ((b"vary", b"Origin"),)
        return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"))

    def preflight(self, scope: Scope) -> tuple[tuple[bytes, bytes], ...] | None:
        """The answer to a browser that asks first; None for any other request."""
        if not _asks_first(scope) or not self._origins:
            return None
        allowed = self.cors(scope)
        if len(allowed) == 1:
            raise Problem(
                403, "This site is not among serve.cors_origins; add it there.", headers=allowed
            )
        return (*allowed, *_PREFLIGHT)

    def _identified(self, key: bytes | None) -> Caller:
        digest = hashlib.sha256(key or b"").hexdigest()
        # Every key is compared, so that the time taken tells nothing.
        found = [caller for known, caller in self._keys if hmac.compare_digest(digest, known)]
        if key is None or not found:
            detail = "The header X-API-Key is missing or holds no key of this server."
            raise Problem(401, detail, headers=((b"www-authenticate", b"ApiKey"),))
        return found[0]

    def _take(self, caller: Caller) -> None:
        """Take one token from the caller's bucket, which fills with time."""
        now_s, place = self._clock_s(), self._places[caller.name]
        tokens, then_s = self._allowances[place], self._allowances[place + 1]
        # Who has never asked has the whole burst.
        fresh = now_s + 1 - then_s if then_s else math.inf
        tokens = min(self._burst, tokens + fresh * self._rate)
        enough = tokens >= 1
        self._allowances[place] = tokens - enough
        self._allowances[place + 1] = now_s + 1  # so that no time is 0, which says never
        if not enough:
            wait_s = max(1, math.ceil((1 - tokens) / self._rate))
            detail = f"More than {self._rate:g} requests a second; wait {wait_s} s."
            raise Problem(429, detail, headers=((b"retry-after", b"%d" % wait_s),))


def _require_own_name(host: bytes | None) -> None:
    """Refuse a page that reaches this machine by a name of its own (DNS rebinding)."""
    if host is None or _is_own(host):
        return
    detail = (
        f"The request is meant for {_host_name(host)[:100]!r}, and a service without keys answers "
        "for this machine alone; set serve.api_keys."
    )
    raise Problem(421, detail)


@lru_cache(maxsize=256)
def _is_own(host: bytes) -> bool:
    """Whether a Host header names this machine; nearly every request brings the same."""
    return host in _OWN_NAMES or is_loopback(_host_name(host).strip("[]").lower())


def _host_name(host: bytes) -> str:
    name = host.decode("latin-1")
    return name.rpartition(":")[0] if _PORT.search(name) else name


def preflight_headers(scope: Scope) -> tuple[tuple[bytes, bytes], ...] | None:
    """Let any site's browser ask, whose real request is then judged; None for other requests."""
    if not _asks_first(scope):
        return None
    origin = header(scope, b"origin") or b"null"
    return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"), *_PREFLIGHT)


def _asks_first(scope: Scope) -> bool:
    asks = scope["method"] == "OPTIONS"
    return asks and header(scope, b"access-control-request-method") is not None
