import pytest
from hypothesis import given
from hypothesis import strategies as st

from momentary.data.vocabulary import Vocabulary


@given(st.lists(st.text(), unique=True))
def test_any_strings_go_there_and_back(ids):
    vocabulary = Vocabulary(ids)
    assert vocabulary.indices(ids).tolist() == list(range(len(ids)))
    assert vocabulary.array().tolist() == ids
    assert all(each in vocabulary for each in ids)


def test_unknown_is_minus_one_and_never_an_item():
    assert Vocabulary(["a"]).index("b") == -1
    assert Vocabulary([]).indices(["a"]).tolist() == [-1]


def test_an_id_twice_is_refused_by_name():
    with pytest.raises(ValueError, match="'b' is on the list twice"):
        Vocabulary(["a", "b", "c", "b"])
