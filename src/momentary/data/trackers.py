"""Records of shop trackers: one GA4 or Segment event tells of several items.

GA4: developers.google.com/analytics/bigquery (export schema);
Segment: segment.com/docs/connections/spec/ecommerce.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if (
    TYPE_CHECKING
):  # the server reads trackers' bodies, and starts faster without the readers of files
    from momentary.data.layouts import Layout

Record = dict[str, Any]

COLUMNS: dict[str, dict[str, str]] = {
    "ga4": {
        "user_id": "user_id",
        "anonymous_id": "user_pseudo_id",
        "session_id": "event_params.ga_session_id",
        "item_id": "items[].item_id",
        "event_type": "event_name",
        "timestamp": "event_timestamp",
        "value": "event_params.value",
        "price": "items[].price",
        "currency": "event_params.currency",
        "quantity": "items[].quantity",
        "position": "items[].index",
    },
    "segment": {
        "event_id": "messageId",
        "user_id": "userId",
        "anonymous_id": "anonymousId",
        "session_id": "context.sessionId",
        "item_id": "properties.products[].product_id",
        "event_type": "event",
        "timestamp": "timestamp",
        "value": "properties.products[].value",
        "price": "properties.products[].price",
        "currency": "properties.currency",
        "quantity": "properties.products[].quantity",
        "position": "properties.products[].position",
    },
}
"""Our field -> where a tracker keeps it."""

_UNITS = {"ga4": "us", "segment": "iso"}


def tracker_of(names: Iterable[str]) -> str | None:
    """The tracker that writes records with these fields, if one does."""
    fields = set(names)
    if {"event_name", "event_timestamp"} <= fields:
        return "ga4"
    if "properties" in fields and {"event", "type"} & fields:
        return "segment"
    return None


def tracker_layout(base: Layout, name: str, *, names: tuple[str, ...]) -> Layout:
    """The base as a tracker's layout; `names` are the fields of its records."""
    return replace(base, name=name, names=names, columns=COLUMNS[name], time_unit=_UNITS[name])


def _ga4(source: Record) -> list[Record]:
    """One record per entry of `items`; a GA4 session id is unique per visitor only."""
    items = source.get("items")
    if not isinstance(items, list) or not items:
        return []
    parameters = _parameters(source.get("event_params"))
    who = source.get("user_pseudo_id") or source.get("user_id")
    session = parameters.get("ga_session_id", source.get("ga_session_id"))
    common = {
        "user_id": source.get("user_id"),
        "anonymous_id": source.get("user_pseudo_id"),
        "session_id": None if session is None else f"{_id(who)}.{_id(session)}",
        "event_type": source.get("event_name"),
        "timestamp": source.get("event_timestamp"),
        "currency": parameters.get("currency"),
        "value": parameters.get("value") if len(items) == 1 else None,
    }
    return [
        common
        | {
            "item_id": item.get("item_id") or item.get("item_name"),
            "price": item.get("price"),
            "quantity": item.get("quantity"),
            "position": item.get("index", item.get("item_list_index")),
        }
        for item in items
        if isinstance(item, dict)
    ]


def measured(body: Record) -> list[Record]:
    """The records in a body of GA4's Measurement Protocol, in the shape of its export."""
    records = []
    for event in body.get("events", ()):
        if not isinstance(event, dict):
            continue
        given = event.get("params")
        parameters = given if isinstance(given, dict) else {}
        when = event.get("timestamp_micros", body.get("timestamp_micros"))
        records.append(
            {
                "event_name": event.get("name"),
                "event_timestamp": when,
                "user_id": body.get("user_id"),
                "user_pseudo_id": body.get("client_id"),
                "ga_session_id": parameters.get("session_id"),
                "event_params": parameters,
                "items": parameters.get("items"),
            }
        )
    return records


def named_by_content(records: Iterable[Record]) -> list[Record]:
    """Records with an `event_id`: a digest of what a timed record holds, where it has no id.

    Equal records of one body are told apart by their order, as when a file is imported.

    >>> one, same = named_by_content([{"item_id": "tea", "timestamp": 1}] * 2)
    >>> one["event_id"] != same["event_id"]
    True
    """
    found, counts = [], Counter[str]()
    for record in records:
        if record.get("event_id") is not None or record.get("timestamp") is None:
            found.append(record)
            continue
        content = json.dumps(record, sort_keys=True, default=str)
        counts[content] += 1
        digest = hashlib.blake2b(f"{counts[content]}{content}".encode(), digest_size=16)
        found.append({**record, "event_id": digest.hexdigest()})
    return found


def _id(value: object) -> object:
    """BigQuery's JSON may write a whole number as a float."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _parameters(parameters: object) -> Record:
    """`event_params` as a flat dict, from GA4's list of key and typed value."""
    if isinstance(parameters, dict):
        return parameters
    flat: Record = {}
    for entry in parameters if isinstance(parameters, list) else ():
        value = entry.get("value") if isinstance(entry, dict) else None
        if isinstance(value, dict):
            value = next((part for part in value.values() if part is not None), None)
        if isinstance(entry, dict):
            flat[str(entry.get("key"))] = value
    return flat


def _segment(source: Record) -> list[Record]:
    """One record per product of a `track` call; other calls have no items."""
    properties = source.get("properties")
    if source.get("type", "track") != "track" or not isinstance(properties, dict):
        return []
    products = properties.get("products")
    if not isinstance(products, list):
        products = [properties] if _product_id(properties) is not None else []
    context = source.get("context")
    message = source.get("messageId")
    many = len(products) > 1
    common = {
        "user_id": source.get("userId"),
        "anonymous_id": source.get("anonymousId"),
        "session_id": context.get("sessionId") if isinstance(context, dict) else None,
        "event_type": source.get("event"),
        "timestamp": source.get("timestamp") or source.get("originalTimestamp"),
    }
    return [
        common
        | {
            "event_id": f"{message}:{index}" if many and message is not None else message,
            "item_id": _product_id(product),
            "price": product.get("price"),
            "quantity": product.get("quantity"),
            "position": product.get("position"),
            "value": product.get("value"),
            "currency": product.get("currency") or properties.get("currency"),
        }
        for index, product in enumerate(products)
        if isinstance(product, dict)
    ]


def _product_id(product: Record) -> object:
    return product.get("product_id") or product.get("productId") or product.get("sku")


EXPANDERS: dict[str, Callable[[Record], list[Record]]] = {"ga4": _ga4, "segment": _segment}
"""From one record of a tracker to one flat record an item, by our fields."""
