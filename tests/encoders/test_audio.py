"""Sounds are read within limits; whatever cannot be used is refused with its reason."""

import io
import os
import struct

import numpy as np
import pytest

from momentary.encoders.audio import MFCC, AudioLimits, Sound, log_mels, read_sound, resample
from momentary.encoders.spectrogram import MelConfig
from momentary.errors import DataError

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed (extra media)")

RATE_HZ = 22_050


def tone(seconds, *, hertz=440.0, rate_hz=RATE_HZ):
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def written(samples, kind="WAV", *, subtype=None, rate_hz=RATE_HZ):
    """A file's content; in pieces, because libsndfile overruns its stack on long Vorbis ones."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with io.BytesIO() as held:
        with soundfile.SoundFile(
            held, "w", rate_hz, channels, format=kind, subtype=subtype
        ) as file:
            for start in range(0, len(samples), 4096):
                file.write(samples[start : start + 4096])
        return held.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [("WAV", "PCM_16", 1e-4), ("FLAC", None, 1e-4), ("OGG", "VORBIS", 0.05), ("MP3", None, 0.1)],
)
def test_reads_what_was_written_whatever_the_file_is_called(tmp_path, kind, subtype, tolerance):
    samples = tone(2.0)
    file = tmp_path / "picture.jpg"
    file.write_bytes(written(samples, kind, subtype=subtype))
    for source in (file, file.read_bytes()):
        sound = read_sound(source)
        assert sound.rate_hz == RATE_HZ
        assert sound.seconds == pytest.approx(2.0, abs=0.1)
        (heard,) = sound.excerpts
        middle = slice(RATE_HZ // 2, RATE_HZ)
        loudness = np.sqrt(np.mean(heard[middle] ** 2))
        assert loudness == pytest.approx(np.sqrt(np.mean(samples[middle] ** 2)), rel=tolerance)


def test_a_long_track_is_heard_in_excerpts_spread_over_it():
    steps = np.repeat(np.array([0.1, 0.3, 0.5, 0.7, 0.9], np.float32), RATE_HZ)
    limits = AudioLimits(excerpt_s=1.0, excerpts=2)
    sound = read_sound(written(steps, "FLAC"), limits=limits)
    assert sound.seconds == 5.0
    assert [len(excerpt) for excerpt in sound.excerpts] == [RATE_HZ, RATE_HZ]
    np.testing.assert_allclose(
        [excerpt.mean() for excerpt in sound.excerpts], [0.3, 0.7], atol=1e-4
    )
    barely = read_sound(written(steps[: RATE_HZ + 5], "FLAC"), limits=limits)
    assert len(barely.excerpts) == 1


def test_channels_are_averaged_and_loud_ones_scaled():
    stereo = np.stack([np.full(1000, 0.2), np.full(1000, 0.6)], axis=1).astype(np.float32)
    (heard,) = read_sound(written(stereo)).excerpts
    np.testing.assert_allclose(heard, 0.4, atol=1e-4)
    (loud,) = read_sound(written(tone(0.1) * 8, subtype="FLOAT")).excerpts
    assert np.abs(loud).max() == pytest.approx(1.0)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000, 44_101])
def test_resampling_keeps_the_pitch(rate_hz):
    heard = resample(tone(1.0, rate_hz=rate_hz), from_hz=rate_hz, to_hz=RATE_HZ)
    assert len(heard) == pytest.approx(RATE_HZ, rel=0.001)
    loudest = np.abs(np.fft.rfft(heard)).argmax() * RATE_HZ / len(heard)
    assert loudest == pytest.approx(440, abs=2)


def nan_inside():
    samples = tone(0.5)
    samples[100] = np.nan
    return written(samples, subtype="FLOAT")


def lying_flac():
    """A FLAC whose header promises two hours."""
    content = bytearray(written(tone(1.0), "FLAC"))
    at = content.index(b"fLaC") + 8 + 10
    packed = int.from_bytes(content[at : at + 8], "big")
    packed = (packed >> 36 << 36) | (7200 * RATE_HZ)
    content[at : at + 8] = packed.to_bytes(8, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no WAV, FLAC, Ogg, MP3 or AIFF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no WAV"),
        (b"RIFF", "cut off: 4 bytes of the 8"),
        (b"OggS" + bytes(200), "no sound that can be read"),
        (b"\xff\xfb" + bytes(range(256)) * 4, "no sound that can be read"),
        (written(tone(2.0))[:10_000], "cut off: 10,000 bytes of the 88,244"),
        (written(tone(2.0), "FLAC")[:8_000], "."),
        (written(tone(2.0), "MP3")[:3_000], r"ends after \d+.\d seconds of the 2"),
        (written(np.zeros(0, np.float32)), "holds no sound"),
        (written(np.zeros((100, 20), np.float32)), "20 channels"),
        (written(tone(0.1), rate_hz=1_000), "1,000 samples a second"),
        (nan_inside(), "no numbers"),
        (lying_flac(), "."),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(content, reason):
    with pytest.raises(DataError, match=reason):
        read_sound(content)


def test_large_long_and_endless_files_are_refused_unread(tmp_path):
    content = written(tone(2.0))
    with pytest.raises(DataError, match="at most 1,000 are read"):
        read_sound(content, limits=AudioLimits(max_bytes=1_000))
    with pytest.raises(DataError, match="lasts 2 seconds"):
        read_sound(content, limits=AudioLimits(max_s=1.0))
    pipe = tmp_path / "endless.wav"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="no regular file"):
        read_sound(pipe)
    with pytest.raises(DataError, match="cannot be opened"):
        read_sound(tmp_path / "nowhere.ogg")


def test_a_stream_that_does_not_know_its_size_is_read():
    content = bytearray(written(tone(1.0)))
    content[4:8] = struct.pack("<I", 0xFFFFFFFF)
    assert read_sound(bytes(content)).seconds == pytest.approx(1.0)


def test_damaged_bytes_never_do_worse_than_a_reason():
    rng = np.random.default_rng(0)
    for kind, subtype in (("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)):
        whole = np.frombuffer(written(tone(0.5), kind, subtype=subtype), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            hit = rng.integers(len(damaged), size=int(rng.integers(1, 30)))
            damaged[hit] = rng.integers(256, size=len(hit))
            try:
                sound = read_sound(damaged.tobytes())
            except DataError:
                continue
            assert all(np.isfinite(excerpt).all() for excerpt in sound.excerpts)


def test_mfcc_tells_timbres_apart_and_averages_over_excerpts():
    rng = np.random.default_rng(1)
    low, high = tone(1.0, hertz=200), tone(1.0, hertz=4_000)
    hiss = rng.uniform(-0.5, 0.5, RATE_HZ).astype(np.float32)
    sounds = [Sound(excerpts=(each,), rate_hz=RATE_HZ, seconds=1.0) for each in (low, high, hiss)]
    vectors = MFCC().encode(sounds)
    assert vectors.shape == (3, 60)
    both = Sound(excerpts=(low, hiss), rate_hz=RATE_HZ, seconds=60.0)
    np.testing.assert_allclose(
        MFCC().encode([both])[0], (vectors[0] + vectors[2]) / 2, rtol=1e-4, atol=1e-4
    )
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    assert distances[np.triu_indices(3, 1)].min() > 1
    assert MFCC().encode([]).shape == (0, 60)


def test_spectrograms_are_at_the_rate_that_they_are_asked_for():
    sound = read_sound(written(tone(1.0, rate_hz=44_100), rate_hz=44_100))
    (mel,) = log_mels(sound, MelConfig())
    assert mel.shape == (MelConfig().frames(RATE_HZ), 128)


def test_bad_limits_are_refused():
    with pytest.raises(ValueError, match="excerpts is 0"):
        AudioLimits(excerpts=0)
