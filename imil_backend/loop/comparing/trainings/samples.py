"""What a dataset brings into a comparison: samples, what was painted, and what was planted."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ComparisonError
from imil_backend.images.markers import CONTRADICTS
from imil_backend.images.phantoms import IS_PHANTOM
from imil_backend.learning.contract.training_job import Split, TrainingSample
from imil_backend.loop.answers.sample_states import SampleState, sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.comparing.protocol import Annotations, ComparedDataset
from imil_backend.loop.splitting.splits import Grouped, assign_splits
from imil_backend.store.tables import Annotation, Dataset, Sample, Task


@dataclass(frozen=True)
class Painted:
    """What is known to be irrelevant in an image."""

    sample: Sample  # of the store
    mask: str | None  # SHA-256 of a clinician's; None: the data set's own is meant
    outside: bool  # painted with Relevant strokes: all else is irrelevant


@dataclass(frozen=True)
class Compared:
    """A dataset as it is compared on; its training and validation samples are split anew in each seed."""

    name: str
    classes: tuple[str, ...]
    channels: Literal[1, 3]
    samples: tuple[TrainingSample, ...]  # without masks; what is not test is `train`
    annotations: Annotations
    painted: Mapping[str, Painted]  # by key
    masks: Mapping[str, Painted]  # by key, those that the data set came with, whoever is asked
    answered: frozenset[str]  # keys that clinicians have answered; none where masks are simulated
    seconds: Mapping[str, float | None]  # that an answer took, by key; None: not known
    simulated: bool  # nobody has painted some of the masks
    joined: tuple[frozenset[str], ...]  # groups that have an image in common
    marker: str | None = None
    contradicting: frozenset[str] | None = None  # keys whose marker tells another class; None: none planted

    def split(self, seed: int) -> list[TrainingSample]:
        """The samples, with groups drawn for training and validation; the test split stays."""
        grouped = [
            Grouped(each.key, each.group, str(each.label), "test" if each.split == "test" else None)
            for each in self.samples
        ]
        if not any(each.given for each in grouped):
            raise ComparisonError(f"Dataset {self.name!r} has no test split to measure on.")
        split: Mapping[str, Any] = assign_splits(grouped, {}, seed, self.joined).split
        return [replace(each, split=split[each.key]) for each in self.samples]

    def is_tested(self, seed: int) -> bool:
        """Whether the shortcut test can be made: validation has donors of each class that is tested."""
        masked = [each for each in self.split(seed) if each.key in self.masks]
        asked, donors = (
            {each.label for each in masked if each.split == split} for split in ("test", "validation")
        )
        return bool(asked) and asked <= donors and len(donors) > 1

    @property
    def about(self) -> ComparedDataset:
        """What the protocol says of it."""
        learned = [each.key for each in self.samples if each.split != "test"]
        agreement = None
        if self.contradicting is not None:
            agreement = round(1 - len(self.contradicting.intersection(learned)) / len(learned), 3)
        return ComparedDataset(
            name=self.name,
            classes=self.classes,
            samples=self._digest(),
            annotations=self.annotations,
            simulated=self.simulated,
            phantoms=any(IS_PHANTOM.search(each.image) for each in self.samples),
            marker=self.marker,
            agreement=agreement,
        )

    def _digest(self) -> str:
        described = [
            [each.key, each.sha256, each.label, each.split, each.group, _told(self.painted.get(each.key))]
            for each in self.samples
        ]
        return hashlib.sha256(json.dumps([self.classes, described]).encode()).hexdigest()


def compared(backend: Backend, dataset: Dataset, annotations: Annotations | None) -> Compared:
    """Read a dataset from the store.

    Args:
        backend: with the store.
        dataset: which.
        annotations: whose masks; if None clinicians' answers where there are any, else the data set's own.

    Raises:
        ComparisonError: nobody has painted anything, and the data set came without masks.
    """
    with backend.store.begin() as session:
        found = session.scalars(
            select(Sample)
            .where(Sample.dataset_id == dataset.id, Sample.excluded.is_(None))
            .order_by(Sample.id)
        ).all()
        states = sample_states(backend, session, dataset)
        took, by_program = _seconds(session, dataset)
    annotations = annotations or ("answers" if any(s.mask_sha256 for s in states.values()) else "masks")
    if annotations == "masks":
        states = {}
    used = [sample for sample in found if not (state := states.get(sample.id)) or state.confirmed]
    painted = _painted(used, states, annotations)
    if not painted:
        raise ComparisonError(
            f"Nothing is known of what is irrelevant in dataset {dataset.name!r}: no clinician has painted "
            "anything, and it came without masks. Push a round (`imil push`), or import it with --mask."
        )
    index = {name: number for number, name in enumerate(dataset.classes)}
    marker, contradicting = planted(used)
    return Compared(
        name=dataset.name,
        classes=tuple(dataset.classes),
        channels=3 if any(sample.channels == 3 for sample in used) else 1,
        samples=tuple(_sample(each, index[each.label], policy_of(dataset).fill) for each in used),
        annotations=annotations,
        painted=painted,
        masks=_painted(used, {}, "masks"),
        answered=frozenset(sample.key for sample in used if sample.id in states),
        seconds={sample.key: took.get(sample.id) for sample in used if sample.id in states},
        simulated=annotations == "masks" or by_program,
        joined=_joined(used),
        marker=marker,
        contradicting=contradicting,
    )


def _joined(samples: Sequence[Sample]) -> tuple[frozenset[str], ...]:
    """Sets of groups that have an image in common."""
    groups: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.split != "test":
            groups[sample.pixels_sha256 or sample.sha256].add(sample.group)
    return tuple(frozenset(each) for each in groups.values() if len(each) > 1)


def _painted(
    samples: list[Sample], states: Mapping[int, SampleState], annotations: Annotations
) -> dict[str, Painted]:
    if annotations == "masks":
        return {
            sample.key: Painted(sample, None, outside=sample.clinician_mask_means == "relevant")
            for sample in samples
            if sample.clinician_mask is not None
        }
    return {
        sample.key: Painted(sample, state.mask_sha256, state.outside)
        for sample in samples
        if (state := states.get(sample.id)) is not None and state.mask_sha256
    }


def _sample(sample: Sample, label: int, fill: str) -> TrainingSample:
    split: Split = "test" if sample.split == "test" else "train"
    return TrainingSample(sample.key, sample.path, sample.sha256, label, split, sample.group, fill=fill)


def _told(painted: Painted | None) -> list[Any] | None:
    if painted is None:
        return None
    return [painted.mask, painted.outside]


def _seconds(session: Session, dataset: Dataset) -> tuple[dict[int, float | None], bool]:
    """What the answers to each sample took together, and whether any is by the simulated clinician.

    None where some of it is not known; the simulated clinician's times are made up.
    """
    found = (
        select(Annotation)
        .join(Annotation.sample)
        .join(Annotation.task)
        .where(Sample.dataset_id == dataset.id, ~Annotation.deleted, Task.purpose != Purpose.GOLD.value)
    )
    took: dict[int, float | None] = defaultdict(float)
    simulated = False
    for answer in session.scalars(found):
        before = took[answer.sample_id]
        simulated |= answer.simulated
        unknown = before is None or answer.lead_time is None or answer.simulated
        took[answer.sample_id] = None if unknown else (before or 0.0) + (answer.lead_time or 0.0)
    return dict(took), simulated


def planted(samples: list[Sample]) -> tuple[str | None, frozenset[str] | None]:
    """The marker that was planted in a data set, and the keys of the samples in which it tells another class.

    By the table that `imil plant` and `imil phantoms` write beside the images.
    """
    rows: dict[Path, dict[str, dict[str, str]]] = {}
    markers, contradicting = set(), set()
    for sample in samples:
        root = Path(sample.path.removesuffix(sample.name))
        if root not in rows:
            rows[root] = _planted_rows(root)
        row = rows[root].get(sample.name)
        if row is not None:
            markers.add(row["marker"])
            if row[CONTRADICTS] == "1":
                contradicting.add(sample.key)
    return ("+".join(sorted(markers)), frozenset(contradicting)) if markers else (None, None)


def _planted_rows(root: Path) -> dict[str, dict[str, str]]:
    """The rows of the planted data set in a folder, by image; none if it is no such folder."""
    for table in sorted(root.glob("*.csv")):
        with table.open(newline="", encoding="utf-8", errors="replace") as file:
            found = csv.DictReader(file)
            if {"image", "marker", CONTRADICTS} <= set(found.fieldnames or ()):
                return {row["image"]: row for row in found}
    return {}
