"""Cornac's content models on given films; runs in Cornac's environment, see content_peers.py."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import numpy as np
from cornac.data import Dataset, ImageModality, TextModality
from cornac.data.text import BaseTokenizer
from cornac.models import CTR, VBPR

FACTORS = 64


def ctr(given: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """Collaborative topic regression (Wang & Blei 2011), with the weights of its paper.

    A film without visits keeps its topics as its factors.
    """
    data = _data(given)
    texts = TextModality(
        corpus=given["words"].tolist(),
        ids=np.arange(len(given["words"])).tolist(),
        tokenizer=BaseTokenizer(sep=" ", stop_words="english"),
        max_vocab=2_000,
        max_doc_freq=0.5,
    )
    data.add_modalities(item_text=texts.build(id_map=data.iid_map))
    model = CTR(
        k=FACTORS,
        lambda_u=0.01,
        lambda_v=100.0,
        a=1.0,
        b=0.01,
        max_iter=5,
        seed=seed,
        verbose=False,
    )
    model.fit(data)
    return model.U, model.V


def vbpr(given: dict[str, Any], seed: int) -> tuple[Any, Any]:
    """VBPR (He & McAuley 2016); of a cold film only what its content says counts."""
    data = _data(given)
    images = ImageModality(
        features=given["vectors"], ids=np.arange(len(given["vectors"])).tolist(), normalized=False
    )
    data.add_modalities(item_image=images.build(id_map=data.iid_map))
    model = VBPR(
        k=FACTORS,
        k2=FACTORS,
        n_epochs=10,
        batch_size=1_000,
        learning_rate=0.005,
        seed=seed,
        verbose=False,
    )
    model.fit(data)
    visual = given["vectors"] @ model.emb_matrix
    said = (given["vectors"] @ model.beta_prime).reshape(-1, 1)
    ones = np.ones((len(model.theta_user), 1))
    return np.hstack([model.theta_user, ones]), np.hstack([visual, said])


def _data(given: dict[str, Any]) -> Dataset:
    """The visits, with every film known to the data set, visited or not."""
    visitors, films = given["shape"].tolist()
    triples = zip(given["visitors"].tolist(), given["films"].tolist(), strict=True)
    return Dataset.build(
        [(visitor, film, 1.0) for visitor, film in triples],
        global_uid_map=OrderedDict((each, each) for each in range(visitors)),
        global_iid_map=OrderedDict((each, each) for each in range(films)),
        seed=0,
    )


if __name__ == "__main__":
    name, given_file, answer_file, drawn = sys.argv[1:]
    with np.load(given_file) as opened:
        question = dict(opened)
    found = {"Cornac CTR": ctr, "Cornac VBPR": vbpr}[name](question, int(drawn))
    np.savez(answer_file, visitors=np.float32(found[0]), films=np.float32(found[1]))
