"""The doctor: never falls ill itself, and names what is wrong."""

import gzip
import io
import json
import os
import shlex
import zipfile
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from momentary.data.diagnosis import Report
from momentary.data.doctor import examine, render

SECOND = 1_500_000_000
HEADER = "user_id,session_id,item_id,timestamp,event_type,price"
ROWS = [
    f"u{i % 20},s{i // 3},i{i % 30},{SECOND + 60 * i},{('view', 'cart', 'buy')[i % 3]},{i % 7}.5"
    for i in range(300)
]
DATA = Path(os.environ.get("MOMENTARY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def looked_at(path):
    """The report, after it went through JSON and through the terminal."""
    report = examine(path)
    text = json.dumps(msgspec.to_builtins(report))
    assert len(text) < 200_000
    assert msgspec.json.decode(text, type=Report) == report
    assert path.name in printed(report)
    return report


def printed(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(report))
    return console.export_text()


def codes(report):
    return {problem.code for problem in report.problems}


def joined(rows, header=HEADER):
    return ("\n".join([header, *rows]) + "\n").encode()


def break_column(rows, column, value):
    cells = [row.split(",") for row in rows]
    for row in cells[:100:10]:
        row[column] = value
    return [",".join(row) for row in cells]


def test_a_good_file_is_described(tmp_path):
    path = tmp_path / "it's good.csv"
    path.write_bytes(joined(ROWS))
    report = looked_at(path)
    assert report.problems == ()
    assert (report.rows, report.good_rows, report.items, report.users) == (300, 300, 30, 20)
    assert (report.sessions, report.median_session, report.time_unit) == (100, 3.0, "s")
    assert (report.first_time, report.last_time) == ("2017-07-14T02:40:00Z", "2017-07-14T07:39:00Z")
    assert report.event_types == {"add_to_cart": 100, "purchase": 100, "view_item": 100}
    assert {s.name for s in report.scenarios if s.possible} == {
        "sessions",
        "returning visitors",
        "purchases",
        "prices",
    }
    assert shlex.split(report.command) == ["momentary", "import", str(path)]
    price = report.columns[5]
    assert (price.role, price.type, price.distinct, price.example) == ("price", "number", 7, "0.5")


BROKEN = {
    "bad_time": joined(break_column(ROWS, 3, "soon")),
    "bad_number": joined(break_column(ROWS, 5, "cheap")),
    "unknown_type": joined(break_column(ROWS, 4, "dance")),
    "missing_item": joined(break_column(ROWS, 2, "")),
    "long_field": joined([*ROWS, "u,s," + "x" * 10_000_000 + f",{SECOND},view,1", ROWS[0]]),
    "no_item": joined(ROWS, HEADER.replace("item_id", "thing")),
    "no_visitor": joined(ROWS, HEADER.replace("user_id", "a").replace("session_id", "b")),
    "no_time": joined(ROWS, HEADER.replace("timestamp", "a")),
    "ragged": joined([*ROWS, "u,s,i", ROWS[0] + ",1,2"]),
    "invalid_utf8": joined(ROWS) + b"u,s,\x80\xff,1500000000,view,1\n",
    "nul_byte": joined(ROWS) + b"u,s,i\0,1500000000,view,1\n",
    "quotes": joined([*ROWS[:5], ROWS[5].replace("i5", '"i5'), *ROWS[6:]]),
    "empty": b"",
    "binary": bytes(range(256)) * 20,
    "header_only": joined([]),
    "truncated": gzip.compress(joined(ROWS * 30))[:-500],
}


@pytest.mark.parametrize("code", BROKEN)
def test_broken_copies_are_named(tmp_path, code):
    path = tmp_path / "events.csv"
    path.write_bytes(BROKEN[code])
    report = looked_at(path)
    assert code in codes(report)
    problem = next(p for p in report.problems if p.code == code)
    assert problem.remedy
    assert problem.count >= 1
    if problem.examples:
        assert problem.examples[0].line > 1
        assert problem.examples[0].excerpt
    assert (report.command is None) == (problem.fatal and code != "no_time")


def test_no_clock_is_offered_as_order(tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(BROKEN["no_time"])
    report = examine(path)
    assert report.command.endswith("--order-as-time")
    assert report.first_time is None
    assert report.sessions == 100


def test_harmless_oddities_are_remarks(tmp_path):
    path = tmp_path / "events.csv"
    rows = [*ROWS[100:], *ROWS[:100], *ROWS[:7]]
    path.write_bytes(b"\xef\xbb\xbf" + joined(rows).replace(b"\n", b"\r\n"))
    report = looked_at(path)
    assert report.problems == ()
    assert report.bom
    assert report.crlf
    assert report.duplicates == 7
    assert report.items == 30
    remarks = " ".join(report.remarks)
    assert "backwards" in remarks
    assert "byte order mark" in remarks
    assert "CRLF" in remarks


def test_truncated_parquet_is_named(tmp_path):
    path = tmp_path / "events.parquet"
    pq.write_table(pa.table({"user_id": ["u"] * 999, "item_id": ["i"] * 999}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert codes(looked_at(path)) == {"truncated"}


def test_items_folders_and_archives(tmp_path):
    (tmp_path / "items.csv").write_text("id,title,image\n1,One,1.jpg\n2,Two,\n")
    report = looked_at(tmp_path / "items.csv")
    assert (report.kind, report.items) == ("items", 2)
    assert {s.name for s in report.scenarios if s.possible} == {"texts", "pictures"}
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"x")
    report = looked_at(tmp_path / "images.zip")
    assert [(entry.name, entry.what) for entry in report.contents] == [("a/1.jpg", "pictures")]
    report = looked_at(tmp_path)
    assert report.file_type == "folder"
    assert {entry.name for entry in report.contents} == {"items.csv", "images.zip"}
    assert codes(looked_at(tmp_path / "none.csv")) == {"absent"}


def test_different_values_are_counted_over_the_whole_file(tmp_path):
    path = tmp_path / "events.csv"
    rows = [f"{row},land {i // 200}" for i, row in enumerate(ROWS * 36)]
    path.write_bytes(joined(rows, HEADER + ",country"))
    report = looked_at(path)
    country = report.columns[-1]
    assert (country.role, country.distinct, country.estimated) == (None, 54, False)
    assert country.example == "land 0"


def test_dates_of_two_meanings_name_both_remedies(tmp_path):
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,date\n" + "u,i,1/2/2010\n" * 9)
    report = looked_at(path)
    assert codes(report) == {"ambiguous_date"}
    assert report.command is None
    assert report.first_time is None
    text = " ".join(printed(report).split())
    assert "--day-first" in text
    assert "--month-first" in text
    path.write_text("user_id,item_id,date\n" + "u,i,1/2/2010\nu,i,13/2/2010\n")
    assert looked_at(path).first_time == "2010-02-01T00:00:00Z"


def test_columns_of_a_tracker_are_the_places_that_are_read(tmp_path):
    event = {
        "event_name": "purchase",
        "event_timestamp": SECOND * 10**6,
        "user_pseudo_id": "p",
        "items": [{"item_id": "a", "price": 2.5}, {"item_id": "b"}],
    }
    path = tmp_path / "ga4.json"
    path.write_text(json.dumps(event) + "\n")
    report = looked_at(path)
    found = {column.name: column for column in report.columns}
    assert found["items[].item_id"].distinct == 2
    assert found["items[].price"].null_share == 0.5
    assert report.problems == ()


def test_the_page_fits_a_narrow_terminal(tmp_path, monkeypatch):
    folder = tmp_path / "a long way" / ("down " * 9).strip() / ("under " * 9).strip()
    folder.mkdir(parents=True)
    path = folder / "events.csv"
    path.write_bytes(joined(break_column(ROWS, 5, "a price that is not a number at all " * 2)))
    lines = printed(examine(path)).splitlines()
    assert lines[0].startswith("events.csv  in …/")
    assert all(len(line) <= 80 for line in lines)
    assert (
        lines[1]
        == f"csv · {path.stat().st_size / 1000:.1f} kB · utf-8 · delimiter ',' · events (plain)"
    )
    assert lines[2] == "300 rows · 30 items · 20 visitors · 100 sessions (median 3)"
    monkeypatch.chdir(tmp_path)
    near = folder.parents[0] / "near.csv"
    near.write_bytes(joined(ROWS))
    assert "near.csv  in a long way/" in printed(examine(near))
    monkeypatch.chdir(folder)
    assert printed(examine(Path("events.csv"))).splitlines()[0] == "events.csv"


def test_what_import_can_be_told_is_said(tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(BROKEN["no_item"])
    text = " ".join(printed(examine(path)).split())
    assert "--column item_id=NAME" in text
    assert text.endswith("Say at import what the file does not tell, as above.")


def test_max_rows_stops_early(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(joined(ROWS * 1000))
    assert 10 <= examine(path, max_rows=10).rows < 300_000


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data sets in {DATA} (MOMENTARY_DATA)")
@pytest.mark.parametrize("cut", ["whole", "head"])
def test_real_files_are_described(tmp_path, cut):
    paths = sorted(path for path in DATA.glob("*/*") if path.is_file())
    assert paths
    for path in paths:
        place = path
        if cut == "head":
            place = tmp_path / path.name
            with path.open("rb") as stream:
                place.write_bytes(stream.read(50_000))
        report = examine(place, max_rows=20_000)
        msgspec.json.encode(report)
        if cut == "head" and path.suffix == ".parquet" and path.stat().st_size > 50_000:
            assert codes(report) == {"truncated"}
        elif path.suffix in (".csv", ".tsv", ".parquet"):
            assert report.columns
