"""Cold sounds: real clips, simulated listeners, and factors that the audio network hears.

No real usage of real sounds can be had, so 2,000 listeners are simulated over ESC-10: each has a
taste for the ten classes (Dirichlet), each clip an appeal of its own (log-normal) that nobody can
hear, and a listener plays 40 clips, drawn by taste times appeal. Folds 4 and 5 are cold: nobody's
plays of them are seen. The concentration of the tastes was set before any network was trained, so
that the oracle that knows every cold clip's class has about .35.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
from implicit.cpu.als import AlternatingLeastSquares

import momentary.models.audio_network as audio_network
from benchmarks.content_esc10 import Sounds, load
from benchmarks.content_films import recall
from benchmarks.content_runs import kept
from benchmarks.content_vectors import sound_vectors
from benchmarks.report import Row, data_folder, finish_part, sha256
from momentary.encoders.aisfx import AiSFX
from momentary.encoders.audio import MFCC
from momentary.models.audio_network import AudioNetwork, AudioNetworkConfig
from momentary.models.content_factor import ContentFactor, ContentFactorConfig
from momentary.types import FloatArray, IntArray

SEEDS = (0, 1, 2)
COLD_FOLDS = (4, 5)
LISTENERS, PLAYS, FACTORS = 2_000, 40, 40
CONCENTRATION, APPEAL = 0.45, 0.5
NETWORKS = 3
_NETWORKS = f"the mean of {NETWORKS} audio networks -> 40 factors"
_NEIGHBOURS = 20


def simulate(sounds: Sounds, *, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """Who played what. Shape (listeners, sounds)."""
    n_labels = int(sounds.labels.max()) + 1
    tastes = rng.dirichlet(np.full(n_labels, CONCENTRATION), LISTENERS)
    appeal = rng.lognormal(0.0, APPEAL, len(sounds.labels))
    # The largest keys of log chance + Gumbel noise are a draw without replacement.
    keys = np.log(np.maximum(tastes[:, sounds.labels] * appeal, 1e-300))
    keys += rng.gumbel(size=keys.shape)
    played = np.argpartition(-keys, PLAYS, axis=1)[:, :PLAYS]
    listeners = np.repeat(np.arange(LISTENERS), PLAYS)
    ones = np.ones(len(listeners), dtype=np.float32)
    return scipy.sparse.csr_array((ones, (listeners, played.ravel())), shape=keys.shape)


def measure(sounds: Sounds, *, seed: int, cache: Path, network: bool = True) -> dict[str, float]:
    """Recall@20 over the cold clips, by method."""
    plays = simulate(sounds, rng=np.random.default_rng([seed, 40]))
    warm, cold = sounds.outside(*COLD_FOLDS), sounds.inside(*COLD_FOLDS)
    history = scipy.sparse.csr_matrix(plays[:, warm])
    wanted = scipy.sparse.csr_array(plays[:, cold])
    als = AlternatingLeastSquares(factors=FACTORS, num_threads=1, random_state=seed)
    als.fit(history, show_progress=False)
    factors = np.asarray(als.item_factors, dtype=np.float32)
    random = np.random.default_rng(seed).random(wanted.shape, dtype=np.float32)
    found = {"random": recall(random, wanted)}
    mfcc = sound_vectors("audio_esc10", sounds.names, MFCC(), cache=cache)
    known = (mfcc - mfcc[warm].mean(axis=0)) / mfcc[warm].std(axis=0)
    found["MFCC kNN"] = recall(history @ _near(known[warm], known[cold]), wanted)
    if network:
        heard = _heard(sounds, factors, warm=warm, cold=cold, seed=seed, cache=cache)
        first, mean = heard[0], heard.mean(axis=0)
        found["one audio network -> 40 factors"] = recall(als.user_factors @ first.T, wanted)
        found[_NETWORKS] = recall(als.user_factors @ mean.T, wanted)
    sfx = sound_vectors("audio_esc10", sounds.names, AiSFX(), cache=cache)
    content = {"aisfx": sfx, "mfcc": known.astype(np.float32)}
    model = ContentFactor(ContentFactorConfig(ridge=1.0)).fit(
        {name: view[warm] for name, view in content.items()},
        _unit(factors),
        visits=scipy.sparse.csr_array(history),
        rng=np.random.default_rng(seed),
    )
    told = model.predict({name: view[cold] for name, view in content.items()})
    found["pretrained aiSFX and MFCC -> 40 factors"] = recall(als.user_factors @ told.T, wanted)
    centroids = np.stack(
        [
            _unit(factors)[sounds.labels[warm] == label].mean(axis=0)
            for label in range(int(sounds.labels.max()) + 1)
        ]
    )
    oracle = centroids[sounds.labels[cold]]
    found["oracle that knows the class"] = recall(als.user_factors @ oracle.T, wanted)
    return found


def run(cache: Path) -> None:
    """Measure, print and write the rows."""
    sounds = load(cache)
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        for name, value in measure(sounds, seed=seed, cache=cache).items():
            found.setdefault(name, []).append(value)
            print(f"seed {seed}: {name} {value:.4f}", flush=True)
    rows = [
        Row(
            what=f"cold sounds (simulated listeners), Recall@20: {name}",
            value=float(np.mean(values)),
            spread=max(values) - min(values),
            target=0.32 if "audio network" in name else None,
        )
        for name, values in found.items()
    ]
    data = {"clips.zip": sha256(data_folder() / "audio_esc10" / "clips.zip")}
    finish_part("content", "cold_sounds", rows, data=data, seeds=SEEDS)


def _heard(
    sounds: Sounds,
    factors: FloatArray,
    *,
    warm: IntArray,
    cold: IntArray,
    seed: int,
    cache: Path,
) -> FloatArray:
    """The factors of cold clips, from networks that learned those of the warm ones.

    One row of (networks, clips, factors) a network; they differ in what chance decides.
    """
    config = AudioNetworkConfig()

    def train(draw: int) -> dict[str, FloatArray]:
        rng = np.random.default_rng([seed, 41, draw] if draw else [seed, 41])
        model = AudioNetwork(config).fit(
            [sounds.tracks[row] for row in warm], factors=factors, rng=rng
        )
        return {"factors": model.predict([sounds.tracks[row] for row in cold])}

    what = f"cold sounds {config} {CONCENTRATION} {APPEAL} {PLAYS} seed {seed}"
    return np.stack(
        [
            kept(
                cache,
                f"{what} network {draw}" if draw else what,
                partial(train, draw),
                code=(audio_network,),
            )["factors"]
            for draw in range(NETWORKS)
        ]
    )


def _near(known: FloatArray, unseen: FloatArray) -> FloatArray:
    """Likeness of each cold clip to its nearest warm ones, 0 to the others. (warm, cold)."""
    apart = np.square(known[:, None] - unseen[None]).sum(axis=2)
    near = np.argpartition(apart, _NEIGHBOURS, axis=0)[:_NEIGHBOURS]
    found = np.zeros_like(apart, dtype=np.float32)
    np.put_along_axis(found, near, 1.0, axis=0)
    return found


def _unit(rows: FloatArray) -> FloatArray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
