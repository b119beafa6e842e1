"""The catalogue, the imports and the segments that they committed."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BY_BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables of the first version."""
    op.create_table(
        "items",
        sa.Column("item_id", _BY_BYTES, primary_key=True),
        sa.Column("group_id", sa.Text),
        sa.Column("name", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("image", sa.Text),
        sa.Column("audio", sa.Text),
        sa.Column("video", sa.Text),
        sa.Column("brand", sa.Text),
        sa.Column("category", sa.Text),
        sa.Column("price", sa.Double),
        sa.Column("currency", sa.Text),
        sa.Column("available", sa.Boolean, nullable=False),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.Column("properties", sa.Text),
    )
    op.create_table(
        "imports",
        sa.Column("import_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("rows_read", sa.BigInteger, nullable=False),
        sa.Column("rows_added", sa.BigInteger, nullable=False),
        sa.Column("rows_updated", sa.BigInteger, nullable=False),
        sa.Column("duplicates", sa.BigInteger, nullable=False),
        sa.Column("rejects", sa.BigInteger, nullable=False),
        sa.Column("finished_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "segments",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("bucket", sa.Integer, nullable=False),
        sa.Column("import_id", sa.Text, sa.ForeignKey("imports.import_id"), nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
    )
    op.create_index("segments_by_bucket", "segments", ["bucket"])


def downgrade() -> None:
    """Drop the tables of the first version."""
    op.drop_index("segments_by_bucket", table_name="segments")
    op.drop_table("segments")
    op.drop_table("imports")
    op.drop_table("items")
