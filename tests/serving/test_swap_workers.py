"""Models change under load, over all workers: nobody is refused, no answer is of two models."""

import contextlib
import http.client
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from momentary.data.vocabulary import Vocabulary
from momentary.data.workspace import Workspace
from momentary.models.artifact import Bundle, ModelStore, make
from momentary.types import Sessions
from tests.serving.world import event, free_port, said, worker_connections

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux' /proc")

SIZE = 60
SENDERS = 3
BETWEEN = 40
"""Answers between two changes."""


def _bundle(letter):
    """A model whose items are its own, so that an answer shows whose they are."""
    rng = np.random.default_rng(ord(letter))
    sessions = Sessions.from_lists(rng.integers(SIZE, size=(200, 4)).tolist())
    roles = {"main": "gru4rec", "related": "item_knn", "fallback": "popularity"}
    scorers = {}
    for role, kind in roles.items():
        small = {"units": (8,), "epochs": 1} if kind == "gru4rec" else {}
        scorers[role] = make(kind, small).fit(sessions, n_items=SIZE, rng=rng)
    return Bundle(
        scorers=scorers, items=Vocabulary([f"{letter}{n}" for n in range(SIZE)]), facts={}
    )


@pytest.fixture
def versions(tmp_path):
    with Workspace.open(tmp_path, create=True) as workspace:
        store = ModelStore(workspace.models)
        found = {
            letter: store.add(_bundle(letter), now=datetime(2026, 1, day, tzinfo=UTC))
            for day, letter in enumerate("ab", start=1)
        }
        store.promote(found["a"])
    return found


@pytest.fixture
def port(tmp_path, versions):  # noqa: ARG001 - there must be models
    port = free_port()
    environ = {name: each for name, each in os.environ.items() if not name.startswith("MOMENTARY")}
    command = [sys.executable, "-m", "momentary", "serve", "--home", str(tmp_path)]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        env={**environ, "MOMENTARY_SERVE_WORKERS": "2"},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            _wait(port, process)
            yield port
            process.terminate()
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


@pytest.fixture
def both(port):
    """A connection to each worker."""
    connections = worker_connections(port, 2)
    yield connections
    for each in connections:
        each.close()


def _wait(port, process):
    end = time.monotonic() + 60
    while True:
        assert process.poll() is None
        assert time.monotonic() < end
        connection = http.client.HTTPConnection("127.0.0.1", port)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            if said(connection, "GET", "/health/ready")[0] == 200:
                return
        time.sleep(0.05)


def _ask_until(stop, port, sender, answers):
    """Visits that click on items of both models."""
    number = 0
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as own:
        while not stop.is_set():
            number += 1
            clicked = f"{'ab'[number % 2]}{number % SIZE}"
            body = {"k": 20, "event": event(f"v{sender}-{number // 5}", clicked)}
            try:
                answers.append(said(own, "POST", "/v1/recommend", body))
            except (OSError, http.client.HTTPException) as error:
                answers.append((0, repr(error)))
                return


@contextlib.contextmanager
def _load(port):
    stop, answers = threading.Event(), []
    threads = [
        threading.Thread(target=_ask_until, args=(stop, port, sender, answers))
        for sender in range(SENDERS)
    ]
    for each in threads:
        each.start()
    try:
        yield answers
    finally:
        stop.set()
        for each in threads:
            each.join()


def test_models_are_changed_and_taken_back_under_load(port, both, versions):
    steps = [versions["b"], "previous", versions["b"], versions["a"], "previous"]
    at_work = ["b", "a", "b", "a", "b"]
    with _load(port) as answers:
        for step, (wanted, letter) in enumerate(zip(steps, at_work, strict=True)):
            enough = len(answers) + BETWEEN
            while len(answers) < enough and all(status == 200 for status, _ in answers[-9:]):
                time.sleep(0.005)
            status, told = said(both[step % 2], "PUT", "/v1/models/prod", {"version": wanted})
            assert (status, {each["version"]: each["at_work"] for each in told["models"]}) == (
                200,
                {version: version == versions[letter] for version in versions.values()},
            )
            # Once the change is answered, every worker answers with the new model.
            for each in both:
                _, now = said(each, "POST", "/v1/recommend", {"session_id": "own"})
                assert now["model_version"] == versions[letter]
    assert {status for status, _ in answers} == {200}
    letters = {version: letter for letter, version in versions.items()}
    for _, answer in answers:
        assert answer["variant"] == "model"
        assert len(answer["items"]) == 20
        whose = {each["item_id"][0] for each in answer["items"]}
        assert whose == {letters[answer["model_version"]]}
    assert {answer["model_version"] for _, answer in answers} == set(letters)


def test_a_model_that_cannot_be_loaded_changes_no_workers_answers(tmp_path, port, both, versions):
    broken = tmp_path / "models" / versions["b"] / "main.safetensors"
    broken.write_bytes(broken.read_bytes()[:-1] + b"x")
    with _load(port) as answers:
        while len(answers) < BETWEEN:
            time.sleep(0.005)
        status, told = said(both[0], "PUT", "/v1/models/prod", {"version": versions["b"]})
        assert (status, "goes on answering" in told["detail"]) == (409, True)
        enough = len(answers) + BETWEEN
        while len(answers) < enough:
            time.sleep(0.005)
    found = {(status, each["model_version"], each["variant"]) for status, each in answers}
    assert found == {(200, versions["a"], "model")}
