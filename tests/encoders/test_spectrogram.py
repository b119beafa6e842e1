"""The spectrogram against an independent formula, bands against their definition."""

import math

import numpy as np
import pytest
import scipy.signal

from momentary.encoders.spectrogram import (
    MelConfig,
    band_edges_hz,
    log_mel,
    mel_filters,
    mel_power,
    mfcc,
    to_hz,
    to_mel,
)

SMALL = MelConfig(rate_hz=8_000, window=64, hop=40, bands=6, high_hz=4_000.0, gain=100.0)


def noise(samples, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)


def slaney_mel(hertz):
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def slaney_hz(mel):
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def by_the_book(samples, config):
    """M(t, b) summed term by term: a slow Fourier sum and triangles drawn one by one."""
    top = slaney_mel(config.high_hz)
    edges = [slaney_hz(top * step / (config.bands + 1)) for step in range(config.bands + 2)]
    n = config.window
    rows = []
    for start in range(0, len(samples) - n + 1, config.hop):
        frame = [samples[start + i] * (0.5 - 0.5 * math.cos(2 * math.pi * i / n)) for i in range(n)]
        power = []
        for f in range(n // 2 + 1):
            real = sum(x * math.cos(2 * math.pi * i * f / n) for i, x in enumerate(frame))
            imaginary = sum(x * math.sin(2 * math.pi * i * f / n) for i, x in enumerate(frame))
            power.append(real**2 + imaginary**2)
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            total = 0.0
            for f, p in enumerate(power):
                hertz = f * config.rate_hz / n
                if low < hertz <= middle:
                    total += p * (hertz - low) / (middle - low)
                elif middle < hertz < high:
                    total += p * (high - hertz) / (high - middle)
            row.append(total * 2 / (high - low))
        rows.append(row)
    return np.array(rows)


def test_equals_the_sums_of_its_definition():
    samples = noise(300)
    expected = by_the_book(samples.tolist(), SMALL)
    np.testing.assert_allclose(mel_power(samples, SMALL), expected, rtol=2e-4)
    np.testing.assert_allclose(
        log_mel(samples, SMALL), np.log10(1 + 100 * expected), rtol=2e-4, atol=1e-6
    )


def test_power_is_that_of_scipys_short_time_transform():
    config = MelConfig()
    samples = noise(22_050)
    transform = scipy.signal.ShortTimeFFT(
        scipy.signal.windows.hann(config.window, sym=False), config.hop, config.rate_hz
    )
    whole = transform.stft(samples)
    assert config.hop == config.window // 2  # SciPy's slice 1 is centred where our frame 0 is
    first = 1 - transform.p_min
    slices = whole[:, first : first + config.frames(len(samples))]
    expected = (np.abs(slices.T) ** 2) @ mel_filters(config)
    np.testing.assert_allclose(mel_power(samples, config), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tone_hz", [220.0, 1_000.0, 5_000.0])
def test_a_tone_is_loudest_in_the_band_around_it(tone_hz):
    config = MelConfig()
    time = np.arange(22_050) / config.rate_hz
    spectrogram = log_mel(np.sin(2 * np.pi * tone_hz * time).astype(np.float32), config)
    edges = band_edges_hz(config)
    band = int(spectrogram.mean(axis=0).argmax())
    assert edges[band] < tone_hz < edges[band + 2]


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_and_back(scale):
    hertz = np.array([0.0, 50.0, 999.0, 1_000.0, 8_000.0])
    np.testing.assert_allclose(to_hz(to_mel(hertz, scale), scale), hertz, atol=1e-9)
    assert to_mel(np.array([700.0]), "htk")[0] == pytest.approx(2595 * math.log10(2))


def test_band_weights_have_the_area_or_the_sum_that_they_promise():
    area = mel_filters(MelConfig(window=16_384, hop=1024))
    np.testing.assert_allclose(area.sum(axis=0) * 22_050 / 16_384, 1.0, rtol=0.02)
    summed = mel_filters(MelConfig(window=16_384, hop=1024, weights="sum"))
    np.testing.assert_allclose(summed.sum(axis=0), 1.0, rtol=1e-5)


def test_short_sounds_and_silence_have_one_finite_frame():
    assert log_mel(noise(10), SMALL).shape == (1, 6)
    assert not log_mel(np.zeros(64, dtype=np.float32), SMALL).any()
    assert SMALL.frames(10) == SMALL.frames(64) == SMALL.frames(103) == 1
    assert SMALL.frames(104) == 2


def test_the_first_cosine_coefficient_is_the_mean_level():
    mel = noise(600).reshape(-1, 6)
    coefficients = mfcc(mel, count=3)
    assert coefficients.shape == (100, 3)
    np.testing.assert_allclose(coefficients[:, 0], mel.mean(axis=1) * math.sqrt(6), atol=1e-5)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"high_hz": 20_000.0}, "high_hz 20000"),
        ({"low_hz": 9_000.0, "high_hz": 8_000.0}, "low_hz is 9000"),
        ({"bands": 0}, "bands is 0"),
        ({"scale": "bark"}, "scale is 'bark'"),
        ({"weights": "peak"}, "weights is 'peak'"),
    ],
)
def test_bad_settings_are_refused_by_name(bad, named):
    with pytest.raises(ValueError, match=named):
        MelConfig(**bad)
