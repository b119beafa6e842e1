"""The dissection report opens by itself, shows its units and plays its excerpts."""

import numpy as np
import pytest

from momentary.dissection.report import render
from momentary.dissection.study import Recordings, dissect
from momentary.models.audio_network import AudioNetworkConfig

pytest.importorskip("soundfile", reason="soundfile is not installed (extra media)")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    from momentary.dissection.sounds import as_mp3

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    spectrograms = [rng.uniform(0, 1, (40, 9)).astype(np.float32) for _ in labels]
    for label, each in zip(labels, spectrograms, strict=True):
        each[:, 3 * label] += 2
    study = dissect(
        Recordings(
            names=[f"sound {at}" for at in range(60)],
            spectrograms=spectrograms,
            labels=labels,
            label_names=["bark", "rain", "<img src=x onerror=alert(1)>"],
            sources=np.arange(60),
        ),
        config=AudioNetworkConfig(
            channels=(4, 4), pools=(2, 2), dense=(6,), crop_frames=16, epochs=8, batch_size=8
        ),
        comparisons=1,
        rng=rng,
    )
    tone = np.sin(np.arange(22_050) / 9).astype(np.float32) / 2
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(
        render(
            study,
            title="Toy",
            hear=lambda _: as_mp3(tone, 22_050),
            seconds_a_frame=0.023,
            bands_hz=np.linspace(100, 5_000, 9),
        ),
        encoding="utf-8",
    )
    return file


def test_excerpts_play_and_nothing_is_fetched(page, report):
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(report.as_uri())
    assert page.locator("article.unit").count() == 4 + 6
    first = page.locator("button.play").first
    first.click()
    page.wait_for_selector("button.play[data-played=yes]", timeout=10_000)
    assert page.evaluate("document.getElementById('player').duration") > 0.5
    assert page.evaluate("document.querySelector('button.play img').naturalWidth") > 0
    assert not wrong
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_units_are_filtered_by_label_and_the_page_fits_a_telephone(page, report):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(report.as_uri())
    page.locator("select.label").last.select_option("0")
    shown = page.locator("section:last-of-type article.unit:visible")
    for at in range(shown.count()):
        assert "0" in shown.nth(at).get_attribute("data-labels").split()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
