"""Workers that fail or are told to end at a bad moment."""

import asyncio
import subprocess
import sys
import textwrap
import time

import pytest

from momentary.serving.team import Team

pytest.importorskip("fcntl")


def test_nobody_waits_for_a_worker_that_failed_to_follow(tmp_path, caplog):
    async def run():
        with Team(3, turn=tmp_path / "turn", keys=0) as team:
            members = [team.member(index) for index in range(3)]

            async def follow(what):
                return what

            async def fail(_what):
                raise ValueError("no such item")

            for each in members:
                each.listen({"item": fail if each.index == 1 else follow})
            try:
                begun_s = time.monotonic()
                answers = await members[0].tell("item", b"tea")
                return answers, time.monotonic() - begun_s
            finally:
                for each in members:
                    each.leave()

    answers, taken_s = asyncio.run(run())
    assert answers == {2: b"tea"}
    assert taken_s < 30  # of the minute that it would wait for a silent one
    assert "worker 1 could not follow 'item'" in caplog.text
    assert "workers [1] failed to follow 'item'" in caplog.text


def test_an_order_to_end_reaches_a_worker_that_is_being_started():
    """It comes right after the copy is made, before its name is noted."""
    program = """
        import os, signal, sys, time
        from momentary.serving.workers import Workers

        copy = os.fork

        def fork():
            pid = copy()
            if pid:
                os.kill(os.getpid(), signal.SIGTERM)
            return pid

        def work(index, starts, lifeline):
            while True:
                time.sleep(0.05)

        os.fork = fork
        sys.exit(Workers(1, work, grace_s=60).run())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], timeout=50, check=False)
    assert done.returncode == 0
