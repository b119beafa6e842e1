"""`momentary moments ...` as a person uses it."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from momentary import cli
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.gallery import Gallery, measure_all, write_measured
from momentary.moments.pixels import encode_png
from momentary.moments.results import read_table, write_table
from tests.moments.pictures import drawn, made_up_table


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["momentary", "moments", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(
            encode_png(drawn(seed, height=64, width=48))
        )
    values = measure_all(Gallery(tmp_path / "photos")).values
    write_table(made_up_table(values), tmp_path / "effects.json")
    return tmp_path


def test_measure_counts_and_writes(run, shop):
    (shop / "photos" / "bad.png").write_bytes(b"no")
    code, out, _ = run("measure", shop / "photos", "--out", shop / "a.parquet", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["pictures"] == 8
    assert said["aside"][0]["picture"] == "bad.png"
    assert (shop / "a.parquet").is_file()


def test_a_report_marks_what_the_measurement_says_is_noisy(run, shop):
    measured = measure_all(Gallery(shop / "photos"))
    steady = dict.fromkeys(ATTRIBUTES, (0.99, 0.98)) | {"sharpness": (0.99, 0.7)}
    write_measured(dataclasses.replace(measured, stability=steady), shop / "a.parquet")
    page = shop / "page.html"
    shown = ("--pictures", shop / "photos", "--attributes", shop / "a.parquet", "--out", page)
    code, _, _ = run("report", shop / "effects.json", *shown)
    assert code == 0
    table = read_table(page.with_suffix(".json"))
    assert [scale.attribute for scale in table.scales if scale.noisy] == ["sharpness", "text"]


def test_whatif_predicts_or_refuses(run, shop):
    picture = shop / "photos" / "1.png"
    ask = ("whatif", shop / "effects.json", picture, "--json", "--edit")
    code, out, _ = run(*ask, "brightness=+9")
    assert code == 0
    assert "outside the range" in json.loads(out)["refused"]
    code, out, _ = run(*ask, "brightness=+0.1", "--out", shop / "new.png")
    assert np.isclose(json.loads(out)["moved"]["brightness"], 0.1, atol=0.02)
    assert (shop / "new.png").is_file()
    code, _, err = run(*ask, "beauty=1")
    assert code == 2
    assert "brightness" in err


def test_plan_sizes_and_raises_the_alarm(run):
    code, out, _ = run("plan", "--rate", ".03", "--lift", "8", "--seen", "52000,48000")
    assert code == 0
    assert "ALARM" in out
    code, _, err = run("plan", "--rate", "3", "--lift", "8")
    assert code == 2
    assert "below 1" in err


def test_report_writes_a_page_without_outside_addresses(run, shop):
    page = shop / "page.html"
    code, out, _ = run(
        "report", shop / "effects.json", "--pictures", shop / "photos", "--out", page
    )
    assert code == 0
    assert "Written" in out
    text = page.read_text()
    assert 'src="http' not in text
    assert "default-src 'none'" in text
    assert (shop / "page.json").is_file()
    code, _, err = run("report", shop / "photos" / "1.png")
    assert code == 2
    assert "not JSON" in err
