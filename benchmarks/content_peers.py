"""Other libraries' content models on the same cold films, each in an environment of its own.

    python -m venv PEERS/cornac && PEERS/cornac/bin/pip install cornac==3.0.1 torch
    python -m venv PEERS/rectools && PEERS/rectools/bin/pip install 'numpy<2' rectools==0.19.0 \
        rectools-lightfm==1.17.3

PEERS is `peers` below the cache, or what MOMENTARY_PEERS says. A peer is given the warm films'
visits and every film's tags, words and vectors, and gives factors of visitors and of all films; the
same code ranks and scores them. What they gave is kept in the cache; where an environment is absent
and nothing is kept, its peers are left out.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse

from benchmarks.content_runs import Found, kept
from benchmarks.report import ROOT
from momentary.types import FloatArray

PEERS = {
    "Cornac CTR": "cornac",
    "Cornac VBPR": "cornac",
    "RecTools LightFM with item features": "rectools",
}
"""Whose environment each needs. RecTools' ALS, with features or without, has no factors of an item
that nobody chose, so it cannot be asked here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a peer is given.

    Attributes:
        visits: With no visit of a cold film. Shape (visitors, films).
        tags: Of every film, joined by "|", such as "genre Drama|director Ang Lee".
        words: Of every film: its tags and plot as one text.
        vectors: Of every film: tags, plot, title and poster. Shape (films, width).
    """

    visits: scipy.sparse.csr_array
    tags: list[str]
    words: list[str]
    vectors: FloatArray


def peer_factors(
    name: str, question: Question, *, seed: int, cache: Path
) -> tuple[FloatArray, FloatArray] | None:
    """Factors of visitors and of films; None where the environment is absent and nothing is kept.

    Shapes (visitors, factors), (films, factors).
    """
    environment = PEERS[name]
    python = _folder(environment, cache) / "bin" / "python"
    script = ROOT / "benchmarks" / f"content_peer_{environment}.py"

    def ask() -> Found:
        if not python.is_file():
            raise FileNotFoundError(f"{name}: {python} is absent; see benchmarks/content_peers.py")
        with tempfile.TemporaryDirectory() as folder:
            given, answered = Path(folder) / "given.npz", Path(folder) / "answered.npz"
            _write(question, given)
            command = [str(python), str(script), name, str(given), str(answered), str(seed)]
            subprocess.run(command, check=True)
            with np.load(answered) as opened:
                return dict(opened)

    try:
        found = kept(cache, f"{name} seed {seed}", ask, code=(script,))
    except FileNotFoundError as error:
        print(error, flush=True)
        return None
    return found["visitors"], found["films"]


def _folder(environment: str, cache: Path) -> Path:
    return Path(os.environ.get("MOMENTARY_PEERS") or cache / "peers") / environment


def _write(question: Question, file: Path) -> None:
    pairs = question.visits.tocoo()
    np.savez(
        file,
        visitors=pairs.row,
        films=pairs.col,
        shape=np.array(question.visits.shape),
        tags=np.array(question.tags),
        words=np.array(question.words),
        vectors=question.vectors,
    )
