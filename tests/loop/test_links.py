"""Links to Label Studio: they begin with what people open it under, and nobody waits for it to tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from loop_fakes import OWN_NAME, URL, FakeLabelStudio, OpenRound
from support.conditions import wait_until

from imil_backend.loop.projects import links
from imil_backend.loop.projects.links import project_link, task_link


class Silent(FakeLabelStudio):
    """It takes the question and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def own_name(self) -> str | None:
        assert self.answers.wait(30)
        return super().own_name()


@pytest.fixture
def silent(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    monkeypatch.setattr(links, "SOON", 0.01)
    silent = Silent()
    open_round.backend.__dict__["label_studio"] = silent
    yield silent
    silent.answers.set()


def link(open_round: OpenRound) -> str:
    return project_link(open_round.backend, open_round.project)


def test_a_link_begins_with_what_people_open_label_studio_under(open_round: OpenRound) -> None:
    assert link(open_round) == f"{OWN_NAME}/projects/3/data"
    assert task_link(open_round.backend, open_round.project, 7) == f"{OWN_NAME}/projects/3/data?task=7"
    assert open_round.label_studio.asked.count("own name") == 1


def test_a_link_to_another_label_studio_stays_as_it_is(open_round: OpenRound) -> None:
    open_round.project.instance = "http://former.test"
    assert link(open_round) == "http://former.test/projects/3/data"


def test_nobody_waits_for_a_label_studio_that_does_not_answer(open_round: OpenRound, silent: Silent) -> None:
    assert link(open_round) == f"{URL}/projects/3/data"
    silent.answers.set()
    wait_until(lambda: link(open_round) == f"{OWN_NAME}/projects/3/data")


def test_what_label_studio_told_is_remembered_while_it_is_down(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(links, "SECONDS_BETWEEN_QUESTIONS", 0.0)
    assert link(open_round).startswith(OWN_NAME)
    open_round.label_studio.down = True
    wait_until(lambda: bool(link(open_round) and caplog.records))
    assert link(open_round).startswith(OWN_NAME)
    assert "does not tell the address" in caplog.text


def test_a_label_studio_that_knows_no_address_of_its_own_is_linked_to_as_the_settings_say(
    open_round: OpenRound,
) -> None:
    open_round.label_studio.name = None
    assert link(open_round) == f"{URL}/projects/3/data"


def test_without_an_answer_a_link_has_the_address_of_the_settings(open_round: OpenRound) -> None:
    open_round.label_studio.down = True
    assert link(open_round) == f"{URL}/projects/3/data"
