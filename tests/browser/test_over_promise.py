"""The report of a made-up shop's event log, in a browser: its over-promise and its slider."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.effects import EffectsDesign, ImageEffects
from momentary.moments.example import write_example
from momentary.moments.exposures import collect
from momentary.moments.facts import item_facts
from momentary.moments.gallery import Gallery, measure_all
from momentary.moments.report import Pictures, write_report
from momentary.moments.spells import PictureTable


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    shop = tmp_path_factory.mktemp("shop")
    write_example(shop, rng=np.random.default_rng(0))
    gallery = Gallery(shop / "photos")
    measured = measure_all(gallery, again=0)
    pictures = PictureTable(
        pictures=measured.pictures, attributes=tuple(ATTRIBUTES), values=measured.values
    )
    spells = collect(
        pq.read_table(shop / "events.parquet"), pq.read_table(shop / "versions.parquet")
    )
    design = EffectsDesign(simulated=True, curves=False, heterogeneity=False)
    facts = item_facts(pq.read_table(shop / "facts.parquet"))
    table = ImageEffects(design).fit(spells, pictures, facts, rng=np.random.default_rng(0)).table()
    write_report(table, shop / "page.html", pictures=Pictures(gallery=gallery, measured=measured))
    return shop / "page.html"


def test_more_clicks_and_more_returns_are_an_over_promise_in_red(page, file):
    page.goto(file.as_uri())
    over = page.locator("td.over")
    assert over.count() == 1
    assert "over-promise" in over.inner_text()
    assert over.locator("xpath=..").locator("th").inner_text().startswith("subject size")
    red, green, blue = over.evaluate(
        "e => getComputedStyle(e).color.match(/\\d+/g).slice(0, 3).map(Number)"
    )
    assert red > 150
    assert red > 2 * max(green, blue)
    assert "simulated" in page.inner_text("main")


def test_the_slider_edits_pixels_and_is_blocked_outside_what_was_seen(page, file):
    page.goto(file.as_uri())
    page.wait_for_selector("canvas[data-ready]")
    page.locator("#what").select_option("warmth")
    page.locator("#goal").select_option("click")
    bytes_of = "document.getElementById('canvas').toDataURL()"
    before = page.evaluate(bytes_of)
    said = {}
    for strength in ("0.1", "-0.1"):
        page.locator("#strength").fill(strength)
        assert page.evaluate(bytes_of) != before
        said[strength] = page.inner_text("#said")
    assert "Predicted clicks per impression: +" in said["0.1"]
    assert "Predicted clicks per impression: \N{MINUS SIGN}" in said["-0.1"]
    page.locator("#what").select_option("brightness")
    page.locator("#strength").fill("-1")
    assert "outside the range" in page.inner_text("#said")
    assert page.locator("#plan").is_disabled()
    page.locator("#what").select_option("warmth")
    page.locator("#strength").fill("0.1")
    page.locator("#plan").click()
    assert "Show each picture" in page.inner_text("#planned")
    page.locator("#strength").fill("0")
    assert page.evaluate(bytes_of) == before
