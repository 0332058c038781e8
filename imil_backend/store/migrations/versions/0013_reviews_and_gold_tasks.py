"""what a task is for, and which answers those of gold tasks are compared with"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_BEFORE = "tasks_round_id_sample_id_key"  # as PostgreSQL calls it
_AFTER = "tasks_round_id_sample_id_purpose_key"


def upgrade() -> None:
    purpose = sa.Column("purpose", sa.String(length=10), server_default="asked", nullable=False)
    op.add_column("annotations", sa.Column("gold", sa.Boolean(), server_default=sa.false(), nullable=False))
    if op.get_bind().dialect.name != "sqlite":
        op.add_column("tasks", purpose)
        op.drop_constraint(_BEFORE, "tasks")
        op.create_unique_constraint(_AFTER, "tasks", ["round_id", "sample_id", "purpose"])
        return
    # SQLite changes a constraint by making the table anew, while others refer to it.
    with op.get_context().autocommit_block():
        op.execute("PRAGMA foreign_keys=OFF")
        op.execute("DROP TABLE IF EXISTS _alembic_tmp_tasks")  # of a migration that was killed
    names = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}
    with op.batch_alter_table("tasks", naming_convention=names) as tasks:
        tasks.add_column(purpose)
        tasks.drop_constraint(_BEFORE, type_="unique")
        tasks.create_unique_constraint(_AFTER, ["round_id", "sample_id", "purpose"])
    with op.get_context().autocommit_block():
        op.execute("PRAGMA foreign_keys=ON")
