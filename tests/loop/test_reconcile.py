"""Whatever happens in Label Studio, in whatever order it is heard of: the store ends up equal to it."""

from __future__ import annotations

from time import monotonic
from typing import Any

import numpy as np
import pytest
from loop_fakes import (
    PROJECT,
    OpenRound,
    chosen,
    make_round,
    mask_of,
    on_both_databases,
    region,
)
from sqlalchemy import func, select

from imil_backend.errors import LabelStudioAuthError, LabelStudioUnreachableError, RoundError
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.answers.reconcile import Differences, reconcile
from imil_backend.loop.answers.sample_states import load_mask, mask_path
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.projects.mapping import CONFIG_SECONDS
from imil_backend.loop.rounds.lifecycle import answered
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Project, Round, Sample, SetAside, Task

pytestmark = on_both_databases


def sync(open_round: OpenRound, number: int) -> str:
    return sync_annotation(open_round.backend, open_round.project, number)


def project_now(open_round: OpenRound) -> Project:
    with open_round.backend.store.begin() as session:
        return session.get_one(Project, open_round.project.id)


def answered_tasks(open_round: OpenRound) -> tuple[int, int]:
    with open_round.backend.store.begin() as session:
        progress = answered(session, session.get_one(Round, open_round.id))
    return progress.tasks, progress.answered


def set_aside(open_round: OpenRound) -> dict[str, str]:
    with open_round.backend.store.begin() as session:
        return {row.reference: row.reason for row in session.scalars(select(SetAside))}


def test_what_a_clinician_paints_is_stored_with_its_provenance(open_round: OpenRound) -> None:
    number = open_round.label_studio.annotate(open_round.tasks[1], region(mask_of(0, 1)), by=7)
    assert sync(open_round, number) == sync(open_round, number) == "blackout"
    (annotation,) = open_round.annotations
    assert (annotation.sample.name, annotation.user) == ("train-1", 7)
    mask = load_mask(open_round.backend, annotation.mask_sha256, annotation.sample)
    assert np.array_equal(mask, mask_of(0, 1))


def test_annotations_that_come_one_after_another_are_read_by_one_labeling_config(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio = open_round.label_studio
    numbers = [label_studio.annotate(task, region(mask_of(0))) for task in open_round.tasks[:3]]
    assert {sync(open_round, number) for number in numbers} == {"blackout"}
    assert label_studio.asked.count("project") == 1
    later = monotonic() + CONFIG_SECONDS + 1
    monkeypatch.setattr("imil_backend.loop.projects.mapping.monotonic", lambda: later)
    sync(open_round, numbers[0])
    reconcile(open_round.backend, open_round.project)  # always by what the config says now
    assert label_studio.asked.count("project") == 3


def test_what_was_read_by_a_config_that_has_changed_is_read_again(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    sync(open_round, label_studio.annotate(open_round.tasks[1], region(mask_of(0))))
    config = load_label_config("blackout").replace("Irrelevant", "Rubbish")
    monkeypatch.setattr(label_studio, "project", lambda number: {"id": number, "label_config": config})
    number = label_studio.annotate(task, region(mask_of(0)))
    assert sync(open_round, number) == "blackout"
    reconcile(open_round.backend, open_round.project)
    [annotation] = [each for each in open_round.annotations if each.label_studio_id == number]
    assert (annotation.answer, annotation.reason) == (
        "set_aside",
        "Nothing is painted and nothing is chosen.",
    )


def test_every_change_is_taken_over(open_round: OpenRound) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    number = label_studio.annotate(task, chosen("label_wrong"))
    assert sync(open_round, number) == "label_wrong"
    label_studio.update(number, was_cancelled=True)
    assert sync(open_round, number) == "skipped"
    label_studio.update(number, was_cancelled=False, result=region(mask_of(1)))
    assert sync(open_round, number) == "blackout"
    label_studio.update(number, result=[])
    assert sync(open_round, number) == "set_aside"
    (annotation,) = open_round.annotations
    assert (annotation.mask_sha256, annotation.reason) == (None, "Nothing is painted and nothing is chosen.")
    label_studio.delete(number)
    assert sync(open_round, number) == "deleted"
    assert open_round.annotations == []


def test_a_state_that_was_read_earlier_and_arrives_late_changes_nothing(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio = open_round.label_studio
    number = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    earlier = label_studio.annotation(number)
    label_studio.update(number, result=chosen("unreadable"))
    sync(open_round, number)
    monkeypatch.setattr(label_studio, "annotation", lambda _: earlier)
    sync(open_round, number)
    assert [annotation.answer for annotation in open_round.annotations] == ["unreadable"]


def test_a_deletion_that_a_late_read_undid_is_found_by_reconciliation(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_studio = open_round.label_studio
    number = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    earlier = label_studio.annotation(number)
    label_studio.delete(number)
    sync(open_round, number)
    with monkeypatch.context() as patch:
        patch.setattr(label_studio, "annotation", lambda _: earlier)
        sync(open_round, number)
    assert reconcile(open_round.backend, open_round.project).deleted == 1
    assert open_round.annotations == []


def test_an_annotation_id_that_is_used_again_is_another_annotation(open_round: OpenRound) -> None:
    label_studio = open_round.label_studio
    number = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    sync(open_round, number)
    label_studio.delete(number)
    label_studio.annotate(open_round.tasks[1], chosen("unreadable"), number=number)
    sync(open_round, number)
    assert [(row.sample.name, row.answer) for row in open_round.annotations] == [("train-1", "unreadable")]


@pytest.mark.parametrize("by_event", [True, False])
@pytest.mark.parametrize("project", [PROJECT, PROJECT + 1])
def test_an_annotation_id_that_is_used_again_elsewhere_leaves_nothing_of_ours(
    open_round: OpenRound, by_event: bool, project: int
) -> None:
    label_studio = open_round.label_studio
    number = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    sync(open_round, number)
    label_studio.delete(number)
    foreign = label_studio.add_task({"image": "theirs"}, project)
    label_studio.annotate(foreign, region(mask_of(2)), number=number)
    if by_event:
        sync(open_round, number)
    else:
        reconcile(open_round.backend, open_round.project)
    assert open_round.annotations == []
    assert set_aside(open_round) == {}


def test_a_task_id_that_is_used_again_is_known_by_the_sample_in_its_data(open_round: OpenRound) -> None:
    label_studio, task = open_round.label_studio, open_round.tasks[0]
    label_studio.delete_task(task)
    label_studio.add_task({"imil_sample": "key-train-3"}, number=task)
    number = label_studio.annotate(task, region(mask_of(1)))
    reconcile(open_round.backend, open_round.project)
    assert [(row.label_studio_id, row.sample.name) for row in open_round.annotations] == [(number, "train-3")]


def test_an_annotation_of_a_task_that_is_none_of_ours_is_passed_over(open_round: OpenRound) -> None:
    foreign = open_round.label_studio.add_task({"image": "theirs"})
    number = open_round.label_studio.annotate(foreign, region(mask_of(1)))
    assert sync(open_round, number) == "not ours"
    open_round.label_studio.asked.clear()
    assert reconcile(open_round.backend, open_round.project).seen == 0
    assert f"annotation {number}" not in open_round.label_studio.asked  # and is not asked about every time
    assert open_round.annotations == []


def test_an_annotation_of_a_sample_that_is_not_there_is_set_aside_until_it_is(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "train-0")).one()
        sample.key = "gone"
    number = open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    assert sync(open_round, number) == "set_aside"
    assert "key-train-0" in set_aside(open_round)[f"annotation {number}"]
    with open_round.backend.store.begin() as session:
        session.get_one(Sample, sample.id).key = "key-train-0"
    reconcile(open_round.backend, open_round.project)
    assert set_aside(open_round) == {}
    assert [row.answer for row in open_round.annotations] == ["blackout"]


def test_what_was_set_aside_is_forgotten_with_its_annotation(open_round: OpenRound) -> None:
    task = open_round.label_studio.add_task({"imil_sample": "unknown"})
    number = open_round.label_studio.annotate(task, region(mask_of(1)))
    sync(open_round, number)
    assert set_aside(open_round)
    open_round.label_studio.delete(number)
    sync(open_round, number)
    assert set_aside(open_round) == {}


def test_reconciliation_finds_what_no_event_told_of_and_asks_for_nothing_when_nothing_changed(
    open_round: OpenRound,
) -> None:
    label_studio, tasks = open_round.label_studio, open_round.tasks
    numbers = [label_studio.annotate(task, region(mask_of(1))) for task in tasks]
    found = reconcile(open_round.backend, open_round.project)
    assert found == Differences(seen=4, synced=4, webhook="created")
    label_studio.asked.clear()
    assert reconcile(open_round.backend, open_round.project) == Differences(seen=4)
    assert label_studio.asked == ["project", "tasks", "summaries", "GET /api/webhooks/"]
    label_studio.update(numbers[0], result=chosen("label_wrong"))
    label_studio.delete(numbers[1])
    label_studio.delete_task(tasks[2])
    found = reconcile(open_round.backend, open_round.project)
    assert (found.synced, found.deleted, found.tasks_deleted) == (1, 2, 1)
    assert [row.answer for row in open_round.annotations] == ["label_wrong", "blackout"]
    assert reconcile(open_round.backend, open_round.project, full=True).synced == 2


def test_a_task_that_is_pushed_while_the_listing_is_read_is_not_taken_for_deleted(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = open_round.label_studio.tasks

    def tasks(project: int) -> Any:
        before = list(listing(project))
        make_round(
            open_round.backend, open_round.label_studio, open_round.project, open_round.version, ["train-5"]
        )
        return iter(before)

    monkeypatch.setattr(open_round.label_studio, "tasks", tasks)
    assert reconcile(open_round.backend, open_round.project).tasks_deleted == 0
    with open_round.backend.store.begin() as session:
        assert session.scalar(select(func.count(Task.id)).where(Task.deleted)) == 0


def test_what_a_listing_misses_is_asked_for_before_it_is_taken_for_deleted(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    reconcile(open_round.backend, open_round.project)
    monkeypatch.setattr(open_round.label_studio, "annotation_summaries", lambda _: iter(()))
    reconcile(open_round.backend, open_round.project)
    assert len(open_round.annotations) == 1


def test_label_studio_being_down_changes_nothing(open_round: OpenRound) -> None:
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    reconcile(open_round.backend, open_round.project)
    open_round.label_studio.down = True
    with pytest.raises(LabelStudioUnreachableError):
        reconcile(open_round.backend, open_round.project)
    with pytest.raises(LabelStudioUnreachableError):
        sync(open_round, 1)
    assert len(open_round.annotations) == 1


def test_another_label_studio_is_not_taken_for_the_one_that_was_pushed_to(open_round: OpenRound) -> None:
    object.__setattr__(open_round.backend.settings, "label_studio_url", "http://other.test")
    with pytest.raises(RoundError, match=r"label-studio\.test, but LABEL_STUDIO_URL is http://other\.test"):
        reconcile(open_round.backend, open_round.project)


def test_one_annotation_that_cannot_be_read_does_not_keep_out_the_rest(open_round: OpenRound) -> None:
    label_studio = open_round.label_studio
    bad, good = (label_studio.annotate(task, region(mask_of(1))) for task in open_round.tasks[:2])
    created_at = label_studio.annotations[bad].pop("created_at")
    found = reconcile(open_round.backend, open_round.project)
    assert (found.synced, found.set_aside) == (1, 1)
    assert [row.label_studio_id for row in open_round.annotations] == [good]
    assert "KeyError" in set_aside(open_round)[f"annotation {bad}"]
    label_studio.annotations[bad]["created_at"] = created_at
    assert reconcile(open_round.backend, open_round.project).synced == 1  # it is tried again
    assert [row.label_studio_id for row in open_round.annotations] == [bad, good]
    assert set_aside(open_round) == {}


def test_a_project_that_is_gone_is_noted_once_and_stands_again_when_it_is_back(open_round: OpenRound) -> None:
    label_studio, backend = open_round.label_studio, open_round.backend
    label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    reconcile(backend, open_round.project)
    (annotation,) = open_round.annotations
    label_studio.gone = True
    for noted in ((1, 4), (0, 0)):
        found = reconcile(backend, project_now(open_round))
        assert (found.gone, (found.deleted, found.tasks_deleted)) == (True, noted)
    assert open_round.annotations == []
    assert mask_path(backend, str(annotation.mask_sha256)).exists()
    assert status(backend)["datasets"][0]["project_gone_at"] is not None
    label_studio.gone = False
    reconcile(backend, project_now(open_round))
    assert [row.id for row in open_round.annotations] == [annotation.id]
    assert answered_tasks(open_round) == (4, 1)


@pytest.mark.parametrize(
    "fault",
    [
        {"is_active": False},
        {"url": "http://elsewhere.test/webhook"},
        {"actions": ["TASKS_CREATED"]},
        {"headers": {}},
    ],
)
def test_a_webhook_that_is_not_in_order_is_repaired_and_that_is_said(
    open_round: OpenRound, fault: dict[str, Any]
) -> None:
    label_studio, backend = open_round.label_studio, open_round.backend
    assert reconcile(backend, open_round.project).webhook == "created"
    registered = [dict(hook) for hook in label_studio.webhooks]
    label_studio.webhooks[0].update(fault)
    assert reconcile(backend, open_round.project).webhook == "repaired"
    assert label_studio.webhooks == registered
    assert reconcile(backend, open_round.project).webhook is None
    assert status(backend)["datasets"][0]["webhook_repaired_at"] is not None


def test_a_token_that_may_not_look_after_webhooks_does_not_keep_answers_out(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LabelStudioAuthError("The token's user may not do this.")

    monkeypatch.setattr(open_round.label_studio, "request", refuse)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    found = reconcile(open_round.backend, open_round.project)
    assert (found.synced, found.problem) == (1, "The token's user may not do this.")
