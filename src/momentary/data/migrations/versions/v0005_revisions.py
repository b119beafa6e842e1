"""Items, vectors of new items and aliases of models say when they changed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BY_BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables of what travels, and number the changes of items."""
    op.create_table(
        "revisions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "item_vectors",
        sa.Column("item_id", _BY_BYTES, primary_key=True),
        sa.Column("view", _BY_BYTES, primary_key=True),
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("item_vectors_by_revision", "item_vectors", ["revision"])
    op.create_table(
        "model_aliases",
        sa.Column("alias", _BY_BYTES, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
    )
    op.add_column("items", sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("items_by_revision", "items", ["revision"])


def downgrade() -> None:
    """Drop them; every machine then hears of changes when it starts."""
    op.drop_index("items_by_revision", table_name="items")
    with op.batch_alter_table("items") as items:
        items.drop_column("revision")
    op.drop_table("model_aliases")
    op.drop_index("item_vectors_by_revision", table_name="item_vectors")
    op.drop_table("item_vectors")
    op.drop_table("revisions")
