"""Concepts in words, scored by an encoder that the tests can see through."""

import json
import re

import numpy as np
import pytest

from momentary.errors import DataError
from momentary.moments.gallery import Gallery
from momentary.moments.pixels import encode_png
from momentary.moments.prompts import (
    PromptPair,
    beside,
    judge_direction,
    read_prompted,
    read_prompts,
    score_pictures,
    write_prompted,
)
from momentary.moments.spells import PictureTable
from tests.moments.pictures import drawn

_DIM = 24
_BRIGHT = PromptPair(name="lit", more="light", less="dark", edit="brightness")
_GRAIN = PromptPair(name="grain", more="grain", less="smooth", edit="brightness")


class SeeThrough:
    """Place 0 is brightness, place 1 the fine grain, which half the size takes away."""

    version = "see-through@1"

    def encode_pictures(self, pictures):
        found = np.zeros((len(pictures), _DIM))
        for row, each in enumerate(pictures):
            grey = each.mean(axis=2)
            found[row, 0] = grey.mean() / 255
            found[row, 1] = np.abs(np.diff(grey, axis=1)[:, ::2]).mean() / 255
            found[row, 2] = 1.0
        return (found / np.linalg.norm(found, axis=1)[:, None]).astype(np.float32)

    def encode_texts(self, texts):
        found = np.zeros((len(texts), _DIM))
        for row, each in enumerate(texts):
            found[row, 2] = 0.2
            for word, place, side in (
                ("light", 0, 1),
                ("dark", 0, -1),
                ("grain", 1, 1),
                ("smooth", 1, -1),
            ):
                found[row, place] += side * (word in each)
        return (found / np.linalg.norm(found, axis=1)[:, None]).astype(np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for seed in range(24):
        pixels = drawn(seed, height=224, width=160).astype(float)
        board = 2 * (np.indices(pixels.shape[:2]).sum(axis=0) % 2) - 1
        grain = rng.integers(0, 40) * board[..., None]
        pixels = (pixels * rng.uniform(0.4, 1.0) + grain).clip(0, 255)
        (folder / f"{seed}.png").write_bytes(encode_png(pixels.astype(np.uint8)))
    (folder / "bad.png").write_bytes(b"no")
    return folder


@pytest.fixture(scope="module")
def found(photos):
    return score_pictures(
        Gallery(photos), SeeThrough(), pairs=(_BRIGHT, _GRAIN), rng=np.random.default_rng(0)
    )


def test_scores_say_how_much_more_a_picture_fits_one_text(photos, found):
    gallery = Gallery(photos)
    names = found.table.pictures
    light = np.array([gallery.pixels(name).mean() for name in names])
    assert np.corrcoef(light, found.table.values[:, 0])[0, 1] > 0.9
    assert [name for name, _ in found.aside] == ["bad.png"]


def test_a_concept_follows_its_edit_and_noise_is_marked(found):
    assert found.tests["lit"].agreement == 1.0
    assert found.tests["lit"].p < 0.01
    assert found.table.noisy == ("grain",)


def test_an_edit_that_makes_nothing_of_it_is_found_out():
    rng = np.random.default_rng(2)
    before = rng.normal(size=(60, 40))
    direction = np.eye(40)[0]
    said = [
        judge_direction(direction, before, before + rng.normal(size=before.shape), rng=rng).p
        for _ in range(80)
    ]
    assert np.mean(np.array(said) <= 0.05) < 0.15
    # A strong move along another direction is not this concept, either.
    aside = before + 3 * np.eye(40)[1] + 0.1 * rng.normal(size=before.shape)
    assert judge_direction(direction, before, aside, rng=rng).p > 0.05


def test_concepts_stand_beside_attributes_and_survive_their_file(found, tmp_path):
    write_prompted(found, tmp_path / "c.parquet")
    again = read_prompted(tmp_path / "c.parquet")
    assert again.noisy == ("grain",)
    assert np.array_equal(again.values, found.table.values)
    measured = PictureTable(
        pictures=("3.png", "1.png", "other.png"),
        attributes=("brightness",),
        values=np.array([[3.0], [1.0], [0.0]]),
    )
    both = beside(measured, again)
    assert both.pictures == ("3.png", "1.png")
    assert both.attributes == ("brightness", "lit", "grain")
    assert both.values[0, 0] == 3.0
    assert both.values[1, 1] == again.of(["1.png"])[0, 0]
    with pytest.raises(DataError, match="both"):
        beside(measured, PictureTable(pictures=("x",), attributes=("a",), values=np.zeros((1, 1))))


def test_what_is_no_concept_is_refused(tmp_path):
    for wrong in ({"name": "brightness"}, {"less": "light"}, {"edit": "beauty"}):
        with pytest.raises(ValueError, match=re.compile("attribute's|different texts|no edit")):
            PromptPair(**({"name": "lit", "more": "light", "less": "dark"} | wrong))
    with pytest.raises(DataError, match="other words"):
        score_pictures(
            Gallery(tmp_path),
            SeeThrough(),
            pairs=(PromptPair(name="odd", more="what", less="ever"),),
            rng=np.random.default_rng(0),
        )
    with pytest.raises(DataError, match="no picture"):
        score_pictures(
            Gallery(tmp_path), SeeThrough(), rng=np.random.default_rng(0), pairs=(_BRIGHT,)
        )
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps([{"name": "worn", "more": "worn", "less": "bare"}]))
    assert read_prompts(file)[0].edit == ""
    file.write_text('[{"name": "worn"}]')
    with pytest.raises(DataError, match="list of concepts"):
        read_prompts(file)
    with pytest.raises(DataError, match="not a table of concepts"):
        read_prompted(file)
