"""Rules that have a name lie beside the catalogue, where every machine sees them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BY_BYTES = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables of named rules."""
    op.create_table(
        "rule_sets",
        sa.Column("name", _BY_BYTES, primary_key=True),
        sa.Column("rules", sa.Text, nullable=False),
    )
    op.create_table(
        "rule_book",
        sa.Column("book", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop them; an older momentary reads its rules from a file."""
    op.drop_table("rule_book")
    op.drop_table("rule_sets")
