"""A service that runs compacts its own log."""

import time
from contextlib import closing

from momentary.data.compaction import DAY_US
from momentary.serving.upkeep import Upkeep
from momentary.settings import StorageSettings
from tests.serving.world import NOW_US, ask, event, make_home, opened

OLD_S = (NOW_US - 20 * DAY_US) / 1e6


def _upkeep(workspace, **settings):
    return Upkeep(
        workspace,
        StorageSettings(**{"compact_events": 10, **settings}),
        clock_us=lambda: NOW_US,
        every_s=0.05,
    )


def test_a_log_is_compacted_once_enough_of_it_is_old(tmp_path):
    with opened(tmp_path) as app, make_home(tmp_path) as workspace:
        ask(app, "POST", "/v1/events", json=[event("s", "i1", timestamp=OLD_S)] * 10)
        assert not _upkeep(workspace).look()
        ask(app, "POST", "/v1/events", json=[event("s", "i1", timestamp=OLD_S)])
        with workspace.exclusive("import", wait_s=1):
            assert not _upkeep(workspace).look()
        assert _upkeep(workspace).look()
        assert app.engine._log.count() == 1  # the newest stays
        assert not _upkeep(workspace).look()


def test_the_service_goes_on_while_its_thread_compacts(tmp_path):
    with opened(tmp_path) as app, make_home(tmp_path) as workspace:
        with _upkeep(workspace):
            end_s = time.monotonic() + 20
            sent = 0
            while not workspace.segments() and time.monotonic() < end_s:
                body = [event("s", "i1", event_id=f"e{sent}", timestamp=OLD_S)]
                assert ask(app, "POST", "/v1/events", json=body).status_code == 200
                sent += 1
        again = ask(app, "POST", "/v1/events", json=[event("s", "i1", event_id="e0")]).json()
        with closing(workspace.open_log()) as log:
            assert log.count() < sent
    assert again == {"accepted": 0, "duplicates": 1}


def test_never_means_never(tmp_path):
    with make_home(tmp_path) as workspace, _upkeep(workspace, compact_events=0) as upkeep:
        assert not upkeep._thread.is_alive()
