"""Speed and memory of GRU4Rec, beside its authors' PyTorch code on the same data and machine.

    python -m benchmarks.session_speed --peer FOLDER

FOLDER is a checkout of hidasib/GRU4Rec_PyTorch_Official (free for research only, so it is driven
from outside and is no part of this project); it needs torch and pandas. Both run on one thread, in
turns, and are charged by CPU seconds; the start (reading, first weights) is charged to neither.
Without --peer, the figures of an earlier run stand beside ours.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.report import Row, data_folder, finish, sha256
from benchmarks.sessions import AUTHORS, PEERS, SETTINGS
from momentary.data import datasets
from momentary.data.batches import SessionParallel
from momentary.data.splits import Split, split_at
from momentary.learn.ranking import rank_blocks
from momentary.learn.threads import one_blas_thread
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig, Network
from momentary.types import Sessions

PREDICTIONS = 128_000
RANKED = 8_000
ROOFLINE = {"batch_size": 128, "n_sample": 512}
MEMORY_MIB = 600


class _EnoughError(Exception):
    """Ends a training run that has been watched for long enough."""


def train_rate(config: GRU4RecConfig, sessions: Sessions, *, n_items: int) -> float:
    """Predictions per CPU second in training."""
    marks: list[tuple[int, float]] = []

    def watch(done: int, total: int, note: str = "") -> None:
        del total, note
        marks.append((done, time.process_time()))
        if done * config.batch_size >= PREDICTIONS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        GRU4Rec(config).fit(sessions, n_items=n_items, rng=np.random.default_rng(0), progress=watch)
    (first, began), (last, ended) = marks[0], marks[-1]
    return (last - first) * config.batch_size / (ended - began)


def rank_rate(config: GRU4RecConfig, sessions: Sessions, *, n_items: int) -> float:
    """Predictions per CPU second in ranking the catalogue; the weights do not matter for it."""
    network = Network.random(config, n_items=n_items, rng=np.random.default_rng(0))
    unseen = np.zeros(0, dtype=np.int64)
    state = {**network.tables, **network.dense(), "unseen": unseen}
    model = GRU4Rec.from_state(config, state)
    states = model.start(512)
    done = 0
    with one_blas_thread():
        began = time.process_time()
        for step in SessionParallel.plan(sessions, batch_size=512):
            states[step.lanes[step.fresh]] = 0
            now = model.advance(states[step.lanes], step.inputs)
            states[step.lanes] = now
            rank_blocks(now, state["items"], state["biases"][:, 0], targets=step.targets)
            done += len(step.targets)
            if done >= RANKED:
                break
        return done / (time.process_time() - began)


def product_rate(*, batch: int, candidates: int, units: int) -> float:
    """FLOP per CPU second of the matrix products of one training step, alone, on one thread."""
    rng = np.random.default_rng(0)
    gates = 3 * units
    hidden, items, scores, by_gates, weights = (
        rng.random(shape, dtype=np.float32)
        for shape in (
            (batch, units),
            (candidates, units),
            (batch, candidates),
            (batch, gates),
            (gates, units),
        )
    )
    products = [(hidden, items.T), (scores.T, hidden), (scores, items)]
    products += [(hidden, weights.T)] * 2 + [(by_gates.T, hidden)] * 2 + [(by_gates, weights)]
    rooms = [np.empty((len(a), b.shape[1]), dtype=np.float32) for a, b in products]
    flop = sum(2 * len(a) * a.shape[1] * b.shape[1] for a, b in products)
    repeats = 400
    with one_blas_thread():
        began = time.process_time()
        for _ in range(repeats):
            for (a, b), room in zip(products, rooms, strict=True):
                np.matmul(a, b, out=room)
        return repeats * flop / (time.process_time() - began)


def roofline_share(split: Split) -> tuple[float, float]:
    """Share of the products' own rate that training reaches, and that rate in GFLOP/s."""
    config = GRU4RecConfig(**SETTINGS["diginetica"]["gru4rec"] | ROOFLINE)
    batch, candidates, units = config.batch_size, config.batch_size + config.n_sample, 100
    flop = 6 * candidates * units + 30 * units * units  # of one prediction, see `product_rate`
    before = product_rate(batch=batch, candidates=candidates, units=units)
    rate = train_rate(config, split.train.sessions, n_items=len(split.train.items))
    after = product_rate(batch=batch, candidates=candidates, units=units)
    attainable = (before + after) / 2
    return rate * flop / attainable, attainable / 1e9


class Authors:
    """The authors' code, driven from outside."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self.torch = importlib.import_module("torch")
        self.pandas = importlib.import_module("pandas")
        self.code: Any = importlib.import_module("gru4rec_pytorch")
        self.evaluation: Any = importlib.import_module("evaluation")
        self.torch.set_num_threads(1)
        self.code.torch = _PlainTensors(self.torch)
        first_weights = self.code.GRU4RecModel._init_numpy_weights  # noqa: SLF001
        self.code.GRU4RecModel._init_numpy_weights = lambda model, shape: first_weights(  # noqa: SLF001
            model, shape
        ).astype(np.float32)
        self.watched: tuple[int, float] = (0, 0.0)
        batches = self.code.SessionDataIterator.__call__
        watch = self.watch

        def limited(*given: object, **named: object) -> Iterator[Any]:
            return watch(batches(*given, **named))

        self.code.SessionDataIterator.__call__ = limited
        self.limit = PREDICTIONS

    def watch(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass on batches until enough are predicted; notes their number and CPU seconds."""
        done, began = 0, 0.0
        for number, (inputs, candidates) in enumerate(batches):
            if number == 1:
                began = time.process_time()
            done += len(inputs) if number else 0
            yield inputs, candidates
            if done >= self.limit:
                break
        self.watched = (done, time.process_time() - began)

    def frame(self, sessions: Sessions) -> Any:  # noqa: ANN401 - a pandas table
        """Sessions as the table that the authors' code reads."""
        rows = np.repeat(np.arange(len(sessions)), sessions.lengths)
        columns = {"SessionId": rows, "ItemId": sessions.items, "Time": sessions.times_us}
        return self.pandas.DataFrame(columns)

    def rates(self, config: GRU4RecConfig, split: Split) -> tuple[float, float]:
        """Predictions per CPU second in training and in ranking."""
        model = self.code.GRU4Rec(
            layers=list(config.units),
            loss="cross-entropy",
            batch_size=config.batch_size,
            dropout_p_embed=config.dropout_embedding,
            dropout_p_hidden=config.dropout_hidden,
            learning_rate=config.learning_rate,
            momentum=config.momentum,
            sample_alpha=config.sample_alpha,
            n_sample=config.n_sample,
            constrained_embedding=True,
            n_epochs=1,
            logq=config.logq,
            device=self.torch.device("cpu"),
        )
        with contextlib.redirect_stdout(io.StringIO()):
            self.limit = PREDICTIONS
            model.fit(self.frame(split.train.sessions), sample_cache_max_size=2_000_000)
            trained = self.watched
            self.limit = RANKED
            self.evaluation.batch_eval(model, self.frame(split.test.sessions), batch_size=512)
        return trained[0] / trained[1], self.watched[0] / self.watched[1]


class _PlainTensors:
    """Torch, except that `tensor` takes a pandas column by its values."""

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch

    def __getattr__(self, name: str) -> object:
        return getattr(self._torch, name)

    def tensor(self, values: Any, **named: object) -> object:  # noqa: ANN401
        """Make a tensor."""
        return self._torch.tensor(getattr(values, "values", values), **named)


def load(data: str) -> Split:
    """One set, cut by time."""
    dataset = datasets.load(data, data=data_folder())
    return split_at(dataset.sessions(), dataset.cut_us)


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from momentary.data import datasets
from momentary.data.splits import split_at
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig
dataset = datasets.load(sys.argv[1], data=Path(sys.argv[2]))
part = split_at(dataset.sessions(), dataset.cut_us).train
config = GRU4RecConfig(**json.loads(sys.argv[3]), epochs=1)
GRU4Rec(config).fit(part.sessions, n_items=len(part.items), rng=np.random.default_rng(0))
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
"""


def peak_mib(data: str) -> float:
    """Peak memory of a process of its own that reads and trains."""
    settings = json.dumps(SETTINGS[data]["gru4rec"])
    command = [sys.executable, "-c", MEMORY, data, str(data_folder()), settings]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout)


def side_by_side(data: str, authors: Authors | None, *, rounds: int) -> list[Row]:
    """Training and ranking of one set; the median over the rounds."""
    split = load(data)
    n_items = len(split.train.items)
    config = GRU4RecConfig(**SETTINGS[data]["gru4rec"])
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    train_rate(config, split.train.sessions, n_items=n_items)  # compiles, as does the next
    rank_rate(config, split.test.sessions, n_items=n_items)
    for _ in range(rounds):
        if authors is not None:
            theirs.append(authors.rates(config, split))
        ours.append(
            (
                train_rate(config, split.train.sessions, n_items=n_items),
                rank_rate(config, split.test.sessions, n_items=n_items),
            )
        )
        print(data, "ours", ours[-1], "theirs", theirs[-1:], flush=True)
    noted = PEERS[data]["gru4rec"][1]
    peers = np.median(theirs, axis=0) if theirs else np.array([noted["train"], noted["rank"]])
    rows = []
    for place, (what, times) in enumerate((("train", 2.5), ("rank", 6.0))):
        values = np.array([each[place] for each in ours])
        rows.append(
            Row(
                what=f"{data} gru4rec preds: {what}",
                value=float(np.median(values)),
                unit="/CPU-s",
                target=float(peers[place]) * times,
                peer="the authors' GRU4Rec" if theirs else AUTHORS,
                peer_value=float(peers[place]),
                spread=float(np.ptp(values)),
            )
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--peer", type=Path, help="checkout of the authors' PyTorch code")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    authors = None if options.peer is None else Authors(options.peer)
    rows = [
        row for data in options.data for row in side_by_side(data, authors, rounds=options.rounds)
    ]
    if "diginetica" in options.data:
        split = load("diginetica")
        shares = [roofline_share(split) for _ in range(options.rounds)]
        share, gflops = np.median(shares, axis=0)
        what = f"diginetica share of {gflops:.0f} GFLOP/s at batch 128, n_sample 512"
        rows.append(Row(what=what, value=float(share), target=0.6))
        peak = peak_mib("diginetica")
        what = "diginetica peak memory in training"
        rows.append(Row(what=what, value=peak, unit="MiB", target=MEMORY_MIB, better="lower"))
    digests = {data: sha256(data_folder() / data / "events.parquet") for data in options.data}
    finish("session_speed", rows, data=digests, seeds=[0])


if __name__ == "__main__":
    main()
