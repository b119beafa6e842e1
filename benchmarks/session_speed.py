"""Speed and memory of GRU4Rec, beside its authors' PyTorch code on the same data and machine.

    python -m benchmarks.session_speed --peer FOLDER [--only gru4rec|linear]

FOLDER is a checkout of hidasib/GRU4Rec_PyTorch_Official (free for research only, so it is driven
from outside and is no part of this project); it needs torch and pandas. Both run on one thread, in
turns, and are charged by CPU seconds; the start (reading, first weights) is charged to neither.
Without --peer, the figures of an earlier run stand beside ours. `--ledger FILE` keeps each part's
figures, so a run that was interrupted goes on. All in all it takes about a quarter of an hour on
two quiet cores, and says little on busy ones.

What is timed:

- Training at identical settings: a part of an epoch each.
- Ranking: our replay of the whole test part, which computes what sessions have in common once,
  beside the authors' evaluation of a part of it (each prediction costs it the same).
- Time to equal accuracy: `FAST` settings, chosen on the newest 6 % of the training sessions,
  are trained whole and ranked once on the test; the CPU seconds count only if Recall@20
  and MRR@20 reach the authors' (recorded, 3 epochs) less half a percent. The authors' CPU seconds
  are those of 3 epochs at the rate measured here.
- The same with the attentive RNN, `SOONER`: another architecture, on the newest sessions alone.
- The same with any model of ours (`--only linear`): SLIST, whose linear weights are solved for and
  which is no network, at the settings of `examples/`. The authors' rate is that of the last run.
- Two workers: wall seconds of one epoch, which say something on a machine with two idle cores
  only, and the accuracy of a whole training.
- Growth with the catalogue and with events, on simulated sessions.
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
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from benchmarks.ledger import Ledger
from benchmarks.report import RESULTS, Row, data_folder, finish_part, sha256
from benchmarks.sessions import AUTHORS, PEERS, PUBLIC, SETTINGS
from momentary.data import datasets
from momentary.data.splits import Split, split_at
from momentary.evaluation import metrics
from momentary.evaluation.replay import ReplayConfig, next_item_queries, replay
from momentary.learn.course import Course
from momentary.learn.threads import one_blas_thread
from momentary.learn.top_items import TopItems
from momentary.learn.validation import cut_newest
from momentary.models.artifact import make
from momentary.models.gru4rec import GRU4Rec, GRU4RecConfig, Network
from momentary.models.protocol import Scorer
from momentary.types import Sessions

PREDICTIONS = 128_000
RANKED = 8_000
ROOFLINE = {"batch_size": 128, "n_sample": 512}
MEMORY_MIB = 600
LIVE_MS = 1.0
WITHIN = 0.995
FAST: dict[str, dict[str, float]] = {
    "rsc15_64": {"workers": 4, "n_sample": 128},
    "diginetica": {"workers": 2},
}
"""What is changed of the authors' settings to be as accurate sooner: fewer negatives, and several
workers, whose mean is the more accurate network; by a search on rsc15_64's validation part. On that
of diginetica fewer negatives cost 5 % of the accuracy, so it keeps them."""
_SOON = {"epochs": 1, "stretches": 4}
SOONER: dict[str, dict[str, float]] = {
    "rsc15_64": _SOON | {"share": 0.35, "units": 64, "n_sample": 300},
    "diginetica": _SOON | {"share": 0.65, "units": 48, "n_sample": 100, "likely": 32},
}
"""The attentive RNN's settings that reach the authors' accuracy sooner, and the share of the
sessions, the newest, that it learns from; by trials on the validation parts."""
CATALOGUES = (10_000, 100_000, 1_000_000)
EVENTS = (100_000, 400_000, 1_600_000)


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


def random_model(config: GRU4RecConfig, *, n_items: int) -> GRU4Rec:
    """A network that has learned nothing; what a product costs does not depend on its numbers."""
    network = Network.random(config, n_items=n_items, rng=np.random.default_rng(0))
    unseen = np.zeros(0, dtype=np.int64)
    return GRU4Rec.from_state(config, {**network.parameters(), "unseen": unseen})


def rank_rate(config: GRU4RecConfig, sessions: Sessions, *, n_items: int) -> float:
    """Predictions per CPU second in ranking the catalogue."""
    model = random_model(config, n_items=n_items)
    began = time.process_time()
    queries = next_item_queries(sessions)
    replay(model, queries, config=ReplayConfig(cutoffs=(20,), keep_lists=0))
    return len(queries) / (time.process_time() - began)


def live_ms(config: GRU4RecConfig, *, n_items: int, clicks: int = 400) -> tuple[float, float]:
    """CPU milliseconds from a click to the new state and the exact best 20; scores in full, too."""
    model = random_model(config, n_items=n_items)
    vectors, biases = model.item_vectors()
    top = TopItems(vectors, biases)
    clicked = np.random.default_rng(0).integers(n_items, size=(clicks, 1))
    spent = []
    with one_blas_thread():
        for whole in (False, True):
            state = model.start(1)
            began = time.process_time()
            for item in clicked:
                state = model.advance(state, item)
                if whole:
                    scores = model.score_states(state)[0]
                    np.argpartition(-scores, 20)[:20]
                else:
                    top.best(model.queries(state)[0], 20)
            spent.append((time.process_time() - began) * 1e3 / clicks)
    return spent[0], spent[1]


def simulated(*, n_items: int, events: int) -> Sessions:
    """Sessions of five clicks on items of Zipf's popularity; simulated."""
    rng = np.random.default_rng(0)
    share = 1.0 / np.arange(1, n_items + 1)
    drawn = np.searchsorted(np.cumsum(share / share.sum()), rng.random(events))
    items = np.minimum(drawn, n_items - 1).astype(np.int64)
    count = events // 5
    return Sessions(
        items=items[: 5 * count],
        offsets=np.arange(count + 1) * 5,
        times_us=np.arange(5 * count) * 1_000_000,
        users=np.full(count, -1),
    )


def growth() -> list[Row]:
    """Training, ranking and a live click as the catalogue grows; an epoch as events grow."""
    config = GRU4RecConfig(batch_size=128, n_sample=512)
    rows = []
    for n_items in CATALOGUES:
        sessions = simulated(n_items=n_items, events=400_000)
        where = f"simulated, {n_items:,} items:"
        train = train_rate(config, sessions, n_items=n_items)
        rows.append(Row(what=f"{where} train preds", value=train, unit="/CPU-s"))
        some = sessions.take(np.arange(1_000 if n_items < 1_000_000 else 200))
        rank = rank_rate(config, some, n_items=n_items)
        rows.append(Row(what=f"{where} rank preds", value=rank, unit="/CPU-s"))
        live = live_ms(config, n_items=n_items, clicks=60)[0]
        rows.append(Row(what=f"{where} a click", value=live, unit="CPU-ms", better="lower"))
        print(where, round(train), round(rank), round(live, 3), flush=True)
    for events in EVENTS:
        sessions = simulated(n_items=40_000, events=events)
        began = time.process_time()
        model = GRU4Rec(GRU4RecConfig(batch_size=128, n_sample=512, epochs=1))
        model.fit(sessions, n_items=40_000, rng=np.random.default_rng(0))
        spent = time.process_time() - began
        what = f"simulated, {events:,} events: one epoch, all in all"
        rows.append(Row(what=what, value=spent, unit="CPU-s", better="lower"))
        print(what, round(spent, 1), flush=True)
    return rows


def accuracy(model: Scorer, sessions: Sessions) -> tuple[float, float]:
    """Recall@20 and MRR@20 over every next item."""
    queries = next_item_queries(sessions)
    asked = replay(model, queries, config=ReplayConfig(cutoffs=(20,), keep_lists=0))
    recall, mrr = (
        float(measure(asked.ranks, asked.target_offsets, k=20).mean())
        for measure in (metrics.recall, metrics.mrr)
    )
    return recall, mrr


def equal_accuracy(data: str, split: Split, *, peer_rate: float, seeds: int) -> list[Row]:
    """CPU seconds to the authors' accuracy by their architecture, beside the authors' own."""
    fast = dict(FAST[data])
    course = Course(workers=int(fast.pop("workers", 1)))
    config = GRU4RecConfig(**{**SETTINGS[data]["gru4rec"], **fast})

    def trained(rng: np.random.Generator) -> Scorer:
        train, n_items = split.train.sessions, len(split.train.items)
        return GRU4Rec(config).train(train, n_items=n_items, rng=rng, course=course)

    how = "at the fast settings"
    return reached(data, split, trained, how=how, peer_rate=peer_rate, seeds=seeds)


def sooner(data: str, split: Split, *, peer_rate: float, seeds: int) -> list[Row]:
    """CPU seconds to the authors' accuracy by the attentive RNN on the newest sessions."""
    settings = dict(SOONER[data])
    newest = cut_newest(split.train.sessions, settings.pop("share"))[1]
    n_items = len(split.train.items)

    def trained(rng: np.random.Generator, sessions: Sessions = newest) -> Scorer:
        model = make("attentive_rnn", {**SETTINGS[data]["attentive_rnn"], **settings})
        return model.fit(sessions, n_items=n_items, rng=rng)

    trained(np.random.default_rng(0), cut_newest(newest, 0.05)[1])  # compiles
    how = "by a short attentive RNN"
    return reached(data, split, trained, how=how, peer_rate=peer_rate, seeds=seeds)


def by_any(data: str, split: Split, *, peer_rate: float) -> list[Row]:
    """CPU seconds to the authors' accuracy by SLIST, which leaves nothing to chance: one run."""
    n_items = len(split.train.items)

    def trained(rng: np.random.Generator, sessions: Sessions = split.train.sessions) -> Scorer:
        model = make("slist", SETTINGS[data]["slist"])
        return model.fit(sessions, n_items=n_items, rng=rng)

    trained(np.random.default_rng(0), cut_newest(split.train.sessions, 0.05)[1])  # compiles
    how = "by any model of ours: SLIST, linear, no network"
    return reached(data, split, trained, how=how, peer_rate=peer_rate, seeds=1)


def recorded_rate(data: str) -> float:
    """Predictions a CPU-s of the authors' training in the last run."""
    rows = msgspec.json.decode((RESULTS / "session_speed.json").read_bytes())["rows"]
    found = next(row for row in rows if row["what"] == f"{data} gru4rec preds: train")
    return float(found["peer_value"])


def reached(
    data: str,
    split: Split,
    trained: Callable[[np.random.Generator], Scorer],
    *,
    how: str,
    peer_rate: float,
    seeds: int,
) -> list[Row]:
    """What a training reaches and costs, beside the authors' at `peer_rate` predictions a CPU-s."""
    noted = PEERS[data]["gru4rec"][1]
    found = []
    for seed in range(seeds):
        began = time.process_time()
        model = trained(np.random.default_rng(seed))
        spent = time.process_time() - began  # of all workers together
        found.append((spent, *accuracy(model, split.test.sessions)))
        print(data, how, found[-1], flush=True)
    spent, recall, mrr = np.array(found).T
    theirs = int(np.maximum(split.train.sessions.lengths - 1, 0).sum()) * 3 / peer_rate
    rows = [
        Row(
            what=f"{data} {name} {how}",
            value=float(values.mean()),
            target=noted[name] * WITHIN,
            peer=AUTHORS,
            peer_value=noted[name],
            spread=float(np.ptp(values)),
        )
        for name, values in (("recall@20", recall), ("mrr@20", mrr))
    ]
    return [
        *rows,
        Row(
            what=f"{data} training {how}",
            value=float(np.median(spent)),
            unit="CPU-s",
            target=theirs / 10,
            better="lower",
            peer="the authors' 3 epochs at their rate",
            peer_value=theirs,
            spread=float(np.ptp(spent)),
        ),
    ]


def wall_rate(config: GRU4RecConfig, split: Split, *, workers: int) -> float:
    """Predictions per second of the clock in training."""
    marks: list[tuple[int, int, float]] = []

    def watch(done: int, total: int, note: str = "") -> None:
        del note
        marks.append((done, total, time.perf_counter()))
        if (done - marks[0][0]) * config.batch_size >= PREDICTIONS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        GRU4Rec(config).train(
            split.train.sessions,
            n_items=len(split.train.items),
            rng=np.random.default_rng(0),
            progress=watch,
            course=Course(workers=workers),
        )
    (first, _, began), (last, _, ended) = marks[0], marks[-1]
    return (last - first) * config.batch_size / (ended - began)


def two_workers(data: str, split: Split, *, rounds: int, seeds: int) -> list[Row]:
    """How much faster two workers are by the clock, and how accurate."""
    config = GRU4RecConfig(**SETTINGS[data]["gru4rec"])
    ratios = []
    for _ in range(rounds):
        one, two = (wall_rate(config, split, workers=workers) for workers in (1, 2))
        ratios.append(two / one)
        print(data, "two workers", round(one), round(two), round(two / one, 2), flush=True)
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for workers, figures in found.items():
        for seed in range(seeds):
            model = GRU4Rec(config).train(
                split.train.sessions,
                n_items=len(split.train.items),
                rng=np.random.default_rng(seed),
                course=Course(workers=workers),
            )
            figures.append(accuracy(model, split.test.sessions))
            print(data, f"{workers} workers", figures[-1], flush=True)
    rows = [
        Row(
            what=f"{data} two workers to one, by the clock",
            value=float(np.median(ratios)),
            target=1.7,
            spread=float(np.ptp(ratios)),
        )
    ]
    for place, name in enumerate(("recall@20", "mrr@20")):
        one, two = (float(np.mean([each[place] for each in found[w]])) for w in (1, 2))
        rows.append(
            Row(
                what=f"{data} {name} by two workers",
                value=two,
                target=one * WITHIN,
                peer="one worker",
                peer_value=one,
                spread=float(np.ptp([each[place] for each in found[2]])),
            )
        )
    return rows


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
    # Of one prediction: what `product_rate` multiplies, three products with the candidates and five
    # of the layer, and nothing else that is computed.
    flop = 6 * candidates * units + 30 * units * units
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


def side_by_side(data: str, split: Split, authors: Authors | None, *, rounds: int) -> list[Row]:
    """Training and ranking of one set; the median over the rounds."""
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


def at_full_size(split: Split, *, rounds: int) -> list[Row]:
    """Share of the roofline, memory and a live click, on diginetica."""
    shares = [roofline_share(split) for _ in range(rounds)]
    share, gflops = np.median(shares, axis=0)
    what = f"diginetica share of {gflops:.0f} GFLOP/s at batch 128, n_sample 512"
    rows = [Row(what=what, value=float(share), target=0.6)]
    peak = peak_mib("diginetica")
    what = "diginetica peak memory in training"
    rows.append(Row(what=what, value=peak, unit="MiB", target=MEMORY_MIB, better="lower"))
    n_items = len(split.train.items)
    timed = [live_ms(GRU4RecConfig(), n_items=n_items) for _ in range(rounds)]
    fast, whole = np.median(timed, axis=0)
    rows.append(
        Row(
            what=f"a click: new state and exact best 20 of {n_items:,} items",
            value=float(fast),
            unit="CPU-ms",
            target=LIVE_MS,
            better="lower",
            peer="the same from whole scores",
            peer_value=float(whole),
        )
    )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(PUBLIC), choices=PUBLIC)
    parser.add_argument("--only", choices=("gru4rec", "linear"), help="run one part")
    parser.add_argument("--peer", type=Path, help="checkout of the authors' PyTorch code")
    parser.add_argument("--ledger", type=Path, help="where each part's figures are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    digests = {data: sha256(data_folder() / data / "events.parquet") for data in options.data}
    every = set(options.data) == set(PUBLIC)
    if options.only != "linear":
        whole = every and min(options.rounds, options.seeds) >= 3
        rows, seeds = measured(options), range(options.seeds)
        finish_part("session_speed", "gru4rec", rows, data=digests, seeds=seeds, whole=whole)
    if options.only != "gru4rec":
        linear = [
            row
            for data in options.data
            for row in by_any(data, load(data), peer_rate=recorded_rate(data))
        ]
        finish_part("session_speed", "linear", linear, data=digests, seeds=[], whole=every)


def measured(options: argparse.Namespace) -> list[Row]:
    """GRU4Rec beside its authors' code, the attentive RNN beside both, and growth."""
    authors = None if options.peer is None else Authors(options.peer)
    ledger, rows = Ledger(options.ledger), list[Row]()

    def part(name: str, measure: Callable[[], list[Row]]) -> list[Row]:
        noted = f"{name}, {options.rounds} rounds, {options.seeds} seeds, {options.peer}"
        rows.extend(msgspec.convert(ledger.of(noted, measure), list[Row]))
        return rows

    for data in options.data:
        split = load(data)
        rounds, seeds = options.rounds, options.seeds
        compared = part(f"{data} rates", partial(side_by_side, data, split, authors, rounds=rounds))
        peer_rate = next(
            row.peer_value or 0 for row in compared if row.what.startswith(f"{data} gru4rec")
        )
        part(
            f"{data} equal accuracy {FAST[data]}",
            partial(equal_accuracy, data, split, peer_rate=peer_rate, seeds=seeds),
        )
        part(
            f"{data} sooner {SOONER[data]}",
            partial(sooner, data, split, peer_rate=peer_rate, seeds=seeds),
        )
        part(f"{data} workers", partial(two_workers, data, split, rounds=rounds, seeds=seeds))
    if "diginetica" in options.data:
        part("full size", lambda: at_full_size(load("diginetica"), rounds=options.rounds))
    part("growth", growth)
    return rows


if __name__ == "__main__":
    main()
