"""What the benchmarks of sessions print where the authors' code is absent, and what they name."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import session_speed, sessions
from momentary.models.artifact import KINDS

ELSEWHERE = {
    "feature_rnn": "session_features",  # it reads content
    "content_knn": "session_content_blend",  # so does it
    "hierarchical_rnn": "session_users",  # it knows visitors
}
"""Models that the sets without content and visitors say nothing about, and who measures them."""


@pytest.mark.parametrize("data", sessions.SETTINGS)
def test_every_model_of_the_registry_is_measured(data):
    assert set(sessions.SETTINGS[data]) | set(ELSEWHERE) == set(KINDS)
    assert set(sessions.ORDER) == set(sessions.SETTINGS[data])
    for kind, module in ELSEWHERE.items():
        source = Path(sessions.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        assert kind in source or KINDS[kind][1] in source


@pytest.mark.parametrize("data", sessions.PUBLIC)
def test_without_the_authors_code_their_recorded_figures_stand_beside_ours(data, monkeypatch):
    nothing = SimpleNamespace(sessions=None, items=())
    split = SimpleNamespace(train=nothing, test=nothing)
    monkeypatch.setattr(session_speed, "train_rate", lambda *_, **__: 50_000.0)
    monkeypatch.setattr(session_speed, "rank_rate", lambda *_, **__: 30_000.0)
    train, rank = session_speed.side_by_side(data, split, None, rounds=1)
    recorded = sessions.PEERS[data]["gru4rec"][1]
    for row, name, times in ((train, "train", 2.5), (rank, "rank", 6.0)):
        assert (row.peer, row.peer_value) == (sessions.AUTHORS, recorded[name])
        assert row.target == times * recorded[name]


def test_accuracy_stands_beside_the_peers_with_its_spread_over_the_seeds():
    runs = [{"recall@20": 0.69, "mrr@20": 0.30}, {"recall@20": 0.70, "mrr@20": 0.31}]
    recall, mrr = sessions.rows_of("rsc15_64", "gru4rec", runs)
    assert (recall.peer_value, mrr.peer_value) == (0.6953, 0.3031)
    assert recall.value == pytest.approx(0.695)
    assert recall.spread == pytest.approx(0.01)
    assert recall.met
    (blend,) = sessions.rows_of("diginetica", "hybrid", [{"recall@20": 0.5}])
    assert blend.target == 0.578
    assert not blend.met
