"""What clinicians read after a round."""

from __future__ import annotations

from typing import Any

import pytest
from loop_fakes import PROJECT, FakeLabelStudio, OpenRound, chosen, mask_of, region

from imil_backend.label_studio.labeling.words import LANGUAGES
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.evaluation.told_clinicians import tell_clinicians
from imil_backend.store.tables import Dataset, Project, Round, Sample

ACCURACY = {
    "metric": "accuracy", "champion": 0.8, "candidate": 0.78,
    "difference": -0.02, "lower": -0.05, "upper": 0.01, "groups": 30,
}  # fmt: skip
RECALL = {**ACCURACY, "metric": "recall"}
ROBUST = {
    **ACCURACY, "metric": "robust_accuracy",
    "difference": 0.1, "lower": 0.04, "upper": 0.16, "groups": 8,
}  # fmt: skip


def closed(round_: OpenRound, verdict: str, findings: list[dict[str, Any]]) -> OpenRound:
    answers = [region(mask_of(1)), chosen("unreadable"), []]
    for task, result in zip(round_.tasks, answers, strict=False):
        number = round_.label_studio.annotate(task, result)
        sync_annotation(round_.backend, round_.project, number)
    with round_.backend.store.begin() as session:
        session.get_one(Round, round_.id).verdict = {
            "verdict": verdict, "findings": findings, "samples": 36, "shortcut": {"samples": 9},
        }  # fmt: skip
    return round_


def described(label_studio: FakeLabelStudio) -> str:
    return str(label_studio.settings[PROJECT]["description"])


def test_the_project_tells_what_the_painting_changed_with_its_interval(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    label_studio.settings[PROJECT] = {"description": "Ask Ann."}
    closed(open_round, "promote", [ACCURACY, RECALL, ROBUST])
    for _ in range(2):
        tell_clinicians(open_round.backend, open_round.id)
    assert described(label_studio) == (
        "Ask Ann.\n\nIMIL: Round 1: the model has learned from 2 answers; 1 of them are painted. On images "
        "that nobody trained on its accuracy changed by -2.0 points (between -5.0 and +1.0; 36 images, 30 "
        "patients or groups), with what is irrelevant exchanged by +10.0 (between +4.0 and +16.0; 9 images, "
        "8 patients or groups): it is shown to be not worse, and the new model is in use."
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("images/phantom-00001.png", "phantoms, which were drawn: this says nothing about patients."),
        ("images/000001-planted.png", "Markers were planted in images: this says nothing about patients."),
    ],
)
def test_it_is_said_where_images_are_no_patients(
    open_round: OpenRound, label_studio: FakeLabelStudio, name: str, told: str
) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Sample, 1).name = name
    closed(open_round, "undecided", [ACCURACY])
    tell_clinicians(open_round.backend, open_round.id)
    assert told in described(label_studio)


@pytest.mark.parametrize(
    ("verdict", "told"), [("reject", "became worse"), ("undecided", "too little to tell")]
)
def test_it_is_said_where_it_did_not_help(
    open_round: OpenRound, label_studio: FakeLabelStudio, verdict: str, told: str
) -> None:
    closed(open_round, verdict, [ACCURACY])
    tell_clinicians(open_round.backend, open_round.id)
    assert told in described(label_studio)


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_is_said_in_every_language_with_a_link_where_others_reach_the_backend(
    open_round: OpenRound, label_studio: FakeLabelStudio, language: str
) -> None:
    closed(open_round, "undecided", [ACCURACY, ROBUST])
    with open_round.backend.store.begin() as session:
        change_policy(session.get_one(Dataset, open_round.dataset.id), {"language": language})
    object.__setattr__(open_round.backend.settings, "public_url", "https://imil.example.org")
    tell_clinicians(open_round.backend, open_round.id)
    assert "https://imil.example.org/dashboard/shared/round?link=" in described(label_studio)
    assert "-2.0" in described(label_studio)


def test_the_instructions_begin_with_the_news_of_the_latest_round_alone_and_open_again(
    open_round: OpenRound, label_studio: FakeLabelStudio
) -> None:
    label_studio.settings[PROJECT] = {"expert_instruction": "<p>Paint.</p>", "show_instruction": False}
    closed(open_round, "reject", [ACCURACY])
    for _ in range(2):
        tell_clinicians(open_round.backend, open_round.id)
    settings = label_studio.settings[PROJECT]
    assert settings["expert_instruction"].startswith(
        "<blockquote>Round 1: the model has learned from 2 answers"
    )
    assert settings["expert_instruction"].count("<blockquote>") == 1
    assert settings["expert_instruction"].endswith("<hr></blockquote><p>Paint.</p>")
    assert settings["show_instruction"]
    number = label_studio.annotate(open_round.tasks[3], region(mask_of(1)), by=9)
    sync_annotation(open_round.backend, open_round.project, number)
    assert not settings["show_instruction"]


def test_a_teams_project_keeps_its_description(open_round: OpenRound, label_studio: FakeLabelStudio) -> None:
    closed(open_round, "undecided", [ACCURACY])
    with open_round.backend.store.begin() as session:
        session.get_one(Project, open_round.project.id).connected = {}
    tell_clinicians(open_round.backend, open_round.id)
    assert "description" not in label_studio.settings[PROJECT]
