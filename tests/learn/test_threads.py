import os
import subprocess
import sys

PROGRAM = """
from threadpoolctl import ThreadpoolController
from momentary.learn.threads import keep_one_blas_thread, one_blas_thread

def threads():
    found = ThreadpoolController().info()
    return {each["num_threads"] for each in found if each["user_api"] == "blas"}

before = threads()
with one_blas_thread():
    inside = threads()
print(before, inside, threads())
keep_one_blas_thread()
with one_blas_thread():
    inside = threads()
print(inside, threads())
"""


def test_one_thread_inside_the_block_and_for_good_once_a_process_keeps_to_it():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    for_a_while, for_good = done.stdout.splitlines()
    assert for_a_while == "{2} {1} {2}"
    assert for_good == "{1} {1}"
