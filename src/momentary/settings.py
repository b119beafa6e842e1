"""One TOML file and MOMENTARY_* variables to frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import re
import secrets
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import msgspec

from momentary.errors import SettingsError

IndexChoice = Literal["auto", "exact", "graph"]
"""How a model's items are searched: by the model's size, exactly, or along a graph."""

PREFIX = "MOMENTARY_"
OWN_FILE = "momentary.toml"
"""The settings that a workspace's folder may hold."""

KEY_SCOPES = frozenset({"write", "read", "admin"})
"""What a key may be for: recording events; recommendations and reading; everything."""

_KEY = re.compile(r"(?P<scopes>[a-z+]+):(?P<digest>[0-9a-f]{64})")
_POSTGRESQL = re.compile(r"postgresql(\+psycopg)?://")
_REDIS = re.compile(r"(rediss?|unix)://")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_ORIGIN = re.compile(r"https?://[^/\s]+")
_PREFIX = re.compile(r"https?://[^/\s]+/\S*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How the server listens, and what it keeps in memory.

    Attributes:
        host: Address to listen on; an address that others can reach needs `api_keys`.
        api_keys: What a key may do and its SHA-256, such as "write:2bb8...": see `KEY_SCOPES`,
            `new_api_key` and `api_key_digest`. Empty: no key is asked for.
        cors_origins: Sites whose pages may ask from a browser, such as "https://shop.example".
        rate_limit: Most requests a second of one key, with a burst of twice that; 0 for no limit.
        workers: Processes that answer; a second one pays on a second core.
        max_waiting: Requests that may wait for an answer at once; more are asked to come again.
        idle_s: Silence, in seconds between two events, that ends a visit without a `session_id`.
        state_url: A Redis in which several processes share the visits in progress, such as
            "redis://127.0.0.1:6379/0"; None keeps them in the memory of each process.
        max_sessions: Visits in memory; one that falls out is read again from the log.
        max_history: Clicks of a visit that a model reads which reads visits whole.
        max_seen: Clicks of a visit that are remembered, to leave out what was seen.
        max_body_bytes: Largest request.
        max_events: Most events in one request.
        index: "auto" searches a model of some hundred thousand items along the graph that training
            kept with it, and others exactly; "exact" never takes a graph; "graph" always does, and
            builds one when the service starts where there is none, which takes minutes for a
            million items. Training and `momentary recommend` heed it, too.
        retrain_days: Days after an erasure within which models must be trained anew.
        media_folders: Folders that pictures, sounds and films of items may be read from; relative
            paths of items are looked up in them.
        media_urls: Addresses that those of items may begin with, such as
            "https://cdn.example.com/shop/". Nothing else is ever fetched.
        max_media_bytes: Largest picture, sound or film, read or uploaded.
        log_format: Each line of the log as "text" or as "json"; neither holds ids of visitors, nor
            keys.
        shutdown_s: Time that open requests are given to end when the server stops.
        request_s: Time in which a request must have come whole, from its first byte to its last.
        otlp_url: Where an OpenTelemetry collector takes traces over HTTP, such as
            "http://127.0.0.1:4318"; empty: nothing is traced.
        trace_share: Share of the requests without a trace of their own that are traced.
        rules: Rule sets by name, as requests write them; a file alone can hold them.
        scenarios: Defaults by kind of list, such as {"home": {"k": 12}}; a file alone can hold
            them.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    rate_limit: float = 0
    workers: int = 1
    max_waiting: int = 2_048
    idle_s: int = 1800
    state_url: str | None = field(default=None, repr=False)
    max_sessions: int = 100_000
    max_history: int = 50
    max_seen: int = 500
    max_body_bytes: int = 1_000_000
    max_events: int = 10_000
    index: IndexChoice = "auto"
    retrain_days: int = 30
    media_folders: tuple[str, ...] = ()
    media_urls: tuple[str, ...] = ()
    max_media_bytes: int = 20_000_000
    log_format: Literal["text", "json"] = "text"
    shutdown_s: int = 10
    request_s: int = 30
    otlp_url: str = ""
    trace_share: float = 1.0
    rules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    scenarios: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_range("serve.port", self.port, 1, 65_535)
        for name in (
            *("idle_s", "max_sessions", "max_history"),
            *("max_events", "max_waiting", "retrain_days", "shutdown_s", "request_s"),
        ):
            _check_range(f"serve.{name}", getattr(self, name), 1, 10**9)
        _check_range("serve.workers", self.workers, 1, 64)
        _check_range("serve.max_seen", self.max_seen, self.max_history, 10**6)
        _check_range("serve.max_body_bytes", self.max_body_bytes, 1_000, 10**9)
        _check_range("serve.max_media_bytes", self.max_media_bytes, 1_000, 10**9)
        _check_prefixes(self.media_urls)
        for key in self.api_keys:
            read_key(key)
        _check_origins(self.cors_origins)
        _check_state(self.state_url)
        _check_tracing(self.otlp_url, share=self.trace_share)
        if not 0 <= self.rate_limit <= 1e9:
            raise SettingsError(
                f"serve.rate_limit is {self.rate_limit}; it must be 0 (no limit) or above."
            )
        if not self.api_keys and not is_loopback(self.host):
            raise SettingsError(
                f"serve.host is {self.host!r}, which other machines can reach, and there is no "
                "key; set serve.api_keys, or listen on 127.0.0.1."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where the catalogue and the live event log are, and when the log is compacted.

    Attributes:
        database_url: A PostgreSQL server, such as "postgresql+psycopg://shop@db.example/shop";
            None for SQLite files in the workspace's folder.
        schema: Schema of the server that holds the tables.
        keep_days: Events and answers of so many days stay in the live log: compaction takes older
            ones. Popular and trending items need the last 8.
        compact_events: A service compacts once more than so many events and answers are older;
            0 for never.
        idempotency_days: An `event_id` that compaction moved counts once for so many days more.
    """

    database_url: str | None = field(default=None, repr=False)
    schema: str = "public"
    keep_days: int = 14
    compact_events: int = 1_000_000
    idempotency_days: int = 30

    def __post_init__(self) -> None:
        if self.database_url is not None and not _POSTGRESQL.match(self.database_url):
            raise SettingsError(
                "storage.database_url is not of the form postgresql+psycopg://USER@HOST/DATABASE; "
                "leave it out for SQLite files in the workspace."
            )
        if not _SCHEMA.fullmatch(self.schema):
            raise SettingsError(
                f"storage.schema is {self.schema!r}; use small letters, digits and underscores, "
                "such as 'shop_1'."
            )
        _check_range("storage.keep_days", self.keep_days, 8, 36_500)
        _check_range("storage.compact_events", self.compact_events, 0, 10**12)
        _check_range("storage.idempotency_days", self.idempotency_days, 0, 36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that can be set.

    Attributes:
        home: Folder of the catalogue, the event log and the models.
        data: Folder of public data sets, None where there is none.
    """

    home: Path = Path("momentary-home")
    data: Path | None = None
    serve: ServeSettings = field(default_factory=ServeSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)


_Section = type[ServeSettings] | type[StorageSettings]
_SECTIONS: dict[str, _Section] = {"serve": ServeSettings, "storage": StorageSettings}


def load_settings(file: Path | None = None, *, environ: Mapping[str, str]) -> Settings:
    """Read settings; a variable wins over the file, and the file over the defaults.

    `serve.port` in the file is `MOMENTARY_SERVE_PORT` in the environment; in a variable, the
    members of a list stand between commas, and one that is empty counts as not set.

    Raises:
        SettingsError: A key is unknown or its value cannot work.

    >>> load_settings(environ={"MOMENTARY_SERVE_PORT": "9000"}).serve.port
    9000
    """
    values = _environment(environ)
    table = {} if file is None else _read(file)
    sections: dict[str, dict[str, Any]] = {}
    for section, cls in _SECTIONS.items():
        given: object = table.pop(section, {})
        if not isinstance(given, dict):
            raise SettingsError(
                f"{section} is {given!r} in {file}; write its keys under [{section}]."
            )
        sections[section] = {
            key: _typed(cls, key, value, section=section) for key, value in given.items()
        }
    top = {key: _typed(Settings, key, value) for key, value in table.items()}
    for (section, key), text in values.items():
        if section:
            cls = _SECTIONS[section]
            sections[section][key] = _typed(cls, key, text, section=section, is_text=True)
        else:
            top[key] = _typed(Settings, key, text, is_text=True)
    return Settings(
        **top,
        serve=ServeSettings(**sections["serve"]),
        storage=StorageSettings(**sections["storage"]),
    )


def workspace_settings(
    home: Path | None, *, environ: Mapping[str, str], file: Path | None = None
) -> Settings:
    """The settings that count for one workspace; their `home` is its folder.

    Args:
        home: The folder; None for the one that the settings name.
        environ: MOMENTARY_* variables.
        file: Settings as TOML; without one, `momentary.toml` in the workspace's own folder counts,
            so that every command finds the same database.

    Raises:
        SettingsError: A key is unknown or its value cannot work.
    """
    folder = (home or load_settings(file, environ=environ).home).expanduser()
    own = folder / OWN_FILE
    chosen = own if file is None and own.is_file() else file
    return replace(load_settings(chosen, environ=environ), home=folder)


def read_key(entry: str) -> tuple[frozenset[str], str]:
    """The scopes and the digest of one entry of `serve.api_keys`; "admin" holds every scope.

    Raises:
        SettingsError: If it is not of the form SCOPE:SHA256 or SCOPE+SCOPE:SHA256.

    >>> sorted(read_key("read+write:" + api_key_digest("secret"))[0])
    ['read', 'write']
    """
    match = _KEY.fullmatch(entry)
    scopes = frozenset(match["scopes"].split("+")) if match else frozenset()
    if match is None or not scopes <= KEY_SCOPES:
        raise SettingsError(
            "serve.api_keys holds something that is not SCOPE:SHA256, such as read:2bb8...; the "
            "scopes are write, read, read+write and admin, and `momentary key` makes both parts."
        )
    return (KEY_SCOPES if "admin" in scopes else scopes), match["digest"]


def new_api_key(scopes: str) -> tuple[str, str]:
    """A new key, and what `serve.api_keys` stores of it.

    Args:
        scopes: Such as "read+write".

    Raises:
        SettingsError: If there is no such scope.
    """
    key = f"mk_{secrets.token_urlsafe(32)}"
    entry = f"{scopes}:{api_key_digest(key)}"
    read_key(entry)
    return key, entry


def api_key_digest(key: str) -> str:
    """What `serve.api_keys` stores of a key, so that a leaked file opens nothing.

    >>> api_key_digest("secret")[:8]
    '2bb80d53'
    """
    return hashlib.sha256(key.encode()).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}); check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not TOML: {error}.") from error


def _environment(environ: Mapping[str, str]) -> dict[tuple[str, str], str]:
    names = {f"{PREFIX}{key.name.upper()}": ("", key.name) for key in fields(Settings)}
    for section, cls in _SECTIONS.items():
        del names[f"{PREFIX}{section.upper()}"]
        for key in fields(cls):
            names[f"{PREFIX}{section.upper()}_{key.name.upper()}"] = (section, key.name)
    for name in environ:
        if name.startswith(PREFIX) and name not in names:
            raise SettingsError(_unknown(name, names))
    return {where: environ[name] for name, where in names.items() if environ.get(name)}


def _typed(
    cls: type[Settings] | _Section,
    key: str,
    value: object,
    *,
    section: str = "",
    is_text: bool = False,
) -> Any:  # noqa: ANN401 - the type is the field's
    prefix = f"{section}." if section else ""
    hints = get_type_hints(cls)
    if key not in hints:
        raise SettingsError(_unknown(prefix + key, [prefix + each for each in hints]))
    if cls is Settings:
        if isinstance(value, str) and value:
            return Path(value)
        raise SettingsError(f"{key} is {value!r}; it must be the path of a folder.")
    is_list = is_text and hints[key] == tuple[str, ...]
    raw = [part.strip() for part in str(value).split(",") if part.strip()] if is_list else value
    try:
        return msgspec.convert(raw, hints[key], strict=not is_text)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{prefix}{key} is {value!r}: {error}.") from error


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
    return f"{name} is not a setting; did you mean {near[0]}?"


def _check_prefixes(urls: Iterable[str]) -> None:
    for url in urls:
        if not _PREFIX.fullmatch(url):
            raise SettingsError(
                f"serve.media_urls holds {url!r}; write scheme, host and path, such as "
                "'https://cdn.example.com/shop/'."
            )


def _check_range(name: str, value: int, low: int, high: int) -> None:  # noqa: PLR0917
    if not low <= value <= high:
        raise SettingsError(f"{name} is {value}; it must be from {low} to {high}.")


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"serve.cors_origins holds {origin!r}; write a site as a browser names it, "
                "such as 'https://shop.example', without a path."
            )


def _check_state(url: str | None) -> None:
    if url is not None and not _REDIS.match(url):
        raise SettingsError(
            "serve.state_url is not of the form redis://HOST:PORT/0 (rediss:// and unix:// "
            "work, too); leave it out to keep visits in memory."
        )


def _check_tracing(url: str, *, share: float) -> None:
    if url and not _ORIGIN.match(url):
        raise SettingsError(f"serve.otlp_url is {url!r}; write http://HOST:PORT, or leave it out.")
    if not 0 <= share <= 1:
        raise SettingsError(f"serve.trace_share is {share}; it must be from 0 to 1.")
