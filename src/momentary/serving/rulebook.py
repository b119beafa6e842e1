"""Rules that have a name: those of the settings, and those that a shop changes while it is open.

They lie beside the catalogue in its database, and every process that serves the shop, on whichever
machine, sees a change within a second. What names in a stored rule mean is checked when it is
stored; an attribute that no item has any more counts as empty afterwards, so that a catalogue's
change never closes the shop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from momentary.data.rule_sets import FullError, RuleSets
from momentary.errors import DataError, SettingsError, StorageError
from momentary.recommend.rules import Rules
from momentary.recommend.scenarios import RuleFields, Scenario, merged, read_scenarios
from momentary.serving.problems import Problem
from momentary.settings import ServeSettings

_LOGGER = logging.getLogger(__name__)
MOST = 1_000
_AGAIN = ((b"retry-after", b"1"),)
_SETTLED = {"unknown": "empty"}
_WRITTEN = msgspec.json.Decoder(dict[str, Any])


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

    What is stored is read into memory, so that a request never waits for the database; `look`,
    called now and then, follows what other processes store.

    Args:
        settings: Scenarios and rules that it has from the start.
        store: The rules of the shop.

    Raises:
        SettingsError: If the settings' scenarios or rules cannot work.
        StorageError: If the stored rules cannot be read.
    """

    def __init__(self, settings: ServeSettings, store: RuleSets) -> None:
        self.scenarios = read_scenarios(settings.scenarios)
        self._fixed = {name: dict(rules) for name, rules in settings.rules.items()}
        for name, rules in self._fixed.items():
            try:
                merged([rules])
            except (msgspec.ValidationError, ValueError) as error:
                raise SettingsError(f"serve.rules.{name}: {error}.") from error
        self._store = store
        self._reading = threading.Lock()
        self._revision = -1
        self._stored: Mapping[str, RuleFields] = {}
        self._silent = False
        self.refresh()
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
        places: dict[str, Literal["settings", "workspace"]] = dict.fromkeys(
            self._stored, "workspace"
        )
        return dict(sorted((places | dict.fromkeys(self._fixed, "settings")).items()))

    def rules(self, name: str) -> RuleFields:
        """One rule set as it was written.

        Raises:
            Problem: 422 if there is none.
        """
        places = self._fixed if name in self._fixed else self._stored
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
        """Store a rule set, which counts here at once; False if it was there already.

        Raises:
            Problem: 409 if the settings hold one of that name, or there are too many; 503 if the
                database takes nothing.
        """
        if name in self._fixed:
            detail = f"The settings hold the rule set {name!r}; change it there."
            raise Problem(409, detail, field="name")
        try:
            new = self._store.put(name, msgspec.json.encode(rules).decode(), most=MOST)
        except FullError:
            detail = f"There are {MOST} rule sets; delete one first."
            raise Problem(409, detail, field="name") from None
        except DataError as error:
            raise _not_changed(error) from None
        self.look()
        return new

    def delete(self, name: str) -> bool:
        """Forget a rule set of the workspace; False if there was none.

        Raises:
            Problem: 409 if it is one of the settings, or a scenario names it; 503 if the database
                takes nothing.
        """
        if name in self._fixed:
            detail = f"The settings hold the rule set {name!r}; delete it there."
            raise Problem(409, detail, field="name")
        users = [each for each, of in self.scenarios.items() if name in of.rule_sets]
        if users:
            detail = f"The scenario {users[0]!r} names the rule set; change the scenario first."
            raise Problem(409, detail, field="name")
        try:
            there = self._store.delete(name)
        except DataError as error:
            raise _not_changed(error) from None
        self.look()
        return there

    def look(self) -> None:
        """Follow what was stored; while the database is silent, the rules as they were go on."""
        try:
            self.refresh()
        except StorageError as error:
            if not self._silent:
                _LOGGER.warning("the rules as they were go on: %s", error)
            self._silent = True
        else:
            self._silent = False

    def refresh(self) -> None:
        """Read what is stored, if it changed.

        Raises:
            StorageError: If the database does not answer.
        """
        # Of two who read at once, the one that read first must not have the last word.
        with self._reading:
            if self._store.revision() == self._revision:
                return
            self._revision, written = self._store.read()
            before, found = self._stored, dict[str, RuleFields]()
            for name, text in written.items():
                try:
                    rules = _WRITTEN.decode(text)
                    merged([rules])
                except ValueError as error:
                    # Such as one that a newer momentary stored: the shop stays open.
                    _LOGGER.error("the rule set %r cannot be read: %s", name, error)
                    if name in before:
                        found[name] = before[name]
                else:
                    found[name] = rules
            self._stored = found


def _not_changed(error: DataError) -> Problem:
    return Problem(503, f"Nothing was changed: {error}", headers=_AGAIN)
