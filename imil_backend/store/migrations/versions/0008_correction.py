"""masks that were painted with relevant strokes; datasets that were there keep blackout and verdicts"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "annotations", sa.Column("outside", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    datasets = sa.table("datasets", sa.column("id", sa.Integer), sa.column("policy", sa.JSON))
    for row in op.get_bind().execute(sa.select(datasets)).all():
        kept = {"correction": "blackout", "spread": False, "judge": "plain", **(row.policy or {})}
        op.execute(datasets.update().where(datasets.c.id == row.id).values(policy=kept))
