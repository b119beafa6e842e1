"""One service answers from a folder, unless several share what visitors do."""

import os
import subprocess
import sys
import threading

import pytest

from momentary.data.occupancy import served, unserved
from momentary.errors import SettingsError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system has no such locks")


def test_a_second_service_is_refused_with_what_to_do_instead(tmp_path):
    second = served(tmp_path, shared=False, wait_s=0)
    with (
        served(tmp_path, shared=False),
        pytest.raises(SettingsError, match=r"another service .*serve\.workers"),
        second,
    ):
        pass
    with served(tmp_path, shared=False, wait_s=0):
        pass


def test_services_that_share_visits_stand_side_by_side(tmp_path):
    alone = served(tmp_path, shared=False, wait_s=0)
    with (
        served(tmp_path, shared=True),
        served(tmp_path, shared=True, wait_s=0),
        pytest.raises(SettingsError, match=r"serve\.state_url"),
        alone,
    ):
        pass


def test_who_needs_the_folder_alone_waits_for_no_service(tmp_path):
    alone = unserved(tmp_path, instead="stop it.")
    with (
        served(tmp_path, shared=True),
        pytest.raises(SettingsError, match=r"a service answers .*; stop it\."),
        alone,
    ):
        pass
    started = served(tmp_path, shared=True, wait_s=0)
    with unserved(tmp_path, instead=""), pytest.raises(SettingsError), started:
        pass


def test_a_service_that_is_ending_is_waited_for(tmp_path):
    ends = threading.Event()
    holds = threading.Event()

    def hold():
        with served(tmp_path, shared=False):
            holds.set()
            ends.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(10)
    threading.Timer(0.2, ends.set).start()
    with served(tmp_path, shared=False, wait_s=10):
        assert ends.is_set()
    holder.join()


def test_a_killed_service_leaves_the_folder(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from momentary.data.occupancy import served\n"
        "with served(Path(sys.argv[1]), shared=False):\n"
        "    print('here', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        with pytest.raises(SettingsError), served(tmp_path, shared=False, wait_s=0):
            pass
        process.kill()
        process.wait()
    with served(tmp_path, shared=False, wait_s=0):
        pass
