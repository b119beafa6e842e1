"""Films: scenes are found, hostile files refused, the sound track heard."""

import numpy as np
import pytest

from momentary.encoders.colour import ColourHistogram
from momentary.encoders.video import FilmEncoder, VideoLimits, read_film
from momentary.errors import DataError
from tests.encoders.films import BLUE, GREEN, RED, film

pytest.importorskip("av")


@pytest.mark.parametrize("kind", ["mp4", "matroska", "avi"])
def test_every_scene_is_seen_once_where_it_changes(kind):
    found = read_film(film([RED, GREEN, BLUE], kind=kind), limits=VideoLimits(frames=3))
    middles = [frame[24, 32].astype(int) for frame in found.frames]
    for middle, colour in zip(middles, (RED, GREEN, BLUE), strict=True):
        assert np.abs(middle - colour).max() < 40
    np.testing.assert_allclose(found.shares, 1 / 3, atol=0.03)
    assert found.seconds == pytest.approx(3, abs=0.2)
    assert found.sound is None


def test_a_short_scene_is_not_missed_and_counts_little():
    raw = film([RED], frames_each=40) + b""
    both = film([RED] * 10 + [BLUE], frames_each=4)
    found = read_film(both, limits=VideoLimits(frames=2))
    assert found.shares[1] < 0.15
    encoder = FilmEncoder(ColourHistogram())
    red, mixed, blue = encoder.encode([read_film(each) for each in (raw, both, film([BLUE]))])
    assert red @ mixed > mixed @ blue > red @ blue
    assert np.linalg.norm(mixed) == pytest.approx(1, abs=1e-5)


def test_the_sound_track_is_heard():
    sound = read_film(film([RED, GREEN], sound_hz=440)).sound
    assert sound is not None
    (excerpt,) = sound.excerpts
    assert len(excerpt) / sound.rate_hz == pytest.approx(2, abs=0.2)
    spectrum = np.abs(np.fft.rfft(excerpt))
    assert spectrum.argmax() * sound.rate_hz / len(excerpt) == pytest.approx(440, abs=3)


def test_of_long_films_only_the_frames_that_others_build_on_are_decoded():
    found = read_film(film([RED, BLUE], frames_each=30), limits=VideoLimits(max_decoded=20))
    assert 1 <= len(found.frames) <= 6  # one in twelve is whole


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no MP4"),
        (b"\0\0\0\x18ftypmp42" + bytes(60), "no film that can be read|no frame|no pictures"),
        (film([RED])[:500], "no film that can be read|no frame|no pictures"),
        (b"\x1aE\xdf\xa3" + bytes(range(200)), "no film that can be read|no frame|no pictures"),
    ],
)
def test_what_is_no_film_is_refused_with_its_reason(raw, reason):
    with pytest.raises(DataError, match=reason):
        read_film(raw)


def test_large_and_long_films_are_refused():
    raw = film([RED, GREEN])
    for limits, reason in (
        (VideoLimits(max_bytes=100), "bytes"),
        (VideoLimits(max_pixels=1_000), "64 x 48"),
        (VideoLimits(max_s=1), "it lasts 2 s"),
    ):
        with pytest.raises(DataError, match=reason):
            read_film(raw, limits=limits)
