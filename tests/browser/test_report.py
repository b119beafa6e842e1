"""The moments' page in a real browser: drawn, complete, and its slider edits the pixels."""

import numpy as np
import pytest
from PIL import Image

from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.edits import edit
from momentary.moments.gallery import Gallery, measure_all
from momentary.moments.report import Pictures, write_report
from momentary.moments.whatif import predict
from tests.moments.pictures import drawn, made_up_table

PIXELS = """() => { const c = document.getElementById("canvas");
  return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data); }"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    (folder / "photos").mkdir()
    for seed in range(16):
        Image.fromarray(drawn(seed, height=112, width=84)).save(folder / f"photos/p{seed:02d}.png")
    gallery = Gallery(folder / "photos")
    measured = measure_all(gallery)
    pictures = Pictures(
        gallery=gallery,
        measured=measured,
        category=dict.fromkeys(measured.pictures, "shirt"),
        slider=measured.pictures[2],
    )
    table = made_up_table(measured.values)
    write_report(table, folder / "with.html", pictures=pictures)
    write_report(table, folder / "without.html")
    return folder, table, gallery.pixels(measured.pictures[2])


@pytest.fixture
def open_page(chromium, shop):
    pages = []

    def call(name, **options):
        page = chromium.new_page(**options)
        pages.append(page)
        page.faults, page.asked = [], []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto((shop[0] / name).as_uri())
        page.wait_for_selector("svg.forest")
        return page

    yield call
    for page in pages:
        page.close()


def canvas(page, shape):
    return np.array(page.evaluate(PIXELS)).reshape(*shape[:2], 4)[..., :3]


def test_everything_is_on_the_page_and_nothing_is_loaded(open_page):
    page = open_page("with.html")
    page.wait_for_selector("canvas[data-ready]")
    assert page.faults == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert page.title() == "Pictures </script><b>& sales"
    assert page.locator("svg.forest circle").count() == 2 * 16 + 2 + 1
    assert page.locator("svg.dose path.curve").count() == 1
    assert page.locator("svg.around circle").count() == 3
    assert "text overlay (noisy)" in page.inner_text("main")
    assert "Measured with noise" in page.inner_text(".warnings")
    images = page.locator(".pictures img")
    assert images.count() > 16
    assert page.evaluate(
        "Promise.all([...document.querySelectorAll('.pictures img')].map(i => i.decode()))"
        ".then(() => true)"
    )
    assert page.locator("td.over").count() >= 1
    assert "simulated" in page.inner_text("main")


def test_the_slider_edits_the_pixels_and_predicts(open_page, shop):
    _, table, pixels = shop
    page = open_page("with.html")
    page.wait_for_selector("canvas[data-ready]")
    assert (canvas(page, pixels.shape) == pixels).all()
    page.locator("#strength").fill("0.25")
    expected = edit(pixels, "brightness", 0.25)
    assert np.abs(canvas(page, pixels.shape) - expected.astype(int)).max() <= 1
    assert (expected != pixels).mean() > 0.5
    found = page.evaluate(
        "(() => { const r = momentaryReport, s = r.page.slider;"
        "const v = r.between(s, 'brightness', 0.25);"
        "return {values: v, before: s.before, ...r.predict(s, 'click', v)}; })()"
    )
    names = list(ATTRIBUTES)
    lift = predict(
        table,
        "click",
        before=dict(zip(names, found["before"], strict=True)),
        after=dict(zip(names, found["values"], strict=True)),
    )
    if lift.interval is None:
        assert found["refused"]
    else:
        assert found["percent"] == pytest.approx(lift.interval.percent, rel=1e-6)
        assert found["low"] == pytest.approx(lift.interval.low, rel=1e-5)


def test_the_slider_is_blocked_outside_and_plans_inside(open_page):
    page = open_page("with.html")
    page.wait_for_selector("canvas[data-ready]")
    page.locator("#strength").fill("-1")
    assert "outside the range" in page.inner_text("#said")
    assert page.locator("#plan").is_disabled()
    page.locator("#strength").focus()
    page.locator("#strength").fill("0.05")
    page.keyboard.press("ArrowRight")
    assert page.locator("#strength").input_value() == "0.1"
    if page.locator("#plan").is_enabled():
        page.locator("#plan").press("Enter")
        assert "Show each picture" in page.inner_text("#planned")


def test_each_edit_is_the_same_in_the_browser(open_page):
    pixels = drawn(5, height=80, width=60)
    page = open_page("without.html")
    flat = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]).ravel().tolist()
    assert page.evaluate("Edits.names") == list(ATTRIBUTES)
    page.evaluate("d => { window.picture = {width: 60, height: 80, data: d}; }", flat)
    for name in ATTRIBUTES:
        for strength in (-0.6, 0.4):
            found = page.evaluate(
                "([a, s]) => Array.from(Edits.edit(picture, a, s).data)", [name, strength]
            )
            there = np.array(found).reshape(80, 60, 4)[..., :3]
            difference = np.abs(there - edit(pixels, name, strength).astype(int))
            assert difference.max() <= 1, (name, strength)


def test_without_pictures_and_narrow_and_dark(open_page):
    page = open_page("without.html", viewport={"width": 400, "height": 800}, color_scheme="dark")
    assert page.faults == []
    assert page.locator("canvas").count() == 0
    assert page.locator("svg.forest").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 24, 31)"
