"""Gold tasks: mixed into a round, alike to its other tasks, compared with what is known, never trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from loop_fakes import (
    FakeLabelStudio,
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

from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import sample_states, standing_answers
from imil_backend.loop.asking.gold import GoldFigures, gold_figures
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.states import CLOSED, Purpose
from imil_backend.loop.dashboard.overview.annotators import annotators_of
from imil_backend.loop.rounds import lifecycle, push
from imil_backend.loop.rounds.lifecycle import Answered, answered, change_state
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.versions.mispredictions import next_mispredictions
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task

WRONG = [f"train-{number}" for number in range(6)]


@pytest.fixture
def mined(backend: Backend) -> Dataset:
    """Six of eight samples are wrong; a round asks two, train-0 and train-1; each has a mask of its own."""
    dataset = make_dataset(backend)
    make_version(backend, dataset, wrong=WRONG)
    make_project(backend, dataset)
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, dataset.id), {"budget": 0.25, "gold_share": 0.5})
        for sample in session.scalars(select(Sample).where(Sample.split == "train")):
            path = backend.path("given", f"{sample.key}.png")
            sample.clinician_mask = str(write_mask(path, mask_of(1, 2)))
            sample.clinician_mask_means = "irrelevant"
    return dataset


def push_next(backend: Backend, **changes: Any) -> Round:
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, 1)
        change_policy(dataset, changes)
        round_ = lifecycle.open_round(session, dataset)
    push_round(backend, round_.id)
    with backend.store.begin() as session:
        return session.get_one(Round, round_.id)


def tasks(backend: Backend, purpose: Purpose) -> list[Task]:
    with backend.store.begin() as session:
        found = select(Task).where(Task.purpose == purpose.value, ~Task.deleted).order_by(Task.id)
        return list(session.scalars(found))


def reconciled(backend: Backend) -> Backend:
    with backend.store.begin() as session:
        project = session.scalars(select(Project)).one()
    reconcile(backend, project)
    return backend


def figures(backend: Backend) -> dict[int, GoldFigures]:
    """By the person's id in Label Studio."""
    with reconciled(backend).store.begin() as session:
        found = gold_figures(backend, session, standing_answers(session, 1, Purpose.GOLD))
        people = {each.annotator: each.user for each in session.scalars(select(Annotation))}
    return {people[key] or 0: own for key, own in found.items()}


def test_a_round_is_pushed_with_its_share_of_gold_tasks(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset
) -> None:
    round_ = push_next(backend)
    [gold] = tasks(backend, Purpose.GOLD)
    asked = tasks(backend, Purpose.ASKED)
    assert [each.sample.name for each in asked] == WRONG[:2]
    assert gold.sample.name in WRONG[2:]
    assert len(label_studio.tasks_there) == 3
    with backend.store.begin() as session:
        assert answered(session, round_) == Answered(tasks=2, answered=0, begun=0)


def test_without_a_share_or_without_known_masks_nothing_is_added(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset
) -> None:
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            sample.clinician_mask = None
    push_next(backend)
    assert len(label_studio.tasks_there) == 2


def test_a_gold_task_looks_like_the_others(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset
) -> None:
    push_next(backend, budget=0.5, gold_share=0.25, control_share=1.0)
    data = {number: dict(task["data"]) for number, task in label_studio.tasks_there.items()}
    [gold] = tasks(backend, Purpose.GOLD)
    own = data.pop(gold.label_studio_id)
    for other in data.values():
        assert other.keys() == own.keys()
        assert {other["note"], other["problem"]} == {own["note"], own["problem"]}
        assert (other["round"], other["predicted"] != other["label"]) == (own["round"], True)
    assert own["predicted"] != own["label"]
    alike = [
        {**task, "data": None, "id": None, "updated_at": None} for task in label_studio.tasks_there.values()
    ]
    assert all(each == alike[0] for each in alike)


def test_gold_tasks_stand_at_any_place(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset
) -> None:
    places = set()
    for _ in range(6):
        round_ = push_next(backend, repeat=True)
        numbers = [
            each.label_studio_id for each in tasks(backend, Purpose.GOLD) if each.round_id == round_.id
        ]
        own = sorted(
            number
            for number, task in label_studio.tasks_there.items()
            if task["data"]["round"] == round_.number
        )
        places |= {own.index(number) for number in numbers}
        for number in own:
            label_studio.annotate(number, region(mask_of(1)))
        reconciled(backend)
        with backend.store.begin() as session:
            change_state(session.get_one(Round, round_.id), CLOSED)
    assert places == {0, 1, 2}


def test_a_push_that_was_interrupted_resumes_with_the_same_gold_tasks(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(push, "_keep_task", lambda *_: 1 / 0)  # the tasks are there, the store knows nothing
        with pytest.raises(ZeroDivisionError):
            push_next(backend)
    assert len(label_studio.tasks_there) == 3
    assert tasks(backend, Purpose.GOLD) == []
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            sample.clinician_mask = None  # what is known may change meanwhile
    push_next(backend)
    push_next(backend)
    assert len(label_studio.tasks_there) == 3
    assert [len(tasks(backend, purpose)) for purpose in (Purpose.ASKED, Purpose.GOLD)] == [2, 1]


def test_answers_to_gold_tasks_are_compared_and_never_train(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset
) -> None:
    push_next(backend, budget=0.25, gold_share=1.0)
    first, second = (each.label_studio_id for each in tasks(backend, Purpose.GOLD))
    label_studio.annotate(first, region(mask_of(1, 2)), by=7)
    label_studio.annotate(second, region(mask_of(2, 3)), by=7)
    label_studio.annotate(first, chosen("label_wrong"), by=8)
    label_studio.annotate(second, chosen("nothing_to_black_out"), by=8)
    assert figures(backend) == {
        7: GoldFigures(answers=2, same=2, dice=0.75, compared=2),
        8: GoldFigures(answers=2, same=0, dice=0.0, compared=1),
    }
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, mined.id)
        assert sample_states(backend, session, dataset) == {}
        assert session.scalars(select(Sample.agreement).where(Sample.agreement.is_not(None))).all() == []
        # They can be asked like any other in a later round.
        later = [each.sample.name for each in next_mispredictions(session, dataset)]
        assert later == WRONG[2:4]
    [told] = status(backend)["datasets"]
    assert (told["answers"], told["readers"], told["left_training"]) == ({}, None, [])
    assert [(each["annotator"], each["same"], each["answers"]) for each in told["gold"]] == [
        (7, 2, 2),
        (8, 0, 2),
    ]
    page = annotators_of(backend, mined.id)
    assert [(each.name, each.gold and each.gold.dice) for each in page.annotators] == [
        ("annotator A", 0.75),
        ("annotator B", 0.0),
    ]
    assert page.pairs == ()


def test_a_named_answer_is_what_those_of_others_are_compared_with(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset, imil: Callable[..., Result]
) -> None:
    """Not its author's, and it trains as before."""
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample)):
            sample.clinician_mask = None
    round_ = push_next(backend)
    first, second = (each.label_studio_id for each in tasks(backend, Purpose.ASKED))
    lead = label_studio.annotate(first, region(mask_of(3, 4)), by=1)
    label_studio.annotate(second, region(mask_of(3, 4)), by=1)
    reconciled(backend)
    assert imil("gold", str(lead)).exit_code == 0
    reconciled(backend)
    with backend.store.begin() as session:
        change_state(session.get_one(Round, round_.id), CLOSED)
        before = sample_states(backend, session, session.get_one(Dataset, 1))
    push_next(backend)
    [gold] = tasks(backend, Purpose.GOLD)
    assert gold.sample.name == "train-0"
    assert label_studio.tasks_there[gold.label_studio_id]["data"]["note"] == ""  # it was not asked before
    label_studio.annotate(gold.label_studio_id, region(mask_of(3)), by=1)
    label_studio.annotate(gold.label_studio_id, region(mask_of(4, 5)), by=2)
    told = {2: GoldFigures(answers=1, same=1, dice=0.5, compared=1)}
    assert figures(backend) == told
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, 1)
        assert sample_states(backend, session, dataset) == before
        history = audit.history(session, dataset, gold.sample)
    assert [each["gold"] for each in history if each["event"] == audit.GOLD] == [True]
    assert [each.gold for each in annotators_of(backend, 1).annotators] == [None, told[2]]
    imil("gold", "--remove", str(lead))
    assert figures(backend) == {}
    assert [each.gold for each in annotators_of(backend, 1).annotators] == [None, None]
    imil("gold", str(lead))
    assert figures(backend) == told
    label_studio.update(lead, result=region(mask_of(0)))  # nobody has vouched for that
    assert figures(backend) == {}


def test_only_an_answer_that_counts_can_be_named(
    backend: Backend, label_studio: FakeLabelStudio, mined: Dataset, imil: Callable[..., Result]
) -> None:
    push_next(backend)
    empty = label_studio.annotate(tasks(backend, Purpose.ASKED)[0].label_studio_id, [])
    reconciled(backend)
    for number in (empty, 99):
        shown = imil("gold", str(number))
        assert shown.exit_code == 1
        assert f"no annotation {number} that counts" in " ".join(shown.stderr.split())


def test_a_dry_run_says_how_many_gold_tasks_there_would_be(
    mined: Dataset, imil: Callable[..., Result]
) -> None:
    shown = imil("push", "--dry-run", "--gold-share", "1.0")
    assert shown.exit_code == 0, shown.output
    assert "Would push 2 and 2 gold tasks to project 3" in shown.stdout
    assert "Would push 2 tasks to" in imil("push", "--dry-run", "--gold-share", "0").stdout
