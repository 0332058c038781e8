"""What the page of the machine shows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base import audit, timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.machine.checks import Checked, Checks
from imil_backend.loop.dashboard.machine.trainings import Training, trainings
from imil_backend.loop.monitoring.disk_usage import disk_usage_of
from imil_backend.loop.projects.links import project_link
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.queues.workflow_counts import WorkflowCount, count_unfinished
from imil_backend.store.tables import Project


@dataclass(frozen=True)
class Connection:
    """A Label Studio project, and whether its answers come in."""

    dataset: str
    link: str
    reconciled: datetime | None  # compared with Label Studio to the end
    repaired: datetime | None  # its webhook was missing or changed, and was repaired
    gone: datetime | None  # Label Studio has it no longer


@dataclass(frozen=True)
class Machine:
    """What the page shows."""

    now: datetime
    worker_runs: bool
    workers: Mapping[str, datetime]  # when each was last seen, by its id
    backup: datetime | None
    workflows: tuple[WorkflowCount, ...]  # that have not ended
    connections: tuple[Connection, ...]
    free: int  # bytes on the disk of the data directory
    size: int
    used: Mapping[str, int]  # bytes by folder; empty until they are measured
    trainings: tuple[Training, ...]
    checked: Checked | None


def machine_of(backend: Backend, checks: Checks, *, wait: bool = False) -> Machine:
    """The state of this machine.

    Args:
        backend: the store and the files.
        checks: the doctor's.
        wait: until what is looked at in the background is known.
    """
    checked, used = checks.latest(wait=wait), disk_usage_of(backend.directory).by_kind(wait=wait)
    disk, backups = shutil.disk_usage(backend.directory), timestamps.last(backend, timestamps.BACKUP)
    with backend.store.begin() as session:
        connections = _connections(backend, session)
        under_way = trainings(backend, session)
    return Machine(
        now=datetime.now(timezone.utc),
        worker_runs=worker_is_running(backend),
        workers={name: _moment(at) for name, at in timestamps.last(backend, timestamps.WORKER).items()},
        backup=_moment(backups[""]) if backups else None,
        workflows=tuple(count_unfinished(backend)),
        connections=tuple(connections),
        free=disk.free,
        size=disk.total,
        used=used,
        trainings=tuple(under_way),
        checked=checked,
    )


def _connections(backend: Backend, session: Session) -> list[Connection]:
    reconciled = timestamps.last(backend, timestamps.RECONCILIATION)
    found = []
    for project in session.scalars(select(Project).order_by(Project.id)):
        at, repair = (
            reconciled.get(str(project.id)),
            audit.latest(session, project.dataset_id, audit.WEBHOOK_REPAIRED),
        )
        found.append(
            Connection(
                dataset=project.dataset.name,
                link=project_link(backend, project),
                reconciled=_moment(at) if at else None,
                repaired=repair.at if repair else None,
                gone=project.gone_at,
            )
        )
    return found


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)
