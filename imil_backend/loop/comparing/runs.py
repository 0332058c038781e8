"""Finished runs of a comparison: what one arm, trained with one seed, predicts. A line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.errors import ComparisonError, TrainingFailedError
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import LOCK_FILE

COMPARE = "compare"  # folder of the data directory, with one for each comparison
WORK = "work"  # in a comparison's: what is half done
RUNS_FILE = "runs.jsonl"
_DIGITS = 6  # of probabilities


def comparisons_under_way(data_directory: Path) -> list[str]:
    """The names of those that a process is running on now."""
    found = []
    for lock_file in sorted((data_directory / COMPARE).glob(f"*/{LOCK_FILE}")):
        try:
            with only_training_in(lock_file, patience=0):
                pass
        except TrainingFailedError:
            found.append(lock_file.parent.name)
    return found


@dataclass(frozen=True)
class Setting:
    """What is compared in; arms are, within one."""

    data: str  # the data set's name
    marker: str | None  # that was planted; None: the images as they are
    agreement: float | None  # share of the training and validation images whose marker tells their class
    painted: float  # share of the training split that is painted
    ask: str  # which images are painted: a name in ASKED

    def __post_init__(self) -> None:
        if (self.marker is None) != (self.agreement is None):
            raise ComparisonError("A planted marker has an agreement, and nothing else has one.")


@dataclass(frozen=True)
class Predictions:
    """What a network answers to a split, in one order."""

    keys: tuple[str, ...]  # (n,) of samples
    labels: NDArray[np.int64]  # (n,)
    groups: tuple[str, ...]  # (n,) of samples, usually their patients
    probabilities: NDArray[np.float64]  # (n, classes)
    contradicting: frozenset[str] | None = None  # keys whose planted marker tells another class
    # By key: the shares of draws, 0..1, in which a sample is answered rightly when its irrelevant part is
    # exchanged, with donors of the same class, and of any class; None where that was not tested.
    exchanged: Mapping[str, tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.keys), len(self.labels), len(self.groups), len(self.probabilities)}
        if len(lengths) != 1 or self.probabilities.ndim != 2:
            raise ComparisonError("Predictions must have a key, label, group and probabilities per sample.")
        if not np.isfinite(self.probabilities).all():
            raise ComparisonError(
                "Some probabilities are not numbers: the training diverged. Set a lower learning_rate."
            )
        if self.contradicting is not None and not self.contradicting <= set(self.keys):
            raise ComparisonError(
                "Samples whose marker contradicts their label are not among those predicted."
            )
        if self.exchanged is not None and not self.exchanged.keys() <= set(self.keys):
            raise ComparisonError("Samples of the shortcut test are not among those predicted.")

    @classmethod
    def of(cls, split: Mapping[str, Any], contradicting: Iterable[str] | None = None) -> Predictions:
        """A split of `predictions.json`, or one that `as_json` has written.

        Args:
            split: keys, labels, groups and probabilities; perhaps contradicting, and exchanged.
            contradicting: keys whose planted marker tells another class; those of other splits are ignored.

        Raises:
            ComparisonError: these do not belong together, or are not numbers.
        """
        keys = tuple(map(str, split["keys"]))
        told = split.get("contradicting") if contradicting is None else contradicting
        exchanged = split.get("exchanged")
        return cls(
            keys,
            np.array(split["labels"], np.int64),
            tuple(map(str, split["groups"])),
            np.array(split["probabilities"], np.float64),
            None if told is None else frozenset(told).intersection(keys),
            None if exchanged is None else {key: (same, other) for key, (same, other) in exchanged.items()},
        )

    def as_json(self) -> dict[str, Any]:
        """To write down; probabilities with six digits."""
        written: dict[str, Any] = {
            "keys": list(self.keys),
            "labels": self.labels.tolist(),
            "groups": list(self.groups),
            "probabilities": self.probabilities.round(_DIGITS).tolist(),
        }
        if self.contradicting is not None:
            written["contradicting"] = sorted(self.contradicting)
        if self.exchanged is not None:
            written["exchanged"] = {key: list(shares) for key, shares in self.exchanged.items()}
        return written


@dataclass(frozen=True)
class Run:
    """One arm, trained with one seed. Split, first weights and order vary with the seed."""

    setting: Setting
    arm: str
    seed: int
    seconds: float  # that the arm's own training took
    best_epoch: int  # on validation: the one whose predictions these are
    protocol: str  # SHA-256 of the protocol, in hex
    validation: Predictions
    test: Predictions
    painted_images: int = 0  # whose masks the arm was given
    clinician_seconds: float | None = None  # Label Studio's lead times of their answers, where all are known

    def as_json(self) -> dict[str, Any]:
        """To write down."""
        return {
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "setting": asdict(self.setting),
            "validation": self.validation.as_json(),
            "test": self.test.as_json(),
        }

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> Run:
        """What `as_json` has written."""
        return cls(
            **{
                **written,
                "setting": Setting(**written["setting"]),
                "validation": Predictions.of(written["validation"]),
                "test": Predictions.of(written["test"]),
            }
        )


class Runs:
    """The finished runs of a directory; a line that a kill cut off is forgotten."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / RUNS_FILE
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(self._path, len(whole))
        self._runs = [Run.of(json.loads(line)) for line in whole.splitlines()]
        self._lock = Lock()  # trainings may finish at the same time

    def __iter__(self) -> Iterator[Run]:
        """In the order in which they finished."""
        return iter(tuple(self._runs))

    def find(self, setting: Setting, arm: str, seed: int) -> Run | None:
        """The run, or None."""
        wanted = (setting, arm, seed)
        return next((run for run in self._runs if (run.setting, run.arm, run.seed) == wanted), None)

    def add(self, run: Run) -> None:
        """Keep a finished run: it is on the disk when this returns."""
        line = json.dumps(run.as_json(), separators=(",", ":"), allow_nan=False)
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
            self._runs.append(run)
