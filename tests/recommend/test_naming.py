"""What a name tells of a tag, and when it is not believed."""

import numpy as np

from momentary.recommend.naming import LEAST_CHECKED, filled_by_name, named_values

COLOURS = ["", "Blue", "Navy Blue", "Red"]


def test_the_longest_value_counts_and_two_values_tell_none():
    names = ["Kiln Navy Blue T-shirts", "blues", "Red and Blue scarf", "Blueberry jam", "", None]
    assert named_values(names, COLOURS).tolist() == [2, 1, -1, -1, -1, -1]
    # Said twice is not said differently; a hyphen joins.
    assert named_values(["Red sock, red heel", "Navy-Blue sock"], COLOURS).tolist() == [3, -1]
    assert named_values(["T-shirt", "t shirt", "TSHIRTS"], ["Tshirts"]).tolist() == [0, -1, 0]


def test_values_of_the_same_words_are_told_apart_by_no_name():
    assert named_values(["Red mug"], ["Red", "red"]).tolist() == [-1]
    assert named_values(["!"], ["!", "?"]).tolist() == [-1]
    assert named_values(["Red mug"], []).tolist() == [-1]


def test_gaps_are_filled_and_tags_stay():
    names = ["Red mug", "Blue mug"] * LEAST_CHECKED + ["Red vase", "Green vase", "Blue vase"]
    codes = np.array([3, 1] * LEAST_CHECKED + [-1, -1, 2])
    before = codes.copy()
    assert filled_by_name(codes, names, COLOURS)[-3:].tolist() == [3, -1, 2]
    np.testing.assert_array_equal(codes, before)


def test_names_that_lie_are_not_believed():
    """Of a tenth and more whose name and tag differ, nothing is filled."""
    names = ["Red Tape shoe"] * 40 + ["Red Tape boot"]
    for lying, filled in ((3, 3), (5, -1)):
        codes = np.array([1] * lying + [3] * (40 - lying) + [-1])
        assert filled_by_name(codes, names, COLOURS)[-1] == filled


def test_too_few_to_check_are_not_believed():
    for count, filled in ((LEAST_CHECKED - 1, -1), (LEAST_CHECKED, 3)):
        codes = np.array([3] * count + [-1])
        assert filled_by_name(codes, ["Red mug"] * (count + 1), COLOURS)[-1] == filled
