"""The command line as a person uses it, in one process for speed."""

import json
import re
import subprocess
import sys

import pytest

from momentary import cli
from momentary.settings import api_key_digest

COMMANDS = (
    "demo",
    "doctor",
    "import",
    "train",
    "tune",
    "evaluate",
    "recommend",
    "encode",
    "similar",
    "search",
    "playlist",
    "serve",
    "index",
    "key",
    "erase",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three weeks of simulated clicks by ten visitors who walk up the shelf."""
    folder = tmp_path_factory.mktemp("shop")
    lines = ["user_id,item_id,timestamp,event_type"]
    for visit in range(120):
        for step in range(4):
            second = 1_700_000_000 + visit * 15_000 + step * 60
            lines.append(f"u{visit % 10},sku/{(visit * 3 + step) % 40},{second},view_item")
    (folder / "clicks.csv").write_text("\n".join(lines) + "\n")
    items = [
        json.dumps(
            {
                "item_id": f"sku/{n}",
                "name": f"Thing {n}",
                "price": n,
                "brand": f"b{n % 2}",
                "category": "c",
            }
        )
        for n in range(40)
    ]
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")
    return folder


@pytest.fixture
def home(files, tmp_path, monkeypatch, run):
    monkeypatch.setenv("MOMENTARY_HOME", str(tmp_path / "home"))
    code, out, err = run("import", files / "clicks.csv", files / "items.jsonl", "--json")
    assert code == 0, err
    assert json.loads(out)["events_added"] == 480
    return tmp_path / "home"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: momentary {command}" in " ".join(out.split())


def test_help_lists_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in COMMANDS:
        assert f" {command} " in out


def test_the_version_is_printed(run):
    from momentary import __version__

    assert run("--version")[1].strip() == f"momentary {__version__}"


@pytest.mark.parametrize("statement", ["import momentary", "import momentary.cli"])
def test_help_pays_for_nothing_heavy(statement):
    heavy = ("torch", "numpy", "duckdb", "pyarrow", "numba", "starlette", "sqlalchemy", "msgspec")
    code = f"{statement}; import sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_twice_adds_nothing(home, files, run):
    code, out, _ = run("import", files / "clicks.csv", "--home", home)
    assert code == 0
    assert "0 events added, 480 were there already" in out


@pytest.mark.usefixtures("home")
def test_from_training_to_recommending(run):
    code, out, err = run("train", "-m", "sequential_rules", "--set", "steps=3", "--json")
    assert code == 0, err
    assert json.loads(out)["items"] == 40

    code, out, _ = run("recommend", "sku/3", "sku/4", "-k", 3, "--json")
    first = json.loads(out)[0]
    assert (code, first["item_id"], first["rank"]) == (0, "sku/5", 1)

    code, out, err = run(
        "recommend", "sku/4", "unheard-of", "--rules", '{"allow":{"brand":["b0"]}}'
    )
    assert code == 0
    assert "Thing 6" in out
    assert "Thing 5" not in out
    assert "unheard-of" in err

    code, out, _ = run("similar", "sku/4", "-k", 2, "--json")
    assert code == 0
    assert len(json.loads(out)) == 2


@pytest.mark.usefixtures("home")
def test_saved_models_are_listed_promoted_and_removed(run):
    assert "momentary train" in run("models", "list")[1]
    first = json.loads(run("train", "-m", "popularity", "--json")[1])["version"]
    code, out, _ = run("train", "-m", "sequential_rules", "--no-promote")
    assert code == 0
    second = re.search(r"models promote (\S+)", " ".join(out.split()))[1]
    assert " prod " in next(
        line for line in run("models", "list")[1].splitlines() if line.startswith(first)
    )

    code, out, err = run("models", "promote", second)
    assert code == 0, err
    assert "A running service takes it within a second" in out
    listed = json.loads(run("models", "list", "--json")[1])
    assert {each["version"]: each["aliases"] for each in listed} == {
        first: ["previous"],
        second: ["prod"],
    }
    assert listed[1]["facts"]["items"] == 40

    code, _, err = run("models", "remove", second, "--yes")
    assert code == 2
    assert "let that mean another version first" in " ".join(err.split())
    assert run("models", "remove", first, "--yes")[0] == 0
    assert [each["version"] for each in json.loads(run("models", "list", "--json")[1])] == [second]


@pytest.mark.usefixtures("home")
def test_a_damaged_model_is_named_and_not_promoted(run, home):
    first = json.loads(run("train", "-m", "popularity", "--json")[1])["version"]
    second = json.loads(run("train", "-m", "popularity", "--no-promote", "--json")[1])["version"]
    (home / "models" / second / "main.safetensors").write_bytes(b"no model")
    code, _, err = run("models", "promote", second)
    assert code == 2
    assert "main.safetensors was changed" in " ".join(err.split())
    (home / "models" / second / "manifest.json").write_bytes(b"{")
    code, out, err = run("models", "list", "--json")
    assert code == 0
    assert [(each["version"], each["aliases"]) for each in json.loads(out)] == [(first, ["prod"])]
    assert "manifest.json is damaged" in " ".join(err.split())


@pytest.mark.usefixtures("home")
def test_models_are_compared_and_drawn(run, tmp_path):
    plot = tmp_path / "board.png"
    code, out, err = run(
        "evaluate", "-m", "popularity", "-m", "sequential_rules", "--days", 5, "--plot", plot
    )
    assert code == 0, err
    assert "sequential_rules wins" in " ".join(out.split())
    assert plot.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("evaluate", "-m", "popularity", "--days", 5, "--json")
    row = json.loads(out)["boards"]["next_item"]["rows"][0]
    assert row["model"] == "popularity"
    assert {"recall@5", "mrr@20", "ndcg@10", "hit_rate@20", "map@20"} <= set(row["metrics"])
    wanted = ("coverage", "gini", "novelty", "popularity_bias", "serendipity", "diversity")
    assert {f"{name}@{k}" for name in wanted for k in (5, 10, 20)} == set(row["beyond"])


@pytest.mark.usefixtures("home")
def test_settings_are_searched_and_written(run, tmp_path):
    file = tmp_path / "rules.toml"
    arguments = ("tune", "-m", "sequential_rules", "--trials", 2, "--days", 4)
    code, out, err = run(*arguments, "--validation-days", 4, "--write", file)
    assert code == 0, err
    assert "[sequential_rules]" in out
    code, _, err = run("train", "-m", "sequential_rules", "--config", file)
    assert code == 0, err


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("train", "-m", "magic"), "there are popularity"),
        (("train", "-m", "gru4rec", "--set", "layers=3"), "it has units"),
        (("train", "--set", "epochs"), "NAME=VALUE"),
        (("train", "--config", "/no/such.toml"), "check the path"),
        (("evaluate", "--task", "guess"), "next_item"),
        (("tune", "--task", "guess"), "next_basket"),
        (("recommend", "sku/1"), "momentary train"),
        (("recommend", "sku/1", "--rules", "{"), "rules"),
        (("serve",), "momentary train"),
        (("import", "/no/such/file.csv"), "/no/such/file.csv"),
        (("doctor",), "files"),
        (("fly",), "fly"),
    ],
)
def test_bad_use_ends_with_exit_code_2_and_the_remedy(arguments, remedy, run):
    code, _, err = run(*arguments)
    assert code == 2
    assert remedy in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_a_missing_workspace_names_the_command_that_makes_one(tmp_path, run):
    code, _, err = run("train", "--home", tmp_path / "nothing")
    assert code == 2
    assert "momentary import" in " ".join(err.split())


def test_debug_shows_where_it_happened(tmp_path, run):
    from momentary.errors import SettingsError

    with pytest.raises(SettingsError):
        run("train", "--home", tmp_path / "nothing", "--debug")


def test_the_unexpected_is_named_without_a_traceback(run, monkeypatch):
    def explode(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "open_workspace", explode)
    code, _, err = run("train", "-m", "popularity")
    assert code == 1
    assert "ZeroDivisionError: by zero" in err
    assert "--debug" in err


def test_a_key_is_printed_with_what_the_settings_keep(run):
    code, shown, _ = run("key", "write")
    made = re.search(r"mk_[\w-]{43}", shown)
    assert code == 0
    assert made is not None
    assert f'api_keys = ["write:{api_key_digest(made[0])}"]' in shown.replace("\n", " ")
    assert run("key", "root")[0] == 2


def test_a_user_is_erased_from_the_command_line(run, tmp_path):
    file, home = tmp_path / "clicks.csv", tmp_path / "home"
    rows = [f"{user},tea,view_item,17000000{n:02}" for n in range(20) for user in ("zoe", "max")]
    file.write_text("user_id,item_id,event_type,timestamp\n" + "\n".join(rows) + "\n")
    run("import", file, "--home", home)
    _, receipt, _ = run("erase", "zoe", "--home", home, "--json")
    assert json.loads(receipt)["events"] == 20
    assert "20 events" in run("erase", "max", "--home", home)[1]


@pytest.mark.usefixtures("home")
def test_an_interrupted_training_goes_on_and_says_so(run, home, monkeypatch):
    from momentary.learn import course

    settings = ("train", "-m", "gru4rec", "--set", "epochs=3", "--set", "units=[8]")
    save = course.Checkpoints.save

    def stop_after_one(kept, name, checkpoint):
        save(kept, name, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(course.Checkpoints, "save", stop_after_one)
        assert run(*settings)[0] == 130
    kept = list(home.glob("**/checkpoints/*.safetensors"))
    assert len(kept) == 1
    code, _, err = run(*settings, "--json")
    assert code == 0, err
    assert "interrupted at 33%" in err
    assert not kept[0].exists()
    assert "interrupted" not in run(*settings, "--json")[2]


@pytest.mark.usefixtures("home")
def test_a_network_is_trained_by_two_and_judged_on_what_is_held_out(run):
    code, out, err = run(
        *("train", "-m", "gru4rec", "--set", "epochs=3", "--set", "units=[8]", "--json"),
        *("--workers", "2", "--holdout", "0.1", "--patience", "1"),
    )
    assert code == 0, err
    assert json.loads(out)["sessions"] == 120
    code, _, err = run("train", "-m", "popularity", "--workers", "2")
    assert code == 2
    assert "leave it at 1, or train gru4rec" in err
    code, _, err = run("train", "-m", "gru4rec", "--holdout", "1.5")
    assert code == 2
    assert "holdout is 1.5" in err
