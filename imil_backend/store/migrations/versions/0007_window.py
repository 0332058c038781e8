"""the window by which clinicians see a dataset's images of more than 8 bits"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", sa.Column("shown_window", sa.JSON(), nullable=True))
