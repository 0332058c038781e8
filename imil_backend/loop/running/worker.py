"""The worker: runs the workflows, and reconciles on a schedule."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dbos import DBOS

from imil_backend.loop.base.backend import Backend
from imil_backend.loop.projects.relocated import warn_of_other_addresses
from imil_backend.loop.queues.engine import SYNC_QUEUE
from imil_backend.loop.queues.launching import launched, let_workflows_end
from imil_backend.loop.queues.names import CLEAN_UP_WORKFLOW, RECONCILE_ALL_WORKFLOW
from imil_backend.loop.queues.workflow_queues import WorkflowQueues
from imil_backend.loop.rounds.lifecycle import close_due_rounds
from imil_backend.loop.running import steps, workflows

NIGHTLY = "0 3 * * *"  # cron, UTC


@contextmanager
def running(backend: Backend, worker_id: str = "worker") -> Iterator[WorkflowQueues]:
    """Run workflows in this process until the context ends; it waits for those that are under way.

    All projects are reconciled with Label Studio at the start, then on the schedule of the settings. Every
    night what is not needed any more is removed.

    Raises:
        RoundError: another process runs under this id.
    """
    queues = WorkflowQueues(backend)
    steps.use(backend, queues)
    try:
        with launched(backend, worker_id) as watchdog, watchdog.on_guard():
            DBOS.apply_schedules(
                [
                    {
                        "schedule_name": RECONCILE_ALL_WORKFLOW,
                        "workflow_fn": workflows.reconcile_all,
                        "schedule": f"*/{backend.settings.reconcile_minutes} * * * *",
                    },
                    {
                        "schedule_name": CLEAN_UP_WORKFLOW,
                        "workflow_fn": workflows.clean_up,
                        "schedule": NIGHTLY,
                    },
                ]
            )
            warn_of_other_addresses(backend)
            queues.enqueue(RECONCILE_ALL_WORKFLOW, SYNC_QUEUE)
            close_due_rounds(backend, queues)
            yield queues
            let_workflows_end(watchdog.engine)  # on guard
    finally:
        queues.close()
