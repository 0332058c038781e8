"""Removes workflows that ended long ago from DBOS's tables, which keep them for good."""

from __future__ import annotations

from datetime import timedelta

from dbos import DBOSClient

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import (
    APPLICATION,
    FINISHED,
    SERIALIZER,
    says_store_error,
    system_database_url,
)
from imil_backend.store.tables import now

KEPT = timedelta(days=7)  # long enough to look into what went wrong
_LISTED_AT_ONCE = 20_000
_REMOVED_AT_ONCE = 500  # in one write, for which webhooks wait on SQLite


def remove_ended_workflows(backend: Backend, kept: timedelta = KEPT) -> int:
    """Remove workflows that ended long ago, and the records of their steps, while others run.

    Args:
        backend: with DBOS's tables.
        kept: how long those that have ended stay.

    Returns:
        How many there were.

    Raises:
        StoreError: the database cannot be used.
    """
    before = (now() - kept).isoformat()
    with says_store_error():
        client = DBOSClient(
            system_database_url=system_database_url(backend),
            application_name=APPLICATION,
            serializer=SERIALIZER,
            retry_connection_errors=False,
        )
        try:
            return _remove(client, before)
        finally:
            client.destroy()


def _remove(client: DBOSClient, before: str) -> int:
    count = 0
    while ended := client.list_workflows(
        status=sorted(FINISHED),
        completed_before=before,
        limit=_LISTED_AT_ONCE,
        load_input=False,
        load_output=False,
    ):
        ids = [each.workflow_id for each in ended]
        for start in range(0, len(ids), _REMOVED_AT_ONCE):
            client.delete_workflows(ids[start : start + _REMOVED_AT_ONCE])
        count += len(ids)
    return count
