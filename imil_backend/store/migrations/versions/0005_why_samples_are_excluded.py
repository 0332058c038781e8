"""why a sample is excluded instead of whether it leaks, and what duplicates are known by"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samples", sa.Column("excluded", sa.String(length=40), nullable=True))
    samples = sa.table("samples", sa.column("excluded", sa.String), sa.column("leaking", sa.Boolean))
    op.execute(samples.update().where(samples.c.leaking.is_(sa.true())).values(excluded="group in test"))
    op.drop_column("samples", "leaking")
    op.add_column("samples", sa.Column("pixels_sha256", sa.String(length=64), nullable=True))
    op.add_column("samples", sa.Column("perceptual_hash", sa.String(length=128), nullable=True))
