"""Several people read the same tasks: Label Studio is told, a round waits for them, and they are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from loop_fakes import (
    PROJECT,
    FakeLabelStudio,
    OpenRound,
    chosen,
    make_dataset,
    make_project,
    make_version,
    mask_of,
    region,
    write_mask,
)
from sqlalchemy import select
from typer.testing import Result

from imil_backend.errors import RoundError, SettingsError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy, changed_policy, policy_of
from imil_backend.loop.base.states import CLOSED, OPEN, TRAINING
from imil_backend.loop.rounds import lifecycle
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.rounds.simulation import answer_open_tasks
from imil_backend.store.tables import Annotation, AuditEntry, Dataset, Project, Round, Sample, now

WRONG = [f"train-{number}" for number in (5, 3, 6, 1)]


class LabelStudioWithReaders(FakeLabelStudio):
    """With the number of people that a task is for, kept as the real one keeps it (1.23.2, measured)."""

    def __init__(self) -> None:
        super().__init__()
        self.maximum_annotations = 1
        self.user = 1

    def project(self, number: int) -> dict[str, Any]:
        return {**super().project(number), "maximum_annotations": self.maximum_annotations}

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        return map(dict, super().tasks(project))

    def user_id(self) -> int:
        return self.user

    def create_annotation(self, task: int, result: Any, lead_time: float) -> int:
        return self.annotate(task, result, by=self.user)

    def request(self, method: str, path: str, **request: Any) -> Any:
        if method != "PATCH" or path.startswith("/api/webhooks/"):
            return super().request(method, path, **request)
        kind, number = path.removeprefix("/api/").strip("/").split("/")
        self._ask(f"PATCH {kind}")
        if kind == "tasks":
            self.tasks_there[int(number)] |= request["body"]
            return None
        self.maximum_annotations = request["body"]["maximum_annotations"]
        several = [task for task in self.tasks_there.values() if task["overlap"] > 1]
        for task in several or self.tasks_there.values():
            task["overlap"] = self.maximum_annotations
            task["is_labeled"] = task["total_annotations"] >= task["overlap"]
        return None

    def add_task(self, data: dict[str, Any], project: int = PROJECT, number: int | None = None) -> int:
        number = super().add_task(data, project, number)
        mine = {"overlap": self.maximum_annotations, "is_labeled": False, "total_annotations": 0}
        self.tasks_there[number] |= mine
        return number

    def annotate(self, task: int, *arguments: Any, **more: Any) -> int:
        there = self.tasks_there[task]
        there["total_annotations"] += 1
        there["is_labeled"] = there["total_annotations"] >= there["overlap"]
        return super().annotate(task, *arguments, **more)


@pytest.fixture
def label_studio() -> LabelStudioWithReaders:
    return LabelStudioWithReaders()


@pytest.fixture
def mined(backend: Backend) -> Dataset:
    """Four samples are to be asked, in a project that `imil push` made."""
    dataset = make_dataset(backend)
    make_version(backend, dataset, wrong=WRONG)
    make_project(backend, dataset)
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, dataset.id), {"budget": 0.25})
    return dataset


def push(backend: Backend, dataset: Dataset, **changes: Any) -> Round:
    """As the command does it."""
    with backend.store.begin() as session:
        found = session.get_one(Dataset, dataset.id)
        change_policy(found, changes)
        round_ = lifecycle.open_round(session, found)
    push_round(backend, round_.id)
    with backend.store.begin() as session:
        return session.get_one(Round, round_.id)


def overlaps(label_studio: LabelStudioWithReaders) -> list[tuple[int, bool]]:
    return [(task["overlap"], task["is_labeled"]) for task in label_studio.tasks_there.values()]


def close(backend: Backend, round_: Round) -> None:
    with backend.store.begin() as session:
        change_state(session.get_one(Round, round_.id), CLOSED)


# --- Label Studio is told


def test_one_reader_is_what_label_studio_does_by_itself(
    backend: Backend, mined: Dataset, label_studio: LabelStudioWithReaders
) -> None:
    label_studio.maximum_annotations = 3  # somebody has set it there
    assert push(backend, mined).readers == 1
    push(backend, mined, readers=1)
    assert label_studio.maximum_annotations == 3
    assert not [asked for asked in label_studio.asked if asked.startswith("PATCH")]


def test_a_project_of_our_own_is_set_to_the_number_of_readers(
    backend: Backend, mined: Dataset, label_studio: LabelStudioWithReaders
) -> None:
    assert push(backend, mined, readers=2).readers == 2
    assert label_studio.maximum_annotations == 2
    assert overlaps(label_studio) == [(2, False)] * 2
    label_studio.asked.clear()
    push(backend, mined)
    assert not [asked for asked in label_studio.asked if asked.startswith("PATCH")]


def test_a_change_in_an_open_round_opens_tasks_that_were_done(
    backend: Backend, mined: Dataset, label_studio: LabelStudioWithReaders
) -> None:
    push(backend, mined)
    label_studio.annotate(101, region(mask_of(1)))
    assert overlaps(label_studio) == [(1, True), (1, False)]
    assert push(backend, mined, readers=2).readers == 2
    assert overlaps(label_studio) == [(2, False), (2, False)]
    assert push(backend, mined, readers=1).readers == 1
    assert overlaps(label_studio) == [(1, True), (1, False)]
    assert label_studio.maximum_annotations == 1


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_a_change_between_rounds_leaves_the_tasks_of_earlier_rounds_as_they_are(
    backend: Backend, mined: Dataset, label_studio: LabelStudioWithReaders, before: int, after: int
) -> None:
    first = push(backend, mined, readers=before)
    label_studio.annotate(101, region(mask_of(1)))
    left = overlaps(label_studio)
    close(backend, first)
    second = push(backend, mined, readers=after)
    assert (second.number, second.readers) == (2, after)
    assert overlaps(label_studio) == [*left, (after, False), (after, False)]
    assert label_studio.maximum_annotations == after
    with backend.store.begin() as session:
        assert session.get_one(Round, first.id).readers == before
        told = session.scalars(select(AuditEntry).where(AuditEntry.event == audit.READERS)).all()
    assert [entry.details["readers"] for entry in told] == ([before, after] if before > 1 else [after])


def test_in_a_teams_project_the_rounds_own_tasks_alone_are_changed(
    backend: Backend, mined: Dataset, label_studio: LabelStudioWithReaders
) -> None:
    with backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = {"webhook": True}
    label_studio.add_task({"image": "theirs.png"})
    label_studio.annotate(101, [])
    push(backend, mined, readers=2)
    assert label_studio.maximum_annotations == 1
    assert overlaps(label_studio) == [(1, True), (2, False), (2, False)]


# --- a round waits for its readers


def progress(open_round: OpenRound) -> tuple[int, int, int]:
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        found = lifecycle.answered(session, session.get_one(Round, open_round.id))
    return found.tasks, found.answered, found.begun


def set_readers(open_round: OpenRound, readers: int) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Round, open_round.id).readers = readers


def test_a_task_is_answered_when_as_many_different_people_have(open_round: OpenRound) -> None:
    set_readers(open_round, 2)
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    label_studio.annotate(task, region(mask_of(1)), by=1)
    label_studio.annotate(task, region(mask_of(2)), by=1)  # the same person again
    skipped = label_studio.annotate(task, [], by=2)
    label_studio.update(skipped, was_cancelled=True)
    assert progress(open_round) == (4, 0, 1)
    second = label_studio.annotate(task, chosen("nothing_to_black_out"), by=2)
    assert progress(open_round) == (4, 1, 1)
    set_readers(open_round, 3)
    assert progress(open_round) == (4, 0, 1)
    set_readers(open_round, 2)
    label_studio.delete(second)
    assert progress(open_round) == (4, 0, 1)


def test_a_round_closes_by_itself_when_all_readers_have_answered(open_round: OpenRound) -> None:
    set_readers(open_round, 2)

    def is_due() -> bool:
        reconcile(open_round.backend, open_round.project)
        with open_round.backend.store.begin() as session:
            return lifecycle.is_due(session, session.get_one(Round, open_round.id))

    for task in open_round.tasks:
        open_round.label_studio.annotate(task, region(mask_of(1)), by=1)
    assert not is_due()
    for task in open_round.tasks:
        open_round.label_studio.annotate(task, region(mask_of(1)), by=2)
    assert is_due()


def test_a_person_or_a_long_silence_closes_a_round_that_one_reader_has_begun(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_readers(open_round, 2)
    with open_round.backend.store.begin() as session:
        change_policy(session.get_one(Dataset, open_round.dataset.id), {"close_after_hours": 2.0})
        round_ = session.get_one(Round, open_round.id)
        with pytest.raises(RoundError, match="answered yet"):
            lifecycle.close_round(session, round_)
        assert not lifecycle.is_due(session, round_)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)), by=1)
    reconcile(open_round.backend, open_round.project)
    with open_round.backend.store.begin() as session:
        answered_at = session.scalars(select(Annotation.label_studio_updated_at)).one()
    for hours, due in ((1, False), (3, True)):
        monkeypatch.setattr(lifecycle, "now", lambda hours=hours: answered_at + timedelta(hours=hours))
        with open_round.backend.store.begin() as session:
            assert lifecycle.is_due(session, session.get_one(Round, open_round.id)) == due
    monkeypatch.setattr(lifecycle, "now", now)
    with open_round.backend.store.begin() as session:
        assert lifecycle.close_round(session, session.get_one(Round, open_round.id)).state == TRAINING


# --- the simulated clinician


def test_the_simulated_clinician_is_one_reader_by_token(
    open_round: OpenRound, label_studio: LabelStudioWithReaders
) -> None:
    set_readers(open_round, 2)
    with open_round.backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            path = open_round.backend.path("given", f"{sample.key}.png")
            sample.clinician_mask = str(write_mask(path, mask_of(1)))
            sample.clinician_mask_means = "irrelevant"
    for user, painted in ((1, 4), (1, 0), (2, 4)):
        label_studio.user = user
        assert answer_open_tasks(open_round.backend, open_round.dataset) == painted
        progress(open_round)
    assert progress(open_round) == (4, 4, 4)
    assert open_round.round.state == OPEN


# --- the command


def test_combining_annotators_asks_for_several_readers(backend: Backend, dataset: Dataset) -> None:
    with backend.store.begin() as session:
        found = session.get_one(Dataset, dataset.id)
        with pytest.raises(SettingsError, match=r"--annotators union .* one reader.*--readers 2"):
            changed_policy(found, {"annotators": "union"})
        change_policy(found, {"annotators": "union", "readers": 2})
        with pytest.raises(SettingsError, match="--annotators latest"):
            changed_policy(found, {"readers": 1})
        assert changed_policy(found, {"readers": 1, "annotators": "latest"}).readers == 1
        with pytest.raises(SettingsError, match="readers is 0"):
            changed_policy(found, {"readers": 0})
        # What was chosen before there were readers stands, and keeps no other option out.
        found.policy = {"annotators": "majority"}
        assert changed_policy(found, {"budget": 0.1}).annotators == "majority"
        assert policy_of(found).readers == 1


@pytest.mark.parametrize(
    ("connected", "setting"),
    [(None, "maximum_annotations of the project"), ({}, "the project's own setting stays")],
)
def test_a_dry_run_says_what_becomes_of_the_projects_setting(
    backend: Backend,
    mined: Dataset,
    imil: Callable[..., Result],
    connected: dict[str, Any] | None,
    setting: str,
) -> None:
    with backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = connected
    shown = imil("push", "--dry-run", "--readers", "3")
    assert shown.exit_code == 0, shown.output
    assert f"Each of these tasks would be for 3 readers ({setting})." in shown.stdout
    assert "readers" not in imil("push", "--dry-run").stdout  # it was not kept


def test_combining_readers_without_several_is_refused_by_name(
    mined: Dataset, imil: Callable[..., Result]
) -> None:
    shown = imil("push", "--dry-run", "--annotators", "majority")
    assert shown.exit_code == 1
    assert "--annotators majority combines the masks of several people" in shown.stderr
    assert imil("push", "--dry-run", "--annotators", "majority", "--readers", "2").exit_code == 0
