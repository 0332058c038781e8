"""Answers in dispute are put to somebody else, whose answer stands for them; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from loop_fakes import (
    MAPPING,
    PROJECT,
    FakeLabelStudio,
    OpenRound,
    chosen,
    make_round,
    mask_of,
    on_both_databases,
    region,
)
from sqlalchemy import select
from typer.testing import Result

from imil_backend.errors import RoundError
from imil_backend.images.masks.masks import annotation_mask
from imil_backend.label_studio.api.tabs import remove_tabs
from imil_backend.label_studio.labeling.words import words_of
from imil_backend.loop.answers.agreement import contradicted
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import SampleState, load_mask, sample_states, standing_answers
from imil_backend.loop.asking.disputes import disputes_of
from imil_backend.loop.asking.reviews import push_reviews
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import change_policy
from imil_backend.loop.base.states import Purpose
from imil_backend.loop.dashboard.samples.one_sample import sample_page
from imil_backend.loop.rounds.lifecycle import Answered, answered
from imil_backend.loop.views.status import status
from imil_backend.store.tables import Dataset, Project, Proposal, Sample, Task


@pytest.fixture
def readings(open_round: OpenRound) -> OpenRound:
    """Of four tasks: two painted alike, two painted differently, two different answers, one answer alone."""
    for task in open_round.label_studio.tasks_there.values():
        task["data"] |= {"image": "film.png", "label": "lesion", "predicted": "normal"}
    alike, painted, unlike, alone = open_round.tasks
    there = open_round.label_studio
    for by, columns in ((1, (1, 2)), (2, (1, 2, 3))):
        there.annotate(alike, region(mask_of(*columns)), by=by)
    for by, columns in ((1, (1, 2)), (2, (5, 6))):
        there.annotate(painted, region(mask_of(*columns)), by=by)
    there.annotate(unlike, region(mask_of(1)), by=1)
    there.annotate(unlike, chosen("nothing_to_black_out"), by=2)
    there.annotate(alone, region(mask_of(1)), by=1)
    reconcile(open_round.backend, open_round.project)
    return open_round


def disputed(readings: OpenRound, bound: float = 0.7) -> list[tuple[str, float | None]]:
    with readings.backend.store.begin() as session:
        found = disputes_of(
            session,
            session.get_one(Dataset, readings.dataset.id),
            bound,
            standing_answers(session, readings.dataset.id),
        )
    return [(each.task.sample.name, each.dice) for each in found]


def set_policy(backend: Backend, **changes: Any) -> None:
    with backend.store.begin() as session:
        change_policy(session.get_one(Dataset, 1), changes)


def reviews(readings: OpenRound) -> list[int]:
    """Ids in Label Studio of the reviews, those that differ most first."""
    with readings.backend.store.begin() as session:
        found = select(Task.label_studio_id).where(Task.purpose == Purpose.REVIEW.value).order_by(Task.id)
        return list(session.scalars(found))


def state_of(readings: OpenRound, name: str) -> SampleState | None:
    reconcile(readings.backend, readings.project)
    with readings.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == name)).one()
        dataset = session.get_one(Dataset, readings.dataset.id)
        return sample_states(readings.backend, session, dataset).get(sample.id)


def painted_in(readings: OpenRound, name: str) -> list[int]:
    """The columns that training takes for irrelevant."""
    state = state_of(readings, name)
    assert state is not None
    if state.mask_sha256 is None:
        return []
    with readings.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == name)).one()
    mask = load_mask(readings.backend, state.mask_sha256, sample)
    return [int(column) for column in mask.all(axis=0).nonzero()[0]]


def test_readers_who_answer_differently_or_paint_differently_are_in_dispute(readings: OpenRound) -> None:
    assert disputed(readings) == [("train-1", 0.0), ("train-2", None)]
    assert disputed(readings, bound=0.9) == [("train-1", 0.0), ("train-2", None), ("train-0", 0.8)]
    assert disputed(readings, bound=0.0) == [("train-2", None)]


def test_an_answer_far_from_the_proposed_mask_is_in_dispute(readings: OpenRound) -> None:
    with readings.backend.store.begin() as session:
        for annotation in readings.annotations:
            found = session.merge(annotation)
            if found.sample.name == "train-3":
                found.outcome, found.proposal_dice = "painted", 0.2
    assert disputed(readings, bound=0.3)[-1] == ("train-3", 0.2)
    assert "train-3" not in dict(disputed(readings, bound=0.1))


@on_both_databases
def test_a_review_stands_for_the_answers_in_dispute_and_nothing_is_lost(readings: OpenRound) -> None:
    assert painted_in(readings, "train-1") == [5, 6]  # the latest
    assert push_reviews(readings.backend, readings.dataset) == 2
    first, second = reviews(readings)
    readings.label_studio.annotate(first, region(mask_of(3)), by=3)
    readings.label_studio.annotate(second, chosen("label_wrong"), by=3)
    assert painted_in(readings, "train-1") == [3]
    state = state_of(readings, "train-2")
    assert state is not None
    assert state.excluded_as == "label_wrong"
    # What a reader changes afterwards is kept, and does not count.
    readings.label_studio.update(4, result=region(mask_of(7)))
    assert painted_in(readings, "train-1") == [3]
    assert len([each for each in readings.annotations if each.sample.name == "train-1"]) == 3
    with readings.backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "train-1")).one()
        told = audit.history(session, session.get_one(Dataset, 1), sample)
        assert sample.agreement == 0.0  # of the readers
        assert sample.id not in set(session.scalars(contradicted(1)))
        assert answered(session, readings.round) == Answered(tasks=4, answered=4, begun=4)
    assert [each["event"] for each in told if each.get("purpose") == "review"] == ["asked", "answered"]
    # Without the review, the readers' answers count again.
    readings.label_studio.delete(max(readings.label_studio.annotations) - 1)
    assert painted_in(readings, "train-1") == [7]


def test_the_page_of_a_sample_says_which_of_several_masks_counts(readings: OpenRound) -> None:
    def counts() -> str:
        return sample_page(readings.backend, 1, "key-train-1").counts

    assert painted_in(readings, "train-1") == [5, 6]
    assert counts() == "that of the latest answer"
    set_policy(readings.backend, readers=2, annotators="union")
    assert painted_in(readings, "train-1") == [1, 2, 5, 6]
    assert counts() == "what anybody painted"
    push_reviews(readings.backend, readings.dataset)
    readings.label_studio.annotate(reviews(readings)[0], region(mask_of(3)), by=3)
    assert painted_in(readings, "train-1") == [3]
    assert counts() == "what anybody painted; a review stands for the answers up to its round"


def test_nobody_reviews_an_answer_of_their_own(readings: OpenRound) -> None:
    push_reviews(readings.backend, readings.dataset)
    first, _ = reviews(readings)
    readings.label_studio.annotate(first, region(mask_of(3)), by=1)
    set_policy(readings.backend, readers=2, annotators="union")
    assert painted_in(readings, "train-1") == [3, 5, 6]  # the later answer of the same reader
    [told] = status(readings.backend)["datasets"]
    assert told["reviews"] == {"open": 0, "waiting": 1, "by_themselves": 1, "decided": 0}
    readings.label_studio.annotate(first, region(mask_of(0)), by=3)
    assert painted_in(readings, "train-1") == [0]
    [told] = status(readings.backend)["datasets"]
    assert told["reviews"] == {"open": 0, "waiting": 1, "by_themselves": 0, "decided": 1}


def test_answers_of_a_later_round_count_after_a_review(readings: OpenRound) -> None:
    push_reviews(readings.backend, readings.dataset)
    first, _ = reviews(readings)
    readings.label_studio.annotate(first, region(mask_of(3)), by=3)
    there = readings.label_studio
    make_round(readings.backend, there, readings.project, readings.version, ["train-1"])
    there.annotate(max(there.tasks_there), region(mask_of(6)), by=1)
    assert painted_in(readings, "train-1") == [6]


def test_no_label_stream_serves_a_review_not_even_after_its_answer_was_deleted(readings: OpenRound) -> None:
    push_reviews(readings.backend, readings.dataset)
    first, _ = reviews(readings)
    assert not set(readings.label_studio.served(by=9)) & set(reviews(readings))
    readings.label_studio.delete(readings.label_studio.annotate(first, chosen("unreadable"), by=3))
    assert first in readings.label_studio.served(by=9)
    reconcile(readings.backend, readings.project)
    assert first not in readings.label_studio.served(by=9)


def test_pushing_reviews_again_asks_nothing_twice_and_resumes(
    readings: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = readings.label_studio
    with monkeypatch.context() as patched:
        patched.setattr(audit, "note_asked", lambda *_: 1 / 0)  # the tasks are there, the store knows nothing
        with pytest.raises(ZeroDivisionError):
            push_reviews(readings.backend, readings.dataset)
    assert (len(there.tasks_there), reviews(readings)) == (6, [])
    assert push_reviews(readings.backend, readings.dataset) == 2
    assert push_reviews(readings.backend, readings.dataset) == 0
    assert len(there.tasks_there) == 6
    assert [tab["data"]["title"] for tab in there.tabs].count("To review") == 1


def test_a_blind_review_shows_nothing_of_the_answers(readings: OpenRound) -> None:
    push_reviews(readings.backend, readings.dataset)
    data = readings.label_studio.tasks_there[reviews(readings)[0]]["data"]
    words = words_of("en")["review_asked"]
    assert (data["image"], data["note"], data["review"]) == ("film.png", words, words)
    assert readings.label_studio.predictions == {}


def test_an_open_review_tells_the_answers_and_is_filled_with_what_counts_now(readings: OpenRound) -> None:
    set_policy(readings.backend, blind_review=False, language="de")
    _, painted, unlike, _ = readings.tasks
    push_reviews(readings.backend, readings.dataset)
    first, second = reviews(readings)
    there, words = readings.label_studio, words_of("de")
    for review, task, told in (
        (first, painted, f"{words['painted']} (2)"),
        (second, unlike, f"{words['painted']} (1), {words['choice_nothing']} (1)"),
    ):
        so_far = words["review_so_far"].format(answers=told, task=task)
        assert there.tasks_there[review]["data"]["note"] == f"{words['review_asked']} {so_far}"
    [prediction] = there.predictions.values()
    assert prediction["task"] == first  # the other one's latest answer is that there is nothing to paint
    mask = annotation_mask(prediction["result"], MAPPING.labels, 8, 6)
    assert (mask == mask_of(5, 6)).all()
    assert there.shown == {PROJECT: {"show_collab_predictions": True, "model_version": "baseline"}}
    there.accept(first, by=3)
    assert painted_in(readings, "train-1") == [5, 6]
    with readings.backend.store.begin() as session:
        assert [each.source for each in session.scalars(select(Proposal))] == ["answers in dispute"]
    [told] = status(readings.backend)["datasets"]
    assert (told["proposals"], told["reviews"]["decided"]) == (None, 1)


def test_a_teams_project_gives_the_tab_back_and_is_shown_no_masks_that_it_did_not_want(
    readings: OpenRound,
) -> None:
    with readings.backend.store.begin() as session:
        session.scalars(select(Project)).one().connected = {"webhook": True}
    set_policy(readings.backend, blind_review=False)
    push_reviews(readings.backend, readings.dataset)
    with readings.backend.store.begin() as session:
        assert session.scalars(select(Project)).one().connected == {"webhook": True, "tab": True}
    there = readings.label_studio
    assert (len(there.tabs), there.predictions, there.shown) == (2, {}, {})
    remove_tabs(there, PROJECT)
    assert there.tabs == []


def test_reviews_need_a_project_in_which_something_was_answered(
    backend: Backend, dataset: Dataset, readings: OpenRound
) -> None:
    with backend.store.begin() as session:
        session.scalars(select(Project)).one().disconnected_at = readings.round.created_at
    with pytest.raises(RoundError, match="disconnected"):
        push_reviews(backend, dataset)


def test_a_dry_run_tells_what_would_be_reviewed_and_keeps_nothing(
    readings: OpenRound, imil: Callable[..., Result], label_studio: FakeLabelStudio
) -> None:
    before = len(label_studio.tasks_there)
    shown = imil("push", "--review", "--dry-run", "--review-below", "0.9")
    assert shown.exit_code == 0, shown.output
    alike, painted, unlike, _ = readings.tasks
    assert shown.stdout.splitlines() == [
        f"train-1, task {painted}: Dice of the masks of its readers is 0.00.",
        f"train-2, task {unlike}: 2 people answered, and not the same.",
        f"train-0, task {alike}: Dice of the masks of its readers is 0.80.",
        f"Would put 3 samples to a reviewer, in project {PROJECT}.",
    ]
    assert len(label_studio.tasks_there) == before
    assert "Would put 2 samples" in imil("push", "--review", "--dry-run").stdout
    assert "Answers in dispute: 2 samples" in imil("status").stdout
