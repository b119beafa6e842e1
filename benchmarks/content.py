"""Every target of content, and what its options do, beside baselines.

    python -m benchmarks.content [--only films,fashion] [--cache FOLDER] [--seeds 0,1,2]

Each part prints its rows and writes them into results/content.json beside the others' as soon as it
is done; vectors and trained networks are kept in the cache, so a run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    content_cold_films,
    content_cold_sounds,
    content_dissection,
    content_encoding,
    content_fashion,
    content_outliers,
    content_placement,
    content_playlists,
    content_sounds,
)
from benchmarks.content_vectors import default_cache


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="parts, with commas")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--seeds", default="0,1,2", help="of networks and peers that take long")
    given = parser.parse_args()
    seeds = tuple(int(seed) for seed in given.seeds.split(","))
    parts: dict[str, Callable[[Path], None]] = {
        "films": functools.partial(content_cold_films.run, peer_seeds=seeds),
        "fashion": functools.partial(content_fashion.run, seeds=seeds),
        "sounds_pretrained": content_sounds.run_pretrained,
        "sounds_scratch": functools.partial(content_sounds.run_scratch, seeds=seeds),
        "cold_sounds": content_cold_sounds.run,
        "dissection": functools.partial(content_dissection.run, seeds=seeds),
        "placement": functools.partial(content_placement.run, seeds=seeds),
        "playlists": content_playlists.run,
        "outliers": content_outliers.run,
        "encoding": content_encoding.run,
    }
    chosen = given.only.split(",") if given.only else list(parts)
    unknown = sorted(set(chosen) - set(parts))
    if unknown:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(parts)}")
    torch.set_num_threads(1)
    given.cache.mkdir(parents=True, exist_ok=True)
    for part in chosen:
        parts[part](given.cache)


if __name__ == "__main__":
    main()
