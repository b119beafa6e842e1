"""Nothing is encoded twice, also after the process was killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from momentary.encoders.store import VectorStore, encode_all
from momentary.errors import DataError

WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from momentary.encoders.store import VectorStore, encode_all

folder = Path(sys.argv[1])

class Slow:
    version = "slow/1"
    def encode(self, contents):
        time.sleep(0.05)
        with (folder / "journal").open("a") as journal:
            journal.write("".join(f"{each}\\n" for each in contents))
        return np.array([[float(each)] for each in contents], dtype=np.float32)

sources = [(f"n{i}", str(i).encode()) for i in range(120)]
with VectorStore(folder / "v.sqlite") as store:
    encode_all(sources, Slow(), store, decode=lambda name, raw: raw.decode(), batch=4)
"""


class Length:
    version = "length/1"

    def __init__(self):
        self.seen = []

    def encode(self, contents):
        self.seen += contents
        return np.array([[len(each), 1] for each in contents], dtype=np.float32)


def decode(_name, raw):
    if raw == b"broken":
        raise DataError("it is damaged.")
    return raw.decode()


def test_contents_are_encoded_once_and_broken_ones_named(tmp_path):
    sources = [("a", b"one"), ("b", b"three"), ("c", b"one"), ("d", b"broken")]
    sources.append(("e", DataError("it cannot be read.")))
    encoder = Length()
    with VectorStore(tmp_path / "v.sqlite") as store:
        report = encode_all(sources, encoder, store, decode=decode, batch=2)
        assert (report.encoded, report.known) == (2, 1)
        assert report.set_aside == (("d", "it is damaged."), ("e", "it cannot be read."))
        again = encode_all(sources, encoder, store, decode=decode, batch=3)
        assert (again.encoded, again.known) == (0, 3)
        vectors, there = store.read("length/1", ["b", "d", "c", "never"])
    assert encoder.seen == ["one", "three"]
    assert there.tolist() == [True, False, True, False]
    assert vectors[:, 0].tolist() == [5, 0, 3, 0]


def test_a_batch_is_full_once_its_files_hold_much(tmp_path):
    read, at_once = [], []

    class Watched(Length):
        def encode(self, contents):
            # Two batches at most are read before one is encoded: the next, and the one after it.
            at_once.append((len(contents), len(read) - len(self.seen)))
            return super().encode(contents)

    def sources():
        for number in range(40):
            read.append(number)
            yield f"n{number}", f"{number:0100}".encode()

    with VectorStore(tmp_path / "v.sqlite") as store:
        report = encode_all(sources(), Watched(), store, decode=decode, batch=30, batch_bytes=200)
    assert report.encoded == 40
    assert max(count for count, _ in at_once) == 2
    assert max(held for _, held in at_once) <= 3 * 2


def test_another_version_of_an_encoder_encodes_anew(tmp_path):
    with VectorStore(tmp_path / "v.sqlite") as store:
        encode_all([("a", b"one")], Length(), store, decode=decode)
        other = Length()
        other.version = "length/2"
        assert encode_all([("a", b"one")], other, store, decode=decode).encoded == 1


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    journal = tmp_path / "journal"
    with subprocess.Popen(command, env=os.environ) as worker:
        until = time.monotonic() + 30
        while not (journal.is_file() and len(journal.read_text().split()) >= 24):
            assert time.monotonic() < until
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
    with VectorStore(tmp_path / "v.sqlite") as store:
        stored = store.read("slow/1", [f"n{i}" for i in range(120)])[1]
    before = journal.read_text().split()
    assert 20 <= stored.sum() < 120
    subprocess.run(command, check=True, env=os.environ)
    later = journal.read_text().split()[len(before) :]
    assert not set(later) & {str(i) for i in np.flatnonzero(stored)}
    with VectorStore(tmp_path / "v.sqlite") as store:
        vectors, there = store.read("slow/1", [f"n{i}" for i in range(120)])
    assert there.all()
    assert vectors[:, 0].tolist() == list(range(120))


def test_vectors_of_a_name_are_replaced_at_once(tmp_path):
    one, other = np.ones(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    with VectorStore(tmp_path / "v.sqlite") as store, VectorStore(tmp_path / "v.sqlite") as reader:
        store.replace("a", [("e/1", b"1", one), ("f/1", b"2", one)])
        store.put("e/1", vectors={b"3": other}, names=[("b", b"3")])
        assert reader.read("e/1", ["a", "b"])[0].tolist() == [[1, 1], [0, 0]]
        store.replace("a", [("e/1", b"4", 2 * one)])
        assert reader.read("e/1", ["a"])[0].tolist() == [[2, 2]]
        assert not reader.read("f/1", ["a"])[1].any()
        # What fails half-way leaves what was there.
        with pytest.raises(sqlite3.Error):
            store.replace("a", [("e/1", b"5", one), (None, b"6", one)])
        assert reader.read("e/1", ["a", "b"])[0].tolist() == [[2, 2], [0, 0]]
        store.replace("a", [])
        assert not reader.read("e/1", ["a"])[1].any()


def test_a_file_that_is_no_store_is_refused(tmp_path):
    (tmp_path / "v.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="no vector store"):
        VectorStore(tmp_path / "v.sqlite")
