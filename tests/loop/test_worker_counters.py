from __future__ import annotations

import pytest
from loop_fakes import PROJECT, FakeQueues, OpenRound, mask_of, region

from imil_backend.errors import LabelStudioUnreachableError
from imil_backend.loop.running import steps
from imil_backend.loop.running.counters import WORKER

reconcile = steps.reconcile_project.__wrapped__  # the step itself, without DBOS


def counted(name: str, **labels: str) -> float:
    return WORKER.get_sample_value(f"imil_{name}", labels) or 0.0


def test_a_worker_counts_what_webhooks_had_lost(open_round: OpenRound, queues: FakeQueues) -> None:
    steps.use(open_round.backend, queues)  # type: ignore[arg-type]
    before = counted("reconciliation_differences_total", kind="synced")
    done, seconds = (
        counted("reconciliations_total", outcome="done"),
        counted("reconciliation_duration_seconds_count"),
    )
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    for _ in range(2):
        reconcile(PROJECT, False)
    assert counted("reconciliation_differences_total", kind="synced") - before == 1
    assert counted("reconciliations_total", outcome="done") - done == 2
    assert counted("reconciliation_duration_seconds_count") - seconds == 2


def test_a_worker_counts_reconciliations_that_failed(open_round: OpenRound, queues: FakeQueues) -> None:
    steps.use(open_round.backend, queues)  # type: ignore[arg-type]
    before = counted("reconciliations_total", outcome="failed")
    open_round.label_studio.down = True
    with pytest.raises(LabelStudioUnreachableError):
        reconcile(PROJECT, False)
    assert counted("reconciliations_total", outcome="failed") - before == 1
