"""What clinicians see in Label Studio after an answer, and beside what is asked again."""

from __future__ import annotations

import pytest
from loop_fakes import PROJECT, FakeLabelStudio, OpenRound, chosen, make_project, make_round, mask_of, region
from sqlalchemy import event

from imil_backend.errors import LabelStudioError
from imil_backend.label_studio.labeling.answers import Answer
from imil_backend.label_studio.labeling.label_config import load_label_config
from imil_backend.loop.answers.feedback import close_guide, problem_of
from imil_backend.loop.answers.notes import Earlier, earlier_answers, note
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.projects.connection import connect
from imil_backend.loop.rounds.push import push_round
from imil_backend.store.tables import Annotation, Dataset, Project, Round

EMPTY = "Nothing is painted and nothing is chosen."
CONTRADICTION = [*region(mask_of(1)), *chosen("unreadable")]


def answer(
    round_: OpenRound, label_studio: FakeLabelStudio, result: list[dict[str, object]], by: int = 1
) -> int:
    number = label_studio.annotate(round_.tasks[0], result, by=by)
    sync_annotation(round_.backend, round_.project, number)
    return number


def told(round_: OpenRound, label_studio: FakeLabelStudio) -> str:
    return problem_of(label_studio.tasks_there[round_.tasks[0]])


def set_policy(round_: OpenRound, **changes: object) -> None:
    with round_.backend.store.begin() as session:
        change_policy(session.get_one(Dataset, round_.dataset.id), changes)


def test_a_task_says_at_once_what_is_wrong_with_its_answer_until_it_is_mended(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    before = dict(label_studio.tasks_there[open_round.tasks[0]]["data"])
    number = answer(open_round, label_studio, [])
    assert told(open_round, label_studio) == EMPTY
    label_studio.update(number, result=region(mask_of(1)))
    sync_annotation(open_round.backend, open_round.project, number)
    assert label_studio.tasks_there[open_round.tasks[0]]["data"] == {**before, "problem": ""}


def test_it_is_said_in_the_clinicians_language(open_round: OpenRound, label_studio: FakeLabelStudio) -> None:
    set_policy(open_round, language="fr")
    answer(open_round, label_studio, CONTRADICTION)
    assert told(open_round, label_studio).startswith("Quelque chose est peint alors que")


def test_what_could_not_be_said_is_said_by_the_next_reconciliation(
    open_round: OpenRound, label_studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LabelStudioError("It is read-only.")

    with monkeypatch.context() as patched:
        patched.setattr(label_studio, "request", refuse)
        number = answer(open_round, label_studio, [])
    assert told(open_round, label_studio) == ""
    assert [each.answer for each in open_round.annotations] == [Answer.SET_ASIDE.value]
    reconcile(open_round.backend, open_round.project)
    assert told(open_round, label_studio) == EMPTY
    label_studio.delete(number)
    reconcile(open_round.backend, open_round.project)
    assert told(open_round, label_studio) == ""


def test_a_reconciliation_changes_no_task_that_says_what_it_should(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    answer(open_round, label_studio, [])
    reconcile(open_round.backend, open_round.project)
    label_studio.asked.clear()
    reconcile(open_round.backend, open_round.project)
    assert not [each for each in label_studio.asked if each.startswith("PATCH")]


def test_the_guide_opens_until_as_many_people_as_read_each_task_have_answered(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    set_policy(open_round, readers=2)
    connect(open_round.backend, open_round.dataset)
    shown = label_studio.settings[PROJECT]
    answer(open_round, label_studio, [], by=1)
    assert shown["show_instruction"]
    answer(open_round, label_studio, [], by=7)
    assert not shown["show_instruction"]
    shown["show_instruction"] = True  # somebody wants it so
    answer(open_round, label_studio, region(mask_of(1)), by=7)
    assert shown["show_instruction"]


def test_whether_the_guide_opens_is_known_without_reading_all_answers_of_a_round(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    for task in 2 * open_round.tasks:
        number = label_studio.annotate(task, region(mask_of(1)), by=7)
        sync_annotation(open_round.backend, open_round.project, number)
    read: list[Annotation] = []

    def note_loaded(found: Annotation, _: object) -> None:
        read.append(found)

    event.listen(Annotation, "load", note_loaded)
    close_guide(open_round.backend, open_round.project, number)
    event.remove(Annotation, "load", note_loaded)
    assert 0 < len(read) < 4


def test_a_teams_project_keeps_its_setting(open_round: OpenRound, label_studio: FakeLabelStudio) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Project, open_round.project.id).connected = {}
        project = session.get_one(Project, open_round.project.id)
    number = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    sync_annotation(open_round.backend, project, number)
    assert label_studio.settings == {}


def test_a_project_of_our_own_gets_one_guide_and_one_tab_in_its_language(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    make_project(backend, dataset)
    label_studio.projects_there[PROJECT] = load_label_config("blackout", "en", dataset.classes)
    for _ in range(2):
        connect(backend, dataset)
    assert [tab["data"]["title"] for tab in label_studio.tabs] == ["Default", "Please look again"]
    assert label_studio.uploads == 3
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, dataset.id), {"language": "it"})
        dataset = session.get_one(Dataset, dataset.id)
    connect(backend, dataset)
    settings = label_studio.settings[PROJECT]
    assert "Non dipinga mai il reperto" in settings["expert_instruction"]
    assert 'value="Irrilevante" alias="Irrelevant"' in settings["label_config"]
    assert label_studio.uploads == 3


def test_a_config_that_somebody_changed_keeps_its_language(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio
) -> None:
    make_project(backend, dataset)
    changed = label_studio.projects_there[PROJECT].replace("Irrelevant", "Rubbish")
    label_studio.projects_there[PROJECT] = changed
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, dataset.id), {"language": "it"})
        dataset = session.get_one(Dataset, dataset.id)
    connect(backend, dataset)
    assert "label_config" not in label_studio.settings[PROJECT]


def test_a_sample_that_is_asked_again_says_why(open_round: OpenRound, label_studio: FakeLabelStudio) -> None:
    answer(open_round, label_studio, chosen("nothing_to_black_out"))
    later = make_round(open_round.backend, label_studio, open_round.project, open_round.version, ["train-0"])
    with open_round.backend.store.begin() as session:
        [earlier] = earlier_answers(session, session.get_one(Round, later.id)).values()
    assert earlier == Earlier(1, "nothing")
    assert note("en", wrong=True, likely_label_error=False, earlier=earlier) == (
        "You are asked again: round 1 answered “Nothing to black out”, and the model still gets it wrong."
    )
    assert note("de", wrong=False, likely_label_error=False, earlier=None).startswith("Das Modell hat recht")
    assert note("en", wrong=True, likely_label_error=False, earlier=None) == ""


def test_tasks_are_pushed_with_a_place_for_a_problem(
    backend: Backend, open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    label_studio.tasks_there.clear()
    with backend.store.begin() as session:
        session.get_one(Round, open_round.id).state = "pushing"
    push_round(backend, open_round.id)
    assert {task["data"]["problem"] for task in label_studio.tasks_there.values()} == {""}
