"""The protocol of a comparison: fixed in a file before anything is trained, and carried by every run.

What is measured, of which arms, how often and on what, is decided beforehand; who changes it afterwards makes
another comparison.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from imil_backend.errors import ComparisonError
from imil_backend.learning.contract.training_job import Recipe, read_json, write_json
from imil_backend.learning.scoring.ranking import ASKED
from imil_backend.loop.comparing.arms import ARMS, UNCHANGED
from imil_backend.options import check_options, option

PROTOCOL_FILE = "protocol.json"
COMPARISON = "Comparison"  # group of the protocol's options
Annotations = Literal["answers", "masks"]


@dataclass(frozen=True)
class ComparedDataset:
    """A dataset as it is compared on.

    Attributes:
        name: of the dataset.
        classes: their names.
        samples: SHA-256 of its samples, their labels, groups and test split, and of what was painted.
        annotations: whose masks: clinicians' answers, or those that the data set came with.
        simulated: whether nobody has painted them: the data set's own, or answers of the simulated clinician.
        phantoms: whether its films are drawn.
        marker: that was planted; None: the images as they are.
        agreement: share of the training and validation images whose marker tells their class.
    """

    name: str
    classes: tuple[str, ...]
    samples: str
    annotations: Annotations
    simulated: bool
    phantoms: bool = False
    marker: str | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Protocol:
    """What is fixed beforehand.

    Attributes:
        name: of the comparison.
        datasets: that are compared on.
        recipe: fields of the recipe of going on unchanged; the seed is each run's.
        arms: names in ARMS, going on unchanged first.
        against: the arm that all others are compared with.
        end_point: the primary one, measured on the test split.
        margin: a difference of it below this is of no consequence.
        seeds: how many; split into training and validation, first weights and order vary with each.
        budgets: shares of the training split that are asked about; the first is the primary one.
        ask: which images are asked about, a name in ASKED.
        threads: of each training: another number rounds otherwise.
        code: the version of this program.
        tries: of settings, in each arm: its usual ones alone.
    """

    name: str
    datasets: tuple[ComparedDataset, ...]
    recipe: Mapping[str, Any]
    arms: tuple[str, ...]
    against: str = option(UNCHANGED, "Arm that the others are compared with.", group=COMPARISON, choices=ARMS)
    end_point: str = option(
        "balanced_accuracy", "Primary end point, measured on the test split.", group=COMPARISON
    )
    margin: float = option(0.02, "Difference of no consequence.", group=COMPARISON, above=0, below=1)
    seeds: int = option(10, "Number of seeds.", group=COMPARISON, at_least=1)
    budgets: tuple[float, ...] = (0.04,)
    ask: str = option("mispredicted", "Samples to ask about.", group=COMPARISON, choices=ASKED)
    threads: int = 1
    code: str = ""
    tries: int = 1

    def __post_init__(self) -> None:
        check_options(self)
        if not all(0 < budget <= 1 for budget in self.budgets):
            raise ComparisonError("A budget must be above 0 and at most 1.")
        if self.against not in self.arms:
            raise ComparisonError(
                f"All arms are compared with {self.against!r}: name it among the arms, too."
            )

    @property
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """Each arm, and what it is compared with; what is claimed is corrected for their number."""
        return tuple((arm, self.against) for arm in self.arms if arm != self.against)

    @property
    def simulated(self) -> bool:
        """Whether nobody has painted some of the masks."""
        return any(each.simulated for each in self.datasets)

    def recipe_of(self, seed: int) -> Recipe:
        """The recipe of going on unchanged, in one seed."""
        return Recipe(**{**self.recipe, "seed": seed})


def fix(directory: Path, wanted: Protocol) -> str:
    """Fix a protocol in a directory, or check that the one there is the same.

    Returns:
        The SHA-256 of the file, which every run carries.

    Raises:
        ComparisonError: another one was fixed there; the message says what differs.
    """
    path = directory / PROTOCOL_FILE
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(wanted))
        return digest_of(directory)
    fixed = read_protocol(directory)
    differing = [
        each.name for each in fields(Protocol) if getattr(fixed, each.name) != getattr(wanted, each.name)
    ]
    if differing:
        told = "; ".join(
            f"{name} is {getattr(fixed, name)}, not {getattr(wanted, name)}" for name in differing
        )
        raise ComparisonError(
            f"The protocol of this comparison was fixed before its first training, in {path}: {told}. Go on "
            "with it (leave the options out that differ), or begin another comparison with --name."
        )
    return digest_of(directory)


def digest_of(directory: Path) -> str:
    """The SHA-256 of the protocol's file."""
    return hashlib.sha256((directory / PROTOCOL_FILE).read_bytes()).hexdigest()


def read_protocol(directory: Path) -> Protocol:
    """The protocol that was fixed in a directory.

    Raises:
        ComparisonError: there is none, or the file is damaged.
    """
    path = directory / PROTOCOL_FILE
    try:
        raw = read_json(path)
        datasets = tuple(
            ComparedDataset(**{**each, "classes": tuple(each["classes"])}) for each in raw.pop("datasets")
        )
        tuples = {name: tuple(raw[name]) for name in ("arms", "budgets")}
        return Protocol(datasets=datasets, **{**raw, **tuples})
    except FileNotFoundError as error:
        raise ComparisonError(f"There is no comparison in {directory}: it has no {PROTOCOL_FILE}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ComparisonError(f"{path} is no protocol of this version: {error}.") from error
