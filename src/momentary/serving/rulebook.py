"""Rules that have a name: those of the settings, and those that a shop changes while it is open.

They lie in `rules.json` in the workspace, and every process that serves it sees a change within a
second. What names in a stored rule mean is checked when it is stored; an attribute that no item has
any more counts as empty afterwards, so that a catalogue's change never closes the shop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from momentary.errors import SettingsError
from momentary.recommend.rules import Rules
from momentary.recommend.scenarios import RuleFields, Scenario, merged, read_scenarios
from momentary.serving.problems import Problem
from momentary.settings import ServeSettings

_LOGGER = logging.getLogger(__name__)
MOST = 1_000
_FRESH_S = 1.0
_SETTLED = {"unknown": "empty"}


class RuleSetOut(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that have a name.

    Attributes:
        source: Those of the settings cannot be changed here.
        rules: As they were written.
        items: How many items the model may show under them now.
    """

    name: str
    source: Literal["settings", "workspace"]
    rules: dict[str, Any]
    items: int


class RuleSetsOut(msgspec.Struct, frozen=True, kw_only=True):
    """Every rule set, by name."""

    rule_sets: list[RuleSetOut]


class ScenarioOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario stands for."""

    name: str
    k: int
    scorer: str
    explain: bool
    rules: dict[str, Any]
    rule_sets: tuple[str, ...]


class ScenariosOut(msgspec.Struct, frozen=True, kw_only=True):
    """Every scenario, by name."""

    scenarios: list[ScenarioOut]


class RuleBook:
    """Named rules and scenarios of one server.

    Args:
        settings: Scenarios and rules that it has from the start.
        file: The rules of the workspace.
        clock_s: Seconds that never go back.

    Raises:
        SettingsError: If the settings' scenarios or rules cannot work.
    """

    def __init__(
        self, settings: ServeSettings, file: Path, *, clock_s: Callable[[], float]
    ) -> None:
        self.scenarios = read_scenarios(settings.scenarios)
        self._fixed = {name: dict(rules) for name, rules in settings.rules.items()}
        for name, rules in self._fixed.items():
            try:
                merged([rules])
            except (msgspec.ValidationError, ValueError) as error:
                raise SettingsError(f"serve.rules.{name}: {error}.") from error
        self._file = file
        self._clock_s = clock_s
        self._seen: tuple[float, tuple[int, ...] | None] = (float("-inf"), None)
        self._stored: dict[str, dict[str, Any]] = {}
        known = self.names()
        for name, scenario in self.scenarios.items():
            for wanted in scenario.rule_sets:
                if wanted not in known:
                    raise SettingsError(
                        f"serve.scenarios.{name} names the rule set {wanted!r}, which does not "
                        "exist; write it under [serve.rules] or PUT it first."
                    )

    def names(self) -> dict[str, Literal["settings", "workspace"]]:
        """Where each rule set comes from, by name."""
        stored = self._current()
        places: dict[str, Literal["settings", "workspace"]] = dict.fromkeys(stored, "workspace")
        return dict(sorted((places | dict.fromkeys(self._fixed, "settings")).items()))

    def rules(self, name: str) -> RuleFields:
        """One rule set as it was written.

        Raises:
            Problem: 422 if there is none.
        """
        places = self._fixed if name in self._fixed else self._current()
        found = places.get(name)
        if found is None:
            known = ", ".join(list(self.names())[:20]) or "none"
            detail = f"There is no rule set {name[:50]!r}; there are: {known}."
            raise Problem(422, detail, field="rule_sets")
        return found

    def scenario(self, name: str) -> Scenario:
        """One scenario.

        Raises:
            Problem: 422 if there is none.
        """
        found = self.scenarios.get(name)
        if found is None:
            detail = f"There is no scenario {name[:50]!r}; there are: {', '.join(self.scenarios)}."
            raise Problem(422, detail, field="scenario")
        return found

    def combined(
        self, scenario: Scenario | None, names: tuple[str, ...], given: RuleFields
    ) -> Rules:
        """The rules of a scenario, of named sets and of a request, as one.

        Raises:
            Problem: 422 if a name is unknown or they cannot hold together.
        """
        always: tuple[str, ...] = () if scenario is None else scenario.rule_sets
        named = [self.rules(name) for name in dict.fromkeys((*always, *names))]
        first = {} if scenario is None else scenario.rules
        try:
            return merged([first, *named, given, _SETTLED])
        except msgspec.ValidationError as error:
            detail = f"The rules cannot hold together: {str(error).rstrip('.')}."
            raise Problem(422, detail, field="rules") from None

    def put(self, name: str, rules: Mapping[str, Any]) -> bool:
        """Store a rule set; False if it was there already.

        Raises:
            Problem: 409 if the settings hold one of that name, or there are too many.
        """
        if name in self._fixed:
            detail = f"The settings hold the rule set {name!r}; change it there."
            raise Problem(409, detail, field="name")
        stored = dict(self._current(anew=True))
        if name not in stored and len(stored) >= MOST:
            raise Problem(409, f"There are {MOST} rule sets; delete one first.", field="name")
        new = name not in stored
        self._write({**stored, name: dict(rules)})
        return new

    def delete(self, name: str) -> bool:
        """Forget a rule set of the workspace; False if there was none.

        Raises:
            Problem: 409 if it is one of the settings, or a scenario names it.
        """
        if name in self._fixed:
            detail = f"The settings hold the rule set {name!r}; delete it there."
            raise Problem(409, detail, field="name")
        users = [each for each, of in self.scenarios.items() if name in of.rule_sets]
        if users:
            detail = f"The scenario {users[0]!r} names the rule set; change the scenario first."
            raise Problem(409, detail, field="name")
        stored = dict(self._current(anew=True))
        if stored.pop(name, None) is None:
            return False
        self._write(stored)
        return True

    def refresh(self) -> None:
        """Look at the file now."""
        self._current(anew=True)

    def _current(self, *, anew: bool = False) -> dict[str, dict[str, Any]]:
        """The workspace's rules; the file is looked at again when a second has passed."""
        looked_s, before = self._seen
        now_s = self._clock_s()
        if anew or now_s - looked_s > _FRESH_S:
            state = _state(self._file)
            if state != before:
                self._load(first=looked_s == float("-inf"))
            self._seen = (now_s, state)
        return self._stored

    def _load(self, *, first: bool) -> None:
        try:
            self._stored = _read(self._file)
        except SettingsError:
            if first:
                raise
            _LOGGER.exception("the rules as they were go on")

    def _write(self, stored: dict[str, dict[str, Any]]) -> None:
        part = self._file.with_name(f"{self._file.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as opened:
                opened.write(msgspec.json.format(msgspec.json.encode(stored), indent=2))
                opened.flush()
                os.fsync(opened.fileno())
            part.replace(self._file)
        except OSError as error:
            part.unlink(missing_ok=True)
            detail = f"The rules cannot be written ({error.strerror}); nothing was changed."
            raise Problem(503, detail, headers=((b"retry-after", b"1"),)) from None
        self._stored = stored
        self._seen = (self._clock_s(), _state(self._file))


def _state(file: Path) -> tuple[int, ...] | None:
    """What differs after every change of a file; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """The rule sets of a file.

    Raises:
        SettingsError: If it is damaged; it is written whole or not at all, so somebody edited it.
    """
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, Any]])
        for rules in stored.values():
            merged([rules])
    except FileNotFoundError:
        return {}
    except (msgspec.MsgspecError, ValueError, OSError) as error:
        raise SettingsError(f"{file} holds no rules: {error}; mend or remove it.") from error
    return stored
