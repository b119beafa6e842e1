"""`momentary moments ...` as a person uses it."""

import contextlib
import dataclasses
import json
import sys
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from momentary import cli
from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.effects import EffectsDesign, ImageEffects
from momentary.moments.example import EFFECTS
from momentary.moments.exposures import collect
from momentary.moments.facts import item_facts
from momentary.moments.gallery import Gallery, measure_all, read_measured, write_measured
from momentary.moments.pixels import encode_png
from momentary.moments.report import over_promises
from momentary.moments.results import read_table, write_table
from momentary.moments.spells import PictureTable
from tests.encoders.clips import save_tiny_clip
from tests.moments.pictures import drawn, made_up_table


@pytest.fixture
def run(run):
    """Run one of the commands of the moments."""
    return partial(run, "moments")


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(8):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(
            encode_png(drawn(seed, height=64, width=48))
        )
    values = measure_all(Gallery(tmp_path / "photos")).values
    write_table(made_up_table(values), tmp_path / "effects.json")
    return tmp_path


def test_measure_counts_and_writes(run, shop):
    (shop / "photos" / "bad.png").write_bytes(b"no")
    code, out, _ = run("measure", shop / "photos", "--out", shop / "a.parquet", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["pictures"] == 8
    assert said["aside"][0]["picture"] == "bad.png"
    assert (shop / "a.parquet").is_file()


def test_a_report_marks_what_the_measurement_says_is_noisy(run, shop):
    measured = measure_all(Gallery(shop / "photos"))
    steady = dict.fromkeys(ATTRIBUTES, (0.99, 0.98)) | {"sharpness": (0.99, 0.7)}
    write_measured(dataclasses.replace(measured, stability=steady), shop / "a.parquet")
    page = shop / "page.html"
    shown = ("--pictures", shop / "photos", "--attributes", shop / "a.parquet", "--out", page)
    code, _, _ = run("report", shop / "effects.json", *shown)
    assert code == 0
    table = read_table(page.with_suffix(".json"))
    assert [scale.attribute for scale in table.scales if scale.noisy] == ["sharpness", "text"]


def test_whatif_predicts_or_refuses(run, shop):
    picture = shop / "photos" / "1.png"
    ask = ("whatif", shop / "effects.json", picture, "--json", "--edit")
    code, out, _ = run(*ask, "brightness=+9")
    assert code == 0
    assert "outside the range" in json.loads(out)["refused"]
    code, out, _ = run(*ask, "brightness=+0.1", "--out", shop / "new.png")
    assert np.isclose(json.loads(out)["moved"]["brightness"], 0.1, atol=0.02)
    assert (shop / "new.png").is_file()
    code, _, err = run(*ask, "beauty=1")
    assert code == 2
    assert "brightness" in err


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The made-up shop, measured, with its effects."""
    folder = tmp_path_factory.mktemp("example")

    def moments(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["momentary", "moments", *map(str, arguments)])
            with contextlib.suppress(SystemExit):
                cli.main()

    moments("example", folder)
    moments("measure", folder / "photos", "--out", folder / "attributes.parquet")
    moments("effects", *asked(folder), "--out", folder / "effects.json")
    return folder


def asked(folder):
    return (
        *(folder / "events.parquet", "--versions", folder / "versions.parquet"),
        *("--attributes", folder / "attributes.parquet", "--facts", folder / "facts.parquet"),
    )


def test_effects_finds_what_the_shop_was_made_with(example):
    table = read_table(example / "effects.json")
    assert {each.moment for each in table.outcomes} == {
        "research",
        "first_sight",
        "use",
        "advocacy",
    }
    found = {(e.outcome, e.attribute): e for e in table.effects if e.discovered}
    warm = found["click", "warmth"]
    assert warm.rung >= 2
    assert warm.low < 100 * np.expm1(EFFECTS["click"]["warmth"]) < warm.high
    assert found["click", "subject_size"].percent > 0
    assert any(scale.noisy for scale in table.scales)


def test_all_four_moments_from_python_and_the_over_promise_is_seen(example):
    """What is clicked more and sent back more, from the log to the strip's red."""
    measured = read_measured(example / "attributes.parquet")
    pictures = PictureTable(
        pictures=measured.pictures, attributes=tuple(ATTRIBUTES), values=measured.values
    )
    spells = collect(
        pq.read_table(example / "events.parquet"), pq.read_table(example / "versions.parquet")
    )
    assert spells.names == ("log price", "promoted", "stock", "log rank")
    design = EffectsDesign(simulated=True, curves=False, heterogeneity=False)
    facts = item_facts(pq.read_table(example / "facts.parquet"))
    rng = np.random.default_rng(0)
    table = ImageEffects(design).fit(spells, pictures, facts, rng=rng).table()
    assert over_promises(table) == ("subject_size",)
    returned = {e.attribute: e for e in table.effects if e.outcome == "return"}
    assert returned["subject_size"].rung == 3
    assert returned["subject_size"].q < 0.02  # a fifth of what is asked: no luck needed
    assert all(fit.rung == 3 for fit in table.fits), "an outcome of few events was given up"
    # Purchases after the last fortnight are followed by nothing: that period separates.
    last = spells.period == spells.period.max()
    assert spells.exposure["purchase"][last].sum() > 0
    assert spells.counts["rating"][last].sum() == 0
    assert max(effect.standard_error for effect in table.effects) < 3
    assert np.isfinite([[e.percent, e.low, e.high] for e in table.effects]).all()


def test_concepts_in_words_join_the_attributes(run, example, tmp_path):
    save_tiny_clip(tmp_path)
    said = [{"name": "worn", "more": "a person wearing it", "less": "it lies alone"}]
    said.append({"name": "glow", "more": "bright", "less": "dark", "edit": "brightness"})
    (tmp_path / "prompts.json").write_text(json.dumps(said))
    ask = ("concepts", example / "photos", "--prompts", tmp_path / "prompts.json", "--model")
    code, out, _ = run(*ask, tmp_path, "--out", tmp_path / "c.parquet")
    assert code == 0
    assert "worn: not tested" in out
    assert "glow: " in out
    code, out, _ = run(
        *("effects", *asked(example), "--outcome", "click"),
        *("--concepts", tmp_path / "c.parquet", "--json"),
    )
    assert code == 0
    table = json.loads(out)["table"]
    assert {"worn", "glow", "brightness"} <= {
        *(each["attribute"] for each in table["scales"]),
        *(gone for gone, _ in table["merged"]),
    }
    code, _, err = run(*ask, tmp_path / "none")
    assert code == 2
    assert "check the name" in err


def test_validate_tries_to_refute(run, example):
    code, out, _ = run(
        "validate", *asked(example), "--outcome", "click", "--placebos", 20, "--json"
    )
    assert code == 0
    (said,) = json.loads(out)
    assert said["outcome"] == "click"
    assert said["placebo_p"] < 0.15
    code, out, _ = run("validate", *asked(example), "--outcome", "click", "--placebos", 1)
    assert "agreement of the rungs" in out
    # 160 items are about where double machine learning begins to be possible.
    if said["divergence_p"] is None:
        assert "too few to adjust" in " ".join(out.split())
    else:
        assert f"p = {said['divergence_p']:.3f}" in out
    code, _, err = run("validate", *asked(example), "--outcome", "smile")
    assert code == 2
    assert "no outcome 'smile'" in err


def test_decide_adds_the_card_to_the_effects(run, example):
    ask = ("decide", example / "choices.parquet", "--draws", 32, "--into", example / "effects.json")
    code, out, _ = run(*ask, "--image", "brightness", "--json")
    assert code == 0
    card = json.loads(out)
    assert {each["part"] for each in card["influences"]} == {
        *("taste", "loyalty", "price", "position", "image")
    }
    assert card["influences"][0]["part"] == "taste"
    assert read_table(example / "effects.json").decision.people == card["people"]
    code, _, err = run(*ask, "--image", "beauty")
    assert code == 2
    assert "beauty" in err


def test_whatif_answers_from_fitted_effects(run, example):
    photo = example / "photos" / "item-003-0.png"
    ask = ("whatif", example / "effects.json", photo, "--json", "--outcome", "click", "--edit")
    code, out, _ = run(*ask, "brightness=+0.3")
    said = json.loads(out)
    assert code == 0
    assert (said["interval"] is None) == bool(said["refused"])


def test_plan_sizes_and_raises_the_alarm(run):
    code, out, _ = run("plan", "--rate", ".03", "--lift", "8", "--seen", "52000,48000")
    assert code == 0
    assert "ALARM" in out
    code, _, err = run("plan", "--rate", "3", "--lift", "8")
    assert code == 2
    assert "below 1" in err


def test_report_writes_a_page_without_outside_addresses(run, shop):
    page = shop / "page.html"
    code, out, _ = run(
        "report", shop / "effects.json", "--pictures", shop / "photos", "--out", page
    )
    assert code == 0
    assert "Written" in out
    text = page.read_text()
    assert 'src="http' not in text
    assert "default-src 'none'" in text
    assert (shop / "page.json").is_file()
    code, _, err = run("report", shop / "photos" / "1.png")
    assert code == 2
    assert "not JSON" in err
