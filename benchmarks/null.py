"""How often `imil compare` claims a difference where there is none: arms that differ by chance alone.

    python -m benchmarks null [--repetitions N] [--seeds N ...] [--arms N] [--patients N] [--gain LOGITS]
        [--json FILE]

A **simulation**: nothing is trained. Every arm of a repetition is the same method under another seed. A score
is made of the image's class, of how hard the image is for all networks, of what one training sees in it, and
of how well a training went; patients have one to three images. Then the product's own statistics say what may
be claimed: the share of repetitions in which they claim anything must not be above 5 %. With `--gain` all
arms but the reference are better by so much, and the share is the power to find it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imil_backend.loop.comparing.statistics.claims import Claim, claims
from imil_backend.loop.comparing.statistics.measures import Answers, measures_of
from imil_backend.loop.comparing.statistics.paired import Paired

DRAWS = 400  # of the bootstrap; the product's 2,000 take five times as long
MARGIN = 0.02
MEASURES = measures_of(["0", "1"])


@dataclass(frozen=True)
class Chance:
    """How far scores are spread, in logits: standard deviations."""

    image: float = 1.5  # how hard an image is for every network
    training: float = 0.3  # how well a training went
    both: float = 1.0  # what one training sees in one image
    signal: float = 1.5  # mean of the right class


@dataclass(frozen=True)
class Claimed:
    """What was claimed in the repetitions."""

    seeds: int
    arms: int
    repetitions: int
    claimed: float  # share of repetitions with a claim of any arm
    covered: float  # share of all intervals that hold the true difference, of no gain
    width: float  # mean width of the intervals
    seconds: float


def repetition(
    random: np.random.Generator, seeds: int, arms: int, patients: int, gain: float = 0.0
) -> list[Claim]:
    """The claims of one simulated comparison of so many arms with a reference."""
    chance = Chance()
    who = np.repeat(np.arange(patients), random.integers(1, 4, patients))
    labels = random.integers(0, 2, len(who))
    hard = chance.image * random.standard_normal(len(who))

    def training(better: float) -> Answers:
        quality = chance.signal + better + chance.training * random.standard_normal()
        seen = hard + chance.both * random.standard_normal(len(who))
        return Answers(labels, _probabilities((2 * labels - 1) * (quality + seen)), who)

    names = [f"arm {number}" for number in range(1, arms + 1)]
    tried = {name: [training(gain) for _ in range(seeds)] for name in names}
    tried["reference"] = [training(0.0) for _ in range(seeds)]
    paired = Paired(tried, MEASURES, draws=DRAWS, seed=int(random.integers(2**31)))
    comparisons = [(name, "reference") for name in names]
    return claims(paired, comparisons, "accuracy", MEASURES["accuracy"], MARGIN)


def simulate(
    repetitions: int, seeds: int, arms: int, patients: int, gain: float = 0.0, seed: int = 0
) -> Claimed:
    """Repeat it; equal seeds give equal figures."""
    began, random = time.monotonic(), np.random.default_rng([seed, seeds, arms])
    found = [repetition(random, seeds, arms, patients, gain) for _ in range(repetitions)]
    every = [claim.difference for each in found for claim in each]
    return Claimed(
        seeds,
        arms,
        repetitions,
        float(np.mean([any(claim.state in {"better", "worse"} for claim in each) for each in found])),
        float(np.mean([each.lower <= 0 <= each.upper for each in every])),
        float(np.mean([each.upper - each.lower for each in every])),
        time.monotonic() - began,
    )


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    positive = 1 / (1 + np.exp(-logits))
    return np.stack([1 - positive, positive], axis=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and print a table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks null", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5, 10, 20])
    parser.add_argument("--arms", type=int, default=3)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--gain", type=float, default=0.0, metavar="LOGITS")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args(arguments)
    print(f"Simulated: {options.patients} patients, gain {options.gain:g} logits\n")
    print("| seeds | arms | repetitions | claimed | intervals that hold zero | mean width | s |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for seeds in options.seeds:
        row = simulate(options.repetitions, seeds, options.arms, options.patients, options.gain)
        rows.append(asdict(row))
        print(
            f"| {seeds} | {row.arms} | {row.repetitions} | {row.claimed:.1%} | {row.covered:.1%} | "
            f"{row.width:.3f} | {row.seconds:.0f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
