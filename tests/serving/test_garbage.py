"""When a service looks for garbage."""

import contextlib
import gc
import subprocess
import sys

from momentary.serving import garbage


def test_nothing_is_looked_for_while_it_starts_and_it_is_again_once_it_answers():
    program = """
import gc
from momentary.serving import garbage
looks = []
gc.callbacks.append(lambda phase, facts: looks.append(phase))
with garbage.postponed():
    kept = [[number] for number in range(200_000)]
    assert not looks
    garbage.settle()
    assert gc.get_freeze_count() >= len(kept)
    more = [[number] for number in range(100_000)]
    assert looks
assert gc.isenabled()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_start_that_fails_lets_python_look_again():
    assert gc.isenabled()
    with contextlib.suppress(RuntimeError), garbage.postponed():
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()
