"""Progress of a training, written for others to read about once a second."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imil_backend.learning.contract.training_job import PROGRESS_FILE, Progress, read_progress, write_json

_SECONDS_BETWEEN_WRITES = 1.0


class Reporter:
    """Keeps `progress.json`; in every process but the first one it does nothing."""

    def __init__(self, directory: Path, epochs: int, *, enabled: bool) -> None:
        self._path = directory / PROGRESS_FILE
        self._enabled = enabled
        before = read_progress(directory)
        told = before.started_over if before else ""
        self._progress = Progress("starting", epochs=epochs, started_over=told)
        self._phase_began = self._written = 0.0

    def start_over(self, why: str) -> None:
        """The training begins anew although there was a checkpoint; told from here on."""
        self._progress = replace(self._progress, started_over=why)
        self._write()

    def begin(self, phase: Any, total: int = 0, epoch: int | None = None) -> None:
        """A new phase, or a new epoch of it, of `total` images."""
        epoch = self._progress.epoch if epoch is None else epoch
        self._progress = replace(
            self._progress, phase=phase, epoch=epoch, done=0, total=total, images_per_second=0.0
        )
        self._phase_began = time.monotonic()
        self._write()

    def advance(self, images: int) -> None:
        """So many more images of this phase are done."""
        self.set_done(self._progress.done + images, self._progress.total)

    def set_done(self, done: int, total: int) -> None:
        """So many of so many images of this phase are done."""
        rate = done / max(time.monotonic() - self._phase_began, 1e-9)
        self._progress = replace(self._progress, done=done, total=total, images_per_second=rate)
        if time.monotonic() - self._written >= _SECONDS_BETWEEN_WRITES:
            self._write()

    def set_metrics(self, metrics: dict[str, Any]) -> None:
        """The latest epoch's metrics on the validation split."""
        self._progress = replace(self._progress, metrics=metrics)
        self._write()

    def set_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """What each epoch has come to so far; it is written with the next phase."""
        self._progress = replace(self._progress, history=tuple(history))

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._enabled:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, _as_dict(replace(self._progress, updated_at=time.time())))


def _as_dict(progress: Progress) -> dict[str, Any]:
    return {**vars(progress), "metrics": dict(progress.metrics)}
