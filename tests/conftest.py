"""What several rooms' tests need: a command, and servers that start when the first test asks."""

from __future__ import annotations

import itertools
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from benchmarks.servers import MissingServerError, PostgresServer, RedisServer
from momentary import cli
from momentary.data.postgresql import PostgresDatabase
from momentary.data.workspace import Workspace
from momentary.settings import StorageSettings

_SCHEMAS = itertools.count()
_KEPT = ("alembic_version", "log_version", "pulse")
_FIRST = (
    "models/test_gru4rec.py",
    "docs/test_moments_guide.py",
    "moments/test_commands.py",
    "models/test_gru4rec_gradients.py",
    "docs/test_content_guide.py",
    "story/test_new_item.py",
    "story/test_blend_reads_content.py",
    "models/test_artifact.py",
    "story/test_every_model.py",
    "contract/test_laws.py",
    "serving/test_app.py",
    "data/test_compaction.py",
    "docs/test_guide.py",
    "serving/test_workers.py",
)
"""Files that take longest, so that two processes end together. What one of the first compiles is
there for the others: two that need the same kernels do not begin at the same time."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Put the files that take longest first; the rest stays as it was."""
    here = Path(__file__).parent
    places = {here / file: place for place, file in enumerate(_FIRST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run one command; returns exit code, standard output, standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["momentary", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture(scope="session")
def postgres():
    try:
        server = PostgresServer()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def redis_server():
    try:
        server = RedisServer()
    except MissingServerError as missing:
        pytest.skip(str(missing))
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request):
    """Where a test keeps its shop: every test that takes this runs over both databases."""
    if request.param == "sqlite":
        return StorageSettings()
    return request.getfixturevalue("postgres_storage")


@pytest.fixture(scope="session")
def _tables(postgres, tmp_path_factory):
    """A schema with all tables, which takes longest to make."""
    settings = StorageSettings(database_url=postgres.url(), schema="tests")
    folder = tmp_path_factory.mktemp("tables")
    with Workspace.open(folder, create=True, storage=settings) as workspace:
        workspace.open_log().close()
    return settings


@pytest.fixture
def postgres_storage(postgres, _tables):
    """An empty shop in PostgreSQL."""
    yield _tables
    with closing(psycopg.connect(_plain(postgres), autocommit=True)) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [_tables.schema]
        ).fetchall()
        names = ", ".join(f"{_tables.schema}.{name}" for (name,) in rows if name not in _KEPT)
        # A test that left a transaction open must fail, not hang.
        connection.execute("SET lock_timeout = 5000")
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY CASCADE")


@pytest.fixture
def new_schema(postgres):
    """A schema that is not there yet."""
    settings = StorageSettings(database_url=postgres.url(), schema=f"test_{next(_SCHEMAS)}")
    yield settings
    PostgresDatabase(postgres.url(), schema=settings.schema).drop()


def _plain(postgres):
    return postgres.url().replace("+psycopg", "")
