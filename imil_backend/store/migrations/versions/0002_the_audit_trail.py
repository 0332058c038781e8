"""the audit trail, versions that cannot be changed, projects that are gone"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEVER_CHANGED = ("audit", "versions")


def upgrade() -> None:
    op.add_column("projects", sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("versions", sa.Column("model_sha256", sa.String(length=64), nullable=True))
    audit = op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("sample_id", sa.Integer(), nullable=True),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("round_id", sa.Integer(), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"]),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"]),
        sa.ForeignKeyConstraint(["sample_id"], ["samples.id"]),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_audit_dataset_id_event", "audit", ["dataset_id", "event"])
    op.create_index("ix_audit_sample_id", "audit", ["sample_id"])
    entries = [*_asked(), *_answered(), *_trained(), *_promoted()]
    if entries:
        op.bulk_insert(audit, sorted(entries, key=lambda entry: entry["at"]))
    for table in NEVER_CHANGED:
        _forbid_changes(table)


def _forbid_changes(table: str) -> None:
    """A batch operation on one of these tables would make it anew, without its triggers: make them again."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is only ever added to'); END"
            )
        return
    op.execute(
        f"CREATE FUNCTION {table}_is_added_to() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is only ever added to'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_is_added_to()"
    )


def _rows(query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in op.get_bind().execute(sa.text(query)).mappings()]


def _entry(row: dict[str, Any], event: str, *details: str, **more: object) -> dict[str, Any]:
    kept = {name: row[name] for name in details} | more
    return {
        "at": _time(row["at"]),
        "dataset_id": row["dataset_id"],
        "event": event,
        "sample_id": row.get("sample_id"),
        "version_id": row.get("version_id"),
        "round_id": row.get("round_id"),
        "details": {name: value for name, value in kept.items() if value is not None},
    }


def _time(value: str | datetime) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _asked() -> list[dict[str, Any]]:
    rows = _rows(
        "SELECT t.pushed_at AS at, s.dataset_id, t.sample_id, r.mined_version_id AS version_id, t.round_id, "
        "t.number AS task "
        "FROM tasks t JOIN samples s ON s.id = t.sample_id JOIN rounds r ON r.id = t.round_id"
    )
    return [_entry(row, "asked", "task") for row in rows]


def _answered() -> list[dict[str, Any]]:
    rows = _rows(
        "SELECT a.synced_at AS at, s.dataset_id, a.sample_id, r.mined_version_id AS version_id, t.round_id, "
        "a.number AS annotation, a.annotator, a.answer, a.mask_sha256, a.simulated, a.deleted "
        "FROM annotations a JOIN samples s ON s.id = a.sample_id "
        "JOIN tasks t ON t.id = a.task_id JOIN rounds r ON r.id = t.round_id"
    )
    told = ("annotation", "annotator", "answer", "mask_sha256")
    entries = [_entry(row, "answered", *told, simulated=bool(row["simulated"])) for row in rows]
    return entries + [_entry(row, "withdrawn", "annotation", "annotator") for row in rows if row["deleted"]]


def _trained() -> list[dict[str, Any]]:
    """Of the versions whose files are still there."""
    rows = _rows("SELECT id AS version_id, dataset_id, directory, created_at AS at FROM versions")
    keys = {row["key"]: row["id"] for row in _rows("SELECT id, key FROM samples")}
    entries = []
    for row in rows:
        path = Path(row["directory"]) / "samples.json"
        for sample in json.loads(path.read_text(encoding="utf-8")) if path.exists() else []:
            if sample["mask_sha256"] and sample["key"] in keys:
                version = {**row, "sample_id": keys[sample["key"]]}
                entries.append(_entry(version, "trained", mask_sha256=sample["mask_sha256"]))
    return entries


def _promoted() -> list[dict[str, Any]]:
    rows = _rows('SELECT created_at AS at, dataset_id, version_id, "by", reason FROM promotions')
    return [
        _entry(row, "rolled back" if row["by"] == "rollback" else "promoted", "by", "reason") for row in rows
    ]
