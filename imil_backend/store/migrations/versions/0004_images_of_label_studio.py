"""datasets that come from a Label Studio project, and the images that were fetched"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("source_instance", sa.String(length=500), nullable=True))
    op.add_column("datasets", sa.Column("source_project", sa.Integer(), nullable=True))
    op.add_column("samples", sa.Column("address", sa.String(length=4000), nullable=True))
    op.add_column("samples", sa.Column("source_task", sa.Integer(), nullable=True))
    op.create_table(
        "fetched_images",
        sa.Column("address_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("fetched_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("address_sha256"),
    )
