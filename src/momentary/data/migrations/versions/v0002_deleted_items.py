"""Deleted items leave a tombstone, because an item that nobody knows counts as available."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let an item say that it was deleted; those that are there were not."""
    deleted = sa.Column("deleted", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("items", deleted)


def downgrade() -> None:
    """Drop the tombstones and the column."""
    op.execute(sa.text("DELETE FROM items WHERE deleted"))
    op.drop_column("items", "deleted")
