"""Small filters know a shape at every height, and refuse what leaves nothing to hear."""

import numpy as np
import pytest
import torch

from momentary.errors import DataError
from momentary.models.audio_network import AudioNetwork, AudioNetworkConfig
from momentary.models.small_filters import SmallFilterLayers, SmallFilters

FILTERS = SmallFilters(channels=(8, 8), pools=(2, 2), stride=(1, 2), first=3)
SMALL = AudioNetworkConfig(
    small=FILTERS, dense=(16,), crop_frames=16, epochs=25, batch_size=8, mask=2
)
BANDS = 24


def sweeps(labels, rng, *, heights):
    """Tones that rise (label 0) or fall (label 1) in noise, from some band upwards."""
    made = []
    for label in labels:
        part = rng.uniform(0, 0.3, (20, BANDS)).astype(np.float32)
        start, low = int(rng.integers(0, 4)), int(rng.choice(heights))
        for at in range(12):
            part[start + at, low + (at if label == 0 else 11 - at) // 2] += 2.0
        made.append([part])
    return made


def test_what_was_learned_at_some_heights_is_known_at_others():
    rng = np.random.default_rng(0)
    labels, unheard = np.arange(96) % 2, np.arange(40) % 2
    sounds = sweeps(labels, rng, heights=(1, 5, 9, 17))
    fresh = sweeps(unheard, rng, heights=(13,))
    learned = AudioNetwork(SMALL).fit(sounds, labels=labels, rng=np.random.default_rng(1))
    assert (learned.classify(fresh).argmax(axis=1) == unheard).mean() > 0.9
    twin = AudioNetwork(SMALL).fit(sounds, labels=labels, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(learned.classify(fresh), twin.classify(fresh))
    restored = AudioNetwork.from_state(SMALL, learned.state())
    np.testing.assert_array_equal(restored.classify(fresh), learned.classify(fresh))


def test_a_first_layer_is_the_sum_over_its_frames_and_bands():
    layers = SmallFilterLayers(FILTERS, bands=BANDS).eval()
    layers.start(torch.Generator().manual_seed(0))
    x = torch.rand(1, 10, BANDS, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        h = layers.convolved(x, layer=0)[0].numpy()
    assert h.shape == (8, 10, 12)  # every frame, every second band
    weights = layers.convolutions[0].weight[3, 0].detach().numpy()  # (frames, bands)
    expected = (x[0].numpy()[3:6, 5:8] * weights).sum()
    np.testing.assert_allclose(h[3, 4, 3], max(0.0, expected) / np.sqrt(1 + 1e-5), rtol=1e-4)


def test_units_say_when_they_heard_something():
    sounds = sweeps(np.arange(16) % 2, np.random.default_rng(2), heights=(3,))
    learned = AudioNetwork(SMALL).fit(
        sounds, labels=np.arange(16) % 2, rng=np.random.default_rng(3)
    )
    assert learned.first_filters().shape == (8, 3, 3)
    quiet = np.zeros((64, BANDS), np.float32)
    quiet[40:44, 5] = 3.0
    for layer, step in (("conv1", 1), ("conv2", 2)):
        response = learned.respond(quiet, layer=layer)
        assert response.values.shape == (64 // step, 8)
        loudest = response.starts[np.abs(response.values - response.values[2]).sum(1).argmax()]
        assert 40 - response.frames <= loudest <= 43
    assert SMALL.span(0) == (1, 3)
    assert SMALL.span(1) == (2, 8)  # 3, one more for the pool, twice two steps of two frames


def test_bad_settings_are_refused_with_the_remedy():
    for wrong, says in (
        ({"channels": (8,), "pools": (2, 2)}, "give each layer one of both"),
        ({"stride": (0, 4)}, "each must be 1 or more"),
        ({"then": 4}, "it must be odd"),
        ({"first": 0}, "must be from 1 to 99"),
    ):
        with pytest.raises(ValueError, match=says):
            SmallFilters(**wrong)
    with pytest.raises(ValueError, match=r"crop_frames is 8; .* at least 16"):
        AudioNetworkConfig(crop_frames=8, small=SmallFilters())
    with pytest.raises(DataError, match=r"there are 28 bands; .* need 29 or more"):
        SmallFilters().heights(28)
    assert SmallFilters().heights(29) == 1
    assert SmallFilters().heights(128) == 4
