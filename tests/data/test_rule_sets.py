"""Named rules in the database: what is stored, that it is told, and that writers take turns."""

import threading

import pytest
import sqlalchemy as sa

from momentary.data.rule_sets import FullError
from momentary.data.workspace import Workspace
from momentary.errors import DataError, StorageError


@pytest.fixture
def shop(tmp_path, storage):
    with Workspace.open(tmp_path, create=True, storage=storage) as workspace:
        yield workspace


def test_every_change_is_told_by_the_revision(shop):
    rules = shop.rule_sets
    assert (rules.revision(), rules.read()) == (0, (0, {}))
    assert rules.put("b", '{"price_max": 3}', most=2)
    assert rules.put("Ä 1", "{}", most=2)
    assert not rules.put("b", '{"price_max": 4}', most=2)
    assert rules.read() == (3, {"b": '{"price_max": 4}', "Ä 1": "{}"})
    assert rules.delete("b")
    assert not rules.delete("b")
    assert rules.revision() == 4
    assert rules.read()[1] == {"Ä 1": "{}"}


def test_what_is_too_much_is_not_stored(shop):
    rules = shop.rule_sets
    rules.put("a", "{}", most=1)
    with pytest.raises(FullError, match="there are 1 rule sets"):
        rules.put("b", "{}", most=1)
    assert rules.read() == (1, {"a": "{}"})
    assert not rules.put("a", '{"in_stock": false}', most=1)


def test_what_is_there_already_is_not_added(shop):
    rules = shop.rule_sets
    rules.put("kept", '{"price_max": 1}', most=9)
    assert rules.add({"new": "{}", "kept": "{}", "also": "{}"}) == ["also", "new"]
    assert rules.read()[1] == {"also": "{}", "kept": '{"price_max": 1}', "new": "{}"}


def test_of_many_writers_none_is_lost_and_no_limit_is_passed(tmp_path, shop, storage):
    refused = []

    def write(writer):
        with Workspace.open(tmp_path, storage=storage) as own:
            for number in range(5):
                try:
                    own.rule_sets.put(f"{writer}-{number}", "{}", most=15)
                except FullError:
                    refused.append(writer)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    revision, stored = shop.rule_sets.read()
    assert len(stored) == revision == 15
    assert len(refused) == 5


def test_a_database_that_is_gone_is_named(shop):
    with shop.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE rule_book RENAME TO aside"))
    try:
        with pytest.raises(StorageError, match="the rules cannot be read"):
            shop.rule_sets.read()
        with pytest.raises(DataError, match="the catalogue cannot"):
            shop.rule_sets.put("a", "{}", most=9)
    finally:
        with shop.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE aside RENAME TO rule_book"))
    assert shop.rule_sets.read() == (0, {})
