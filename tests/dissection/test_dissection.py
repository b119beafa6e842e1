"""Selectivity finds what is there, and the study says when the data support no claim."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from momentary.dissection.selectivity import answers, areas, supported
from momentary.dissection.study import Recordings, dissect, split_sources
from momentary.dissection.tables import read_table
from momentary.errors import DataError
from momentary.models.audio_network import AudioNetworkConfig
from momentary.models.small_filters import SmallFilters

SMALL = AudioNetworkConfig(
    channels=(8, 8), pools=(2, 2), dense=(16,), crop_frames=16, epochs=25, batch_size=8, mask=2
)


def recordings(rng, *, per_label=24, sources_per_label=8, signal=1.0):
    labels = np.repeat(np.arange(3), per_label)
    spectrograms = []
    for label in labels:
        part = rng.uniform(0, 1, (24, 9)).astype(np.float32)
        part[:, 3 * label + 1] += signal
        spectrograms.append(part)
    sources = labels * 100 + np.tile(np.arange(per_label) % sources_per_label, 3)
    return Recordings(
        names=[f"{at}.wav" for at in range(len(labels))],
        spectrograms=spectrograms,
        labels=labels,
        label_names=["bark", "rain", "<b>bell</b>"],
        sources=sources,
    )


def test_area_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    activity = rng.integers(0, 5, (30, 4)).astype(np.float32)
    positive = rng.random(30) < 0.4
    pairs = activity[positive][:, None] - activity[~positive][None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=(0, 1))
    np.testing.assert_allclose(areas(activity, positive), expected)
    with pytest.raises(DataError, match="some must be, not all"):
        areas(activity, np.ones(30, dtype=bool))


def test_a_label_is_chosen_on_one_half_and_scored_on_the_other():
    labels = np.tile(np.arange(4), 20)
    second_half = np.arange(80) >= 40
    one = (labels == 2).astype(np.float32)
    luck = np.where(second_half, 0, labels == 1).astype(np.float32)
    two = np.isin(labels, (0, 3)).astype(np.float32)
    found = answers(np.stack([one, luck, two], axis=1), labels, second_half)
    assert found.label[:2].tolist() == [2, 1]
    np.testing.assert_allclose(found.area[:2], [1.0, 0.5])
    assert {int(found.label[2]), int(found.second[2])} == {0, 3}
    assert found.second_area[2] == 1.0
    assert found.second[:2].tolist() == [-1, -1]
    assert found.share == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="label 0: it has 1 sound on one half"):
        answers(one[:40, None], labels[:40], np.arange(40) >= 36)


def test_a_claim_takes_twice_the_best_comparison():
    assert supported(0.6, [0.1, 0.3], units=40)
    assert not supported(0.5, [0.1, 0.3], units=40)
    assert not supported(0.0, [0.0], units=40)
    assert not supported(0.9, [], units=40)


def test_a_claim_takes_more_than_a_unit_or_two():
    # By Fisher's exact test: 4 of 40 beside none has p = .058, 5 of 40 has .027.
    assert not supported(4 / 40, [0.0], units=40)
    assert supported(5 / 40, [0.0], units=40)
    assert not supported(3 / 4, [1 / 4], units=4)


def test_networks_to_compare_with_are_needed():
    found = recordings(np.random.default_rng(0))
    with pytest.raises(DataError, match="comparisons is 0"):
        dissect(found, config=SMALL, comparisons=0, rng=np.random.default_rng(0))


def test_too_few_sounds_of_a_label_are_named_before_anything_is_trained():
    few = recordings(np.random.default_rng(0), per_label=4, sources_per_label=4)

    def told(_done, _total, _note):
        raise AssertionError("something was trained")

    with pytest.raises(DataError, match=r"two are needed.*bark: it has \d sounds? on one half"):
        dissect(few, config=SMALL, rng=np.random.default_rng(0), progress=told)


def test_a_rare_label_is_left_out_and_the_others_are_compared_with_the_most_frequent():
    rng = np.random.default_rng(5)
    found = recordings(rng, per_label=48, sources_per_label=48)
    rare = [*range(30), *range(48, 51), *range(96, 144)]  # 30 barks, 3 rains, 48 bells
    study = dissect(found.take(np.array(rare)), config=SMALL, comparisons=1, rng=rng)
    assert study.held_out.label_names == ["bark", "<b>bell</b>"]
    assert study.left_out[0].startswith("rain: it has 0 sounds on one half")
    name, share = study.usual
    labels = study.held_out.labels
    assert (name, share) == ("<b>bell</b>", pytest.approx((labels == 1).mean()))
    always = replace(study, told=np.ones_like(labels))
    assert always.accuracy == pytest.approx(share)
    assert always.balanced_accuracy == 0.5


def test_sources_are_never_on_two_sides():
    found = recordings(np.random.default_rng(0))
    parts = split_sources(found, rng=np.random.default_rng(1))
    for source in np.unique(found.sources):
        assert len(set(parts[found.sources == source])) == 1
    for label in range(3):
        assert set(parts[found.labels == label]) == {0, 1, 2}


def test_trained_units_stand_out_and_noise_supports_no_claim():
    rng = np.random.default_rng(3)
    study = dissect(
        recordings(rng, per_label=48, sources_per_label=48), config=SMALL, comparisons=1, rng=rng
    )
    assert study.accuracy > 0.9
    top = study.layers[-1]
    assert top.name == "dense1"
    assert top.answers["maximum"].share > 0.4
    noise = dissect(
        recordings(rng, per_label=48, sources_per_label=48, signal=0.0),
        config=SMALL,
        comparisons=1,
        rng=rng,
    )
    assert noise.layers[-1].answers["maximum"].share < 0.2
    assert not noise.layers[-1].claim("maximum")


def test_a_label_of_one_source_is_left_out_in_plain_words():
    rng = np.random.default_rng(4)
    found = recordings(rng, per_label=32, sources_per_label=32)
    found.sources[found.labels == 1] = 7
    study = dissect(found, config=SMALL, comparisons=1, rng=rng)
    assert study.held_out.label_names == ["bark", "<b>bell</b>"]
    assert "rain: its sounds come from 1 source;" in study.left_out[0]
    found.sources[:] = 7
    with pytest.raises(DataError, match="two are needed"):
        dissect(found, config=SMALL, rng=rng)


def test_small_filters_are_drawn_without_a_place_on_the_mel_axis():
    from momentary.dissection.report import render

    rng = np.random.default_rng(5)
    small = SmallFilters(channels=(4, 6), pools=(2, 2), stride=(1, 1), first=3)
    pages = []
    for config in (replace(SMALL, epochs=1), replace(SMALL, epochs=1, small=small)):
        study = dissect(
            recordings(rng, per_label=32, sources_per_label=32),
            config=config,
            comparisons=1,
            rng=rng,
        )
        pages.append(
            render(
                study,
                title="Toy",
                hear=lambda _: b"",
                seconds_a_frame=0.02,
                bands_hz=np.linspace(100, 5_000, 9),
            )
        )
    assert pages[0].count('alt="filter on the mel axis"') == 8
    assert "small filter" not in pages[0]
    assert pages[1].count('alt="small filter"') == 4
    assert "listen at every height" in pages[1]
    assert "filter on the mel axis" not in pages[1]


def test_the_command_reads_a_folder_and_sets_bad_files_aside(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    from momentary.dissection.sounds import read_collection
    from momentary.encoders.audio import AudioLimits
    from momentary.encoders.spectrogram import MelConfig

    soundfile.write(tmp_path / "a.wav", np.zeros(9_000, np.float32), 22_050)
    (tmp_path / "b.wav").write_bytes(b"nothing")
    with (tmp_path / "items.csv").open("w", newline="") as opened:
        csv.writer(opened).writerows(
            [
                ["clip", "label", "source"],
                ["a.wav", "x", 1],
                ["b.wav", "x", 1],
                ["../../etc/passwd", "x", 1],
            ]
        )
    options = {"mel": MelConfig(), "limits": AudioLimits()}
    rows = read_table(tmp_path / "items.csv", label="label", source="source")
    found = read_collection(tmp_path, rows, **options)
    assert found.recordings.names == ["a.wav"]
    assert "b.wav: it is no WAV" in found.set_aside[0]
    assert "leads out of the folder" in found.set_aside[1]
    with pytest.raises(DataError, match="no column 'fold'"):
        read_table(tmp_path / "items.csv", label="label", source="fold")
