"""The figures of the loop for Prometheus, read from the database and the data directory at each scrape.

Labels are names of datasets, workers, queues and states: no sample, patient, annotator or file. How many
series there are grows with the datasets and the workers alone.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

import imil_backend
from imil_backend.errors import StoreError
from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.monitoring.dataset_figures import dataset_figures
from imil_backend.loop.monitoring.disk_usage import disk_usage_of, version_bytes
from imil_backend.loop.monitoring.gauges import gauge
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.queues.workflow_counts import count_unfinished

logger = logging.getLogger(__name__)


class LoopFigures(Collector):
    """Collects them; where the database fails, only what needs none, and that it failed.

    Where the data directory is gone, those of its disk are absent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._usage = disk_usage_of(backend.directory)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask the database to know the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        yield gauge("imil_build_info", "Version of the package.", {(imil_backend.__version__,): 1}, "version")
        yield from self._times()
        yield from self._disk()
        found: Sequence[Metric] = ()
        try:
            found = [*self._workflows(), *dataset_figures(self._backend), self._version_bytes()]
        except StoreError as error:
            logger.warning("The database could not be asked for figures: %s", error)
        yield gauge("imil_database_up", "Whether the database answered this scrape.", {(): bool(found)})
        yield from found

    def _times(self) -> Iterator[GaugeMetricFamily]:
        seen = timestamps.last(self._backend, timestamps.WORKER)
        yield gauge(
            "imil_worker_last_seen_timestamp_seconds",
            "Last heartbeat of each worker.",
            {(name,): at for name, at in seen.items()},
            "worker",
        )
        backups = timestamps.last(self._backend, timestamps.BACKUP)
        yield gauge(
            "imil_last_backup_timestamp_seconds",
            "End of the last backup; absent before the first one.",
            {(): backups[""]} if backups else {},
        )
        yield gauge(
            "imil_reconcile_interval_seconds",
            "Time between two reconciliations, as it is set (IMIL_RECONCILE_MINUTES).",
            {(): 60 * self._backend.settings.reconcile_minutes},
        )

    def _disk(self) -> Iterator[GaugeMetricFamily]:
        try:
            usage = shutil.disk_usage(self._backend.directory)
        except OSError as error:
            logger.warning("%s could not be asked for figures: %s", self._backend.directory, error.strerror)
            return
        yield gauge("imil_disk_free_bytes", "Free on the disk of the data directory.", {(): usage.free})
        yield gauge("imil_disk_size_bytes", "Size of the disk of the data directory.", {(): usage.total})
        yield gauge(
            "imil_data_bytes",
            "Used by each folder of the data directory; measured every 15 minutes.",
            {(kind,): size for kind, size in self._usage.by_kind().items()},
            "kind",
        )

    def _version_bytes(self) -> GaugeMetricFamily:
        size = version_bytes(self._backend)
        return gauge(
            "imil_version_bytes",
            "Size of the latest version or baseline, the larger one.",
            {} if size is None else {(): size},
        )

    def _workflows(self) -> Iterator[GaugeMetricFamily]:
        yield gauge(
            "imil_worker_running",
            "Whether a worker, of whatever id, is running.",
            {(): worker_is_running(self._backend)},
        )
        unfinished = count_unfinished(self._backend)
        yield gauge(
            "imil_workflows",
            "Unfinished workflows: enqueued, pending (a worker has it), delayed.",
            {(each.queue, each.state): each.count for each in unfinished},
            "queue",
            "state",
        )
        yield gauge(
            "imil_oldest_enqueued_workflow_timestamp_seconds",
            "When the workflow was made that has waited longest for a worker.",
            {(each.queue,): each.oldest for each in unfinished if each.state == "enqueued"},
            "queue",
        )
