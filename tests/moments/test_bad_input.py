"""What a person gets wrong: one line that names the value and what to do, and exit code 2."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from momentary.moments.attributes import ATTRIBUTES
from momentary.moments.example import simulate_choices
from momentary.moments.gallery import Gallery, measure_all
from momentary.moments.pixels import encode_png
from momentary.moments.results import read_table, write_table
from momentary.moments.whatif import predict
from tests.moments.pictures import drawn, made_up_table


@pytest.fixture
def run(run):
    """Run one of the commands of the moments."""
    return partial(run, "moments")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    (folder / "photos").mkdir()
    (folder / "nothing").mkdir()
    for seed in range(3):
        pixels = drawn(seed, height=64, width=48)
        (folder / "photos" / f"{seed}.png").write_bytes(encode_png(pixels))
    values = measure_all(Gallery(folder / "photos"), again=0).values
    write_table(made_up_table(values), folder / "effects.json")
    choices = simulate_choices(np.random.default_rng(0), people=4, choices=2)
    pq.write_table(choices.slice(0, 0), folder / "none.parquet")
    pq.write_table(choices, folder / "choices.parquet")
    pq.write_table(pa.table({"item_id": ["a"], "price": [1.0]}), folder / "facts.parquet")
    return folder


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("measure {}/nothing", "no picture that can be read"),
        ("measure {}/photos --out {}/away/a.parquet", "no folder"),
        ("measure {}/photos --out {}/nothing", "is a folder"),
        ("example {}/effects.json", "is a file"),
        ("decide {}/none.parquet --image brightness", "no rows"),
        ("decide {}/choices.parquet --image brand", "must hold numbers"),
        ("whatif {}/effects.json {}/photos/1.png --edit brightness=nan", "finite"),
        ("whatif {}/effects.json {}/photos/1.png --edit brightness=inf", "finite"),
        ("plan --rate .1 --lift 8 --seen=-5,10", "below 0"),
        ("plan --rate .1 --lift 8 --seen 0,0", "not all may be 0"),
        ("report {}/effects.json --out {}/away/page.html", "no folder"),
        (
            "report {}/effects.json --pictures {}/photos --facts {}/facts.parquet --out {}/p.html",
            "no column 'picture'",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(run, shop, command, said):
    code, out, err = run(*command.replace("{}", str(shop)).split())
    assert code == 2
    assert said in " ".join(err.split())
    assert "Traceback" not in out + err


def test_a_prediction_counts_what_the_fit_cannot_tell(shop):
    """An edit that moves an attribute far whose effect is not in the fit is refused."""
    table = read_table(shop / "effects.json")
    fit = table.fit("click")
    kept = [place for place, name in enumerate(fit.attributes) if name != "text"]
    assert len(kept) == len(fit.attributes) - 1
    less = replace(
        fit,
        attributes=tuple(fit.attributes[place] for place in kept),
        coefficients=tuple(fit.coefficients[place] for place in kept),
        covariance=tuple(tuple(fit.covariance[a][b] for b in kept) for a in kept),
    )
    table = replace(table, fits=tuple(less if each is fit else each for each in table.fits))
    before = {scale.attribute: scale.mean for scale in table.scales}
    assert set(before) <= set(ATTRIBUTES)
    nudged = before | {"text": before["text"] + 0.2 * table.scale("text").sd}
    assert predict(table, "click", before=before, after=nudged).interval is not None
    moved = before | {"text": before["text"] + table.scale("text").sd}
    assert "also moves" in predict(table, "click", before=before, after=moved).refused
