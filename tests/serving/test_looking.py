"""The process that looks at media ends with the service, whatever ended that."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from momentary.encoders.media import MediaLimits
from momentary.serving.looking import Looker

SERVICE = """
import asyncio

from momentary.encoders.media import MediaLimits
from momentary.serving.looking import Looker


async def main():
    looker = Looker(MediaLimits())
    seen = await looker.look("image", b"no picture")
    print(seen.reason, flush=True)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
"""


ENDS = """
import asyncio
import os

from momentary.encoders.media import MediaLimits
from momentary.serving.looking import Looker


async def main():
    looker = Looker(MediaLimits())
    await looker.look("image", b"no picture")
    looker.close()


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)
"""


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def lives(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.is_file() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are listed in /proc")
def test_no_process_stays_behind_when_the_service_is_killed(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    with subprocess.Popen(
        [sys.executable, tmp_path / "service.py"], stdout=subprocess.PIPE, text=True
    ) as service:
        assert "picture" in service.stdout.readline()
        started = children(service.pid)
        assert started
        service.send_signal(signal.SIGKILL)
    end = time.monotonic() + 20
    while any(lives(pid) for pid in started) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [pid for pid in started if lives(pid)]


def test_an_end_as_a_worker_ends_leaves_no_semaphores(tmp_path):
    (tmp_path / "worker.py").write_text(ENDS)
    ended = subprocess.run(
        [sys.executable, tmp_path / "worker.py"], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_encoders_that_take_too_long_to_load_are_given_up():
    async def warmed():
        looker = Looker(MediaLimits(), most_s=0.001)
        await looker.warm(["image"])
        return looker._pool

    assert asyncio.run(warmed()) is None
