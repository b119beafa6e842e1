"""Checkpoints: whole or not there, and everything in them comes back."""

import numpy as np
import pytest

from momentary.errors import ArtifactError
from momentary.learn.checkpoint import Checkpoint, Checkpoints, chance_of, set_chance

ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "bits": np.array([1, 65535], dtype=np.uint16),
    "none": np.zeros((0, 4), dtype=np.int64),
}


def test_what_is_kept_comes_back(tmp_path):
    kept = Checkpoints(tmp_path / "new" / "folder")
    assert kept.load("run") is None
    facts = {"large": 2**127 + 1, "list": [0.1, 2], "text": "ü"}
    kept.save("run", Checkpoint(arrays=ARRAYS, facts=facts))
    found = Checkpoints(tmp_path / "new" / "folder").load("run")
    assert found.facts == facts
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert kept.load("another") is None
    assert [file.name for file in kept.folder.iterdir()] == ["run.safetensors"]
    kept.clear("run")
    assert kept.load("run") is None


def test_an_interrupted_write_leaves_the_last_whole_one(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    kept.save("run", Checkpoint(arrays=ARRAYS, facts={"at": 1}))

    def fails(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("momentary.learn.checkpoint._sync", fails)
    with pytest.raises(OSError, match="No space"):
        kept.save("run", Checkpoint(arrays=ARRAYS, facts={"at": 2}))
    assert kept.load("run").facts == {"at": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_damaged_file_is_named_with_the_remedy(tmp_path):
    kept = Checkpoints(tmp_path)
    kept.save("run", Checkpoint(arrays=ARRAYS, facts={}))
    whole = kept.file("run").read_bytes()
    for damaged in (whole[:20], b"", whole[:-8]):
        kept.file("run").write_bytes(damaged)
        with pytest.raises(ArtifactError, match="delete it to train from the start"):
            kept.load("run")


def test_the_clock_says_when_the_next_one_is_due(tmp_path):
    now = [0.0]
    kept = Checkpoints(tmp_path, every_s=10, clock=lambda: now[0])
    now[0] = 9.0
    assert not kept.due()
    now[0] = 10.0
    assert kept.due()
    kept.save("run", Checkpoint(arrays={}, facts={}))
    assert not kept.due()
    with pytest.raises(ValueError, match="every_s is -1"):
        Checkpoints(tmp_path, every_s=-1)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.Philox, np.random.MT19937])
def test_chance_goes_on_where_it_stood(bits, tmp_path):
    rng = np.random.Generator(bits(3))
    rng.integers(10, size=7, dtype=np.uint32)
    kept = Checkpoints(tmp_path)
    kept.save("run", Checkpoint(arrays={}, facts={"rng": chance_of(rng)}))
    expected = rng.random(5)
    other = np.random.Generator(bits(99))
    set_chance(other, kept.load("run").facts["rng"])
    np.testing.assert_array_equal(other.random(5), expected)
