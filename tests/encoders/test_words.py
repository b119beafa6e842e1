"""Words to vectors: alike texts are near, and nothing is made of nothing."""

import numpy as np

from momentary.encoders.words import word_vectors

TEXTS = [
    "Red mug for tea",
    "Blue mug for coffee",
    "Green tea in a tin",
    "Garden hose 20 m",
    "Hose reel for the garden",
    "unheard",
    "",
]


def cosines(vectors):
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit @ unit.T


def test_texts_that_share_rare_words_are_near():
    near = cosines(word_vectors(TEXTS))
    assert near[3, 4] > 0.9
    assert near[0, 1] > 0.5
    assert abs(near[0, 3]) < 0.3
    assert abs(near[2, 4]) < 0.3


def test_a_text_that_shares_no_word_has_no_vector():
    vectors = word_vectors(TEXTS, width=3)
    assert vectors.shape == (7, 3)
    assert vectors.dtype == np.float32
    assert not vectors[5:].any()
    assert vectors[:5].any(axis=1).all()
    assert word_vectors(["one", "two", ""]).shape == (3, 0)
    assert word_vectors(["", "12 34"]).shape == (2, 0)


def test_cosines_of_all_directions_are_those_of_tf_idf():
    texts = ["a1 tea tea mug", "tea mug jam", "mug jam pot", "pot tea jam jam", "jam pot mug tea"]
    words = ["tea", "mug", "jam", "pot"]
    counts = np.array([[text.split().count(word) for word in words] for text in texts], float)
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    weights *= np.log(len(texts) / (counts > 0).sum(axis=0))
    found = word_vectors(texts, width=3)
    exact = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    left, strength, right = np.linalg.svd(exact, full_matrices=False)
    best = (left[:, :3] * strength[:3]) @ right[:3]
    np.testing.assert_allclose(found @ found.T, best @ best.T, atol=1e-5)


def test_the_same_texts_give_the_same_vectors():
    np.testing.assert_array_equal(word_vectors(TEXTS), word_vectors(TEXTS))
