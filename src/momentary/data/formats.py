"""Read other systems' files as our events and items, and say why a row cannot be read.

Layouts: plain columns, GA4 export (developers.google.com/analytics/bigquery), Segment `track`
(segment.com/docs/connections/spec), AWS Personalize, Gorse, RecTools and session-rec.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from momentary.errors import DataError
from momentary.types import EVENT_TYPES, BoolArray, IntArray

CHUNK_ROWS = 100_000
MAX_FIELD_BYTES = 1 << 20
EXCERPT = 160
FIRST_US = 31_536_000_000_000
LAST_US = 4_102_444_800_000_000
"""Times outside 1971-01-01 .. 2100-01-01, in microseconds, are mistakes."""

_MAX_LINE = 4 << 20
_SAMPLE_BYTES = 1 << 20
_SAMPLE_ROWS = 1000

EVENT_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("user_id", pa.string()),
        ("anonymous_id", pa.string()),
        ("session_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("timestamp_us", pa.int64()),
        ("value", pa.float64()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("quantity", pa.float64()),
        ("recommendation_id", pa.string()),
        ("position", pa.int64()),
        ("properties", pa.string()),
    ]
)
"""Events as columns; `properties` is JSON text; a null `event_id` is filled by the importer."""

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("group_id", pa.string()),
        ("name", pa.string()),
        ("description", pa.string()),
        ("image", pa.string()),
        ("audio", pa.string()),
        ("video", pa.string()),
        ("brand", pa.string()),
        ("category", pa.string()),
        ("price", pa.float64()),
        ("currency", pa.string()),
        ("available", pa.bool_()),
        ("hidden", pa.bool_()),
        ("properties", pa.string()),
    ]
)
"""Items as columns; `properties` is JSON text."""

FILE_TYPES = ("csv", "jsonl", "parquet")
LAYOUTS = ("plain", "ga4", "segment", "personalize", "gorse", "rectools", "session-rec")
TIME_UNITS = {"s": 1_000_000.0, "ms": 1000.0, "us": 1.0, "ns": 0.001}
"""Numeric time units, in microseconds; the other two are "iso" and "native" (Parquet's own)."""

_EVENT_NAMES: dict[str, tuple[str, ...]] = {
    "event_id": ("eventid", "messageid", "eventuuid", "uuid"),
    "user_id": (
        *("userid", "user", "customerid", "customer", "householdid", "household", "memberid"),
        *("accountid", "clientid", "shopperid", "reviewerid", "uid", "profileid", "username"),
    ),
    "anonymous_id": (
        *("anonymousid", "visitorid", "visitor", "userpseudoid", "deviceid", "cookieid"),
        *("cookie", "fullvisitorid"),
    ),
    "session_id": (
        *("sessionid", "session", "usersession", "visitid", "basketid", "basket", "invoice"),
        *("invoiceno", "invoiceid", "orderid", "order", "cartid", "receiptid", "playlistid"),
        *("transactionid",),
    ),
    "item_id": (
        *("itemid", "item", "productid", "product", "stockcode", "sku", "movieid", "asin"),
        *("articleid", "trackid", "songid", "bookid", "isbn", "contentid", "newsid", "videoid"),
        *("gameid", "offerid", "aid", "pid"),
    ),
    "event_type": (
        *("eventtype", "type", "eventname", "event", "action", "actiontype", "behavior"),
        *("behaviour", "behaviortype", "feedbacktype", "interaction", "interactiontype"),
        *("activity",),
    ),
    "timestamp": (
        *("timestampus", "timestamp", "ts", "time", "datetime", "eventtime", "eventtimestamp"),
        *("transactiontimestamp", "createdat", "created", "occurredat", "date", "eventdate"),
        *("invoicedate", "orderdate", "purchasedate", "unixtime", "unixreviewtime"),
        *("reviewtime", "playedat", "visittime", "tdat"),
    ),
    "value": (
        *("value", "rating", "stars", "overall", "score", "weight", "eventvalue", "salesvalue"),
        *("revenue", "amount"),
    ),
    "price": ("price", "unitprice", "itemprice"),
    "currency": ("currency", "currencycode"),
    "quantity": ("quantity", "qty", "units"),
    "recommendation_id": ("recommendationid",),
    "position": ("position", "rank", "index", "slot"),
    "properties": ("properties",),
}

_ITEM_NAMES: dict[str, tuple[str, ...]] = {
    "item_id": (
        *("itemid", "productid", "item", "product", "id", "sku", "stockcode", "movieid", "asin"),
        *("articleid", "trackid", "songid", "bookid", "isbn", "contentid", "newsid", "videoid"),
        *("gameid", "offerid", "handle", "clip", "image"),
    ),
    "group_id": ("groupid", "itemgroupid", "parentid", "parentasin", "variantgroup", "track"),
    "name": (
        *("name", "title", "productname", "productdisplayname", "itemname", "producttitle"),
        *("headline",),
    ),
    "description": (
        *("description", "desc", "productdescription", "plot", "overview", "summary"),
        *("abstract", "body", "text"),
    ),
    "image": (
        *("image", "imageurl", "imagelink", "picture", "photo", "poster", "posterurl"),
        *("thumbnail", "img", "imgurl"),
    ),
    "audio": ("audio", "audiourl", "audiofilename", "audiofile", "clip"),
    "video": ("video", "videourl", "trailer"),
    "brand": ("brand", "brandname", "manufacturer", "vendor", "maker"),
    "category": (
        *("category", "productcategory", "articletype", "categoryname", "categoryl1", "genres"),
        *("genre", "department", "producttype", "label", "stylehand", "style", "categoryid"),
    ),
    "price": ("price", "unitprice", "listprice", "saleprice", "medianprice"),
    "currency": ("currency", "currencycode", "pricecurrency"),
    "available": ("available", "instock", "availability"),
    "hidden": ("hidden",),
    "properties": ("properties",),
}

_ALIASES = frozenset(
    alias for known in (*_EVENT_NAMES.values(), *_ITEM_NAMES.values()) for alias in known
)
_DESCRIBES = ("name", "description", "image", "audio", "video", "brand", "category")
_SHARED_ROLES = {"item_id": ("image", "audio")}

_KNOWN_HEADERS = {
    "personalize": frozenset({"USER_ID", "ITEM_ID", "TIMESTAMP"}),
    "gorse": frozenset({"FeedbackType", "UserId", "ItemId"}),
    "rectools": frozenset({"user_id", "item_id", "weight", "datetime"}),
    "session-rec": frozenset({"SessionId", "ItemId", "Time"}),
}

_TYPE_NAMES = {
    "view_item": (
        *("view", "views", "viewed", "click", "clicks", "clicked", "pv", "pageview", "detail"),
        *("detailview", "itemview", "productview", "productviewed", "read", "watch", "watched"),
        *("play", "played", "listen", "open", "visit"),
    ),
    "view_item_list": (
        *("impression", "impressions", "exposure", "show", "shown", "productlistviewed"),
        *("viewsearchresults",),
    ),
    "select_item": ("select", "selectcontent", "productclicked", "itemclick", "clickitem"),
    "add_to_cart": (
        *("cart", "carts", "add", "basket", "addtobasket", "productadded", "atc", "added"),
        *("addtobag", "cartadd"),
    ),
    "remove_from_cart": ("remove", "removefrombasket", "productremoved", "cartremove"),
    "view_cart": ("cartviewed", "viewbasket"),
    "purchase": (
        *("buy", "buys", "bought", "order", "orders", "ordered", "ordercompleted", "sale"),
        *("transaction", "purchased", "purchases", "conversion"),
    ),
    "refund": ("cancel", "cancelled", "canceled", "return", "returned", "orderrefunded"),
    "rate": ("rating", "rated", "like", "liked", "star", "fav", "favorite", "favourite", "vote"),
    "review": ("comment", "reviewed", "productreviewed"),
    "share": ("shared", "productshared"),
    "search": ("searched", "productssearched", "query"),
}


def _key(name: str) -> str:
    """`user_id:token`, `User ID` and `userId` are one name."""
    plain = re.sub(r":(token|float)(_seq)?$", "", name)
    return re.sub(r"[^a-z0-9]", "", plain.lower())


_TYPE_OF = {name.replace("_", ""): name for name in EVENT_TYPES} | {
    alias: name for name, aliases in _TYPE_NAMES.items() for alias in aliases
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How to read one file; `detect` guesses it, `dataclasses.replace` corrects it.

    Attributes:
        file_type: One of `FILE_TYPES`.
        name: One of `LAYOUTS`.
        kind: "events" or "items".
        names: Every column of the file.
        columns: Our field (`timestamp` for the time) -> the file's column.
        properties: Columns kept as properties. Detected item layouts keep all that are left over.
        encoding: "utf-8", "utf-8-sig" (with a byte order mark) or "latin-1".
        header: False when the first line is data; the columns are then column_1, column_2, ...
        time_unit: "s", "ms", "us", "ns", "iso", "native" or None when it was not understood.
        default_type: The event type of every row when the file names none.
        order_as_time: Row r happens r seconds after 1970: order without a clock.
        event_types: Further event names of the file -> one of `momentary.types.EVENT_TYPES`.
    """

    file_type: str
    name: str = "plain"
    kind: str = "events"
    names: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    properties: tuple[str, ...] = ()
    delimiter: str = ","
    encoding: str = "utf-8"
    compressed: bool = False
    header: bool = True
    time_unit: str | None = None
    default_type: str | None = None
    order_as_time: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _one_of("file_type", self.file_type, FILE_TYPES)
        _one_of("name", self.name, LAYOUTS)
        _one_of("kind", self.kind, ("events", "items"))
        if self.time_unit is not None:
            _one_of("time_unit", self.time_unit, (*TIME_UNITS, "iso", "native"))
        for event_type in (self.default_type or "view_item", *self.event_types.values()):
            _one_of("event type", event_type, EVENT_TYPES)
        roles = _EVENT_NAMES if self.kind == "events" else _ITEM_NAMES
        for role, column in self.columns.items():
            _one_of(f"field of {self.kind}", role, tuple(roles))
            if self.names and self.name not in ("ga4", "segment"):
                _one_of("column", column, self.names)

    def missing(self) -> tuple[str, ...]:
        """What stops the file from being imported, in plain sentences; empty when nothing does."""
        found = []
        if "item_id" not in self.columns:
            found.append("no column names the item")
        if self.kind == "items":
            return tuple(found)
        if not {"user_id", "anonymous_id", "session_id"} & set(self.columns):
            found.append("no column names a user, a visitor or a session")
        if "event_type" not in self.columns and self.default_type is None:
            found.append("no column names the event type and there is no default type")
        if not self.order_as_time:
            found.extend(self._missing_time())
        return tuple(found)

    def _missing_time(self) -> list[str]:
        if "timestamp" not in self.columns:
            return ["no column holds the time (order_as_time imports the order of the rows alone)"]
        if self.time_unit is None:
            return [
                f"the times in column {self.columns['timestamp']!r} are neither ISO dates "
                "(2026-01-31T12:00:00Z) nor seconds, milliseconds, microseconds or nanoseconds"
            ]
        return []


def _one_of(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise DataError(f"{what} is {value!r}; it must be one of {', '.join(known)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """One row that cannot be read.

    Attributes:
        line: Line of the file from 1; in Parquet the row from 1.
        code: Kind of trouble, such as `ragged` or `bad_time`.
        reason: A sentence with the value.
        raw_excerpt: The row's first characters.
    """

    line: int
    code: str
    reason: str
    raw_excerpt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where reading can go on: byte (Parquet: row) `offset`, with `lines` lines behind it."""

    offset: int
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file.

    Attributes:
        table: The good rows, in `EVENT_SCHEMA` or `ITEM_SCHEMA`.
        lines: Line of the file of each row of `table`. Shape (rows,).
        rows: Rows read, good or not.
        skipped: Rows without any item (a page view, a screen), which are no mistake.
        end: Where the next chunk begins.
    """

    table: pa.Table
    lines: IntArray
    rejects: list[Reject]
    rows: int
    skipped: int
    end: Cursor


@dataclass(slots=True, kw_only=True)
class _Raw:
    """Columns as the file has them, before they are checked."""

    columns: dict[str, pa.Array]
    extras: pa.Array | None
    lines: IntArray
    excerpts: Callable[[list[int]], list[str]]


class _Verdict:
    """Collects why rows are refused; the first reason counts."""

    def __init__(self, rows: int) -> None:
        self.bad = np.zeros(rows, dtype=np.bool_)
        self.reasons: dict[int, tuple[str, str]] = {}

    def reject(self, mask: BoolArray, code: str, explain: Callable[[int], str]) -> None:
        if not mask.any():
            return
        for row in np.flatnonzero(mask & ~self.bad).tolist():
            self.reasons[row] = (code, explain(row))
        self.bad |= mask


# --- opening ----------------------------------------------------------------------------------


def _open(path: Path, *, compressed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if compressed else path.open("rb")


def _head(path: Path, *, compressed: bool) -> bytes:
    """The first bytes, as many as can be had even from a damaged file."""
    parts: list[bytes] = []
    try:
        with _open(path, compressed=compressed) as stream:
            while sum(map(len, parts)) < _SAMPLE_BYTES:
                part = stream.read(1 << 14)
                if not part:
                    break
                parts.append(part)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if not parts:
            raise DataError(f"{path} is not readable gzip ({error}); pack it again.") from error
    return b"".join(parts)


_MAGIC = {
    b"PK\x03\x04": "a zip archive; unpack it and import the tables inside",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"OggS": "Ogg audio",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database; export its tables as CSV",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


def _check_text(path: Path, head: bytes) -> None:
    if not head.strip():
        raise DataError(f"{path} is empty; export it again.")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path} is {what}; momentary reads CSV, TSV, JSONL and Parquet.")
    sample = np.frombuffer(head[:65536], dtype=np.uint8)
    strange = int(((sample < 9) | ((sample > 13) & (sample < 27))).sum())
    if strange > max(4, len(sample) // 50):
        raise DataError(
            f"{path} is binary, not text; momentary reads CSV, TSV, JSONL (or .gz) and Parquet."
        )


def _encoding(head: bytes) -> str:
    """UTF-8 unless high bytes are there that are mostly no UTF-8 but could be Latin letters."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = head.decode("utf-8", errors="surrogateescape")
        odd = re.findall("[\udc80-\udcff]", text)
        good = len(re.findall("[\u0080-\ud7ff\ue000-\U0010ffff]", text))
        letters = all("\udca0" <= char <= "\udcfd" for char in odd)
        return "latin-1" if letters and len(odd) > good else "utf-8"
    return "utf-8"


def _blocks(path: Path, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Pieces of about `size` bytes that end with a line; an endless line is cut short."""
    try:
        while data := stream.read(size):
            if not data.endswith(b"\n"):
                rest = stream.readline(_MAX_LINE)
                data += rest
                cut = len(rest) == _MAX_LINE and not rest.endswith(b"\n")
                while len(rest) == _MAX_LINE and not rest.endswith(b"\n"):
                    rest = stream.readline(_MAX_LINE)
                data += b"\n" if cut else b""
            yield data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is damaged: the gzip stream breaks off ({error}); get the file again."
        ) from error


# --- CSV --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Parsed:
    rows: list[list[str]]
    starts: list[int]
    bad: list[tuple[int, str, str]]
    carry: int | None


def _from(lines: Sequence[str], start: int) -> Iterator[str]:
    for index in range(start, len(lines)):
        yield lines[index]


def _parse_csv(lines: Sequence[str], width: int, *, delimiter: str, last: bool) -> _Parsed:
    """Split lines into rows of `width` fields; after a broken row go on with the next line.

    `carry` is the first line of a row that may go on in the next block.
    """
    parsed = _Parsed([], [], [], None)
    start = 0
    while start < len(lines):
        reader = csv.reader(_from(lines, start), delimiter=delimiter, strict=True)
        begun = start
        try:
            for row in reader:
                if len(row) == width:
                    parsed.rows.append(row)
                    parsed.starts.append(begun)
                elif row:
                    if start + reader.line_num - begun > 1:
                        raise csv.Error("a quote is not closed")
                    parsed.bad.append((begun, "ragged", _ragged(len(row), width)))
                begun = start + reader.line_num
            return parsed
        except csv.Error as error:
            if not last and start + reader.line_num >= len(lines):
                parsed.carry = begun
                return parsed
            parsed.bad.append((begun, *_csv_trouble(str(error), lines[begun])))
            start = begun + 1
    return parsed


def _ragged(found: int, width: int) -> str:
    return f"the row has {found} columns, the header has {width}"


def _csv_trouble(message: str, line: str) -> tuple[str, str]:
    # An open quote may run on into the limit, over lines that are short.
    if "limit" in message and len(line) > MAX_FIELD_BYTES:
        return "long_field", f"a field is longer than {MAX_FIELD_BYTES} characters"
    return "quotes", f"the quotes do not match ({message})"


def _header(path: Path, layout: Layout) -> tuple[list[str], Cursor]:
    """The column names and where the data begins."""
    with _open(path, compressed=layout.compressed) as stream:
        block = next(_blocks(path, stream, 1 << 16), b"")
    marked = layout.encoding == "utf-8-sig"
    skip = len(codecs.BOM_UTF8) if marked else 0
    lines = list(io.StringIO(_decode(block[skip:], layout), newline="\n"))
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    reader = csv.reader(_from(lines, first), delimiter=layout.delimiter)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise DataError(f"{path} has no readable header ({error}).") from error
    used = first + reader.line_num if layout.header else first
    size = sum(len(line.encode(_codec(layout), "surrogateescape")) for line in lines[:used])
    if not layout.header:
        names = [f"column_{i + 1}" for i in range(len(names))]
    return _unique(names), Cursor(offset=skip + size, lines=used)


def _unique(names: Iterable[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for position, name in enumerate(names, start=1):
        plain = name.strip() or f"column_{position}"
        seen[plain] = seen.get(plain, 0) + 1
        result.append(plain if seen[plain] == 1 else f"{plain}.{seen[plain]}")
    return result


def _codec(layout: Layout) -> str:
    return "latin-1" if layout.encoding == "latin-1" else "utf-8"


def _decode(block: bytes, layout: Layout) -> str:
    return block.decode(_codec(layout), errors="surrogateescape")


def _block_size(path: Path, layout: Layout, rows: int) -> int:
    head = _head(path, compressed=layout.compressed)
    lines = max(1, head.count(b"\n"))
    return int(min(max(rows * len(head) / lines, 1 << 16), 1 << 25))


@dataclass(slots=True, kw_only=True)
class _Block:
    """Part of a CSV file, cut into columns; `starts` are lines of the block, from 0."""

    columns: Mapping[str, Sequence[str] | pa.Array]
    starts: IntArray
    bad: list[tuple[int, str, str]]
    lines: Callable[[], list[str]]
    end: Cursor


def _csv_blocks(path: Path, layout: Layout, *, start: Cursor, size: int) -> Iterator[_Block]:
    """Blocks of whole rows, easy ones through Arrow, the others row by row."""
    names = _header(path, layout)[0]
    # csv's own limit is global and smaller than the fields that we accept.
    csv.field_size_limit(MAX_FIELD_BYTES)
    with _open(path, compressed=layout.compressed) as stream:
        stream.seek(start.offset)
        carried, behind = b"", start.lines
        blocks = _blocks(path, stream, size)
        while True:
            fresh = next(blocks, b"")
            data = carried + fresh
            if not data:
                return
            table = _easy_table(data, names, layout)
            if table is not None:
                carried, behind = b"", behind + table.num_rows
                end = Cursor(offset=stream.tell(), lines=behind)
                yield _easy_block(table, data, end)
                continue
            lines = _lines(data, layout)
            parsed = _parse_csv(lines, len(names), delimiter=layout.delimiter, last=not fresh)
            used = len(lines) if parsed.carry is None else parsed.carry
            carried = "".join(lines[used:]).encode(_codec(layout), "surrogateescape")
            behind += used
            end = Cursor(offset=stream.tell() - len(carried), lines=behind)
            yield _hard_block(_without_dirt(parsed, lines[:used]), lines, names, end=end)


def _lines(data: bytes, layout: Layout) -> list[str]:
    return list(io.StringIO(_decode(data, layout), newline="\n"))


def _easy_table(data: bytes, names: list[str], layout: Layout) -> pa.Table | None:
    """The block through Arrow's parser; None where quotes or odd lines need a closer look."""
    if b'"' in data or b"\0" in data or layout.encoding == "latin-1" or len(names) == 1:
        return None
    if data.startswith((b"\n", b"\r")) or b"\n\n" in data or b"\n\r" in data:
        return None
    if data.count(b"\r") != data.count(b"\r\n"):
        return None
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            read_options=arrow_csv.ReadOptions(
                column_names=names, block_size=len(data) + 1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=layout.delimiter, quote_char=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
                include_columns=names,
            ),
        ).combine_chunks()
    except pa.ArrowInvalid:
        return None
    longest = (pc.max(pc.binary_length(column)).as_py() or 0 for column in table.columns)
    return table if max(longest) <= MAX_FIELD_BYTES else None


def _easy_block(table: pa.Table, data: bytes, end: Cursor) -> _Block:
    return _Block(
        columns={name: _one_chunk(table[name]) for name in table.column_names},
        starts=np.arange(table.num_rows, dtype=np.int64),
        bad=[],
        lines=lambda: data.decode().split("\n"),
        end=end,
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _hard_block(parsed: _Parsed, lines: list[str], names: list[str], *, end: Cursor) -> _Block:
    columns = list(zip(*parsed.rows, strict=True)) or [()] * len(names)
    return _Block(
        columns=dict(zip(names, columns, strict=True)),
        starts=np.asarray(parsed.starts, dtype=np.int64),
        bad=parsed.bad,
        lines=lambda: lines,
        end=end,
    )


def _without_dirt(parsed: _Parsed, lines: list[str]) -> _Parsed:
    """Refuse rows with NUL bytes or bytes that are no UTF-8."""
    text = "".join(lines)
    try:
        text.encode()
        if "\0" not in text:
            return parsed
    except UnicodeEncodeError:
        pass
    clean = _Parsed([], [], parsed.bad, parsed.carry)
    for row, begun in zip(parsed.rows, parsed.starts, strict=True):
        trouble = _dirt("".join(row))
        if trouble is None:
            clean.rows.append(row)
            clean.starts.append(begun)
        else:
            clean.bad.append((begun, *trouble))
    return clean


def _dirt(text: str) -> tuple[str, str] | None:
    if "\0" in text:
        return "nul_byte", "the row holds a NUL byte"
    if re.search("[\udc80-\udcff]", text):
        return "invalid_utf8", "the row holds bytes that are not UTF-8"
    return None


def _read_csv(path: Path, layout: Layout, start: Cursor | None) -> Iterator[Chunk]:
    cursor = start or _header(path, layout)[1]
    size = _block_size(path, layout, CHUNK_ROWS)
    for block in _csv_blocks(path, layout, start=cursor, size=size):
        yield _csv_chunk(block, layout, behind=cursor.lines)
        cursor = block.end


def _csv_chunk(block: _Block, layout: Layout, *, behind: int) -> Chunk:
    def excerpts(rows: list[int]) -> list[str]:
        lines = block.lines()
        return [_shown(lines[block.starts[row]]) for row in rows]

    raw = _Raw(
        columns={
            role: pa.array(block.columns[column], pa.string())
            for role, column in layout.columns.items()
        },
        extras=_extras({name: _listed(block.columns[name]) for name in layout.properties}),
        lines=block.starts + behind + 1,
        excerpts=excerpts,
    )
    lines = block.lines() if block.bad else []
    rejects = [
        Reject(line=behind + 1 + line, code=code, reason=reason, raw_excerpt=_shown(lines[line]))
        for line, code, reason in block.bad
    ]
    return _chunk(raw, layout, rejects=rejects, skipped=0, end=block.end)


def _listed(column: Sequence[str] | pa.Array) -> Sequence[str]:
    return column.to_pylist() if isinstance(column, pa.Array) else column


def _shown(text: str) -> str:
    clean = text[:EXCERPT].encode("utf-8", "backslashreplace").decode()
    return clean.rstrip("\r\n").replace("\0", "\\0")


def _extras(columns: Mapping[str, Sequence[Any]]) -> pa.Array | None:
    """JSON text of the columns that are kept as properties, without the empty ones."""
    if not columns:
        return None
    names = list(columns)
    encode = msgspec.json.encode
    texts = []
    for values in zip(*columns.values(), strict=True):
        kept = {
            name: value
            for name, value in zip(names, values, strict=True)
            if value is not None and value != ""
        }
        texts.append(encode(kept).decode() if kept else None)
    return pa.array(texts, pa.string())


# --- JSONL ------------------------------------------------------------------------------------

_Record = dict[str, Any]


def _read_jsonl(path: Path, layout: Layout, start: Cursor | None) -> Iterator[Chunk]:
    cursor = start or Cursor(offset=0, lines=0)
    size = _block_size(path, layout, CHUNK_ROWS)
    with _open(path, compressed=layout.compressed) as stream:
        stream.seek(cursor.offset)
        for block in _blocks(path, stream, size):
            lines = _json_lines(block, layout)
            end = Cursor(offset=stream.tell(), lines=cursor.lines + len(lines))
            yield _json_chunk(lines, layout, start=cursor, end=end)
            cursor = end


def _json_lines(block: bytes, layout: Layout) -> list[bytes]:
    text = block.removeprefix(codecs.BOM_UTF8)
    if layout.encoding == "latin-1":
        text = text.decode("latin-1").encode()
    lines = text.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _json_chunk(lines: list[bytes], layout: Layout, *, start: Cursor, end: Cursor) -> Chunk:
    expand = _EXPANDERS.get(layout.name) or _plain_record(layout)
    records: list[_Record] = []
    sources: list[int] = []
    rejects: list[Reject] = []
    skipped = 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            found = expand(_json_object(line))
        except (msgspec.DecodeError, UnicodeDecodeError, DataError) as error:
            rejects.append(
                Reject(
                    line=start.lines + index + 1,
                    code="bad_json",
                    reason=f"the line is not a JSON object we can read ({error})",
                    raw_excerpt=_bytes_shown(line),
                )
            )
            continue
        records.extend(found)
        sources.extend([index] * len(found))
        skipped += not found
    at = np.asarray(sources, dtype=np.int64)
    raw = _Raw(
        columns=_record_columns(records, layout),
        extras=_record_extras(records, layout),
        lines=at + start.lines + 1,
        excerpts=lambda rows: [_bytes_shown(lines[at[row]]) for row in rows],
    )
    return _chunk(raw, layout, rejects=rejects, skipped=skipped, end=end)


def _json_object(line: bytes) -> _Record:
    value = msgspec.json.decode(line)
    if not isinstance(value, dict):
        raise DataError(f"it is a {type(value).__name__}")
    return value


def _bytes_shown(line: bytes) -> str:
    return _shown(line[: 4 * EXCERPT].decode("utf-8", "backslashreplace"))


def _plain_record(layout: Layout) -> Callable[[_Record], list[_Record]]:
    pairs = tuple(layout.columns.items())
    extras = layout.properties

    def record(source: _Record) -> list[_Record]:
        found = {role: source.get(column) for role, column in pairs}
        if extras:
            found["_extras"] = {name: source[name] for name in extras if name in source}
        return [found]

    return record


def _record_columns(records: list[_Record], layout: Layout) -> dict[str, pa.Array]:
    roles = _EVENT_NAMES if layout.kind == "events" else _ITEM_NAMES
    wanted = roles if layout.name in _EXPANDERS else layout.columns
    return {
        role: pa.array([_scalar(record.get(role)) for record in records], pa.string())
        for role in wanted
    }


def _record_extras(records: list[_Record], layout: Layout) -> pa.Array | None:
    if not layout.properties:
        return None
    columns = {
        name: [record.get("_extras", {}).get(name) for record in records]
        for name in layout.properties
    }
    return _extras(columns)


def _scalar(value: object) -> str | None:
    """Text of a JSON value: whole floats as integers, lists of scalars joined by `|`."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, list) and not any(isinstance(part, (list, dict)) for part in value):
        return "|".join(_scalar(part) or "" for part in value)
    if isinstance(value, (dict, list)):
        return msgspec.json.encode(value).decode()
    return repr(value) if isinstance(value, float) else str(value)


def _ga4(source: _Record) -> list[_Record]:
    """One record per entry of `items`; a GA4 session id is unique per visitor only."""
    items = source.get("items")
    if not isinstance(items, list) or not items:
        return []
    parameters = _ga4_parameters(source.get("event_params"))
    anonymous = source.get("user_pseudo_id")
    session = parameters.get("ga_session_id", source.get("ga_session_id"))
    common = {
        "user_id": source.get("user_id"),
        "anonymous_id": anonymous,
        "session_id": None if session is None else f"{_scalar(anonymous)}.{_scalar(session)}",
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


def _ga4_parameters(parameters: object) -> _Record:
    """`event_params` as a flat dict, from GA4's list of key and typed value."""
    if isinstance(parameters, dict):
        return parameters
    flat: _Record = {}
    for entry in parameters if isinstance(parameters, list) else ():
        value = entry.get("value") if isinstance(entry, dict) else None
        if isinstance(value, dict):
            value = next((part for part in value.values() if part is not None), None)
        if isinstance(entry, dict):
            flat[str(entry.get("key"))] = value
    return flat


def _segment(source: _Record) -> list[_Record]:
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


def _product_id(product: _Record) -> object:
    return product.get("product_id") or product.get("productId") or product.get("sku")


_EXPANDERS: dict[str, Callable[[_Record], list[_Record]]] = {"ga4": _ga4, "segment": _segment}
_EXPANDED_COLUMNS = {
    "ga4": {
        "user_id": "user_id",
        "anonymous_id": "user_pseudo_id",
        "session_id": "event_params.ga_session_id",
        "item_id": "items[].item_id",
        "event_type": "event_name",
        "timestamp": "event_timestamp",
        "price": "items[].price",
        "quantity": "items[].quantity",
        "position": "items[].index",
    },
    "segment": {
        "event_id": "messageId",
        "user_id": "userId",
        "anonymous_id": "anonymousId",
        "item_id": "properties.products[].product_id",
        "event_type": "event",
        "timestamp": "timestamp",
        "price": "properties.products[].price",
        "quantity": "properties.products[].quantity",
    },
}


# --- Parquet ----------------------------------------------------------------------------------


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a whole Parquet file ({str(error)[:200]}); get the file again."
        ) from error


def _read_parquet(path: Path, layout: Layout, start: Cursor | None) -> Iterator[Chunk]:
    cursor = start or Cursor(offset=0, lines=0)
    with _parquet(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        first = int(np.searchsorted(ends, cursor.offset, side="right"))
        skip = cursor.offset - (int(ends[first - 1]) if first else 0)
        wanted = None
        if layout.name not in _EXPANDERS:
            wanted = [*layout.columns.values(), *layout.properties]
        groups = list(range(first, len(sizes)))
        try:
            for batch in file.iter_batches(CHUNK_ROWS, row_groups=groups, columns=wanted):
                fresh = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - fresh.num_rows
                rows = cursor.offset + fresh.num_rows
                end = Cursor(offset=rows, lines=rows)
                if fresh.num_rows:
                    yield _parquet_chunk(fresh, layout, start=cursor, end=end)
                cursor = end
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged ({str(error)[:200]}); get it again.") from error


def _parquet_chunk(batch: pa.RecordBatch, layout: Layout, *, start: Cursor, end: Cursor) -> Chunk:
    if layout.name in _EXPANDERS:
        lines = [msgspec.json.encode(row, enc_hook=str) for row in batch.to_pylist()]
        return _json_chunk(lines, layout, start=start, end=end)
    extras = None
    if layout.properties:
        extras = _extras({name: _plain_list(batch[name]) for name in layout.properties})
    raw = _Raw(
        columns={role: batch[column] for role, column in layout.columns.items()},
        extras=extras,
        lines=np.arange(start.lines + 1, end.lines + 1, dtype=np.int64),
        excerpts=lambda rows: _batch_excerpts(batch, rows),
    )
    return _chunk(raw, layout, rejects=[], skipped=0, end=end)


def _plain_list(column: pa.Array) -> list[Any]:
    """Python values that JSON knows; other types (times, decimals, lists) as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain_list(column.dictionary_decode())
    if pa.types.is_floating(kind):
        return list(pc.if_else(pc.is_nan(column), None, column).to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(column.to_pylist())
    return list(_any_text(column).to_pylist())


def _any_text(column: pa.Array) -> pa.Array:
    """Any column as strings, nested ones through Python."""
    try:
        return _valid_text(pc.cast(column, pa.string()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return pa.array([None if value is None else str(value) for value in column], pa.string())


def _valid_text(column: pa.Array) -> pa.Array:
    """The column, with U+FFFD where Parquet held bytes that are no UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raw = pc.cast(column, pa.binary()).to_pylist()
        texts = [None if value is None else value.decode("utf-8", "replace") for value in raw]
        return pa.array(texts, pa.string())
    return column


def _batch_excerpts(batch: pa.RecordBatch, rows: list[int]) -> list[str]:
    names = batch.schema.names
    taken = batch.take(pa.array(rows, pa.int64()))
    columns = [_any_text(column).to_pylist() for column in taken.columns]
    return [
        _shown(", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]


# --- checking and converting columns ----------------------------------------------------------


def _chunk(raw: _Raw, layout: Layout, *, rejects: list[Reject], skipped: int, end: Cursor) -> Chunk:
    verdict = _Verdict(len(raw.lines))
    if layout.kind == "events":
        table = pa.table(_events(raw, layout, verdict), schema=EVENT_SCHEMA)
    else:
        table = pa.table(_items(raw, verdict), schema=ITEM_SCHEMA)
    rows = len(raw.lines) + len(rejects) + skipped
    bad = sorted(verdict.reasons)
    found = [
        Reject(
            line=int(raw.lines[row]),
            code=verdict.reasons[row][0],
            reason=verdict.reasons[row][1],
            raw_excerpt=excerpt,
        )
        for row, excerpt in zip(bad, raw.excerpts(bad) if bad else [], strict=True)
    ]
    good = ~verdict.bad
    return Chunk(
        table=table.filter(pa.array(good)) if bad else table,
        lines=raw.lines[good],
        rejects=sorted(rejects + found, key=lambda reject: reject.line),
        rows=rows,
        skipped=skipped,
        end=end,
    )


def _events(raw: _Raw, layout: Layout, verdict: _Verdict) -> dict[str, pa.Array]:
    rows = len(raw.lines)
    columns = _texts(raw, EVENT_SCHEMA, verdict)
    _need(columns["item_id"], "missing_item", reason="the row has no item id", verdict=verdict)
    visitor = pc.coalesce(columns["user_id"], columns["anonymous_id"], columns["session_id"])
    reason = "the row has no user, visitor or session id"
    _need(visitor, "missing_visitor", reason=reason, verdict=verdict)
    columns["event_type"] = _types(columns["event_type"], layout, verdict)
    if layout.order_as_time:
        times = raw.lines * 1_000_000
    else:
        times = _times(raw.columns["timestamp"], layout, verdict)
    columns["timestamp_us"] = pa.array(times)
    for name in ("value", "price", "quantity", "position"):
        numbers = _number_column(raw.columns.get(name), name, verdict)
        columns[name] = pa.nulls(rows, pa.float64()) if numbers is None else numbers
    columns["position"] = pc.cast(columns["position"], pa.int64(), safe=False)
    _merge_extras(columns, raw)
    return columns


def _items(raw: _Raw, verdict: _Verdict) -> dict[str, pa.Array]:
    rows = len(raw.lines)
    columns = _texts(raw, ITEM_SCHEMA, verdict)
    _need(columns["item_id"], "missing_item", reason="the row has no item id", verdict=verdict)
    price = _number_column(raw.columns.get("price"), "price", verdict)
    columns["price"] = pa.nulls(rows, pa.float64()) if price is None else price
    columns["available"] = _flags(raw.columns.get("available"), "available", verdict)
    columns["hidden"] = _flags(raw.columns.get("hidden"), "hidden", verdict)
    _merge_extras(columns, raw)
    return columns


def _merge_extras(columns: dict[str, pa.Array], raw: _Raw) -> None:
    if raw.extras is not None:
        columns["properties"] = pc.coalesce(raw.extras, columns["properties"])


def _texts(raw: _Raw, schema: pa.Schema, verdict: _Verdict) -> dict[str, pa.Array]:
    """The schema's string columns: empty is null, long fields and NUL are refused."""
    columns = {}
    for name in [part.name for part in schema if part.type == pa.string()]:
        column = raw.columns.get(name)
        if column is None:
            columns[name] = pa.nulls(len(raw.lines), pa.string())
            continue
        text = _text(column)
        _refuse_odd_text(text, name, verdict)
        columns[name] = text
    return columns


def _refuse_odd_text(text: pa.Array, name: str, verdict: _Verdict) -> None:
    lengths = pc.binary_length(text)
    longest = pc.max(lengths).as_py()
    if longest is not None and longest > MAX_FIELD_BYTES:
        verdict.reject(
            _mask(pc.greater(lengths, MAX_FIELD_BYTES)),
            "long_field",
            lambda row: f"{name} has {lengths[row]} bytes; {MAX_FIELD_BYTES} are allowed",
        )
    verdict.reject(
        _mask(pc.match_substring(text, "\0")), "nul_byte", lambda _: f"{name} holds a NUL byte"
    )


def _mask(values: pa.Array) -> BoolArray:
    return cast(
        BoolArray, pc.coalesce(values, pa.scalar(value=False)).to_numpy(zero_copy_only=False)
    )


def _text(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.dictionary_decode())
    if pa.types.is_floating(kind):
        return _float_text(column)
    text = _any_text(column)
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def _float_text(column: pa.Array) -> pa.Array:
    """Ids that a table tool turned into floats: 17850.0 is 17850, NaN is null."""
    known = pc.if_else(pc.is_nan(column), None, column)
    whole = pc.all(pc.equal(pc.floor(known), known)).as_py()
    small = pc.max(pc.abs(known)).as_py()
    if whole and small is not None and small < 2**53:
        known = pc.cast(known, pa.int64())
    return pc.cast(known, pa.string())


def _need(column: pa.Array, code: str, *, reason: str, verdict: _Verdict) -> None:
    if column.null_count:
        verdict.reject(_mask(pc.is_null(column)), code, lambda _: reason)


def _types(names: pa.Array, layout: Layout, verdict: _Verdict) -> pa.Array:
    """GA4's names for the file's; an empty one takes the default."""
    if layout.default_type is not None:
        names = pc.fill_null(names, layout.default_type)  # type: ignore[assignment,unused-ignore]
    encoded = names.dictionary_encode()
    own = {_key(name): value for name, value in layout.event_types.items()}
    mapped = [
        own.get(_key(name)) or _TYPE_OF.get(_key(name)) for name in encoded.dictionary.to_pylist()
    ]
    types = pc.take(pa.array(mapped, pa.string()), encoded.indices)
    verdict.reject(
        _mask(pc.is_null(types)),
        "unknown_type",
        lambda row: (
            f"event type {_shown(str(names[row].as_py()))!r} is unknown"
            if names[row].is_valid
            else "the row has no event type"
        ),
    )
    return types


_BLANK = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
_NOT_A_NUMBER = object()


def _number(text: str | None) -> float | object | None:
    if text is None or text.strip().lower() in _BLANK:
        return None
    try:
        value = float(text)
    except ValueError:
        return _NOT_A_NUMBER
    return value if math.isfinite(value) and "_" not in text else _NOT_A_NUMBER


def _numbers(column: pa.Array) -> tuple[pa.Array, BoolArray]:
    """A column as float64 with nulls, and where it holds something else."""
    if pa.types.is_dictionary(column.type):
        return _numbers(column.dictionary_decode())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        numbers = pc.cast(column, pa.float64(), safe=False)
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        return numbers, _mask(pc.is_inf(numbers))
    text = _text(column)
    try:
        numbers = pc.cast(text, pa.float64())
        if _mask(pc.is_finite(numbers)).sum() == len(numbers) - numbers.null_count:
            return numbers, np.zeros(len(numbers), dtype=np.bool_)
    except pa.ArrowInvalid:
        pass
    values = [_number(value) for value in text.to_pylist()]
    bad = np.array([value is _NOT_A_NUMBER for value in values], dtype=np.bool_)
    kept = [None if value is _NOT_A_NUMBER else value for value in values]
    return pa.array(kept, pa.float64()), bad


def _number_column(column: pa.Array | None, name: str, verdict: _Verdict) -> pa.Array | None:
    if column is None:
        return None
    numbers, bad = _numbers(column)
    if bad.any():
        text = _any_text(column)
        verdict.reject(
            bad, "bad_number", lambda row: f"{name} is {_shown(str(text[row]))!r}, not a number"
        )
    if name == "position":
        # A place on a list is a whole number; anything beyond 2^31 is none.
        far = _mask(pc.greater(pc.abs(numbers), 2**31))
        verdict.reject(far, "bad_number", lambda row: f"position {numbers[row]} is too large")
        numbers = pc.if_else(pa.array(far), None, numbers)
    return numbers


_TRUE = frozenset({"true", "1", "yes", "y", "t", "instock", "available", "1.0"})
_FALSE = frozenset({"false", "0", "no", "n", "f", "outofstock", "unavailable", "soldout", "0.0"})


def _flags(column: pa.Array | None, name: str, verdict: _Verdict) -> pa.Array:
    """Booleans; empty means the usual: available, not hidden."""
    usual = name == "available"
    if column is None:
        return pa.array(np.full(len(verdict.bad), usual))
    words = _any_text(column).to_pylist()
    flags: list[bool | None] = []
    for word in words:
        plain = re.sub(r"[\s_\-]|https?://schema\.org/", "", (word or "").lower())
        known = plain in _TRUE or (plain == "" and usual)
        flags.append(True if known else False if plain in _FALSE or plain == "" else None)
    found = pa.array(flags, pa.bool_())
    verdict.reject(
        _mask(pc.is_null(found)),
        "bad_flag",
        lambda row: f"{name} is {_shown(str(words[row]))!r}; true or false is needed",
    )
    return found


def _times(column: pa.Array, layout: Layout, verdict: _Verdict) -> IntArray:
    """Microseconds since 1970 in UTC; unreadable and impossible times are refused."""
    times, bad = _micros(column, layout.time_unit or "iso")

    def shown(row: int) -> str:
        return _shown(str(_any_text(column.slice(row, 1))[0].as_py() or ""))

    verdict.reject(
        bad, "bad_time", lambda row: f"time {shown(row)!r} is not readable as {layout.time_unit}"
    )
    outside = ~bad & ((times < FIRST_US) | (times >= LAST_US))
    verdict.reject(outside, "time_range", lambda row: f"time {shown(row)!r} is outside 1971..2100")
    return times


def _micros(column: pa.Array, unit: str) -> tuple[IntArray, BoolArray]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _micros(column.dictionary_decode(), unit)
    if pa.types.is_date(kind):
        return _micros(pc.cast(column, pa.timestamp("us")), unit)
    if pa.types.is_timestamp(kind):
        whole = pc.cast(column, pa.timestamp("us", tz=kind.tz), safe=False)
        return _whole(pc.cast(whole, pa.int64()))
    if unit in TIME_UNITS:
        return _scaled(column, unit)
    return _iso(_text(column))


def _whole(times: pa.Array) -> tuple[IntArray, BoolArray]:
    values = pc.fill_null(times, 0).to_numpy(zero_copy_only=False)
    return values, _mask(pc.is_null(times))


def _scaled(column: pa.Array, unit: str) -> tuple[IntArray, BoolArray]:
    """Numbers in `unit`; whole numbers stay exact."""
    try:
        whole = pc.cast(column if pa.types.is_integer(column.type) else _text(column), pa.int64())
    except pa.ArrowInvalid:
        numbers, bad = _numbers(column)
        floats = pc.fill_null(numbers, 0.0).to_numpy(zero_copy_only=False) * TIME_UNITS[unit]
        bad = bad | _mask(pc.is_null(numbers))
        # Beyond int64 a number is out of range whatever its sign: keep it readable, at 0.
        fits = np.abs(floats) < 2.0**62
        return np.where(fits, np.round(np.where(fits, floats, 0.0)), 0).astype(np.int64), bad
    values, bad = _whole(whole)
    if unit == "ns":
        return values // 1000, bad
    factor = int(TIME_UNITS[unit])
    fits = np.abs(values) <= 2**62 // factor
    return np.where(fits, values, 0) * factor, bad


_ZONE = r"\d(Z|z|[+-]\d\d:?\d\d|[+-]\d\d)$"


def _iso(text: pa.Array) -> tuple[IntArray, BoolArray]:
    """ISO dates; no zone means UTC."""
    utc = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r" ?UTC$", "")
    zoned = pc.and_(pc.match_substring_regex(utc, _ZONE), pc.greater(pc.binary_length(utc), 12))
    try:
        with_zone = pc.cast(pc.if_else(zoned, utc, None), pa.timestamp("ns", "UTC"))
        without = pc.cast(pc.if_else(zoned, None, utc), pa.timestamp("ns"))
    except pa.ArrowInvalid:
        values = [_iso_us(value) for value in utc.to_pylist()]
        return _whole(pa.array(values, pa.int64()))
    ns = pc.coalesce(pc.cast(with_zone, pa.int64()), pc.cast(without, pa.int64()))
    times, bad = _whole(ns)
    return times // 1000, bad


def _iso_us(text: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = zoned - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


# --- guessing ---------------------------------------------------------------------------------


def detect(path: Path) -> Layout:
    """Guess how to read a file.

    Returns:
        A layout; `Layout.missing` tells what it still lacks.

    Raises:
        DataError: If the file does not exist, is empty, binary, damaged or of no known type.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; name a CSV, TSV, JSONL or Parquet file.")
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"PAR1":
        return _detect_parquet(path)
    compressed = magic[:2] == b"\x1f\x8b"
    head = _head(path, compressed=compressed)
    _check_text(path, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if start == b"[":
        raise DataError(f"{path} is a JSON array; write one object a line (jq -c '.[]').")
    encoding = _encoding(head)
    if start == b"{":
        return _detect_jsonl(
            path, Layout(file_type="jsonl", encoding=encoding, compressed=compressed)
        )
    text = head[:65536].decode("utf-8-sig", "replace")
    base = Layout(
        file_type="csv",
        encoding=encoding,
        compressed=compressed,
        delimiter=_delimiter(text),
    )
    return _detect_csv(path, base)


def _delimiter(text: str) -> str:
    """The separator that cuts the first lines into the most, equally many, columns."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]

    def columns(delimiter: str) -> tuple[bool, int]:
        csv.field_size_limit(MAX_FIELD_BYTES)
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            return False, 0
        if not widths or widths[0] == 1:
            return False, 0
        return widths.count(widths[0]) * 2 > len(widths), widths[0]

    best = max((",", "\t", ";", "|"), key=columns)
    return best if columns(best)[1] > 1 else ","


def sample(path: Path, layout: Layout) -> dict[str, list[str | None]]:
    """The first rows of a file as text by column, for guessing and for showing.

    Raises:
        DataError: If the file is damaged.
    """
    if layout.file_type == "parquet":
        return _sample_parquet(path)
    if layout.file_type == "jsonl":
        return _sample_jsonl(path, layout)
    names, start = _header(path, layout)
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for block in _csv_blocks(path, layout, start=start, size=_SAMPLE_BYTES):
        room = _SAMPLE_ROWS - len(columns[names[0]])
        for name in names:
            columns[name].extend(value or None for value in _listed(block.columns[name][:room]))
        if len(columns[names[0]]) >= _SAMPLE_ROWS or block.end.offset > 16 * _SAMPLE_BYTES:
            break
    return columns


def _sample_parquet(path: Path) -> dict[str, list[str | None]]:
    with _parquet(path) as file:
        try:
            batch = next(file.iter_batches(_SAMPLE_ROWS), None)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} is damaged ({str(error)[:200]}); get it again.") from error
        if batch is None:
            return {name: [] for name in file.schema_arrow.names}
    return {name: _any_text(batch[name]).to_pylist() for name in batch.schema.names}


def _sample_jsonl(path: Path, layout: Layout) -> dict[str, list[str | None]]:
    return {
        name: [_scalar(value) for value in values]
        for name, values in _json_values(path, layout).items()
    }


def _json_values(path: Path, layout: Layout) -> dict[str, list[Any]]:
    rows: list[_Record] = []
    with _open(path, compressed=layout.compressed) as stream:
        for block in _blocks(path, stream, _SAMPLE_BYTES):
            for line in _json_lines(block, layout)[:_SAMPLE_ROWS]:
                try:
                    rows.append(_json_object(line))
                except (msgspec.DecodeError, UnicodeDecodeError, DataError):
                    continue
            if len(rows) >= _SAMPLE_ROWS or stream.tell() > 16 * _SAMPLE_BYTES:
                break
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows[:_SAMPLE_ROWS]] for name in names}


def _detect_csv(path: Path, base: Layout) -> Layout:
    names, _ = _header(path, base)
    looks_like_data = any(_number(n) not in (None, _NOT_A_NUMBER) for n in names)
    if looks_like_data and not any(_key(name) in _ALIASES for name in names):
        base = _replaced(base, header=False)
    return _guess(base, sample(path, base), native=frozenset())


def _detect_jsonl(path: Path, base: Layout) -> Layout:
    values = _json_values(path, base)
    if not values:
        raise DataError(
            f"{path} begins like JSON but no line is a JSON object; see its first line."
        )
    name = "plain"
    if {"event_name", "event_timestamp"} <= set(values):
        name = "ga4"
    elif "properties" in values and {"event", "type"} & set(values):
        name = "segment"
    if name in _EXPANDERS:
        return _expanded(base, name, tuple(values))
    texts = {key: [_scalar(value) for value in column] for key, column in values.items()}
    return _guess(base, texts, native=frozenset())


def _expanded(base: Layout, name: str, names: tuple[str, ...]) -> Layout:
    return _replaced(
        base,
        name=name,
        names=names,
        columns=_EXPANDED_COLUMNS[name],
        time_unit="us" if name == "ga4" else "iso",
    )


def _detect_parquet(path: Path) -> Layout:
    with _parquet(path) as file:
        schema = file.schema_arrow
    base = Layout(file_type="parquet")
    if {"event_name", "event_timestamp", "items"} <= set(schema.names):
        return _expanded(base, "ga4", tuple(schema.names))
    native = frozenset(
        part.name
        for part in schema
        if pa.types.is_timestamp(part.type) or pa.types.is_date(part.type)
    )
    return _guess(base, sample(path, base), native=native)


def _replaced(layout: Layout, **changes: Any) -> Layout:  # noqa: ANN401
    fields = {name: getattr(layout, name) for name in Layout.__slots__}
    return Layout(**(fields | changes))


def _guess(
    base: Layout, columns: Mapping[str, Sequence[str | None]], *, native: frozenset[str]
) -> Layout:
    names = tuple(columns)
    units = {name: _unit(columns[name], native=name in native) for name in names}
    events = _roles(names, _EVENT_NAMES, units)
    items = _roles(names, _ITEM_NAMES, {})
    if _is_catalogue(events, items):
        kept = tuple(name for name in names if name not in items.values())
        return _replaced(base, kind="items", names=names, columns=items, properties=kept)
    time = events.get("timestamp")
    if time is None:
        # Without a clock a position is the order inside the session, not a place on a list.
        events.pop("position", None)
    return _replaced(
        base,
        name=_known_layout(names),
        names=names,
        columns=events,
        time_unit=units[time] if time else None,
        default_type=None if "event_type" in events else _usual_type(events),
    )


def _known_layout(names: Sequence[str]) -> str:
    found = (name for name, needed in _KNOWN_HEADERS.items() if needed <= set(names))
    return next(found, "plain")


def _roles(
    names: Sequence[str], aliases: Mapping[str, Sequence[str]], units: Mapping[str, str | None]
) -> dict[str, str]:
    """Our field -> column: the best-known name wins; among times, the first that is readable."""
    by_key = {_key(name): name for name in reversed(names)}
    roles: dict[str, str] = {}
    for role, known in aliases.items():
        candidates = [by_key[alias] for alias in known if alias in by_key]
        free = [c for c in candidates if not _taken(c, role, roles)]
        if role == "timestamp":
            free = sorted(free, key=lambda name: units.get(name) is None)
        if role == "session_id" and {"user_id", "anonymous_id"} & set(roles):
            # A transaction number beside a visitor marks purchases, not visits.
            free = [c for c in free if _key(c) != "transactionid"]
        if free:
            roles[role] = free[0]
    return roles


def _taken(column: str, role: str, roles: Mapping[str, str]) -> bool:
    return any(
        used == column and role not in _SHARED_ROLES.get(other, ()) for other, used in roles.items()
    )


def _is_catalogue(events: Mapping[str, str], items: Mapping[str, str]) -> bool:
    if "item_id" not in items or not set(_DESCRIBES) & set(items):
        return False
    who = {"user_id", "anonymous_id", "session_id"} & set(events)
    return not ("item_id" in events and (who or "timestamp" in events))


def _usual_type(columns: Mapping[str, str]) -> str:
    """What a row means when nothing says so: a rating, a line of a basket, or a view."""
    if _key(columns.get("value", "")) in ("rating", "stars", "overall", "score"):
        return "rate"
    basket = re.search(
        "invoice|basket|order|receipt|transaction", _key(columns.get("session_id", ""))
    )
    return "purchase" if basket and "quantity" in columns else "view_item"


def _unit(values: Sequence[str | None], *, native: bool) -> str | None:
    """Decide how a whole column writes times."""
    if native:
        return "native"
    known = [value for value in values if value is not None]
    if not known:
        return None
    numbers = [number for value in known if isinstance(number := _number(value), float)]
    if len(numbers) * 2 > len(known):
        return _magnitude(float(np.median(np.abs(numbers))))
    dates = sum(_iso_us(re.sub(r" ?UTC$", "", value.strip())) is not None for value in known)
    return "iso" if dates * 2 > len(known) else None


def _magnitude(typical: float) -> str | None:
    """Between 1971 and 2100, seconds, milli-, micro- and nanoseconds do not overlap."""
    for unit, factor in TIME_UNITS.items():
        if FIRST_US <= typical * factor < LAST_US:
            return unit
    return None


# --- reading ----------------------------------------------------------------------------------

_READERS: dict[str, Callable[[Path, Layout, Cursor | None], Iterator[Chunk]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


def read(path: Path, layout: Layout, *, start: Cursor | None = None) -> Iterator[Chunk]:
    """Read a file in chunks of about `CHUNK_ROWS` rows.

    Args:
        path: The file.
        layout: What `detect` guessed, corrected if need be.
        start: `Chunk.end` of the last chunk that is already safe; None begins at the top.

    Raises:
        DataError: If the layout lacks a required column, or the file is damaged.
    """
    lacking = layout.missing()
    if lacking:
        raise DataError(
            f"{path} cannot be imported as {layout.kind}: {'; '.join(lacking)}. "
            f"Its columns are {', '.join(layout.names[:40]) or 'none'}."
        )
    return _READERS[layout.file_type](path, layout, start)
