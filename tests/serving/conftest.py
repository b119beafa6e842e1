import pytest

from tests.serving import world


@pytest.fixture
def over_both(storage, monkeypatch):
    """Every test of a module that uses this runs over SQLite and over PostgreSQL."""
    monkeypatch.setattr(world, "STORAGE", storage)
