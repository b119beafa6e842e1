import os
from pathlib import Path

import pytest

from momentary.data import datasets
from momentary.data.splits import split_at
from momentary.errors import DataError

DATA = Path(
    os.environ.get("MOMENTARY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def stored(name):
    try:
        return datasets.load(name, data=DATA)
    except DataError as error:
        pytest.skip(str(error))


def test_complete_journey_is_the_real_thing():
    dataset = datasets.load("complete_journey")
    assert dataset.events.num_rows == 1_460_438  # of 1,469,307 lines, those with a quantity
    assert len(set(dataset.events["event_id"].to_pylist())) == 1_460_438
    assert dataset.items.num_rows == 68_257
    milk = dataset.items.filter(
        [name == "FLUID MILK WHITE ONLY, 1 GA" for name in dataset.items["name"].to_pylist()]
    )
    assert milk.num_rows > 0
    assert set(milk["category"].to_pylist()) == {"FLUID MILK PRODUCTS"}


@pytest.mark.parametrize(
    ("name", "train", "test", "targets"),
    [
        ("rsc15_64", 116_167, 15_291, 55_400),
        ("diginetica", 186_670, 15_963, 60_858),
        ("rsc15_100k", 17_794, 3_416, 10_152),
    ],
)
def test_customary_splits_have_the_published_sizes(name, train, test, targets):
    dataset = stored(name)
    split = split_at(dataset.sessions(), dataset.cut_us)
    assert len(split.train.sessions) == train
    assert len(split.test.sessions) == test
    assert int((split.test.sessions.lengths - 1).sum()) == targets
    assert split.audit.leaks == ()


@pytest.mark.parametrize(
    ("name", "events", "items"),
    [
        ("online_retail", 540_570, 3_938),
        ("movielens_100k", 100_000, 1_682),
        ("movielens_1m", 998_539, 3_883),
        ("fashion_products", None, 7_946),
        ("clothing_photos", None, 3_781),
        ("audio_esc10", None, 400),
        ("audio_debian_music", None, 513),
        ("audio_groove_midi", None, 1_150),
    ],
)
def test_stored_sets_load_whole(name, events, items):
    dataset = stored(name)
    assert (dataset.events.num_rows if dataset.events else None) == events
    assert dataset.items.num_rows == items
    assert len(set(dataset.items["item_id"].to_pylist())) == items
    assert dataset.media is None or dataset.media.exists()


def test_a_catalogue_has_no_sessions():
    with pytest.raises(DataError, match="catalogue without events"):
        datasets.Dataset(name="shelf").sessions()


def test_absent_and_unknown_sets_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="MOMENTARY_DATA"):
        datasets.load("rsc15_64", data=tmp_path)
    with pytest.raises(DataError, match="there are audio_debian_music"):
        datasets.load("netflix")
