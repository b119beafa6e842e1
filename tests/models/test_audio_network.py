"""The audio network finds a signal, finds none in noise, and gives the same twice."""

import math

import numpy as np
import pytest

from momentary.errors import DataError, NotFittedError
from momentary.models.audio_network import AudioNetwork, AudioNetworkConfig

SMALL = AudioNetworkConfig(
    channels=(8, 8), pools=(2, 2), dense=(16,), crop_frames=16, epochs=25, batch_size=8, mask=2
)
BANDS = 12


def tracks(labels, rng, *, excerpts=1):
    """Noise with one loud band a label. Excerpts of 20 to 40 frames, some shorter than a crop."""
    made = []
    for label in labels:
        parts = []
        for _ in range(excerpts):
            part = rng.uniform(0, 1, (int(rng.integers(10, 40)), BANDS)).astype(np.float32)
            part[:, 3 * label + 1] += 1.0
            parts.append(part)
        made.append(parts)
    return made


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    factors = np.eye(4, 6, dtype=np.float32)[labels] * rng.uniform(1, 9, (64, 1))
    sounds = tracks(labels, rng, excerpts=2)
    learned = AudioNetwork(SMALL).fit(
        sounds, factors=factors.astype(np.float32), labels=labels, rng=np.random.default_rng(1)
    )
    return learned, sounds, labels


def test_new_items_get_the_label_and_the_factors_of_their_like(world):
    learned, _, _ = world
    labels = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    fresh = tracks(labels, np.random.default_rng(9))
    chances = learned.classify(fresh)
    assert (chances.argmax(axis=1) == labels).all()
    np.testing.assert_allclose(np.exp(chances).sum(axis=1), 1.0, rtol=1e-5)
    factors = learned.predict(fresh)
    assert factors.shape == (8, 6)
    assert (factors.argmax(axis=1) == labels).all()
    assert np.linalg.norm(factors, axis=1).max() < 1.5  # length 1, whatever the popularity


def test_shuffled_labels_leave_new_items_at_chance():
    rng = np.random.default_rng(2)
    true = np.arange(64) % 4
    learned = AudioNetwork(SMALL).fit(tracks(true, rng), labels=rng.permutation(true), rng=rng)
    fresh = np.arange(80) % 4
    right = (learned.classify(tracks(fresh, rng)).argmax(axis=1) == fresh).mean()
    assert right < 0.6


def test_the_same_seed_gives_the_same_network_and_state_restores_it(world):
    learned, sounds, labels = world
    config = AudioNetworkConfig(**{**_as_settings(SMALL), "epochs": 2})
    twins = [
        AudioNetwork(config).fit(sounds, labels=labels, rng=np.random.default_rng(3))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(twins[0].classify(sounds), twins[1].classify(sounds))
    restored = AudioNetwork.from_state(SMALL, learned.state())
    np.testing.assert_array_equal(restored.predict(sounds), learned.predict(sounds))


def _as_settings(config):
    return {name: getattr(config, name) for name in config.__slots__}


def test_an_item_alone_is_as_among_others_and_averages_its_excerpts(world):
    learned, sounds, _ = world
    together = learned.embed(sounds[:5])
    np.testing.assert_allclose(learned.embed(sounds[2:3]), together[2:3], rtol=1e-4, atol=1e-5)
    whole = np.tile(sounds[0][0], (2, 1))[:16]
    pair = learned.predict([[whole, whole]])
    np.testing.assert_allclose(pair, learned.predict([[whole]]), rtol=1e-4, atol=1e-6)
    assert learned.predict([]).shape == (0, 6)


def test_pooling_over_time_is_the_papers(world):
    """The global layer is mean, maximum and root mean square of the last convolution."""
    import torch

    from momentary.models.audio_network import Drop

    learned, sounds, _ = world
    network = learned._network
    x = torch.from_numpy(np.tile(sounds[0][0], (2, 1))[None, :16])
    h = torch.nn.functional.max_pool1d(network.convolved(x, layer=1), 2)[0].numpy()
    expected = np.concatenate([h.mean(1), h.max(1), np.sqrt((h**2).mean(1))])
    pooled = network.densed(x, Drop(), layer=-1)[0].numpy()
    np.testing.assert_allclose(pooled, expected, atol=2e-3)


def test_units_respond_where_the_sound_is(world):
    learned, _, _ = world
    quiet = np.zeros((64, BANDS), np.float32)
    quiet[40:44] = 3.0
    response = learned.respond(quiet, layer="conv1")
    assert response.values.shape == (64, 8)
    loudest = response.starts[np.abs(response.values - response.values[0]).sum(1).argmax()]
    assert 36 <= loudest <= 46
    dense = learned.respond(quiet, layer="dense1")
    assert dense.values.shape == (len(dense.starts), 16)
    assert dense.frames == 16
    with pytest.raises(ValueError, match="conv1, conv2, dense1"):
        learned.respond(quiet, layer="conv9")


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    sounds = tracks(np.arange(8) % 4, rng)
    network = AudioNetwork(SMALL)
    with pytest.raises(NotFittedError):
        network.predict(sounds)
    with pytest.raises(DataError, match="nothing to learn from"):
        network.fit(sounds, rng=rng)
    with pytest.raises(DataError, match="8 tracks but 3 rows of labels"):
        network.fit(sounds, labels=np.zeros(3, np.int64), rng=rng)
    with pytest.raises(DataError, match="give batch_size, 8, or more"):
        network.fit(sounds[:3], labels=np.zeros(3, np.int64), rng=rng)
    with pytest.raises(DataError, match="no excerpt"):
        network.fit([*sounds, []], labels=np.zeros(9, np.int64), rng=rng)
    with pytest.raises(ValueError, match="crop_frames is 3"):
        AudioNetworkConfig(crop_frames=3)
    assert math.isclose(AudioNetworkConfig().label_weight, 1.0)
