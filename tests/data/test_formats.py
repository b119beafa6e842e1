"""Readers: what is written comes back, and bad rows are named."""

import csv
import gzip
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from momentary.data import formats
from momentary.data.detection import detect
from momentary.data.formats import EVENT_SCHEMA, read
from momentary.data.layouts import Layout
from momentary.data.rows import EXCERPT, MAX_FIELD_BYTES
from momentary.data.timestamps import FIRST_US, LAST_US
from momentary.errors import DataError

SECOND = 1_500_000_000


def whole(path, layout=None):
    """All good rows as dicts, and all rejects."""
    rows, rejects = [], []
    for chunk in read(path, layout or detect(path)):
        rows.extend(chunk.table.to_pylist())
        rejects.extend(chunk.rejects)
    return rows, rejects


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


ids = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12
) | st.sampled_from(["007", "a/b", 'say "x"', "line\nbreak", "käse", " space ", "a,b;c\td", "\r\n"])
events = st.lists(st.tuples(ids, ids, st.integers(SECOND, SECOND + 10**8)), min_size=1, max_size=12)
modest = settings(max_examples=40, deadline=None)
LAYOUT = Layout(
    file_type="csv",
    names=("user_id", "item_id", "timestamp"),
    columns={name: name for name in ("user_id", "item_id", "timestamp")},
    time_unit="s",
    default_type="view_item",
)


def same(path, layout, rows):
    found, rejects = whole(path, layout)
    assert rejects == []
    assert [(r["user_id"], r["item_id"], r["timestamp_us"]) for r in found] == [
        (user, item, second * 1_000_000) for user, item, second in rows
    ]


@modest
@given(
    rows=events,
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_csv_brings_back_any_id(tmp_path_factory, rows, delimiter, quoting):
    path = tmp_path_factory.mktemp("csv") / "f.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
        writer.writerow(LAYOUT.names)
        writer.writerows(rows)
    same(path, replace(LAYOUT, delimiter=delimiter), rows)


@modest
@given(rows=events)
def test_jsonl_brings_back_any_id(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "f.jsonl"
    lines = [json.dumps(dict(zip(LAYOUT.names, row, strict=True))) for row in rows]
    write(path, "\n".join(lines))
    same(path, replace(LAYOUT, file_type="jsonl"), rows)


@modest
@given(rows=events)
def test_parquet_brings_back_any_id(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("parquet") / "f.parquet"
    columns = list(zip(*rows, strict=True))
    pq.write_table(pa.table(dict(zip(LAYOUT.names, columns, strict=True))), path)
    same(path, replace(LAYOUT, file_type="parquet"), rows)


@settings(max_examples=25, deadline=None)
@given(
    times=st.lists(st.integers(FIRST_US // 10**6, LAST_US // 10**6 - 1), min_size=1, max_size=8),
    unit=st.sampled_from(["s", "ms", "us", "ns", "iso", "zone", "float"]),
)
def test_time_units_come_back(tmp_path_factory, times, unit):
    def written(second):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
        return {
            "iso": moment.replace(tzinfo=None).isoformat(),
            "zone": moment.isoformat(),
            "float": f"{second}.5",
        }.get(unit) or str(second * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit])

    path = tmp_path_factory.mktemp("time") / "f.csv"
    write(path, "user_id,item_id,ts\n" + "".join(f"u,i,{written(t)}\n" for t in times))
    layout = detect(path)
    assert layout.time_unit == {"zone": "iso", "float": "s"}.get(unit, unit)
    found, rejects = whole(path, layout)
    half = 500_000 if unit == "float" else 0
    assert not rejects
    assert [row["timestamp_us"] for row in found] == [t * 10**6 + half for t in times]


def test_a_zone_is_taken_off_and_utc_words_are_understood(tmp_path):
    path = write(
        tmp_path / "f.csv",
        "user_id,item_id,event_time\nu,i,2019-11-01T02:00:00+02:00\nu,i,2019-11-01 00:00:00 UTC\n",
    )
    found, rejects = whole(path)
    assert not rejects
    assert {row["timestamp_us"] for row in found} == {1572566400000000}


def test_parquet_timestamps_and_float_ids(tmp_path):
    path = tmp_path / "f.parquet"
    table = pa.table(
        {
            "user_id": pa.array([17850.0, None], pa.float64()),
            "session_id": pa.array([None, "s"]),
            "item_id": pa.array(["a", "b"]).dictionary_encode(),
            "timestamp": pa.array([SECOND, SECOND], pa.timestamp("s", "Europe/Paris")),
        }
    )
    pq.write_table(table, path)
    found, rejects = whole(path)
    assert not rejects
    assert [row["user_id"] for row in found] == ["17850", None]
    assert [row["item_id"] for row in found] == ["a", "b"]
    assert found[0]["timestamp_us"] == SECOND * 10**6


@pytest.mark.parametrize(
    ("header", "name", "columns", "default"),
    [
        ("USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE", "personalize", {"user_id": "USER_ID"}, None),
        ("FeedbackType,UserId,ItemId,Timestamp", "gorse", {"event_type": "FeedbackType"}, None),
        ("user_id,item_id,weight,datetime", "rectools", {"value": "weight"}, "view_item"),
        ("SessionId,ItemId,Time", "session-rec", {"session_id": "SessionId"}, "view_item"),
        ("InvoiceNo,StockCode,Quantity,InvoiceDate", "plain", {"item_id": "StockCode"}, "purchase"),
        ("timestamp,visitorid,event,itemid,transactionid", "plain", {"event_type": "event"}, None),
        ("user_id:token,item_id:token,rating:float,timestamp:float", "plain", {}, "rate"),
    ],
)
def test_known_headers(tmp_path, header, name, columns, default):
    row = ",".join(
        "click" if part.lower() in ("event", "event_type", "feedbacktype") else str(SECOND)
        for part in header.split(",")
    )
    path = write(tmp_path / "f.csv", f"{header}\n{row}\n")
    layout = detect(path)
    assert (layout.name, layout.kind, layout.default_type) == (name, "events", default)
    assert columns.items() <= layout.columns.items()
    found, rejects = whole(path, layout)
    assert not rejects
    assert found[0]["event_type"] == (default or "view_item")
    assert found[0]["timestamp_us"] == SECOND * 10**6


def test_a_transaction_number_beside_a_visitor_is_no_session(tmp_path):
    header = "timestamp,visitorid,event,itemid,transactionid"
    path = write(tmp_path / "f.csv", f"{header}\n{SECOND},v,view,i,\n")
    assert "session_id" not in detect(path).columns


def test_ga4_gives_one_event_per_item(tmp_path):
    event = {
        "event_name": "purchase",
        "event_timestamp": str(SECOND * 10**6),
        "user_pseudo_id": "p.1",
        "event_params": [
            {"key": "ga_session_id", "value": {"int_value": 42}},
            {"key": "currency", "value": {"string_value": "EUR"}},
        ],
        "items": [
            {"item_id": "a", "price": 2.5, "quantity": 3, "index": 0},
            {"item_name": "only a name", "price": 1},
        ],
    }
    page = {"event_name": "page_view", "event_timestamp": 1, "user_pseudo_id": "p.1", "items": []}
    odd = event | {"event_name": "dance"}
    path = write(tmp_path / "ga4.json", "\n".join(map(json.dumps, [event, page, odd])))
    layout = detect(path)
    assert layout.name == "ga4"
    (chunk,) = read(path, layout)
    first, second = chunk.table.to_pylist()
    assert (first["item_id"], first["quantity"], first["position"]) == ("a", 3.0, 0)
    assert (second["item_id"], second["session_id"]) == ("only a name", "p.1.42")
    assert first["currency"] == "EUR"
    assert first["timestamp_us"] == SECOND * 10**6
    assert chunk.skipped == 1
    assert {reject.line for reject in chunk.rejects} == {3}
    assert "'dance'" in chunk.rejects[0].reason


def test_ga4_sessions_without_a_cookie_are_those_of_the_user(tmp_path):
    event = {
        "event_name": "view_item",
        "event_timestamp": SECOND * 10**6,
        "event_params": [{"key": "ga_session_id", "value": {"int_value": 42}}],
        "items": [{"item_id": "a"}],
    }
    lines = [json.dumps(event | {"user_id": user}) for user in ("u", "v")]
    found, _ = whole(write(tmp_path / "ga4.json", "\n".join(lines)))
    assert [row["session_id"] for row in found] == ["u.42", "v.42"]


def test_segment_tracks(tmp_path):
    def track(name, message, properties):
        return {
            "type": "track",
            "event": name,
            "messageId": message,
            "anonymousId": "x",
            "userId": None,
            "timestamp": "2026-01-02T03:04:05.678Z",
            "properties": properties,
        }

    calls = [
        track("Product Viewed", "m1", {"product_id": "a", "price": 9}),
        track("Order Completed", "m2", {"products": [{"product_id": "a"}, {"sku": "b"}]}),
        {"type": "identify", "userId": "u", "properties": {}},
        track("Signed Up", "m3", {}),
    ]
    path = write(tmp_path / "segment.jsonl", "\n".join(map(json.dumps, calls)) + "\n")
    layout = detect(path)
    assert layout.name == "segment"
    (chunk,) = read(path, layout)
    found = chunk.table.to_pylist()
    assert [row["event_id"] for row in found] == ["m1", "m2:0", "m2:1"]
    assert [row["event_type"] for row in found] == ["view_item", "purchase", "purchase"]
    assert [row["item_id"] for row in found] == ["a", "a", "b"]
    assert chunk.skipped == 2


def test_items_keep_the_rest_as_properties(tmp_path):
    path = write(
        tmp_path / "items.csv",
        "id,productDisplayName,articleType,price,in_stock,colour\n"
        '007,"Shirt, blue",Shirts,9.5,yes,blue\n2,Hat,Hats,NA,no,\n3,Sock,Socks,1,perhaps,x\n',
    )
    layout = detect(path)
    assert layout.kind == "items"
    found, rejects = whole(path, layout)
    assert found[0]["item_id"] == "007"
    assert found[0]["name"] == "Shirt, blue"
    assert found[0]["category"] == "Shirts"
    assert json.loads(found[0]["properties"]) == {"colour": "blue"}
    assert (found[1]["price"], found[1]["available"], found[1]["properties"]) == (None, False, None)
    assert [(r.line, r.code) for r in rejects] == [(4, "bad_flag")]


def test_every_bad_row_is_named_with_its_line(tmp_path):
    lines = [
        b"user_id,item_id,ts,event,price",
        b"u,a,1500000000,view,1",
        b"u,,1500000000,view,1",
        b",a,1500000000,view,1",
        b"u,a,yesterday,view,1",
        b"u,a,15,view,1",
        b"u,a,1500000000,dance,1",
        b"u,a,1500000000,view,cheap",
        b"u,a,1500000000,view",
        b"u,\x80\xff,1500000000,view,1",
        b"u,a\0,1500000000,view,1",
        b'u,"a,1500000000,view,1',
        b"u," + b"x" * (MAX_FIELD_BYTES + 9) + b",1500000000,view,1",
        b"u,z,1500000000,buy,2",
    ]
    path = tmp_path / "f.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    found, rejects = whole(path)
    assert [row["item_id"] for row in found] == ["a", "z"]
    assert [(r.line, r.code) for r in rejects] == [
        (3, "missing_item"),
        (4, "missing_visitor"),
        (5, "bad_time"),
        (6, "time_range"),
        (7, "unknown_type"),
        (8, "bad_number"),
        (9, "ragged"),
        (10, "invalid_utf8"),
        (11, "nul_byte"),
        (12, "quotes"),
        (13, "long_field"),
    ]
    assert "'dance'" in rejects[4].reason
    assert "'cheap'" in rejects[5].reason
    assert all(len(r.raw_excerpt) <= 4 * EXCERPT for r in rejects)


def test_broken_json_lines_are_named(tmp_path):
    good = json.dumps({"user_id": "u", "item_id": 5, "timestamp": SECOND})
    path = write(tmp_path / "f.jsonl", f"{good}\n{{broken\n[1]\n\n{good}\n")
    found, rejects = whole(path)
    assert [row["item_id"] for row in found] == ["5", "5"]
    assert [(r.line, r.code) for r in rejects] == [(2, "bad_json"), (3, "bad_json")]


@pytest.mark.parametrize("file_type", ["csv", "jsonl", "parquet", "csv.gz"])
def test_reading_goes_on_from_every_cursor(tmp_path, monkeypatch, file_type):
    monkeypatch.setattr(formats, "CHUNK_ROWS", 700)
    rows = [(f"u{i}", f"i\n{i}" if i % 50 == 0 else f"i{i}", SECOND + i) for i in range(5000)]
    path = tmp_path / f"f.{file_type}"
    if file_type == "parquet":
        columns = dict(zip(LAYOUT.names, zip(*rows, strict=True), strict=True))
        pq.write_table(pa.table({k: list(v) for k, v in columns.items()}), path, row_group_size=900)
    elif file_type == "jsonl":
        lines = (json.dumps(dict(zip(LAYOUT.names, row, strict=True))) for row in rows)
        write(path, "\n".join(lines))
    else:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([LAYOUT.names, *rows])
        data = text.getvalue().encode()
        path.write_bytes(gzip.compress(data) if file_type == "csv.gz" else data)
    layout = detect(path)
    chunks = list(read(path, layout))
    assert len(chunks) >= 2
    tables = [chunk.table for chunk in chunks]
    assert pa.concat_tables(tables)["item_id"].to_pylist() == [row[1] for row in rows]
    for done, chunk in enumerate(chunks):
        rest = [part.table for part in read(path, layout, start=chunk.end)]
        expected = tables[done + 1 :]
        assert pa.concat_tables([EVENT_SCHEMA.empty_table(), *rest]).equals(
            pa.concat_tables([EVENT_SCHEMA.empty_table(), *expected])
        )


def test_a_stray_quote_costs_one_row_however_long_the_file(tmp_path):
    rows = [f"u,i{i},{SECOND + i}" for i in range(60_000)]
    rows[10] = f'u,"i10,{SECOND}'
    path = write(tmp_path / "f.csv", "user_id,item_id,ts\n" + "\n".join(rows) + "\n")
    found, rejects = whole(path)
    assert len(found) == 59_999
    assert [(r.line, r.code) for r in rejects] == [(12, "quotes")]


def test_a_long_field_is_refused_even_in_a_column_that_is_not_read(tmp_path):
    lines = [f"u,a,{SECOND},note", f"u,b,{SECOND},{'x' * 10_000_000}", f"u,c,{SECOND},note"]
    path = write(tmp_path / "f.csv", "\n".join(["user_id,item_id,ts,remark", *lines]))
    found, rejects = whole(path)
    assert [row["item_id"] for row in found] == ["a", "c"]
    assert [(r.line, r.code) for r in rejects] == [(3, "long_field")]


def test_latin_1_is_understood(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(f"user_id,item_id,ts\nJosé,Käse,{SECOND}\n".encode("latin-1"))
    layout = detect(path)
    assert layout.encoding == "latin-1"
    assert whole(path, layout)[0][0]["item_id"] == "Käse"


def test_order_as_time_only_when_asked(tmp_path):
    path = write(tmp_path / "f.csv", "session_id,item_id,position\n1,a,0\n1,b,1\n2,a,0\n")
    layout = detect(path)
    assert "position" not in layout.columns
    with pytest.raises(DataError, match="order_as_time"):
        read(path, layout)
    found, _ = whole(path, replace(layout, order_as_time=True))
    times = np.array([row["timestamp_us"] for row in found])
    assert (np.diff(times) == 1_000_000).all()


def test_own_event_names_can_be_given(tmp_path):
    path = write(tmp_path / "f.csv", f"user_id,item_id,ts,event\nu,a,{SECOND},dance\n")
    layout = replace(detect(path), event_types={"dance": "share"})
    assert whole(path, layout)[0][0]["event_type"] == "share"


def test_a_file_without_header_says_so(tmp_path):
    path = write(tmp_path / "u.data", f"196\t242\t3\t{SECOND}\n186\t302\t3\t{SECOND}\n")
    layout = detect(path)
    assert not layout.header
    named = replace(
        layout,
        columns={"user_id": "column_1", "item_id": "column_2", "timestamp": "column_4"},
        time_unit="s",
    )
    assert [row["item_id"] for row in whole(path, named)[0]] == ["242", "302"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (bytes(range(256)) * 9, "binary"),
        (b"[1, 2]", "JSON array"),
        (b"\x1f\x8b\x08nonsense", "gzip"),
        (b"PAR1 and no more", "Parquet"),
        ("a,b".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, words):
    path = tmp_path / "f.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        detect(path)


def test_layouts_refuse_what_cannot_be():
    with pytest.raises(DataError, match="file_type is 'xls'"):
        Layout(file_type="xls")
    with pytest.raises(DataError, match="column is 'nope'"):
        replace(LAYOUT, columns={"item_id": "nope"})
    with pytest.raises(DataError, match="event type is 'dance'"):
        replace(LAYOUT, default_type="dance")
