"""How rounds are run for a dataset: how much is asked, when a round closes, what is promoted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from imil_backend.errors import RoundError, SettingsError
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.job import Recipe, Trainable
from imil_backend.learning.scoring.power import Margins
from imil_backend.store.tables import Dataset, Round

# These choose a round's samples, and change nothing once its tasks are there.
CHOOSING = ("budget", "fill_budget", "class_quota", "repeat")


@dataclass(frozen=True)
class Policy:
    """Kept with the dataset; changed by `imil train` and `imil push`."""

    budget: float = 0.04  # of the training split, asked in one round
    close_share: float = 0.8  # of a round's tasks, answered, close it
    close_count: int = 0  # answered tasks close it too; 0: the share alone
    close_quiet_seconds: float = 60.0  # without a new answer, before enough answers close a round
    close_after_hours: float = 0.0  # without a new answer close it too, if anything was answered; 0: never
    readers: int = 1  # different people who are to answer each task, blind to each other
    annotators: Literal["latest", "union", "intersection", "majority"] = "latest"
    fill: Literal["black", "mean", "noise", "blur"] = "black"
    fill_budget: bool = False  # with the least certain, when fewer are wrong than the budget
    class_quota: bool = False  # the budget shared out among the classes
    repeat: bool = False  # ask again for samples that were answered before
    trainable: Trainable = "all"  # in rounds; the baseline trains all layers
    promotion_margin: float = 0.02  # of accuracy; the candidate may not be worse by it or more
    recall_margin: float = 0.10  # likewise of the recall of any class; 29 groups of each class can show it
    auc_margin: float = 0.05  # likewise of AUC; 59 groups of the rarer of two classes can show it
    next_round: bool = True  # push the next mispredictions when a round has closed

    def __post_init__(self) -> None:
        for name in ("budget", "close_share"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1.")
        for name in ("promotion_margin", "recall_margin", "auc_margin"):
            if not 0 < getattr(self, name) < 1:
                raise SettingsError(
                    f"{name} is {getattr(self, name)}; it must be above 0 and below 1: no validation split "
                    "is large enough to exclude every loss."
                )
        if self.readers < 1:
            raise SettingsError(f"readers is {self.readers}; it must be 1 or more.")
        for name in ("close_count", "close_quiet_seconds", "close_after_hours"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 0 or more.")

    @property
    def margins(self) -> Margins:
        """What a candidate may lose at most."""
        return Margins(self.promotion_margin, self.recall_margin, self.auc_margin)


def policy_of(dataset: Dataset) -> Policy:
    """The dataset's policy."""
    return Policy(**_known(Policy, dataset.policy))


def recipe_of(dataset: Dataset) -> Recipe:
    """The dataset's recipe, for its next baseline."""
    return Recipe(**_known(Recipe, dataset.recipe))


def changed_policy(dataset: Dataset, changes: dict[str, Any]) -> Policy:
    """The policy with what is named changed; None leaves a field as it is.

    Raises:
        SettingsError: a value is out of range, or has no effect beside the others.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    policy = replace(policy_of(dataset), **given)
    if policy.annotators != "latest" and policy.readers == 1 and given.keys() & {"annotators", "readers"}:
        raise SettingsError(
            f"--annotators {policy.annotators} combines what several people painted, and a task has one "
            "reader. Have it answered by two (--readers 2), or take the latest answer (--annotators latest)."
        )
    return policy


def check_takes_effect(round_: Round, before: Policy, after: Policy) -> None:
    """See that a change of policy can still change something in an open round.

    Raises:
        RoundError: it concerns which samples are asked, and those have been.
    """
    late = [name for name in CHOOSING if getattr(before, name) != getattr(after, name)]
    if late:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in late)
        chosen = ", ".join(f"{name} {getattr(before, name)}" for name in late)
        raise RoundError(
            f"Round {round_.number} is open, and its tasks were chosen with {chosen}: {options} can change "
            "nothing any more. Leave it out to go on with this round, or give the round up (`imil cancel`; "
            "its answers are kept) and push again."
        )


def change_policy(dataset: Dataset, changes: dict[str, Any]) -> None:
    """Change what is named; None leaves a field as it is."""
    dataset.policy = asdict(changed_policy(dataset, changes))


def recipe_of_round(baseline: Recipe, policy: Policy) -> Recipe:
    """The baseline's recipe; where only the last layers are trained, with what that asks for."""
    if policy.trainable == "all":
        return baseline
    return replace(baseline, trainable=policy.trainable, augmentation="none", progressive=False)


def change_recipe(dataset: Dataset, changes: dict[str, Any]) -> None:
    """Change what is named; None leaves a field as it is.

    Raises:
        SettingsError: nothing can be trained by the recipe that comes out.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    recipe = replace(recipe_of(dataset), **given)
    check_recipe(recipe)
    dataset.recipe = asdict(recipe)


def _known(kind: type[Policy] | type[Recipe], stored: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}
