"""Whether a round has changed where the model looks: the share of class evidence inside painted pixels.

`reasons.json` beside the report of the round's version; the worker writes it, pages read it.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session

from imil_backend.errors import MaskError
from imil_backend.files import write_atomically
from imil_backend.images.masks.masks import Mask
from imil_backend.learning.contract.evidence import EvidenceFile, Place, read_evidence
from imil_backend.learning.contract.training_job import write_json
from imil_backend.learning.scoring.bounds import bounds_of_mean
from imil_backend.loop.answers.sample_states import SampleState, load_mask, sample_states
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.evaluation.changes import read_kept
from imil_backend.store.tables import Dataset, Round, Sample, Version

logger = logging.getLogger(__name__)

REASONS_FILE = "reasons.json"
PAINTED_SIDE = 56  # places a side of the mean of painted masks
_SHOWN_SIDE = 280
ROUNDING = 1e-9  # of the share of a place that is painted
MOST_PAINTED = 300  # samples that are looked at: +-2 points are enough, and a big mask takes 20 ms to decode
_ONE_SIDED = 0.975  # both bounds together hold with 95 %


@dataclass(frozen=True)
class Interval:
    """A mean over samples with its 95 % interval, by groups."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class EvidenceShare:
    """Of the evidence for the class that a version predicted, what lies inside painted pixels (means)."""

    label: str | None  # of these samples; None: of all
    samples: int  # painted, and asked by both versions
    groups: int
    painted: float  # share of the image: what evidence that is spread evenly would have
    before: Interval
    after: Interval
    difference: Interval


@dataclass(frozen=True)
class PaintedMean:
    """The mean of the painted masks of a class."""

    label: str
    samples: int
    painted_in: int  # of these, those that are painted in the place that was painted most often
    file: str  # PNG: black was never painted, white wholly and in every sample


@dataclass(frozen=True)
class Reasons:
    """Where the model looked before a round and after it, in the samples that were painted until then."""

    before: str  # names of the versions
    after: str
    painted: int  # samples that were painted
    drawn: int  # of these, that were looked at
    without: Sequence[str]  # of the two versions, those that have no class evidence
    shares: Sequence[EvidenceShare]
    means: Sequence[PaintedMean]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Reasons:
        """What `dataclasses.asdict` has made of one."""
        names = ("before", "after", "difference")
        shares = [
            EvidenceShare(**{**each, **{name: Interval(**each[name]) for name in names}})
            for each in raw["shares"]
        ]
        return cls(**{**raw, "shares": shares, "means": [PaintedMean(**each) for each in raw["means"]]})


def share_inside(evidence: NDArray[np.float16], covered: NDArray[np.float64]) -> float | None:
    """The share of the evidence for a class that lies inside a mask, 0..1; None where nothing speaks for it.

    Args:
        evidence: (cells, cells); what speaks against the class does not count.
        covered: the share of each cell that the mask covers, 0..1.
    """
    positive = np.maximum(evidence.astype(np.float64), 0)
    return float((positive * covered).sum() / positive.sum()) if positive.any() else None


def cells_covered(mask: Mask, cells: tuple[int, ...]) -> NDArray[np.float64]:
    """The share, 0..1, of each cell of a grid over the image that a mask covers, exactly.

    Without a product of matrices: beside a training, threads of BLAS wait ten times longer than they work.
    """
    rows, columns = cells
    return _summed(_summed(mask.view(np.uint8), rows).T, columns).T * (rows * columns / mask.size)


def _summed(lines: NDArray[Any], parts: int) -> NDArray[np.float64]:
    """The sums of equal parts of an array along its first axis; of a line between two each has its share."""
    edges = np.linspace(0, len(lines), parts + 1)
    whole = edges.astype(int)
    sums = np.stack([lines[begin:end].sum(axis=0) for begin, end in pairwise(whole)])
    shares = (edges - whole)[:, None] * lines[np.minimum(whole, len(lines) - 1)]
    return np.asarray(sums + np.diff(shares, axis=0))


def keep_reasons(backend: Backend, session: Session, round_: Round, directory: Path) -> None:
    """Work out where both versions looked in painted samples, beside the report; nothing of a baseline."""
    version = round_.version
    parent = session.get(Version, version.parent_id) if version and version.parent_id else None
    if version is None or parent is None:
        return
    files = {each.name: read_evidence(Path(each.directory)) for each in (parent, version)}
    dataset = session.get_one(Dataset, round_.dataset_id)
    states = sample_states(backend, session, dataset, until=round_)
    painted, count = _painted(backend, session, states, list(files.values()))
    reasons = Reasons(
        before=parent.name,
        after=version.name,
        painted=count,
        drawn=len(painted),
        without=[name for name, file in files.items() if file is None],
        shares=_shares(painted),
        means=_means(painted, directory),
    )
    write_json(directory / REASONS_FILE, asdict(reasons))


def kept_reasons(directory: Path) -> Reasons | None:
    """What was kept in a report's folder; None of a baseline, and of a report of another release."""
    return read_kept(directory / REASONS_FILE, Reasons.from_dict)


@dataclass(frozen=True)
class _Painted:
    """What a painted sample's mask says; thousands of masks at natural size would take gigabytes.

    Attributes:
        sample: that was painted.
        share: of the image, that was painted.
        inside: the share of each version's evidence; None: it was not asked, or nothing speaks for the class.
        small: the mask, (PAINTED_SIDE, PAINTED_SIDE), 0..1.
    """

    sample: Sample
    share: float
    inside: tuple[float | None, ...]
    small: NDArray[np.float64]


def _painted(
    backend: Backend,
    session: Session,
    states: Mapping[int, SampleState],
    files: Sequence[EvidenceFile | None],
) -> tuple[list[_Painted], int]:
    """Painted samples, without those whose mask cannot be read; and how many were painted."""
    masks = {sample: state.mask_sha256 for sample, state in states.items() if state.mask_sha256}
    evidence = [(file, file.places() if file else {}) for file in files]
    found = []
    for number in _drawn(sorted(masks)):
        sample = session.get_one(Sample, number)
        try:
            mask = load_mask(backend, masks[number] or "", sample)
        except MaskError as error:
            logger.warning("Sample %s is left out of the reasons: %s", sample.key, error)
            continue
        maps = [_map(file, places.get(sample.key)) for file, places in evidence]
        small = cells_covered(mask, (PAINTED_SIDE, PAINTED_SIDE))
        share = np.count_nonzero(mask) / mask.size
        found.append(_Painted(sample, share, _inside(maps, mask), small))
    return found, len(masks)


def _drawn(numbers: Sequence[int]) -> Sequence[int]:
    """All of them; if there are very many, some by chance, the same whenever they are drawn."""
    if len(numbers) <= MOST_PAINTED:
        return numbers
    places = np.random.default_rng(0).permutation(len(numbers))[:MOST_PAINTED]
    return [numbers[place] for place in sorted(places)]


def _shares(painted: Sequence[_Painted]) -> list[EvidenceShare]:
    measured = [each for each in painted if None not in each.inside]
    labels = sorted({each.sample.label for each in measured})
    parts = [(label, [each for each in measured if each.sample.label == label]) for label in labels]
    every = [(None, measured)] if measured else []
    return [_share(label, part) for label, part in [*every, *parts]]


def _map(file: EvidenceFile | None, place: Place | None) -> NDArray[np.float16] | None:
    return None if file is None or place is None else file.at(place).predicted


def _inside(maps: Sequence[NDArray[np.float16] | None], mask: Mask) -> tuple[float | None, ...]:
    shapes = {each.shape for each in maps if each is not None}
    covered = {shape: cells_covered(mask, shape) for shape in shapes}
    return tuple(None if each is None else share_inside(each, covered[each.shape]) for each in maps)


def _share(label: str | None, measured: Sequence[_Painted]) -> EvidenceShare:
    groups = [each.sample.group for each in measured]
    old, new = np.array([each.inside for each in measured], np.float64).T
    return EvidenceShare(
        label=label,
        samples=len(measured),
        groups=len(set(groups)),
        painted=float(np.mean([each.share for each in measured])),
        before=_interval(old, groups),
        after=_interval(new, groups),
        difference=_interval(new - old, groups, least=-1.0),
    )


def _interval(values: NDArray[np.float64], groups: Sequence[str], least: float = 0.0) -> Interval:
    lower, upper = bounds_of_mean(values, groups, least=least, confidence=_ONE_SIDED)
    mean = float(values.mean())
    return Interval(mean, min(lower, mean), max(upper, mean))


def _means(painted: Sequence[_Painted], directory: Path) -> list[PaintedMean]:
    means = []
    for number, label in enumerate(sorted({each.sample.label for each in painted})):
        own = [each.small for each in painted if each.sample.label == label]
        mean = np.mean(own, axis=0)
        file = f"painted-{number}.png"
        image = Image.fromarray((255 * mean).round().astype(np.uint8))
        png = io.BytesIO()
        image.resize((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.NEAREST).save(png, "PNG")
        write_atomically(directory / file, png.getvalue())
        painted_in = int((np.asarray(own) > ROUNDING).sum(axis=0).max())
        means.append(PaintedMean(label, len(own), painted_in, file))
    return means
