"""what was chosen and changed when an existing project was connected"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("meanings", sa.JSON(), nullable=True))
    op.add_column("projects", sa.Column("connected", sa.JSON(), nullable=True))
    op.add_column("projects", sa.Column("disconnected_at", sa.DateTime(timezone=True), nullable=True))
