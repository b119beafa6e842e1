import pytest

from tests.serving import world


@pytest.fixture
def over_both(request, storage, monkeypatch):
    """Every test of a module that uses this runs embedded, and over PostgreSQL and Redis."""
    monkeypatch.setattr(world, "STORAGE", storage)
    if storage.database_url is not None:
        redis_server = request.getfixturevalue("redis_server")
        redis_server.say("FLUSHALL")
        monkeypatch.setattr(world, "STATE_URL", redis_server.url)
