"""What a round has changed: which samples became right or wrong, before and after, in numbers and plots.

`changes.json` beside the report of the round's version; the worker writes it, pages read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import PREDICTIONS_FILE, read_json, write_json
from imil_backend.learning.evaluation.estimates import Estimate, estimates_of
from imil_backend.learning.plots.forest import Difference, Row, draw_differences, draw_values
from imil_backend.learning.plots.themed import Plot
from imil_backend.learning.scoring.endpoints import EXCHANGED, QUANTITIES, Pairs, pair
from imil_backend.learning.scoring.metrics import METRICS
from imil_backend.store.tables import Dataset, Round, Version

CHANGES_FILE = "changes.json"
SPLITS = ("validation", "test")

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class ChangedSample:
    """A sample that one of the two versions gets right and the other wrong."""

    key: str
    label: str
    before: str  # predicted
    after: str
    probability_before: float  # of the label
    probability_after: float


@dataclass(frozen=True)
class SplitChanges:
    """What changed on a split."""

    samples: int  # that both versions predicted
    groups: int
    both_right: int
    became_right: list[ChangedSample]  # the largest change first
    became_wrong: list[ChangedSample]
    both_wrong: int
    rows: list[Row]
    values: Plot

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> SplitChanges:
        """What `dataclasses.asdict` has made of one."""
        both = ("before", "after")
        rows = [Row(each["title"], *(Estimate(**each[name]) for name in both)) for each in raw["rows"]]
        samples = {
            name: [ChangedSample(**each) for each in raw[name]] for name in ("became_right", "became_wrong")
        }
        return cls(**{**raw, **samples, "rows": rows, "values": Plot(**raw["values"])})


@dataclass(frozen=True)
class Changes:
    """What a round has changed."""

    before: str  # name of the version that was champion
    after: str
    splits: Mapping[str, SplitChanges]
    differences: Plot | None  # of the verdict; None where nothing was compared

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Changes:
        """What `dataclasses.asdict` has made of one."""
        splits = {name: SplitChanges.from_dict(each) for name, each in raw["splits"].items()}
        differences = raw["differences"]
        return cls(raw["before"], raw["after"], splits, Plot(**differences) if differences else None)


def keep_changes(session: Session, round_: Round, directory: Path) -> None:
    """Work out and draw what a round has changed, beside its report; of a baseline there is nothing."""
    version = round_.version
    parent = session.get(Version, version.parent_id) if version and version.parent_id else None
    if version is None or parent is None:
        return
    classes = session.get_one(Dataset, round_.dataset_id).classes
    both = [read_json(Path(each.directory) / PREDICTIONS_FILE) for each in (parent, version)]
    splits = {}
    for name in SPLITS:
        before, after = (each[name] for each in both)
        pairs = pair(before, after)
        if len(pairs.labels):
            shared = set(after["keys"])
            keys = [key for key in before["keys"] if key in shared]
            splits[name] = _changes(name, keys, pairs, classes, directory)
    findings = (round_.verdict or {}).get("findings", [])
    drawn = [_difference(each) for each in findings if each["champion"] is not None]
    plot = draw_differences(directory, SPLITS[0], drawn) if drawn else None
    write_json(directory / CHANGES_FILE, asdict(Changes(parent.name, version.name, splits, plot)))


def kept_changes(directory: Path) -> Changes | None:
    """What was kept in a report's folder; None of a baseline, and of a report of another release."""
    return read_kept(directory / CHANGES_FILE, Changes.from_dict)


def read_kept(path: Path, of: Callable[[Any], Kept]) -> Kept | None:
    """What was kept in a file; None where there is none, and where it has the fields of another release."""
    return _read(path, path.stat().st_mtime_ns, of) if path.exists() else None


@lru_cache(maxsize=32)  # of a large split it takes a tenth of a second, and pages ask again and again
def _read(path: Path, _written: int, of: Callable[[Any], Kept]) -> Kept | None:
    try:
        return of(read_json(path))
    except (KeyError, TypeError, AttributeError):  # `imil report` writes it again
        return None


def title_of(metric: str, label: str | None) -> str:
    """What people call a metric, or the recall of a class."""
    if metric in METRICS:
        return METRICS[metric].title
    return (QUANTITIES | EXCHANGED)[metric].of(label)


def _changes(
    split: str, keys: Sequence[str], pairs: Pairs, classes: Sequence[str], directory: Path
) -> SplitChanges:
    right = [each.argmax(axis=1) == pairs.labels for each in (pairs.champion, pairs.candidate)]
    rows = _rows(pairs, classes)
    return SplitChanges(
        samples=len(pairs.labels),
        groups=len(np.unique(pairs.groups)),
        both_right=int((right[0] & right[1]).sum()),
        became_right=_changed(keys, pairs, classes, ~right[0] & right[1]),
        became_wrong=_changed(keys, pairs, classes, right[0] & ~right[1]),
        both_wrong=int((~right[0] & ~right[1]).sum()),
        rows=rows,
        values=draw_values(directory, split, rows),
    )


def _changed(
    keys: Sequence[str], pairs: Pairs, classes: Sequence[str], asked: NDArray[np.bool_]
) -> list[ChangedSample]:
    own = np.arange(len(pairs.labels)), pairs.labels
    before, after = pairs.champion[own], pairs.candidate[own]
    order = sorted(np.flatnonzero(asked), key=lambda place: -abs(after[place] - before[place]))
    return [
        ChangedSample(
            key=keys[place],
            label=classes[pairs.labels[place]],
            before=classes[pairs.champion[place].argmax()],
            after=classes[pairs.candidate[place].argmax()],
            probability_before=float(before[place]),
            probability_after=float(after[place]),
        )
        for place in order
    ]


def _rows(pairs: Pairs, classes: Sequence[str]) -> list[Row]:
    groups = [str(group) for group in pairs.groups]
    before, after = (estimates_of(each, pairs.labels, groups) for each in (pairs.champion, pairs.candidate))
    return [
        Row(title_of(old.metric, None if old.label is None else classes[old.label]), old, new)
        for old, new in zip(before, after, strict=True)
    ]


def _difference(finding: Mapping[str, Any]) -> Difference:
    return Difference(
        title_of(finding["metric"], finding["label"]),
        finding["difference"],
        finding["lower"],
        finding["upper"],
        finding["margin"],
        finding["state"],
    )
