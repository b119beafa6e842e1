"""RecTools' content models on given films; runs in its environment, see content_peers.py."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from lightfm import LightFM
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import LightFMWrapperModel

FACTORS = 64
ALL_KINDS = ("genre", "decade", "director", "actor")


def lightfm(given: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """LightFM with the WARP loss, films as the sum of their tags."""
    data = _data(given)
    inner = LightFM(no_components=FACTORS, loss="warp", random_state=seed)
    model = LightFMWrapperModel(inner, epochs=10, num_threads=1).fit(data)
    return _in_order(data, given, model.get_vectors(data))


def _data(given: dict[str, Any]) -> Dataset:
    visits = pd.DataFrame(
        {
            Columns.User: given["visitors"],
            Columns.Item: given["films"],
            Columns.Weight: 1.0,
            Columns.Datetime: "2000-01-01",
        }
    )
    tags = pd.DataFrame(
        [
            (film, *tag.split(" ", 1))
            for film, row in enumerate(given["tags"].tolist())
            for tag in row.split("|")
            if tag.startswith(ALL_KINDS)
        ],
        columns=["id", "feature", "value"],
    )
    return Dataset.construct(visits, item_features_df=tags, cat_item_features=ALL_KINDS)


def _in_order(data: Dataset, given: dict[str, Any], both: tuple[Any, Any]) -> tuple[Any, Any]:
    """By the given numbers; a film without any tag has zeros."""
    found = []
    for known, vectors, count in (
        (data.user_id_map, both[0], given["shape"][0]),
        (data.item_id_map, both[1], given["shape"][1]),
    ):
        ordered = np.zeros((count, vectors.shape[1]), dtype=np.float32)
        ordered[known.external_ids] = vectors
        found.append(ordered)
    return found[0], found[1]


if __name__ == "__main__":
    name, given_file, answer_file, drawn = sys.argv[1:]
    with np.load(given_file) as opened:
        question = dict(opened)
    models = {
        "RecTools LightFM with item features": lightfm,
    }
    found = models[name](question, int(drawn))
    np.savez(answer_file, visitors=found[0], films=found[1])
