"""The offline encoders say what is alike."""

import numpy as np
import pytest

from momentary.encoders.colour import ColourHistogram, LabColours
from momentary.encoders.image import EfficientNetLite
from momentary.encoders.text import SentenceEncoder


def plain(colour):
    field = np.full((40, 60, 3), 255, dtype=np.uint8)
    field[10:30, 15:45] = colour
    return field


@pytest.mark.parametrize("encoder", [ColourHistogram(), LabColours()])
def test_colours_are_told_apart_whatever_the_shape(encoder):
    red, blue = plain((200, 20, 30)), plain((20, 30, 200))
    wide = plain((190, 30, 30)).transpose(1, 0, 2)
    vectors = encoder.encode([red, wide, blue])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_greys_that_differ_in_lightness_alone_are_told_apart():
    black, grey, light = LabColours().encode([plain((v, v, v)) for v in (15, 110, 210)])
    assert black @ grey < 0.9
    assert grey @ light < 0.9
    assert LabColours().encode([]).shape == (0, 309)


def test_a_picture_has_one_vector_alone_or_among_others():
    encoder = EfficientNetLite()
    rng = np.random.default_rng(0)
    pictures = [rng.integers(256, size=(30 + i, 50, 3), dtype=np.uint8) for i in range(3)]
    together = encoder.encode(pictures)
    assert together.shape == (3, 1280)
    np.testing.assert_allclose(encoder.encode(pictures[1:2])[0], together[1], atol=1e-5)
    assert encoder.encode([]).shape == (0, 1280)


def test_texts_of_one_meaning_are_nearer():
    cat, kitten, tax = SentenceEncoder().encode(["a small cat", "ein Kätzchen", "tax return form"])
    assert cat @ kitten > cat @ tax + 0.1
    assert not SentenceEncoder().encode(["", " -- "]).any()
