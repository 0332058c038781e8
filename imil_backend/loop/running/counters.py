"""What a worker counts of its own work, for Prometheus; it begins at zero with each start."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from imil_backend.loop.answers.reconcile import Differences

WORKER = CollectorRegistry()
ProcessCollector(registry=WORKER)

_LOST = ("synced", "deleted", "tasks_deleted", "set_aside")  # fields of Differences

_differences = Counter(
    "imil_reconciliation_differences",
    "What reconciliation found that webhooks had not told: annotations that were new or had changed "
    "(synced), were deleted, or cannot be read (set_aside); deleted tasks; repaired webhooks.",
    ("kind",),
    registry=WORKER,
)
for kind in (*_LOST, "webhook"):
    _differences.labels(kind)
_reconciliations = Counter(
    "imil_reconciliations", "Reconciliations of a project by outcome.", ("outcome",), registry=WORKER
)
for outcome in ("done", "failed"):
    _reconciliations.labels(outcome)
reconciliation_seconds = Histogram(
    "imil_reconciliation_duration_seconds",
    "Duration of the reconciliation of a project.",
    buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0),
    registry=WORKER,
)


def count_reconciliation(differences: Differences) -> None:
    """Count a reconciliation that came to its end, and what it found."""
    _reconciliations.labels("done").inc()
    for kind in _LOST:
        _differences.labels(kind).inc(getattr(differences, kind))
    _differences.labels("webhook").inc(differences.webhook is not None)


def count_failed_reconciliation() -> None:
    """Count a reconciliation that failed; the next one repeats it."""
    _reconciliations.labels("failed").inc()
