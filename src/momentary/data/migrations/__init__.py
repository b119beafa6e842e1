"""How the workspace's database came to be, version by version (alembic)."""
