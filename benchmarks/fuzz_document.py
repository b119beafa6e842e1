"""Requests that the OpenAPI document allows or forbids, and whether answers keep its word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import jsonschema_rs
import msgspec

from benchmarks.fuzz_requests import drawn, encoded
from benchmarks.fuzz_target import Answered, Sent


def by_document(app: Any, count: int, *, number: int) -> Iterator[Sent]:  # noqa: ANN401
    """Schemathesis: so many requests of every operation, those it allows and those it does not."""
    import schemathesis
    from schemathesis.generation import GenerationMode

    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            asked = operation.method.upper() in ("POST", "PUT") or "{" in operation.path
            if not asked and mode is GenerationMode.NEGATIVE and not list(operation.query):
                continue  # nothing in it can be wrong
            strategy = operation.as_strategy(generation_mode=mode)
            for case in drawn(strategy, count, number=number):
                yield _of_case(case, f"{operation.method.upper()} {operation.path}")


def _of_case(case: Any, operation: str) -> Sent:  # noqa: ANN401
    path = case.path
    for name, value in (case.path_parameters or {}).items():
        path = path.replace("{" + name + "}", quote(str(value), safe="", errors="replace"))
    query = urlencode(list((case.query or {}).items()), doseq=True, errors="replace")
    body = case.body
    absent = type(body).__name__ == "NotSet"
    chunks = (b"",) if absent else ((body if isinstance(body, bytes) else encoded(body)),)
    headers = tuple(
        (name.lower().encode("latin-1", "replace"), str(value).encode("latin-1", "replace"))
        for name, value in dict(case.headers or {}).items()
    )
    kind = () if absent else ((b"content-type", (case.media_type or "application/json").encode()),)
    given = tuple(pair for pair in headers if pair[0] not in (b"content-type", b"content-length"))
    return Sent(
        method=case.method.upper(),
        path=path,
        query=query.encode("latin-1", "replace"),
        headers=(*kind, *given),
        chunks=chunks,
        origin="schemathesis",
        operation=operation,
    )


class Promises:
    """What the document says of answers.

    Args:
        document: As served.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._documented: dict[str, dict[int, jsonschema_rs.Validator | None]] = {}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                self._documented[f"{method.upper()} {path}"] = {
                    int(status): _validator(response, document["components"])
                    for status, response in operation["responses"].items()
                }

    def broken(self, sent: Sent, answer: Answered) -> str:
        """How an answer breaks the document's word; "" if it does not, or none was given."""
        given = self._documented.get(sent.operation)
        if given is None:
            return ""
        if answer.status not in given:
            return f"{sent.operation} answers {answer.status}, which is not documented"
        validator = given[answer.status]
        if validator is None:
            return ""
        failed = next(iter(validator.iter_errors(msgspec.json.decode(answer.body))), None)
        return "" if failed is None else f"{sent.operation} {answer.status}: {failed.message}"


def _validator(
    response: Mapping[str, Any], components: Mapping[str, Any]
) -> jsonschema_rs.Validator | None:
    """Of the body of a response; None where there is none."""
    for content in response.get("content", {}).values():
        schema = {**content["schema"], "components": components}
        return jsonschema_rs.validator_for(schema)
    return None
