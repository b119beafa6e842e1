"""Units of a picture network, judged beside untrained networks and shuffled labels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from momentary.dissection.findings import chosen_layers
from momentary.dissection.parts import deal_sources, halve, shuffled
from momentary.dissection.picture_report import render_pictures
from momentary.dissection.pictures import Photos, dissect_pictures
from momentary.dissection.tables import draw, read_table
from momentary.encoders.bottlenecks import Block, Bottlenecks, Convolution, Rectified
from momentary.errors import DataError

COLOURS = {"red": (220, 20, 30), "green": (20, 200, 40), "<b>blue</b>": (20, 30, 220)}


def convolution(weight, *, stride=1, groups=1):
    return Convolution(
        weight=torch.as_tensor(weight, dtype=torch.float32),
        bias=torch.zeros(len(weight)),
        stride=stride,
        groups=groups,
    )


def toy(side=32):
    """Its stem has a unit for each colour, and its head the same at half the detail."""
    opposed = np.full((3, 3, 1, 1), -1.0)
    opposed[np.arange(3), np.arange(3)] = 1
    one = np.eye(3)[:, :, None, None]
    return Bottlenecks(
        steps=[
            Rectified(convolution=convolution(np.repeat(np.repeat(opposed, 3, 2), 3, 3) / 9)),
            Block(
                widen=None,
                filter=convolution(np.ones((3, 1, 3, 3)) / 9, stride=2, groups=3),
                narrow=convolution(one),
            ),
            Rectified(convolution=convolution(one)),
        ],
        side=side,
    )


def photos(rng, *, count=90, sources=None):
    names = list(COLOURS)
    labels = [names[n % 3] for n in range(count)]
    pictures = []
    for label in labels:
        field = rng.integers(100, 156, (32, 32, 3)).astype(np.uint8)
        row, column = rng.integers(2, 22, 2)
        field[row : row + 8, column : column + 8] = COLOURS[label]
        pictures.append(field)

    def read(row):
        if row == 4:
            raise DataError("it is damaged.")
        return pictures[3 if row == 6 else row]

    given = sources or [f"product {n // 2}" for n in range(count)]
    files = [f"{n}.png" for n in range(count)]
    return Photos(names=files, labels=labels, sources=given, read=read)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(0)
    return dissect_pictures(photos(rng), toy(), comparisons=2, rng=rng)


def test_units_answer_to_their_colour_and_shuffled_labels_do_not(study):
    assert [layer.name for layer in study.layers] == ["stem", "head"]
    for layer in study.layers:
        found = layer.answers["mean"]
        assert sorted(study.label_names[at] for at in found.label) == sorted(COLOURS)
        assert found.share == 1.0
        shares = layer.comparisons["mean"]
        assert len(shares["untrained"]) == len(shares["shuffled labels"]) == 2
        assert shares["shuffled labels"] == [0.0, 0.0]


def test_unusable_and_repeated_pictures_are_set_aside(study):
    assert study.set_aside == [
        "4.png: it is damaged.",
        "6.png: it is the same picture as 3.png.",
    ]
    assert len(study.rows) == len(study.labels) == 88
    assert 4 not in study.rows


def test_no_source_is_on_two_sides(study):
    sources = np.array(study.photos.sources)[study.rows]
    assert not set(sources[study.second_half]) & set(sources[~study.second_half])
    assert study.sources == len(set(sources))


def test_the_place_of_the_maximum_is_where_the_colour_is(study):
    layer = study.layers[0]
    for picture in range(0, len(study.rows), 9):
        unit = list(COLOURS).index(study.label_names[study.labels[picture]])
        row, column = layer.activity.peaks[:, picture, unit]
        field = study.photos.read(int(study.rows[picture]))
        assert tuple(field[row, column]) == COLOURS[list(COLOURS)[unit]]


def test_the_report_stands_alone_and_escapes_names(study):
    page = render_pictures(study, title="Toy", caveats=["Mugs & bowls."])
    assert page.count('<article class="unit"') == 6
    assert page.count("<figure") == 24
    assert "&lt;b&gt;blue&lt;/b&gt;" in page
    assert "<b>blue" not in page
    assert "Mugs &amp; bowls." in page
    assert "no network exists that learned shuffled labels" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_a_place_sees_what_reach_says():
    network = toy(side=16)
    for layer in network.layers:
        reach = network.reach(layer)
        for place in (2, 3):
            squares = np.zeros((1, 16, 16, 3), dtype=np.uint8)
            before = network.respond(squares, layers=[layer])[layer][0, :, place, place]
            first, stop = (max(reach.start + place * reach.step, 0), 0)
            stop = first + reach.side
            inside, outside = squares.copy(), np.full_like(squares, 255)
            outside[:, first:stop, first:stop] = 0
            inside[:, stop - 1, stop - 1] = (255, 0, 0)
            other = network.respond(outside, layers=[layer])[layer][0, :, place, place]
            torch.testing.assert_close(other, before)
            other = network.respond(inside, layers=[layer])[layer][0, :, place, place]
            assert not torch.equal(other, before)


def test_untrained_outputs_are_normalised_and_the_network_is_left_alone():
    network, rng = toy(), np.random.default_rng(1)
    before = network.steps[0].convolutions[0].weight.clone()
    squares = rng.integers(256, size=(8, 32, 32, 3), dtype=np.uint8)
    drawn = network.untrained(squares, rng=rng)
    assert torch.equal(network.steps[0].convolutions[0].weight, before)
    assert drawn.layers == network.layers
    block = drawn.respond(squares, layers=["stage1"])["stage1"]
    torch.testing.assert_close(block.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    variance = block.var((0, 2, 3), correction=0)
    torch.testing.assert_close(variance, torch.ones(3), atol=0.2, rtol=0)


def test_sources_and_labels_too_few_are_named():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"two are needed.*1 source;"):
        dissect_pictures(photos(rng, sources=["one"] * 90), toy(), rng=rng)
    labels = np.array([0] * 20 + [1] * 20 + [2] * 6)
    halves = halve(labels, ["a", "b", "c"], np.arange(46), rng=rng)
    assert halves.label_names == ["a", "b"]
    assert halves.left_out == [
        "c: one half of the sources has 3 of its pictures and needs 5, so nothing is claimed."
    ]
    with pytest.raises(DataError, match="comparisons is 0"):
        dissect_pictures(photos(rng), toy(), comparisons=0, rng=rng)
    with pytest.raises(DataError, match="no layer 'stage9'; there are stem, stage1, head"):
        dissect_pictures(photos(rng), toy(), layers=["stage9"], rng=rng)


def test_shuffled_labels_keep_their_counts_and_sources_together():
    rng = np.random.default_rng(2)
    sources = np.repeat(np.arange(30), 4)
    labels = sources % 3
    mixed = shuffled(labels, sources, rng=rng)
    assert np.bincount(mixed).tolist() == np.bincount(labels).tolist()
    assert all(len(set(mixed[sources == each])) == 1 for each in range(30))
    assert (mixed == labels).mean() < 0.7
    parts = deal_sources(labels, sources, shares=(0.5, 0.5), rng=rng)
    assert np.bincount(parts).tolist() == [60, 60]


def test_layers_come_lowest_first():
    there = ("conv1", "conv2", "dense1")
    assert chosen_layers(["dense1", "conv2"], there=there) == ["conv2", "dense1"]


def test_tables_name_files_by_any_column(tmp_path):
    table = tmp_path / "items.csv"
    table.write_text("\ufeffid,image,type\n1,1.jpg,mug\n2,2.jpg,\n", encoding="utf-8")
    rows = read_table(table, label="type", source=None, file="image")
    assert [tuple(row) for row in rows] == [("1.jpg", "mug", "1.jpg"), ("2.jpg", "", "2.jpg")]
    assert len(draw(rows, 1, rng=np.random.default_rng(0))) == 1
    with pytest.raises(DataError, match=r"no column 'kind'; it has id, image, type"):
        read_table(table, label="kind", source=None)


def test_the_command_looks_into_the_packaged_encoder(tmp_path, run):
    rng, folder, rows = np.random.default_rng(0), tmp_path / "photos", ["file,label,source"]
    folder.mkdir()
    for n in range(24):
        label = ("red", "green")[n % 2]
        field = np.full((24, 20, 3), 255, dtype=np.uint8)
        field[4:20, 4:16] = np.clip(np.array(COLOURS[label]) + rng.integers(-20, 20), 0, 255)
        field[n % 20, 0] = n  # no two are the same
        Image.fromarray(field).save(folder / f"{n}.png")
        rows.append(f"{n}.png,{label},{n // 2}")
    (tmp_path / "items.csv").write_text("\n".join(rows) + "\n")
    to = tmp_path / "report.html"
    told = ("dissect", folder, "--labels", tmp_path / "items.csv", "--to", to, "--comparisons", 1)
    code, out, err = run(*told, "--layer", "stage2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found["layers"]) == {"stage2"}
    assert set(found["layers"]["stage2"]["learned_nothing"]) == {"untrained", "shuffled labels"}
    assert to.read_text().count("<article") == 24
    code, _, err = run(*told, "--layer", "conv1")
    assert code == 2
    assert "there are stem, stage1" in err.replace("\n", " ")
    code, _, err = run(*told, "--epochs", 3)
    assert "leave --epochs" in err.replace("\n", " ")
