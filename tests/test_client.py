"""The client against a real server in a process of its own."""

import socket

import pytest

from momentary.client import Client, ClientError
from tests.serving.world import ITEMS, ServerProcess, make_home


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("client")
    make_home(home).close()
    process = ServerProcess(home)
    yield process
    process.stop()


@pytest.fixture
def client(server):
    with Client(f"http://127.0.0.1:{server.port}/") as made:
        yield made


def test_a_visit_from_click_to_feedback(client):
    click = {"item_id": "tea/green", "event_type": "view_item"}
    assert client.record(session_id="c1", **click).accepted == 1
    shown = client.recommend(session_id="c1", event={**click, "item_id": "brötchen"}, k=5)
    assert [each.rank for each in shown.items] == [1, 2, 3, 4, 5]
    assert shown.variant == "model"
    done = client.feedback(shown.recommendation_id, shown.items[1].item_id, event_type="purchase")
    assert (done.accepted, done.duplicates) == (1, 0)
    assert {each.item_id for each in client.recommend(items=["i1"], explain=True).items} <= set(
        ITEMS
    )


def test_rules_and_scenarios(client):
    stored = client.put_rules("cheap", {"allow": "price < 3", "max_per": {"brand": 1}})
    assert (stored.name, stored.source, stored.items) == ("cheap", "workspace", 3)
    assert [each.name for each in client.rule_sets()] == ["cheap"]
    assert client.get_rules("cheap").rules["allow"] == "price < 3"
    assert len(client.recommend(rule_sets=["cheap"], scenario="home").items) == 2
    lifted = client.recommend(
        rules={"boosts": [{"when": "price == 7", "add": 9}], "explore": {"share": 0.5}}, k=4
    )
    assert any(each.propensity is not None for each in lifted.items)
    assert client.similar("i1", allow="price > 10", k=3).items
    popular = client.popular(rule_sets=["cheap"], in_stock=True).items
    assert {each.item_id for each in popular} <= {"tea/green", "milk 1 l", "brötchen"}
    assert {each.name for each in client.scenarios()} == {"home", "product", "basket", "mail"}
    client.delete_rules("cheap")
    with pytest.raises(ClientError, match="cannot stand here") as refused:
        client.recommend(rules={"deny": "price =< 3"})
    assert (refused.value.field, refused.value.place) == ("rules.deny", (1, 7))


def test_a_repeated_event_counts_once(client):
    event = {"item_id": "i1", "event_type": "view_item", "session_id": "c2", "event_id": "same"}
    assert client.record_many([event, event]).accepted == 1
    assert client.record(**event).duplicates == 1


@pytest.mark.parametrize("item_id", ["..", "x%2Fy", "a?b#c", "tea/green", "é ü"])
def test_items_of_any_name(client, item_id):
    made = client.put_item(item_id, name="Thing", price=2.5)
    assert made == {"item_id": item_id, "name": "Thing", "price": 2.5}
    assert client.get_item(item_id) == made
    client.delete_item(item_id)
    with pytest.raises(ClientError, match="PUT it first") as gone:
        client.get_item(item_id)
    assert gone.value.status == 404


def test_lists_that_need_no_visit(client):
    client.put_item("found", name="Zitronenpresse")
    assert [each.item_id for each in client.search("zitro").items] == ["found"]
    assert client.similar("i2", k=3).items
    assert client.together("i2").items == ()
    assert len(client.popular(k=4).items) <= 4
    assert isinstance(client.trending().items, tuple)


def test_a_user_is_erased_and_models_are_listed(client):
    client.record(user_id="gone", item_id="i1", event_type="view_item")
    assert client.erase_user("gone").events == 1
    assert client.models() == []
    with pytest.raises(ClientError, match="no model"):
        client.promote("nothing")


def test_a_refusal_names_the_field(client):
    with pytest.raises(ClientError) as refused:
        client.record(item_id="i1", event_type="looked", session_id="s")
    assert refused.value.status == 422
    assert "event_type" in refused.value.field


def test_a_service_that_is_not_there_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits = []
    refused = pytest.raises(ClientError, match=rf"127\.0\.0\.1:{port} does not answer")
    with Client(f"http://127.0.0.1:{port}", sleep=waits.append) as client, refused:
        client.models()
    assert len(waits) == 3
    with pytest.raises(ClientError, match="is no address"):
        Client("shop.example")


def test_requests_that_come_at_a_bad_time_are_repeated(client, monkeypatch):
    real, waits = client._send, []
    answers = [(429, 2.0, b"{}"), (503, 1.0, b"{}")]
    monkeypatch.setattr(client, "_sleep", waits.append)
    monkeypatch.setattr(client, "_send", lambda *ask: answers.pop(0) if answers else real(*ask))
    assert client.record(item_id="i1", event_type="view_item", session_id="late").accepted == 1
    assert waits == [2.0, 1.0]
