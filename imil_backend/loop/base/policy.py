"""How a dataset's rounds are run: how much is asked, when a round closes, what is promoted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from imil_backend.errors import RoundError, SettingsError
from imil_backend.images.masks.blackout import FILLS
from imil_backend.images.masks.masks import POLICIES
from imil_backend.label_studio.labeling.words import LANGUAGES
from imil_backend.learning.contract.checks import check_recipe
from imil_backend.learning.contract.training_job import Correction, Recipe, Trainable
from imil_backend.learning.scoring.endpoints import QUANTITIES
from imil_backend.learning.scoring.power import Margins
from imil_backend.learning.scoring.ranking import ASKED, RANKINGS
from imil_backend.learning.scoring.verdicts import Judge
from imil_backend.options import check_options, declared, option

if TYPE_CHECKING:
    from imil_backend.store.tables import Dataset, Round

# Groups of the policy's options.
QUESTIONS = "Choice of samples"  # changes nothing once a round's tasks are there
ANSWERS = "Readers and masks"
CLOSING = "Closing of the round"
PROMOTION = "Promotion"
TRAINING = "Training of rounds (from now on)"

_NOT_EVERY_LOSS = "no validation split is large enough to exclude every loss"


@dataclass(frozen=True)
class Policy:
    """Kept with the dataset; changed by `imil train` and `imil push`."""

    budget: float = option(
        0.04, "Share of the training split to ask about in one round.", group=QUESTIONS, above=0, at_most=1
    )
    close_share: float = option(
        0.8, "Close the round at this share of answered tasks.", group=CLOSING, above=0, at_most=1
    )
    close_count: int = option(
        0,
        "Close the round at this number of answered tasks too.",
        group=CLOSING,
        at_least=0,
        zero="the share alone",
    )
    close_quiet_seconds: float = option(
        60.0, "Seconds without a new answer before a round closes.", group=CLOSING, at_least=0
    )
    close_after_hours: float = option(
        0.0,
        "Close a round after this many hours without a new answer, if it has any.",
        group=CLOSING,
        at_least=0,
        zero="never",
    )
    readers: int = option(
        1, "Number of people who answer each task, blind to each other.", group=ANSWERS, at_least=1
    )
    annotators: str = option(
        "latest", "Whose masks count if several people painted one task.", group=ANSWERS, choices=POLICIES
    )
    language: str = option(
        "en", "Language of the labeling page and of its notes.", group=ANSWERS, choices=LANGUAGES
    )
    proposals: bool = option(
        True, "Show proposed masks in the editor, to be accepted or corrected.", group=ANSWERS
    )
    control_share: float = option(
        0.1,
        "Share of tasks, drawn by chance, that are shown without a proposed mask: the control group.",
        group=ANSWERS,
        at_least=0,
        at_most=1,
    )
    review_below: float = option(
        0.7,
        "Dice with another reader's or the proposed mask below which --review takes up an answer.",
        group=ANSWERS,
        at_least=0,
        at_most=1,
        zero="different answers alone",
    )
    blind_review: bool = option(
        True, "Show a reviewer nothing of the answers that are in dispute.", group=ANSWERS
    )
    gold_share: float = option(
        0.0,
        "Gold tasks, whose mask is known, added to a round as a share of its tasks.",
        group=QUESTIONS,
        at_least=0,
        at_most=1,
        zero="none",
    )
    fill: str = option("black", "What painted pixels become.", group=ANSWERS, choices=FILLS)
    fill_budget: bool = option(
        False,
        "Fill the budget with the least certain samples if there are fewer to ask about.",
        group=QUESTIONS,
    )
    ask: str = option(
        "mispredicted",
        "Samples to ask about: those that the champion got wrong (mispredicted); half of these and "
        "half correct ones whose prediction changes with their surroundings (mixed); or those on "
        "which its epochs disagreed (disagreement).",
        group=QUESTIONS,
        choices=ASKED,
    )
    ranking: str = option("confidence", "Which mispredictions come first.", group=QUESTIONS, choices=RANKINGS)
    class_quota: bool = option(False, "Divide the budget evenly among the classes.", group=QUESTIONS)
    repeat: bool = option(False, "Ask again about samples that were answered before.", group=QUESTIONS)
    trainable: Trainable = option(
        "all", "Fine-tune all layers, or only the last ones, which is faster.", group=TRAINING
    )
    correction: Correction = option(
        "counterexample",
        "What training sees of painted images: their blackout, as in the paper; the image or its "
        "blackout (beside); the image and counterexamples, with another image's irrelevant part "
        "pasted in; or counterexamples of the strength that does best in quick trainings (auto).",
        group=TRAINING,
    )
    correction_share: float = option(
        Recipe.correction_share,
        "Share of draws that show the blackout or a counterexample.",
        group=TRAINING,
        above=0,
        at_most=1,
    )
    spread: bool = option(True, "Propose masks for unpainted images, if they prove reliable.", group=TRAINING)
    confirmed_weight: int = option(
        Recipe.confirmed_weight,
        "Draw images whose label was confirmed this many times as often.",
        group=TRAINING,
        at_least=1,
    )
    judge: Judge = option(
        "both",
        "Judge by images as they are (plain), with exchanged irrelevant parts (robust), or both.",
        group=PROMOTION,
    )
    promotion_margin: float = option(
        QUANTITIES["accuracy"].margin,
        "Largest acceptable loss of accuracy.",
        group=PROMOTION,
        above=0,
        below=1,
        why=_NOT_EVERY_LOSS,
    )
    recall_margin: float = option(  # 29 groups of each class can show 0.1
        QUANTITIES["recall"].margin,
        "Largest acceptable loss of recall of any class.",
        group=PROMOTION,
        above=0,
        below=1,
        why=_NOT_EVERY_LOSS,
    )
    auc_margin: float = option(  # 59 groups of the rarer of two classes can show 0.05
        QUANTITIES["auc"].margin,
        "Largest acceptable loss of AUC.",
        group=PROMOTION,
        above=0,
        below=1,
        why=_NOT_EVERY_LOSS,
    )
    next_round: bool = option(True, "Push the next mispredictions when a round closes.", group=CLOSING)

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def margins(self) -> Margins:
        """The largest acceptable losses."""
        return Margins(
            {
                "accuracy": self.promotion_margin,
                "recall": self.recall_margin,
                "auc": self.auc_margin,
                "robust_accuracy": self.promotion_margin,
                "robust_recall": self.recall_margin,
            }
        )


def policy_of(dataset: Dataset) -> Policy:
    """The dataset's policy."""
    return Policy(**_known(Policy, dataset.policy))


def recipe_of(dataset: Dataset) -> Recipe:
    """The dataset's recipe, for its next baseline."""
    return Recipe(**_known(Recipe, dataset.recipe))


def changed_policy(dataset: Dataset, changes: dict[str, Any]) -> Policy:
    """The policy with these fields changed; None leaves a field unchanged.

    Raises:
        SettingsError: a value is out of range, or has no effect with the others.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    policy = replace(policy_of(dataset), **given)
    if policy.annotators != "latest" and policy.readers == 1 and given.keys() & {"annotators", "readers"}:
        raise SettingsError(
            f"--annotators {policy.annotators} combines the masks of several people, but a task has "
            "one reader. Use --readers 2, or --annotators latest."
        )
    return policy


def check_takes_effect(round_: Round, before: Policy, after: Policy) -> None:
    """Check that a change of policy can still take effect in an open round.

    Raises:
        RoundError: it concerns which samples are asked, and they have been chosen.
    """
    choosing = [each.name for each in declared(Policy) if each.option.group == QUESTIONS]
    late = [name for name in choosing if getattr(before, name) != getattr(after, name)]
    if late:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in late)
        chosen = ", ".join(f"{name} {getattr(before, name)}" for name in late)
        raise RoundError(
            f"Round {round_.number} is open, and its tasks were chosen with {chosen}: {options} come "
            "too late. Omit them to continue with this round, or cancel it (`imil cancel`; its "
            "answers are kept) and push again."
        )


def change_policy(dataset: Dataset, changes: dict[str, Any]) -> None:
    """Change these fields; None leaves a field unchanged."""
    dataset.policy = asdict(changed_policy(dataset, changes))


def recipe_of_round(baseline: Recipe, policy: Policy) -> Recipe:
    """The baseline's recipe with the policy's correction, and what training only the last layers requires."""
    return with_policy(baseline, policy).training(policy.trainable)


def with_policy(recipe: Recipe, policy: Policy) -> Recipe:
    """The recipe with what the policy says of the training of rounds: the fields that both have."""
    shared = {each.name for each in fields(Recipe)} & {each.name for each in fields(Policy)}
    return replace(recipe, **{name: getattr(policy, name) for name in shared})


def change_recipe(dataset: Dataset, changes: dict[str, Any]) -> None:
    """Change these fields; None leaves a field unchanged.

    Raises:
        SettingsError: the resulting recipe cannot be trained.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    recipe = replace(recipe_of(dataset), **given)
    check_recipe(recipe)
    dataset.recipe = asdict(recipe)


def _known(kind: type[Policy] | type[Recipe], stored: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}
