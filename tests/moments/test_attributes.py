"""Visual attributes and edits on drawn pictures: meaning, stability, direction; hostile files."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from momentary.errors import DataError
from momentary.moments.attributes import ATTRIBUTES, measure
from momentary.moments.edits import EDITS, edit, move
from momentary.moments.gallery import Gallery, measure_all, read_measured, write_measured
from momentary.moments.pixels import encode_jpeg, encode_png, read_picture
from tests.moments.pictures import drawn

NAMES = list(ATTRIBUTES)
DATA = Path(os.environ.get("MOMENTARY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def value(pixels, name):
    return measure(pixels)[NAMES.index(name)]


def test_attributes_mean_what_they_say():
    white = np.full((224, 224, 3), 255, np.uint8)
    assert value(white, "brightness") == pytest.approx(1)
    assert value(white, "whiteness") == pytest.approx(1)
    assert value(white, "contrast") == pytest.approx(0, abs=1e-6)
    assert value(white, "hue_count") == pytest.approx(1)
    assert value(white, "object_count") == 0
    square = white.copy()
    square[84:140, 84:140] = (200, 0, 0)
    one = value(square, "object_count")
    assert one == pytest.approx(1 - 0.01 / ((56 / 224) ** 2 + 0.01), rel=0.05)
    assert value(square, "subject_size") == pytest.approx((56 / 224) ** 2, rel=0.15)
    assert value(square, "centring") == pytest.approx(1, abs=1e-3)
    assert value(square, "symmetry") == pytest.approx(1, abs=1e-3)
    assert value(square, "warmth") > 0
    two = square.copy()
    two[20:76, 20:76] = (0, 0, 200)
    assert value(two, "object_count") == pytest.approx(2 * one, rel=0.01)
    assert value(two, "hue_count") > value(square, "hue_count") + 0.5
    assert value(two, "centring") < value(square, "centring")


def test_colourfulness_is_the_papers_formula():
    pixels = drawn(1)
    red, green, blue = (pixels[..., channel] / 255 for channel in range(3))
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert value(pixels, "colourfulness") == pytest.approx(expected, rel=1e-6)


def test_attributes_survive_jpeg():
    archive = DATA / "clothing_photos" / "images.zip"
    if not archive.is_file():
        pytest.skip(f"needs {archive}: the noise of drawn pictures is not that of photographs")
    gallery = Gallery(archive)
    pictures = [gallery.pixels(name) for name in gallery.names[:: len(gallery.names) // 60]]
    before = np.array([measure(each) for each in pictures])
    after = np.array([measure(read_picture(encode_jpeg(each, quality=75))) for each in pictures])
    for at, name in enumerate(NAMES):
        assert np.corrcoef(before[:, at], after[:, at])[0, 1] >= 0.95, name


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_moves_its_attribute_one_way(name):
    at = NAMES.index(name)
    spread = np.std([measure(drawn(seed))[at] for seed in range(12)]) + 1e-6
    right = 0
    for seed in range(12):
        pixels = drawn(seed)
        kept = pixels.copy()
        values = [measure(edit(pixels, name, s))[at] for s in (-1, -0.5, 0, 0.5, 1)]
        right += bool((np.diff(values) >= -0.02 * spread).all() and values[-1] > values[0])
        assert (pixels == kept).all()
    assert right >= 11


def test_an_edit_stops_where_more_of_it_would_turn_back():
    """Knitwear up to the edge: no ground, and letters hide more strokes than they bring."""
    rng = np.random.default_rng(8)
    knit = np.where(np.arange(90) % 4 < 2, 30, 220)[None, :, None] + rng.integers(
        -20, 20, (120, 90, 3)
    )
    knit[30:80, 20:60] = 120
    pixels = knit.clip(0, 255).astype(np.uint8)
    at = NAMES.index("text")
    values = [measure(edit(pixels, "text", s))[at] for s in (0, 0.25, 0.5, 0.75, 1)]
    assert (np.diff(values) >= 0).all()
    product = np.full((96, 96, 3), (150, 30, 40), dtype=np.uint8)
    product[20:70, 30:80] = (150, 30, 110)
    product[8:12, 8:90] = (240, 240, 250)
    pixels = (product + rng.integers(-9, 9, product.shape)).clip(0, 255).astype(np.uint8)
    at = NAMES.index("subject_size")
    values = [measure(edit(pixels, "subject_size", s))[at] for s in (-1, -0.5, 0, 0.25, 0.5, 1)]
    assert (np.diff(values) >= 0).all()
    assert values[0] < values[2]


def test_move_reaches_what_was_asked():
    pixels = drawn(3)
    moved = move(pixels, "brightness", 0.1)
    assert moved.reached
    at = NAMES.index("brightness")
    assert moved.after[at] - moved.before[at] == pytest.approx(0.1, abs=0.006)
    assert not move(pixels, "brightness", 5.0).reached
    with pytest.raises(ValueError, match="from -1 to 1"):
        edit(pixels, "brightness", 2)
    assert set(EDITS) == set(ATTRIBUTES)


def bomb():
    """A small PNG that claims 50,000 x 50,000 pixels."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bad_pictures_are_set_aside_with_a_reason(tmp_path):
    good = encode_png(drawn(0))
    files = {
        "good.png": good,
        "bomb.png": bomb(),
        "cut.jpg": encode_jpeg(drawn(1), quality=90)[:2000],
        "text.png": b"not a picture",
        "tiny.png": encode_png(drawn(1)[:4, :4]),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    measured = measure_all(Gallery(tmp_path))
    assert measured.pictures == ("good.png",)
    reasons = dict(measured.aside)
    assert "claims" in reasons["bomb.png"]
    assert "damaged" in reasons["cut.jpg"]
    assert "not a picture" in reasons["text.png"]
    assert "4 x 4" in reasons["tiny.png"]
    write_measured(measured, tmp_path / "a.parquet")
    assert (read_measured(tmp_path / "a.parquet").values == measured.values).all()
    with pytest.raises(DataError, match="outside"):
        Gallery(tmp_path).read("../x.png")


def test_what_does_not_survive_is_marked_noisy(tmp_path):
    """Fine noise is what JPEG and half the size destroy: there the fine attributes are not told."""
    rng = np.random.default_rng(0)
    for seed in range(24):
        grain = rng.normal(0, rng.uniform(1, 60), (112, 84, 3))
        pixels = (drawn(seed, height=112, width=84) * 0.6 + 50 + grain).clip(0, 255)
        (tmp_path / f"{seed:02d}.png").write_bytes(encode_png(pixels.astype(np.uint8)))
    measured = measure_all(Gallery(tmp_path), again=22)
    assert set(measured.stability) == set(NAMES)
    assert {"text", "sharpness"} & set(measured.noisy)
    assert not {"brightness", "warmth"} & set(measured.noisy)
    for name in measured.noisy:
        assert min(measured.stability[name]) < 0.95
    write_measured(measured, tmp_path / "a.parquet")
    assert read_measured(tmp_path / "a.parquet").noisy == measured.noisy
    assert measure_all(Gallery(tmp_path), again=0).stability == {}


def test_transparency_is_put_on_white():
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert value(read_picture(buffer.getvalue()), "brightness") == pytest.approx(1)
