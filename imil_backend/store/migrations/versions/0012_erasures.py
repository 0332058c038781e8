"""annotators under random keys, and erasures, which alone may blank entries of the audit trail"""

import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BLANKED = (
    "NEW.id = OLD.id AND NEW.at = OLD.at AND NEW.dataset_id = OLD.dataset_id AND NEW.event = OLD.event "
    "AND NEW.version_id {same} OLD.version_id AND NEW.round_id {same} OLD.round_id "
    "AND NEW.sample_id IS NULL AND {details} = '{{}}' AND EXISTS (SELECT 1 FROM erasures)"
)
REFUSED = "audit is only ever added to"


def upgrade() -> None:
    annotators = op.create_table(
        "annotators",
        sa.Column("key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("instance", sa.String(length=500), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
        sa.UniqueConstraint("instance", "number"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("problem", sa.String(length=2000), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    _drop_triggers()
    keys = _give_keys()
    if keys:
        rows = [{"key": key, "instance": at, "number": user} for (at, user), key in keys.items()]
        op.bulk_insert(annotators, rows)
    _create_triggers()


def _give_keys() -> dict[tuple[str, int], int]:
    """Put a random key in the place of each person's number, in annotations and in the audit trail."""
    bind = op.get_bind()
    instances = {row.dataset_id: row for row in _rows("SELECT id, dataset_id, instance FROM projects")}
    by_project = {row.id: row.instance for row in instances.values()}
    keys: dict[tuple[str, int], int] = {}

    def key_of(instance: str, user: int) -> int:
        return keys.setdefault((instance, user), 100_000_000 + secrets.randbelow(900_000_000))

    rename = "UPDATE annotations SET annotator = :key WHERE project_id = :project AND annotator = :user"
    for row in _rows("SELECT DISTINCT project_id, annotator FROM annotations WHERE annotator IS NOT NULL"):
        bind.execute(
            sa.text(rename),
            {
                "key": key_of(by_project[row.project_id], row.annotator),
                "project": row.project_id,
                "user": row.annotator,
            },
        )
    audit = sa.table("audit", sa.column("id"), sa.column("details", sa.JSON()))
    told = _rows("SELECT id, dataset_id, details FROM audit WHERE event IN ('answered', 'withdrawn')")
    for row in told:
        details = json.loads(row.details) if isinstance(row.details, str) else row.details
        if details.get("annotator") is not None:
            project = instances.get(row.dataset_id)
            details["annotator"] = key_of(project.instance if project else "", details["annotator"])
            bind.execute(audit.update().where(audit.c.id == row.id).values(details=details))
    return keys


def _rows(query: str) -> list[Any]:
    return list(op.get_bind().execute(sa.text(query)))


def _drop_triggers() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_no_update")
    else:
        op.execute("DROP TRIGGER audit_no_change ON audit")


def _create_triggers() -> None:
    if op.get_bind().dialect.name == "sqlite":
        blanked = BLANKED.format(same="IS", details="NEW.details")
        op.execute(
            f"CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit WHEN NOT ({blanked}) "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
        )
        return
    blanked = BLANKED.format(same="IS NOT DISTINCT FROM", details="NEW.details::text")
    op.execute(
        "CREATE FUNCTION audit_is_only_blanked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {blanked} THEN RETURN NEW; END IF; RAISE EXCEPTION '{REFUSED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE ON audit "
        "FOR EACH ROW EXECUTE FUNCTION audit_is_only_blanked()"
    )
    op.execute(
        "CREATE TRIGGER audit_no_deletion BEFORE DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_added_to()"
    )
