"""What a request wants its list to be like: its own words, named rules, a scenario's defaults."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from momentary.errors import DataError
from momentary.recommend.rules import DEFAULT_RULES, Rules
from momentary.serving.engine import Engine
from momentary.serving.problems import undecodable, unfollowed
from momentary.serving.queries import wish_of
from momentary.serving.ranking import Wish
from momentary.serving.rulebook import RuleBook
from momentary.serving.schemas import RecommendIn

FIELDS = ("allow", "deny", "exclude_seen", "in_stock", "price_min", "price_max")
"""Rules that a query string can hold."""

PARAMETERS = ("scenario", "rule_sets", *FIELDS)
_USUAL_K = 20


class _Written(msgspec.Struct):
    rules: dict[str, Any] = {}


_WRITTEN = msgspec.json.Decoder(_Written)


class Wishes:
    """Makes wishes from requests.

    Args:
        engine: Knows the catalogue that rules are checked against.
        book: Rules and scenarios that have a name.
    """

    def __init__(self, engine: Engine, book: RuleBook) -> None:
        self._engine = engine
        self._book = book

    def of_body(self, wire: RecommendIn, body: bytes) -> Wish:
        """The wish of a body.

        Args:
            wire: What the body says.
            body: The same, to tell what was left out from what was set to its default.

        Raises:
            Problem: 422 for a name that is unknown, or rules that cannot be followed.
        """
        if wire.scenario is None and not wire.rule_sets:
            k = _USUAL_K if wire.k is None else wire.k
            return Wish(k=k, rules=wire.rules, explain=wire.explain or False)
        written = _WRITTEN.decode(body).rules
        return self._wish(
            wire.scenario,
            wire.rule_sets,
            written,
            rules=wire.rules,
            given=Wish(k=wire.k or 0, explain=wire.explain or False),
            explain_given=wire.explain is not None,
        )

    def rules_of(self, rules: Rules, names: tuple[str, ...], body: bytes) -> Rules:
        """The rules of a body without a scenario, together with those that it names.

        Raises:
            Problem: 422 for a name that is unknown, or rules that cannot be followed.
        """
        if not names and rules == DEFAULT_RULES:
            return rules
        written = _WRITTEN.decode(body).rules
        wish = self._wish(None, names, written, rules=rules, given=Wish(k=0), explain_given=False)
        return wish.rules

    def of_query(self, request: Request, *, more: tuple[str, ...] = ()) -> Wish:
        """The wish of a query string.

        Raises:
            Problem: 422 for a parameter that is unknown or has a value that cannot work.
        """
        query = request.query_params
        plain = wish_of(request, more=(*PARAMETERS, *more))
        written = {name: query[name] for name in FIELDS if name in query}
        names = tuple(filter(None, query.get("rule_sets", "").split(",")))
        if not written and not names and "scenario" not in query:
            return plain
        try:
            rules = msgspec.convert(written, Rules, strict=False)
        except msgspec.ValidationError as error:
            raise undecodable(error) from None
        fields = {name: getattr(rules, name) for name in written}
        given = Wish(k=plain.k if "k" in query else 0, explain=plain.explain)
        return self._wish(
            query.get("scenario"),
            names,
            fields,
            rules=rules,
            given=given,
            explain_given="explain" in query,
        )

    def _wish(
        self,
        scenario: str | None,
        names: tuple[str, ...],
        written: dict[str, Any],
        *,
        rules: Rules,
        given: Wish,
        explain_given: bool,
    ) -> Wish:
        """Join what was written with what the names stand for; `given.k` is 0 if left out."""
        if rules.unknown == "refuse" and rules is not DEFAULT_RULES:
            try:
                self._engine.recommender.check(rules)
            except DataError as error:
                raise unfollowed(error) from None
        preset = None if scenario is None else self._book.scenario(scenario)
        combined = self._book.combined(preset, names, written)
        usual = Wish(k=_USUAL_K) if preset is None else Wish(k=preset.k, explain=preset.explain)
        return Wish(
            k=given.k or usual.k,
            rules=combined,
            explain=given.explain if explain_given else usual.explain,
            scorer="model" if preset is None else preset.scorer,
        )


def without_chance(rules: Rules) -> Rules:
    """Rules for a list that nothing records: places left to chance would teach nothing."""
    return rules if rules.explore is None else msgspec.structs.replace(rules, explore=None)
