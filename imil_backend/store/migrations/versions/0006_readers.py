"""how many people are to answer each task of a round"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rounds", sa.Column("readers", sa.Integer(), server_default="1", nullable=False))
