"""What the runs of a comparison come to, in each setting: arms, differences, and what may be claimed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imil_backend.errors import ComparisonError
from imil_backend.loop.comparing.arms import UNCHANGED
from imil_backend.loop.comparing.protocol import ComparedDataset, Protocol
from imil_backend.loop.comparing.runs import Run, Runs, Setting
from imil_backend.loop.comparing.statistics.claims import Claim, claims
from imil_backend.loop.comparing.statistics.delong import AucDifference, delong
from imil_backend.loop.comparing.statistics.measures import Answers, Measure, answers_of, measures_of
from imil_backend.loop.comparing.statistics.paired import Estimate, Paired

UPPER = "upper"  # the arm with every true mask


@dataclass(frozen=True)
class Count:
    """What a measure is about; splits may differ between seeds."""

    least: int  # samples of a seed
    most: int
    patients: int  # of all seeds together


@dataclass(frozen=True)
class ArmSummary:
    """An arm over the seeds."""

    arm: str
    values: dict[str, Estimate]  # by measure, where it is defined
    differences: dict[str, Estimate]  # the same minus that of the arm compared with, which has none
    delong: AucDifference | None
    regained: Estimate | None  # share of what going on unchanged lacks to the cure
    seconds: float  # means over the seeds
    painted_images: float
    clinician_minutes: float | None  # None: not known


@dataclass(frozen=True)
class Summary:
    """What was found in one setting."""

    setting: Setting
    dataset: ComparedDataset
    primary: bool  # claims are made here alone; other budgets are shown for their curve
    seeds: int
    counts: dict[str, Count]  # by measure
    arms: tuple[ArmSummary, ...]
    claims: tuple[Claim, ...]
    cure: str | None  # what `regained` goes by

    def arm(self, name: str) -> ArmSummary:
        """The arm of this name."""
        return next(each for each in self.arms if each.arm == name)


def settings_of(protocol: Protocol) -> dict[Setting, ComparedDataset]:
    """All settings of a protocol: each dataset with each budget."""
    return {
        Setting(each.name, each.marker, each.agreement, budget, protocol.ask): each
        for each in protocol.datasets
        for budget in protocol.budgets
    }


def measures_for(dataset: ComparedDataset) -> dict[str, Measure]:
    """All measures of a dataset by name."""
    return measures_of(dataset.classes)


def summarize(protocol: Protocol, runs: Runs, digest: str) -> list[Summary]:
    """Everything that the protocol asks for.

    Args:
        protocol: of the comparison.
        runs: all of them.
        digest: SHA-256 of the protocol.

    Raises:
        ComparisonError: a run is missing, was made by another protocol, or the end point is not defined.
    """
    settings = settings_of(protocol)
    found = {setting: _runs_of(protocol, runs, setting, digest) for setting in settings}
    return [_summary(protocol, settings, found, setting) for setting in settings]


def _runs_of(protocol: Protocol, runs: Runs, setting: Setting, digest: str) -> dict[str, list[Run]]:
    wanted = {arm: [runs.find(setting, arm, seed) for seed in range(protocol.seeds)] for arm in protocol.arms}
    there = {arm: [run for run in each if run is not None] for arm, each in wanted.items()}
    missing = sum(protocol.seeds - len(each) for each in there.values())
    if missing:
        raise ComparisonError(
            f"{missing} runs on {setting.data} are missing. Go on with the same `imil compare`: the test "
            "split is looked at when all have finished."
        )
    if any(run.protocol != digest for each in there.values() for run in each):
        raise ComparisonError(
            f"Some runs on {setting.data} were made by another protocol, so they cannot be compared. Begin "
            "another comparison with --name."
        )
    return there


def _summary(
    protocol: Protocol,
    settings: Mapping[Setting, ComparedDataset],
    found: Mapping[Setting, dict[str, list[Run]]],
    setting: Setting,
) -> Summary:
    dataset, own = settings[setting], found[setting]
    measures, numbers = measures_for(dataset), dict[str, int]()
    # Where one seed has too few masks for the shortcut test, none is measured by it.
    if any(run.test.exchanged is None for runs in own.values() for run in runs):
        own = {name: [_untested(run) for run in runs] for name, runs in own.items()}
    arms = {name: [answers_of(run, numbers) for run in runs] for name, runs in own.items()}
    cure, cured = _cure(protocol, found, setting, arms, numbers)
    paired = Paired({**arms, **cured}, measures)
    end_point = measures.get(protocol.end_point)
    if end_point is None or paired.estimate(protocol.against, protocol.end_point) is None:
        raise ComparisonError(
            f"The end point {protocol.end_point} is not defined on the test split of {setting.data}."
        )
    primary = setting.painted == protocol.budgets[0]
    claimed = claims(paired, protocol.comparisons, protocol.end_point, end_point, protocol.margin)
    return Summary(
        setting=setting,
        dataset=dataset,
        primary=primary,
        seeds=protocol.seeds,
        counts=_counts(arms[protocol.against], measures),
        arms=tuple(_arm(protocol, measures, paired, arms, name, runs, cure) for name, runs in own.items()),
        claims=tuple(claimed) if primary else (),
        cure=cure,
    )


def _untested(run: Run) -> Run:
    return replace(run, test=replace(run.test, exchanged=None))


def _arm(
    protocol: Protocol,
    measures: Mapping[str, Measure],
    paired: Paired,
    arms: Mapping[str, Sequence[Answers]],
    name: str,
    runs: Sequence[Run],
    cure: str | None,
) -> ArmSummary:
    against, end_point = protocol.against, protocol.end_point
    differences, area, regained = {}, None, None
    if name != against:
        differences = {each: paired.difference(name, against, each) for each in measures}
        area = delong(list(zip(arms[against], arms[name], strict=True)))
    if cure is not None and name not in {UNCHANGED, cure}:
        regained = paired.regained(name, UNCHANGED, cure, end_point)
    return ArmSummary(
        arm=name,
        values=_defined({each: paired.estimate(name, each) for each in measures}),
        differences=_defined(differences),
        delong=area,
        regained=regained,
        seconds=statistics.fmean(run.seconds for run in runs),
        painted_images=statistics.fmean(run.painted_images for run in runs),
        clinician_minutes=_minutes(runs),
    )


def _defined(found: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    return {name: each for name, each in found.items() if each is not None}


def _cure(
    protocol: Protocol,
    found: Mapping[Setting, dict[str, list[Run]]],
    setting: Setting,
    arms: Mapping[str, Sequence[Answers]],
    numbers: dict[str, int],
) -> tuple[str | None, dict[str, list[Answers]]]:
    """What is lacking is measured by: the images without a shortcut, or else the arm with every true mask.

    Without a shortcut are those where the same marker agrees as often as chance, if they are the same images.

    Returns:
        Its name, None where there is neither; and the answers of going on unchanged without the shortcut.
    """
    for other, theirs in found.items():
        chance = 1 / len(_classes(protocol, other))
        same = (other.marker, other.painted) == (setting.marker, setting.painted) and other != setting
        if not same or other.agreement is None or other.agreement > chance + 0.005:
            continue
        answers = [answers_of(run, numbers) for run in theirs[UNCHANGED]]
        alike = all(
            np.array_equal(one.labels, two.labels) and np.array_equal(one.patients, two.patients)
            for one, two in zip(answers, arms[UNCHANGED], strict=True)
        )
        if alike:
            name = f"no shortcut ({other.data})"
            return name, {name: answers}
    return (UPPER if UPPER in arms else None), {}


def _classes(protocol: Protocol, setting: Setting) -> tuple[str, ...]:
    return next(each.classes for each in protocol.datasets if each.name == setting.data)


def _counts(answers: Sequence[Answers], measures: Mapping[str, Measure]) -> dict[str, Count]:
    counted = {}
    for name, measure in measures.items():
        where = [measure.where(each) for each in answers]
        sizes = [int(each.sum()) for each in where]
        patients = np.concatenate([each.patients[own] for each, own in zip(answers, where, strict=True)])
        counted[name] = Count(min(sizes), max(sizes), len(np.unique(patients)))
    return counted


def _minutes(runs: Sequence[Run]) -> float | None:
    seconds = [run.clinician_seconds for run in runs]
    known = [each for each in seconds if each is not None]
    return statistics.fmean(known) / 60 if known and len(known) == len(seconds) else None
