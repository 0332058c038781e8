"""Label Studio at another address: the same one goes on, another one is refused."""

from __future__ import annotations

import pytest
from loop_fakes import PROJECT, URL, OpenRound, mask_of, region

from imil_backend.errors import NotFoundError, RoundError
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.projects.relocated import follow_label_studio, warn_of_other_addresses
from imil_backend.store.tables import Dataset, Project

NEW = "https://labels.example.org"


@pytest.fixture
def moved(open_round: OpenRound) -> OpenRound:
    """An open round whose Label Studio answers at another address."""
    object.__setattr__(open_round.backend.settings, "label_studio_url", NEW)
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).source_instance = URL
    return open_round


def project_of(moved: OpenRound) -> Project:
    with moved.backend.store.begin() as session:
        return session.query(Project).one()


def test_until_it_is_told_the_error_and_the_log_say_what_to_do(
    moved: OpenRound, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RoundError, match=f"of {URL}, but LABEL_STUDIO_URL is {NEW}.*imil moved {URL}"):
        reconcile(moved.backend, project_of(moved))
    warn_of_other_addresses(moved.backend)
    assert f"imil moved {URL}" in caplog.text


def test_the_same_label_studio_goes_on_at_its_new_address(
    moved: OpenRound, caplog: pytest.LogCaptureFixture
) -> None:
    assert [project.label_studio_id for project in follow_label_studio(moved.backend, f"{URL}/")] == [PROJECT]
    moved.label_studio.annotate(moved.tasks[0], region(mask_of(1)))
    assert reconcile(moved.backend, project_of(moved)).synced == 1
    with moved.backend.store.begin() as session:
        assert session.get_one(Dataset, moved.dataset.id).source_instance == NEW
    warn_of_other_addresses(moved.backend)
    assert "imil moved" not in caplog.text
    with pytest.raises(NotFoundError, match="no other URL than LABEL_STUDIO_URL"):
        follow_label_studio(moved.backend, URL)


def test_another_label_studio_with_a_project_of_the_same_number_is_refused(moved: OpenRound) -> None:
    for task in moved.label_studio.tasks_there.values():
        task["data"] = {"image": "something else"}
    with pytest.raises(RoundError, match=f"Project {PROJECT} of {NEW} has none of the tasks"):
        follow_label_studio(moved.backend, URL)
    assert project_of(moved).instance == URL


def test_a_label_studio_without_the_project_is_refused(moved: OpenRound) -> None:
    moved.label_studio.gone = True
    with pytest.raises(RoundError, match="another Label Studio"):
        follow_label_studio(moved.backend, URL)
    assert project_of(moved).instance == URL


def test_an_address_that_was_never_used_is_named_with_those_that_were(moved: OpenRound) -> None:
    with pytest.raises(NotFoundError, match=f"at http://typo.test. Known: {URL}"):
        follow_label_studio(moved.backend, "http://typo.test")
