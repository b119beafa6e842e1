from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from momentary.data.sessions import SessionLog
from momentary.data.vocabulary import Vocabulary
from momentary.errors import ArtifactError, SettingsError
from momentary.models.artifact import KINDS, ModelStore, load, make, read_manifest, save
from momentary.models.training import train
from momentary.types import Sessions

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SESSIONS = Sessions.from_lists([[0, 1, 2], [1, 2, 3], [3, 0], [2, 3, 0, 1]] * 3)
LOG = SessionLog(
    sessions=SESSIONS,
    items=Vocabulary(["tea", "milk/1 l", "süß", "bread"]),
    visitors=Vocabulary(["u:1"]),
)
SMALL = {"gru4rec": {"units": [4], "epochs": 1}, "factorization": {"factors": 4}}


def bundle(kind="gru4rec"):
    return train(LOG, make(kind, SMALL.get(kind, {})), rng=np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_scores_as_what_was_saved(kind, tmp_path):
    saved = bundle(kind)
    save(saved, tmp_path / "model", now=NOW)
    loaded = load(tmp_path / "model")
    assert loaded.items == saved.items
    assert loaded.facts == saved.facts
    assert loaded.version == "model"
    for role, scorer in saved.scorers.items():
        assert loaded.scorers[role].config == scorer.config
        np.testing.assert_array_equal(loaded.scorers[role].score(SESSIONS), scorer.score(SESSIONS))


def test_facts_describe_the_data():
    facts = bundle("popularity").facts
    assert facts["events"] == len(SESSIONS.items)
    assert facts["items"] == 4
    assert facts["from"] == "1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize("file", ["main.safetensors", "items.json", "related.safetensors"])
@pytest.mark.parametrize("harm", ["change", "truncate", "remove"])
def test_a_damaged_file_is_refused_by_name(file, harm, tmp_path):
    save(bundle("popularity"), tmp_path / "m", now=NOW)
    path = tmp_path / "m" / file
    content = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-3] + (b"" if harm == "truncate" else b"abc"))
    with pytest.raises(ArtifactError, match=file):
        load(tmp_path / "m")


def test_a_damaged_or_newer_manifest_is_refused(tmp_path):
    save(bundle("popularity"), tmp_path / "m", now=NOW)
    path = tmp_path / "m" / "manifest.json"
    manifest = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**manifest, "format": 99}))
    with pytest.raises(ArtifactError, match="format 99"):
        load(tmp_path / "m")
    path.write_bytes(b"{")
    with pytest.raises(ArtifactError, match="damaged"):
        read_manifest(tmp_path / "m")


def test_saving_never_overwrites_and_a_failure_leaves_nothing(tmp_path):
    made = bundle("popularity")
    save(made, tmp_path / "m", now=NOW)
    with pytest.raises(ArtifactError, match="never overwritten"):
        save(made, tmp_path / "m", now=NOW)
    unsavable = type(made)(scorers=made.scorers, items=made.items, facts={"x": object()})
    with pytest.raises(TypeError):
        save(unsavable, tmp_path / "n", now=NOW)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]


def test_the_store_names_promotes_and_loads(tmp_path):
    store = ModelStore(tmp_path / "models")
    with pytest.raises(ArtifactError, match=r"none yet.*momentary train"):
        store.load()
    first = store.add(bundle("popularity"), now=NOW)
    second = store.add(bundle("popularity"), now=NOW)
    assert (first, second) == ("popularity-20260102T030405", "popularity-20260102T030405-2")
    assert store.versions() == (first, second)
    store.promote(second)
    store.promote(first, alias="candidate")
    assert store.aliases() == {"prod": second, "candidate": first}
    assert store.load().version == second
    assert store.load(first).version == first
    with pytest.raises(ArtifactError, match=r"'nope'.*prod"):
        store.load("nope")
    with pytest.raises(ArtifactError):
        store.promote("nope")
    assert store.aliases()["prod"] == second


def test_the_store_remembers_what_answered_before(tmp_path):
    store = ModelStore(tmp_path / "models")
    first, second = (store.add(bundle("popularity"), now=NOW) for _ in range(2))
    store.promote(first)
    assert store.aliases() == {"prod": first}
    store.promote(second)
    store.promote(second)
    assert store.aliases() == {"prod": second, "previous": first}
    store.promote(store.aliases()["previous"])
    assert store.aliases() == {"prod": first, "previous": second}


def test_the_store_removes_what_no_alias_means(tmp_path):
    store = ModelStore(tmp_path / "models")
    first, second, third = (store.add(bundle("popularity"), now=NOW) for _ in range(3))
    store.promote(first)
    store.promote(second)
    store.promote(second, alias="candidate")
    with pytest.raises(ArtifactError, match=f"{second} is candidate and prod; let that"):
        store.remove(second)
    with pytest.raises(ArtifactError, match=r"no model '\.\./x'"):
        store.remove("../x")
    assert store.versions() == (first, second, third)
    store.remove(first)
    assert store.versions() == (second, third)
    assert store.aliases() == {"prod": second, "candidate": second}
    assert {path.name for path in store.root.iterdir()} == {second, third, "aliases.json"}


def test_one_damaged_manifest_hides_no_other_model(tmp_path):
    store = ModelStore(tmp_path / "models")
    first, second = (store.add(bundle("popularity"), now=NOW) for _ in range(2))
    store.promote(second)
    (store.root / first / "manifest.json").write_bytes(b"{")
    assert store.versions() == (first, second)
    assert store.load().version == second
    with pytest.raises(ArtifactError, match="damaged"):
        store.load(first)


def test_settings_come_as_text_or_toml_and_are_checked():
    config = make("gru4rec", {"units": [32, 16], "epochs": "2", "loss": "bpr_max"}).config
    assert (config.units, config.epochs, config.loss) == ((32, 16), 2, "bpr_max")
    with pytest.raises(SettingsError, match="no model 'gru'"):
        make("gru")
    with pytest.raises(SettingsError, match=r"no setting 'layers'.*units"):
        make("gru4rec", {"layers": 3})
    with pytest.raises(SettingsError, match="epochs is 0"):
        make("gru4rec", {"epochs": 0})
    with pytest.raises(SettingsError, match="epochs"):
        make("gru4rec", {"epochs": "many"})
