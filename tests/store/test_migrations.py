"""Data of an earlier version keeps its history."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import delete, inspect, select, text
from sqlalchemy.exc import IntegrityError

from imil_backend.errors import StoreError
from imil_backend.loop.base.policy import policy_of
from imil_backend.store.database import Store, database_url
from imil_backend.store.tables import Annotation, Annotator, AuditEntry, Base, Dataset, Round, Sample, Task

pytestmark = pytest.mark.slow  # databases

MOMENT = "2026-01-02 03:04:05"


def test_the_audit_trail_begins_with_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text(
        json.dumps([{"key": "k", "mask_sha256": "m" * 64}, {"key": "other", "mask_sha256": None}])
    )
    store = Store(database_url(tmp_path, None))
    command.upgrade(store._alembic(), "0001")
    with store.engine.begin() as connection:
        for statement in _OLD_DATA:
            connection.execute(text(statement), {"at": MOMENT, "directory": str(tmp_path)})
    store.migrate()
    with store.begin() as session:
        told = [
            (entry.event, entry.version_id, entry.round_id, entry.details)
            for entry in session.scalars(select(AuditEntry).where(AuditEntry.sample_id == 1))
        ]
        annotator = session.scalars(select(Annotator)).one()
        (promoted,) = session.scalars(select(AuditEntry).where(AuditEntry.sample_id.is_(None)))
        readers = session.scalars(select(Round.readers)).all()
    assert readers == [1]
    assert (annotator.instance, annotator.label_studio_id) == ("http://a.test", 7)
    answer = {"annotation": 9, "annotator": annotator.key, "answer": "blackout", "mask_sha256": "m" * 64}
    assert told == [
        ("asked", 1, 1, {"task": 5}),
        ("answered", 1, 1, {**answer, "simulated": False}),
        ("withdrawn", 1, 1, {"annotation": 9, "annotator": annotator.key}),
        ("trained", 1, None, {"mask_sha256": "m" * 64}),
    ]
    assert (promoted.event, promoted.version_id, promoted.details) == (
        "promoted",
        1,
        {"by": "loop", "reason": "first"},
    )
    assert promoted.at.isoformat() == "2026-01-02T03:04:05+00:00"
    store.close()


def test_samples_that_leaked_are_left_out_with_the_reason(tmp_path: Path) -> None:
    store = Store(database_url(tmp_path, None))
    command.upgrade(store._alembic(), "0004")
    row = (
        "INSERT INTO samples (id, dataset_id, key, name, path, sha256, width, height, channels, shown_as_is, "
        'label, split, "group", leaking, clinician_mask_means, imported_at) '
        "VALUES (:id, 1, :name, :name, 'p', 's', 1, 1, 1, 1, 'a', 'train', 'g', :leaking, 'relevant', :at)"
    )
    with store.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO datasets (id, name, classes, recipe, policy, created_at) "
                 "VALUES (1, 'films', '[]', '{}', '{}', :at)"), {"at": MOMENT},
        )  # fmt: skip
        for number, leaking in enumerate((0, 1)):
            connection.execute(
                text(row), {"id": number, "name": f"film {number}", "leaking": leaking, "at": MOMENT}
            )
    store.migrate()
    with store.begin() as session:
        found = session.execute(select(Sample.name, Sample.excluded, Sample.pixels_sha256)).all()
    assert [tuple(sample) for sample in found] == [
        ("film 0", None, None),
        ("film 1", "group in test", None),
    ]
    store.close()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_answers_are_kept_without_the_share_of_their_mask_and_rounds_go_on_as_before(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    store = Store(database_url(tmp_path, url))
    command.upgrade(store._alembic(), "0007")
    with store.engine.begin() as connection:
        for table, values in _OLD_ANSWER.items():
            columns = ", ".join(f'"{name}"' for name in values)
            named = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({named})"), values)
    store.migrate()
    with store.begin() as session:
        [answer] = session.scalars(select(Annotation))
        assert (answer.answer, answer.mask_sha256, answer.sample.name) == ("blackout", "m", "n")
        assert not answer.outside
        assert (answer.task.purpose, answer.gold) == ("asked", False)
        # The same sample of the same round may be reviewed, once.
        again = {"project_id": 1, "round_id": 1, "sample_id": 1, "label_studio_id": 6, "rank": 1}
        session.add(Task(id=2, **again, purpose="review"))
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Task(id=3, **again, purpose="review"))
            session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.execute(delete(Task).where(Task.id == answer.task_id))  # an annotation refers to it
        # A dataset that was there goes on as it was.
        policy = policy_of(session.get_one(Dataset, 1))
        assert (policy.correction, policy.spread, policy.judge) == ("blackout", False, "plain")
    assert "mask_share" not in {column["name"] for column in inspect(store.engine).get_columns("annotations")}
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    store.close()


@pytest.mark.external
def test_postgresql_is_dumped_before_it_is_migrated(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(database_url(tmp_path, postgres_url))
    command.upgrade(store._alembic(), "0010")
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        with pytest.raises(StoreError, match=r"pg_dump is not installed.*IMIL_DUMP_BEFORE_MIGRATION"):
            store.migrate(tmp_path)
    store.migrate(tmp_path)
    [dump] = tmp_path.iterdir()
    assert dump.name == "postgresql.before-0010.dump"
    assert dump.read_bytes().startswith(b"PGDMP")
    store.migrate(tmp_path)  # up to date: no other one
    assert list(tmp_path.iterdir()) == [dump]
    store.close()


_NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
_OLD_ANSWER: dict[str, dict[str, Any]] = {
    "datasets": {
        "id": 1, "name": "films", "classes": "[]", "recipe": "{}", "policy": "{}", "created_at": _NOW,
    },
    "projects": {"id": 1, "dataset_id": 1, "instance": "http://a.test", "number": 3, "created_at": _NOW},
    "samples": {
        "id": 1, "dataset_id": 1, "key": "k", "name": "n", "path": "p", "sha256": "s", "width": 1,
        "height": 1, "channels": 1, "shown_as_is": True, "label": "a", "split": "train", "group": "g",
        "clinician_mask_means": "relevant", "imported_at": _NOW,
    },
    "rounds": {
        "id": 1, "dataset_id": 1, "number": 1, "state": "open", "attempt": 1, "created_at": _NOW,
        "changed_at": _NOW,
    },
    "tasks": {
        "id": 1, "project_id": 1, "round_id": 1, "sample_id": 1, "number": 5, "rank": 1, "deleted": False,
        "pushed_at": _NOW,
    },
    "annotations": {
        "id": 1, "project_id": 1, "number": 9, "label_studio_created_at": _NOW,
        "label_studio_updated_at": _NOW, "task_id": 1,
        "sample_id": 1, "simulated": False, "answer": "blackout", "mask_sha256": "m",
        "mask_share": 0.25, "deleted": False, "synced_at": _NOW,
    },
}  # fmt: skip
_OLD_DATA = (
    "INSERT INTO datasets VALUES (1, 'films', '[]', '{}', '{}', :at)",
    "INSERT INTO projects VALUES (1, 1, 'http://a.test', 3, :at)",
    "INSERT INTO samples (id, dataset_id, key, name, path, sha256, width, height, channels, shown_as_is, "
    'label, split, "group", leaking, clinician_mask_means, imported_at) '
    "VALUES (1, 1, 'k', 'n', 'p', 's', 1, 1, 1, 1, 'a', 'train', 'g', 0, 'relevant', :at)",
    "INSERT INTO versions (id, dataset_id, name, directory, recipe, metrics, choices, fingerprint, "
    "blacked_out, code_version, seconds, created_at) "
    "VALUES (1, 1, 'v', :directory, '{}', '{}', '{}', 'f', 1, '0', 1, :at)",
    "INSERT INTO promotions VALUES (1, 1, 1, 'loop', 'first', :at)",
    "INSERT INTO rounds (id, dataset_id, number, state, mined_version_id, attempt, created_at, changed_at) "
    "VALUES (1, 1, 1, 'open', 1, 1, :at, :at)",
    "INSERT INTO tasks VALUES (1, 1, 1, 1, 5, 1, 0, :at)",
    "INSERT INTO annotations (id, project_id, number, label_studio_created_at, label_studio_updated_at, "
    "task_id, sample_id, annotator, simulated, answer, mask_sha256, deleted, synced_at) "
    f"VALUES (1, 1, 9, :at, :at, 1, 1, 7, 0, 'blackout', '{'m' * 64}', 1, :at)",
)
