"""How often candidates are promoted that should not be, and how often those that should, by simulation.

    python -m benchmarks.verdict [--repetitions 1000] [--json FILE]

A network's score of an image is what it sees of the finding, and a push by the marker: towards its class in
95 % of unchanged images, by a donor's marker in the shortcut test. Both pushes and skills are chosen such
that the true differences are exactly those named, so that every rate below 5 % is one of a true null
hypothesis. Donors are drawn from the split itself, as in the test.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imil_backend.learning.inputs.exchange import draw_donors
from imil_backend.learning.scoring.comparison import compare
from imil_backend.learning.scoring.power import Margins
from imil_backend.learning.scoring.verdicts import Judge

AGREEMENT = 0.95  # of marker and class, on unchanged images
DRAWS = 10
NORMAL = NormalDist()


@dataclass(frozen=True)
class Setting:
    """What is true of the two versions, and how much of it a validation split shows."""

    about: str
    plain: float  # true difference of accuracy
    robust: float  # and of robust accuracy
    groups: int
    largest: int = 1  # samples in a group, from 1 on, each number as likely
    rare: float = 0.5  # share of the second class
    alike: float = 0.8  # correlation of what the two see of a finding
    champion: tuple[float, float] = (0.90, 0.70)  # accuracy, robust accuracy
    wrong: bool = True  # the candidate must not be promoted


@dataclass(frozen=True)
class Network:
    """What a simulated version goes by."""

    skill: float
    push: float  # by the marker

    @classmethod
    def of(cls, accuracy: float, robust: float) -> Network:
        """The one of this accuracy and robust accuracy."""
        helped = (accuracy - (1 - AGREEMENT) * 2 * robust) / (2 * AGREEMENT - 1)
        with_marker, against = NORMAL.inv_cdf(helped), NORMAL.inv_cdf(2 * robust - helped)
        return cls((with_marker + against) / 2, (with_marker - against) / 2)


def verdicts(
    setting: Setting,
    repetitions: int,
    *,
    judge: Judge = "both",
    margins: Margins | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Counter[str]:
    """How often each verdict is given."""
    random = np.random.default_rng(seed)
    drawn = (_draw(setting, random) for _ in range(repetitions))
    return Counter(
        compare(
            *versions, shortcut=test, judge=judge, margins=margins, resamples=resamples, seed=number
        ).verdict
        for number, (versions, test) in enumerate(drawn)
    )


def _draw(
    setting: Setting, random: np.random.Generator
) -> tuple[tuple[dict[str, Any], dict[str, Any]], dict[str, Any]]:
    """A validation split: predictions of both versions, and their shortcut test."""
    sizes = random.integers(1, setting.largest + 1, setting.groups)
    groups = np.repeat(np.arange(setting.groups), sizes)
    labels = np.repeat((random.random(setting.groups) < setting.rare).astype(np.int64), sizes)
    towards = np.where(labels == 1, 1, -1)
    markers = np.where(random.random(len(labels)) < AGREEMENT, towards, -towards)
    everyone = np.arange(len(labels))
    donors = draw_donors(labels, np.tile(everyone, DRAWS), everyone, random).reshape(DRAWS, -1)
    before = setting.champion
    networks = Network.of(*before), Network.of(before[0] + setting.plain, before[1] + setting.robust)
    split = {"keys": everyone.tolist(), "groups": groups.tolist(), "labels": labels.tolist()}
    versions, shares = [], []
    for network, noise in zip(networks, _seen(setting, groups, random), strict=True):
        skill = network.skill * towards + noise
        lesion = 1 / (1 + np.exp(-2 * (skill + network.push * markers)))
        versions.append({**split, "probabilities": np.stack([1 - lesion, lesion], axis=1).tolist()})
        right = (skill + network.push * markers[donors] > 0) == (labels == 1)
        shares.append({"any_class": right.mean(axis=0)})
    return (versions[0], versions[1]), {**split, "parent": shares[0], "candidate": shares[1]}


def _seen(
    setting: Setting, groups: NDArray[np.int64], random: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """(samples,) for each version: normal, half of the variance by group, `alike` in the two."""
    own = [_noise(setting.groups, groups, random) for _ in range(3)]
    for each in own[1:]:
        yield math.sqrt(setting.alike) * own[0] + math.sqrt(1 - setting.alike) * each


def _noise(count: int, groups: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.float64]:
    shared, single = random.standard_normal(count), random.standard_normal(len(groups))
    return np.asarray((shared[groups] + single) / math.sqrt(2))


def settings() -> list[Setting]:
    """Where the candidate must not be promoted, then where it should be."""
    found: list[Setting] = []
    for groups in (150, 400, 1000):
        found += [
            Setting("equal", 0.0, 0.0, groups),
            Setting("equal, little changed", 0.0, 0.0, groups, alike=0.98),
            Setting("accuracy at its margin", -0.02, 0.14, groups),
            Setting("robust accuracy at its margin", 0.04, -0.02, groups, champion=(0.90, 0.80)),
            Setting("both a little worse", -0.01, -0.01, groups),
        ]
    found += [
        Setting("equal, groups of 1 to 8, one class rare", 0.0, 0.0, 400, largest=8, rare=0.2),
        Setting("accuracy at its margin, likewise", -0.02, 0.14, 400, largest=8, rare=0.2),
        Setting(
            "robust at its margin, likewise", 0.04, -0.02, 400, largest=8, rare=0.2, champion=(0.90, 0.80)
        ),
    ]
    for groups in (150, 400, 1000):
        for robust in (0.03, 0.06, 0.14):
            found.append(Setting("robust accuracy gained", 0.0, robust, groups, wrong=False))
        found.append(Setting("both gained", 0.02, 0.14, groups, wrong=False))
        found.append(Setting("accuracy gained", 0.04, 0.0, groups, wrong=False))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=1000, help="of each setting")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    rows = []
    print("| setting | groups | accuracy | robust accuracy | promoted | undecided | rejected |")
    print("|---" * 7 + "|")
    for setting in settings():
        counts = verdicts(setting, arguments.repetitions)
        shares = {name: counts[name] / arguments.repetitions for name in ("promote", "undecided", "reject")}
        rows.append({**asdict(setting), **shares})
        figures = " | ".join(f"{share:.1%}" for share in shares.values())
        truth = f"{setting.groups} | {setting.plain:+.2f} | {setting.robust:+.2f}"
        print(f"| {setting.about} | {truth} | {figures} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
