"""What a tracker of experiments is told, and by whom: a thread, so that a slow one holds nothing up."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from imil_backend.config import Settings
from imil_backend.learning.contract.training_job import Progress

SECONDS_TO_END = 60.0  # that a training which has ended waits for its trackers

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A training, as trackers know it.

    Attributes:
        name: of the version.
        dataset: its name.
        parameters: of the recipe, and how many images are trained on.
    """

    name: str
    dataset: str
    parameters: Mapping[str, Any]


Values = Mapping[str, float]  # by name, such as "validation/accuracy"


class Tracker(Protocol):
    """Told of one training. Whatever it raises ends the telling, and not the training."""

    def begin(self, run: Run) -> None:
        """A training begins, or goes on."""

    def epoch(self, number: int, values: Values) -> None:
        """An epoch has ended, as far as is known while it trains."""

    def end(self, epochs: Mapping[int, Values], final: Values, version: Path) -> None:
        """The training has ended: all epochs, the metrics of the version, and its directory."""


class Telling:
    """Passes what happens on to trackers, in a thread of its own."""

    def __init__(self, trackers: Sequence[Callable[[], Tracker]], run: Run) -> None:
        self._waiting: queue.Queue[Callable[[Tracker], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._tell, args=(trackers, run), name="tracking", daemon=True)
        self._told = 0
        self._thread.start()

    def progress(self, progress: Progress) -> None:
        """A training has told how far it is."""
        if progress.phase == "training" and progress.epoch > 1 and progress.epoch - 1 > self._told:
            number = self._told = progress.epoch - 1
            values = flat({"validation": progress.metrics})
            self._waiting.put(lambda tracker: tracker.epoch(number, values))

    def end(self, result: Mapping[str, Any], version: Path) -> None:
        """It has ended with this result."""
        epochs = {
            int(each["epoch"]): flat({name: value for name, value in each.items() if name != "epoch"})
            for each in result.get("epochs", [])
        }
        final = flat({f"best {split}": values for split, values in result["metrics"].items()})
        self._waiting.put(lambda tracker: tracker.end(epochs, final, version))

    def close(self) -> None:
        """Wait until everything is told, but not for ever."""
        self._waiting.put(None)
        self._thread.join(SECONDS_TO_END)
        if self._thread.is_alive():
            logger.warning("A tracker did not take everything within %.0f s.", SECONDS_TO_END)

    def _tell(self, make: Sequence[Callable[[], Tracker]], run: Run) -> None:
        trackers = [tracker for each in make if (tracker := _begun(each, run)) is not None]
        while (what := self._waiting.get()) is not None:
            trackers = [tracker for tracker in trackers if _takes(tracker, what)]


def _begun(make: Callable[[], Tracker], run: Run) -> Tracker | None:
    try:
        tracker = make()
        tracker.begin(run)
    except ImportError as error:
        extra = str(error.name).partition(".")[0]
        logger.warning("Not tracked: install %s (pip install 'imil-backend[%s]').", extra, extra)
    except Exception as error:  # noqa: BLE001 - of somebody else's program; a training goes on without
        logger.warning("A tracker cannot be told of %s: %s: %s", run.name, type(error).__name__, error)
    else:
        return tracker
    return None


def _takes(tracker: Tracker, what: Callable[[Tracker], None]) -> bool:
    try:
        what(tracker)
    except Exception as error:  # noqa: BLE001 - as above
        name = type(tracker).__name__
        logger.warning("%s is told no more of this training: %s: %s", name, type(error).__name__, error)
        return False
    return True


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers in nested mappings, under their names joined by slashes."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


def trackers_of(settings: Settings) -> list[Callable[[], Tracker]]:
    """Those that the settings name."""
    made: list[Callable[[], Tracker]] = []
    if (folder := settings.tensorboard_dir) is not None:

        def tensorboard() -> Tracker:
            from imil_backend.loop.tracking.tensorboard_events import EventFiles

            return EventFiles(folder)

        made.append(tensorboard)
    if (where := settings.mlflow_uri) is not None:

        def mlflow() -> Tracker:
            from imil_backend.loop.tracking.mlflow_runs import MlflowRun

            return MlflowRun(where)

        made.append(mlflow)
    return made


def tell_champion(settings: Settings, dataset: str, version: str) -> None:
    """Have MLflow's registry name the champion, if the settings name an MLflow. Never fails."""
    if settings.mlflow_uri is None:
        return
    try:
        from imil_backend.loop.tracking.mlflow_runs import name_champion

        name_champion(settings.mlflow_uri, dataset, version)
    except Exception as error:  # noqa: BLE001 - as above
        logger.warning("MLflow is not told of the champion: %s: %s", type(error).__name__, error)


@contextmanager
def telling(settings: Settings, run: Run) -> Iterator[Telling | None]:
    """Whoever is to be told of a training; None where nobody is."""
    trackers = trackers_of(settings)
    if not trackers:
        yield None
        return
    told = Telling(trackers, run)
    try:
        yield told
    finally:
        told.close()
