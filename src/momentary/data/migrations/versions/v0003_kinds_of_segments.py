"""Segments hold events, or the answers that compaction took out of the live log."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a segment say what it holds; those that are there hold events."""
    kind = sa.Column("kind", sa.Text, nullable=False, server_default="events")
    op.add_column("segments", kind)


def downgrade() -> None:
    """Drop the column; segments of answers would be taken for events, so they are unlisted."""
    op.execute(sa.text("DELETE FROM segments WHERE kind <> 'events'"))
    op.drop_column("segments", "kind")
