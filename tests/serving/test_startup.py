"""From a folder to a service: where it listens, what it says, and what it refuses."""

import contextlib
import http.client
import itertools
import json
import os
import shlex
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from momentary import cli
from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.errors import SettingsError
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.serving import startup
from momentary.serving.server import listen
from momentary.settings import ServeSettings, api_key_digest, workspace_settings
from momentary.types import Sessions

KEY = f"admin:{api_key_digest('secret')}"


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _home(root, ids=("it's/1", "b", "c"), main="item_knn"):
    sessions = Sessions.from_lists([[0, 1], [0, 2], [1, 0], [0, 1, 2]])
    rng = np.random.default_rng(0)
    roles = {"main": main, "related": "item_knn", "fallback": "popularity"}
    scorers = {
        role: make(kind).fit(sessions, n_items=len(ids), rng=rng) for role, kind in roles.items()
    }
    with Workspace.open(root, create=True) as workspace:
        store = ModelStore(workspace.models)
        bundle = Bundle(scorers=scorers, items=Vocabulary(ids), facts={})
        store.promote(store.add(bundle, now=datetime(2026, 1, 1, tzinfo=UTC)))
    return root


@pytest.mark.parametrize(("variable", "home"), [("", "momentary-home"), ("shop", "shop")])
def test_the_home_of_the_settings_and_of_the_command_line_are_the_same(monkeypatch, variable, home):
    monkeypatch.setenv("MOMENTARY_HOME", variable)
    assert workspace_settings(None, environ=os.environ).home == Path(home)
    with pytest.raises(SettingsError, match=f"no workspace in .*{home};"):
        cli.open_workspace(None)


def test_a_home_that_is_not_given_is_that_of_the_settings(tmp_path):
    file = tmp_path / "momentary.toml"
    file.write_text(f"home = {json.dumps(str(tmp_path / 'from-file'))}\n")
    with pytest.raises(SettingsError, match=r"no workspace in .*from-file"):
        startup.start(None, file=file, environ={})


def test_every_command_finds_the_database_that_the_folder_names(tmp_path, new_schema, run):
    storage = f'database_url = "{new_schema.database_url}"\nschema = "{new_schema.schema}"\n'
    (tmp_path / "momentary.toml").write_text(f"[storage]\n{storage}", encoding="utf-8")
    clicks = tmp_path / "clicks.csv"
    rows = "".join(f"u{n % 7},i{n % 5},view_item,17000{n:05d}\n" for n in range(60))
    clicks.write_text(f"user_id,item_id,event_type,timestamp\n{rows}", encoding="utf-8")
    for arguments in (
        ["import", str(clicks)],
        ["train", "-m", "item_knn", "--min-item-events", "1"],
        ["similar", "i1"],
        ["erase", "u1"],
    ):
        run(*arguments, "--home", str(tmp_path))
    assert not list(tmp_path.glob("*.sqlite"))
    with Workspace.open(tmp_path, storage=new_schema) as workspace:
        assert len(workspace.segments()) > 1


@pytest.fixture
def run():
    def done(*arguments):
        command = [sys.executable, "-m", "momentary", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    return done


def test_a_port_that_is_taken_is_refused_before_anything_is_said(tmp_path):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} .*choose another with --port"):
            startup.start(_home(tmp_path), port=port, environ={}, announce=said.append)
    assert said == []
    with pytest.raises(SettingsError, match=r"of 203\.0\.113\.1 "):
        listen(ServeSettings(host="203.0.113.1", api_keys=(KEY,)))


@pytest.mark.parametrize(
    ("host", "called"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "[::1]"),
        ("::1", "[::1]"),
        ("shop.example", "shop.example"),
    ],
)
def test_the_printed_address_can_be_called_from_this_machine(tmp_path, host, called, monkeypatch):
    said = []
    taken = ServeSettings(port=_free_port())
    monkeypatch.setattr(startup, "listen", lambda _: listen(taken))
    monkeypatch.setattr(startup, "serve", lambda app, _, **rest: (rest["on_ready"](), app.close()))
    environ = {"MOMENTARY_SERVE_API_KEYS": KEY}
    startup.start(_home(tmp_path), host=host, port=8123, environ=environ, announce=said.append)
    (text,) = said
    assert f"http://{called}:8123/docs" in text
    assert "-H 'X-API-Key: YOUR-KEY'" in text
    assert max(map(len, text.splitlines())) < 80


def test_a_folder_has_one_service_and_is_not_erased_from_beside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(startup, "serve", lambda app, _, **rest: (rest["on_ready"](), app.close()))
    home = _home(tmp_path)
    tried = []

    def try_others(_):
        with pytest.raises(SettingsError, match=rf"another service answers from {home}"):
            startup.start(home, port=_free_port(), environ={})
        monkeypatch.setattr(sys, "argv", ["momentary", "erase", "u1", "--home", str(home)])
        with pytest.raises(SystemExit):
            cli.main()
        tried.append(capsys.readouterr().err)

    monkeypatch.setattr("momentary.data.occupancy._WAIT_S", 0)
    startup.start(home, port=_free_port(), environ={}, announce=try_others)
    assert "DELETE /v1/users/ID" in tried[0]


def test_the_printed_command_works_as_printed(tmp_path):
    port = _free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "momentary", "serve", "--port", str(port)],
        env={**os.environ, "MOMENTARY_HOME": str(_home(tmp_path)), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with contextlib.ExitStack() as stack:
        stack.callback(process.stdout.close)
        stack.callback(process.wait, timeout=10)
        stack.callback(process.terminate)
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("Stop with"):
                break
        text = "".join(printed)
        command = text[text.index("curl ") : text.index("Stop with")]
        words = shlex.split(command)
        answer = _run(words)

    assert [each["item_id"] for each in answer["items"]]
    assert Path(words[0]).name == "curl"


def _run(words):
    """What curl would do with these words, where there is no curl."""
    address = urlsplit(words[words.index("-s") + 1])
    pairs = itertools.pairwise(words)
    headers = dict(each.split(": ", 1) for flag, each in pairs if flag == "-H")
    body = words[words.index("-d") + 1]
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", address.path, body=body, headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())


def test_a_start_pays_for_nothing_that_answering_does_not_need(tmp_path):
    home = _home(tmp_path, main="gru4rec")
    heavy = ["alembic", "duckdb", "scipy.sparse", "torch"]
    heavy += ["sqlalchemy.dialects.postgresql", "opentelemetry", "pandas"]
    program = (
        "import sys; from pathlib import Path; from momentary import cli\n"
        "from momentary.serving import startup\n"
        "def stop(app, *_, **__):\n"
        "    print(app.engine.recommender.items.ids)\n"
        "    app.close()\n"
        "startup.serve = stop\n"
        "startup.start(Path(sys.argv[1]), environ={}, port=int(sys.argv[2]))\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", program, str(home), str(_free_port())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(("it's/1", "b", "c")), "[]"]
