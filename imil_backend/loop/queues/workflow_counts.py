"""The workflows that have not ended, counted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Text, column, func, select, table

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import LABELLING_QUEUE, SYNC_QUEUE, TRAINING_QUEUE, system_database_url
from imil_backend.store.database import Store, database_url

STATES = ("ENQUEUED", "PENDING", "DELAYED")  # as DBOS calls them
QUEUES = (TRAINING_QUEUE, LABELLING_QUEUE, SYNC_QUEUE)


@dataclass(frozen=True)
class WorkflowCount:
    """The workflows of a queue that are in one state."""

    queue: str
    state: str  # one of STATES, in lower case
    count: int
    oldest: float  # when the oldest of them was enqueued, in seconds since 1970


def count_unfinished(backend: Backend) -> list[WorkflowCount]:
    """Count the workflows that have not ended, by queue and state, over the index of states.

    Raises:
        StoreError: the database cannot be used.
    """
    url = system_database_url(backend)
    schema = None if url.startswith("sqlite") else "dbos"
    names = ("queue_name", "status", "created_at")
    workflows = table("workflow_status", *(column(name, Text) for name in names), schema=schema)
    queue, state, created_at = (workflows.c[name] for name in names)
    counted = (
        select(queue, state, func.count(), func.min(created_at))
        .where(state.in_(STATES), queue.in_(QUEUES))
        .group_by(queue, state)
    )
    # Asked once a scrape: no connection is kept for it.
    with closing(Store(database_url(backend.directory, url))) as store, store.begin() as session:
        rows = session.execute(counted).all()
    return [WorkflowCount(name, status.lower(), count, oldest / 1000) for name, status, count, oldest in rows]
