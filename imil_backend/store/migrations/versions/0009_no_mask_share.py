"""the share of an image that is masked is no longer kept: the mask tells it"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("annotations", "mask_share")
