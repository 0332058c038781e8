"""A round: its verdict, what it changed, who answered what, and what it was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.learning.plots.themed import Plot
from imil_backend.loop.answers.pseudonyms import pseudonyms
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CANCELLED, CLOSED, FAILED, OPEN, PUSHING, TRAINING
from imil_backend.loop.dashboard.datasets import dataset_of, made_as
from imil_backend.loop.dashboard.given_answers import Given, given
from imil_backend.loop.dashboard.people import names_of
from imil_backend.loop.dashboard.rounds.round_answers import By, answers_of
from imil_backend.loop.dashboard.samples.columns import compared
from imil_backend.loop.evaluation.changes import Changes, kept_changes, title_of
from imil_backend.loop.evaluation.kept import folder_of
from imil_backend.loop.evaluation.reasons import Reasons, kept_reasons
from imil_backend.loop.rounds.lifecycle import Answered, answered, find_closed_round
from imil_backend.loop.rounds.worth import worth_of
from imil_backend.loop.versions.champions import PERSON, judged_until
from imil_backend.loop.versions.shortcut_results import what_was_done, with_bounds
from imil_backend.loop.views.undecided import undecided_since
from imil_backend.store.tables import AuditEntry, Promotion, Round, Version

GALLERY = 12  # samples of each gallery; the rest is counted
_IN_STATE = {
    PUSHING: "Its tasks are being pushed to Label Studio.",
    OPEN: "Clinicians are answering its tasks.",
    TRAINING: "Its version is being trained.",
    FAILED: "Its training failed. `imil train` retries it.",
    CANCELLED: "It was cancelled, and brought no version. Its answers stand and count in the next round.",
}
_ROBUSTNESS = {
    "robust_accuracy": "robust accuracy (the irrelevant part of any class)",
    "same_class": "accuracy with that of the same class",
    "drop": "drop",
}


@dataclass(frozen=True)
class ShortcutRow:
    """A figure of the shortcut test, with 95 % bounds, as text."""

    title: str
    before: str | None
    after: str


@dataclass(frozen=True)
class FindingRow:
    """One thing that the verdict rests on."""

    title: str
    before: float | None
    after: float | None
    difference: float
    lower: float
    upper: float
    margin: float
    groups: int
    groups_worse: int | None
    groups_better: int | None
    state: str


@dataclass(frozen=True)
class RoundPage:
    """What the page of a round shows."""

    dataset_id: int
    dataset: str
    made: str | None  # "phantoms" or "planted", where its images are
    number: int
    is_baseline: bool
    state: str
    verdict: str | None  # promote, reject, undecided
    headline: str
    reason: str | None
    decided: str | None  # what a person made of it
    error: str | None
    changed_at: datetime
    before: str | None  # names of the versions
    after: str | None
    before_id: int | None
    after_id: int | None
    judged: int  # how many versions the validation split had judged with this one
    findings: Sequence[FindingRow]
    changes: Changes | None  # None: a baseline, or a report of an earlier release
    reasons: Reasons | None
    progress: Answered
    answers: Sequence[By]
    given_until: Given  # the answers up to this round that count: both versions rest on some of them
    painted: Given  # the painted answers up to this round
    shortcut: Sequence[ShortcutRow]
    shortcut_note: str | None
    worth: Sequence[str]

    @property
    def title(self) -> str:
        """What people call it."""
        return "Baseline" if self.is_baseline else f"Round {self.number}"

    @property
    def plots(self) -> list[Plot]:
        """The plots of the validation split, on which it was judged."""
        if self.changes is None:
            return []
        values = [split.values for name, split in self.changes.splits.items() if name == "validation"]
        return [*values, *([self.changes.differences] if self.changes.differences else [])]


def round_page(backend: Backend, dataset_id: int, number: int, *, named: bool = False) -> RoundPage:
    """Gather a round.

    Args:
        backend: the store and the files.
        dataset_id: whose.
        number: of the round.
        named: whether annotators may have names, if the settings say so: not in files, which outlive an
            erasure, and not for those who have no password.

    Raises:
        NotFoundError: there is no such dataset or round.
    """
    with backend.store.begin() as session:
        dataset, round_ = dataset_of(session, dataset_id), find_round(session, dataset_id, number)
        version, verdict = round_.version, round_.verdict or {}
        parent = session.get(Version, version.parent_id) if version and version.parent_id else None
        folder = folder_of(version) if version else None
        names = names_of(backend, session, dataset_id) if named else pseudonyms(session, dataset_id)
        shortcut, note = _shortcut(verdict.get("shortcut"))
        worth = worth_of(session, round_) if round_.state == CLOSED else None
        return RoundPage(
            dataset_id=dataset.id,
            dataset=dataset.name,
            made=made_as(session, dataset_id),
            number=round_.number,
            is_baseline=round_.is_baseline,
            state=round_.state,
            verdict=verdict.get("verdict"),
            headline=_headline(session, round_, parent),
            reason=verdict.get("reason"),
            decided=_decided(session, version),
            error=round_.error,
            changed_at=round_.changed_at,
            before=parent.name if parent else None,
            after=version.name if version else None,
            before_id=parent.id if parent else None,
            after_id=version.id if version else None,
            judged=judged_until(session, version) if version else 0,
            findings=[_finding(each) for each in verdict.get("findings", [])],
            changes=kept_changes(folder) if folder else None,
            reasons=kept_reasons(folder) if folder else None,
            progress=answered(session, round_),
            answers=answers_of(session, round_, names),
            given_until=given(session, dataset_id, until=number),
            painted=given(session, dataset_id, until=number, painted=True),
            shortcut=shortcut,
            shortcut_note=note,
            worth=worth.sentences if worth else (),
        )


def is_latest(backend: Backend, dataset_id: int, number: int) -> bool:
    """Whether no later round has compared two versions: the page of samples knows what this one changed."""
    with backend.store.begin() as session:
        latest = compared(session, dataset_id)
    return latest is not None and latest.round == number


def find_round(session: Session, dataset_id: int, number: int) -> Round:
    """The round of this number.

    Raises:
        NotFoundError: the dataset has none.
    """
    found = select(Round).where(Round.dataset_id == dataset_id, Round.number == number)
    round_ = session.scalar(found)
    if round_ is None:
        raise NotFoundError(f"There is no round {number}. The page of rounds lists them.")
    return round_


def _headline(session: Session, round_: Round, parent: Version | None) -> str:
    """The verdict, or the state, as a sentence."""
    verdict = (round_.verdict or {}).get("verdict")
    if round_.state != CLOSED or verdict is None:
        return _IN_STATE.get(round_.state, f"It is {round_.state}.")
    if parent is None:
        return "This is the first version: there was nothing to compare it with."
    if verdict == "promote":
        return "The new version held up in the comparison and was promoted: it took the champion's place."
    if verdict == "reject":
        return "The new version is worse and was rejected: the champion stayed."
    waits = " The champion stays until a person decides." if _waits(session, round_) else ""
    return (
        "Undecided: the validation split shows neither that the new version is good enough nor that it is "
        f"worse.{waits}"
    )


def _waits(session: Session, round_: Round) -> bool:
    """Whether an undecided verdict waits for a person: the latest one, as long as nobody has decided."""
    latest = find_closed_round(session, round_.dataset_id)
    return latest is round_ and undecided_since(session, round_.dataset_id) is not None


def _decided(session: Session, version: Version | None) -> str | None:
    """The latest decision of a person about a version, if there is one."""
    if version is None:
        return None
    by_person = select(Promotion.created_at).where(Promotion.version_id == version.id, Promotion.by == PERSON)
    rejected = select(AuditEntry.at).where(
        AuditEntry.version_id == version.id, AuditEntry.event == audit.REJECTED
    )
    decisions = [
        *((at, "promoted it") for at in session.scalars(by_person)),
        *((at, "rejected it: the champion stays") for at in session.scalars(rejected)),
    ]
    at, what = max(decisions, default=(None, None))
    return f"A person {what} ({at:%Y-%m-%d})." if at else None


def _finding(raw: Mapping[str, Any]) -> FindingRow:
    return FindingRow(
        title=title_of(raw["metric"], raw["label"]),
        before=raw["champion"],
        after=raw["candidate"],
        **{
            name: raw[name]
            for name in (
                "difference", "lower", "upper", "margin", "groups", "groups_worse", "groups_better", "state"
            )
        },
    )  # fmt: skip


def _shortcut(test: Mapping[str, Any] | None) -> tuple[list[ShortcutRow], str | None]:
    if test is None:
        return [], None
    if test["untested"]:
        return [], test["untested"]
    rows = [
        ShortcutRow(
            title,
            with_bounds(test["champion"][key]) if test["champion"] else None,
            with_bounds(test["candidate"][key]),
        )
        for key, title in _ROBUSTNESS.items()
    ]
    note, untested = what_was_done(test), test["champion_untested"]
    return rows, f"{note} The champion was not tested: {untested}" if untested else note
