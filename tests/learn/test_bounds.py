from types import SimpleNamespace

import pytest

from momentary.learn.bounds import require_choices, require_negatives, require_ranges

CONFIG = SimpleNamespace(loss="hinge", epochs=0, momentum=float("nan"))


def test_a_wrong_choice_is_named_with_the_right_ones():
    require_choices(CONFIG, {"loss": ("hinge", "log")})
    with pytest.raises(ValueError, match="loss is 'hinge'; it must be one of log, square"):
        require_choices(CONFIG, {"loss": ("log", "square")})


@pytest.mark.parametrize("name", ["epochs", "momentum"])
def test_a_value_outside_its_range_is_named_with_the_range(name):
    with pytest.raises(ValueError, match=f"{name} is .*; it must be from 1 to 9"):
        require_ranges(CONFIG, {name: (1, 9)})


def test_the_ends_of_a_range_are_inside():
    require_ranges(CONFIG, {"epochs": (0, 9)})
    require_ranges(CONFIG, {"epochs": (-9, 0)})
    assert CONFIG.epochs == 0


def test_one_session_alone_needs_a_drawn_item():
    require_negatives(batch_size=2, n_sample=0)
    with pytest.raises(ValueError, match="no negative"):
        require_negatives(batch_size=1, n_sample=0)
