from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import (
    LENIENT,
    RESULT,
    FakeQueues,
    OpenRound,
    chosen,
    make_version,
    mask_of,
    on_both_databases,
    region,
    shortcut_results,
    write_results,
)
from sqlalchemy import select

from imil_backend.errors import RoundError
from imil_backend.learning.contract.training_job import (
    MODEL_FILE,
    SHORTCUT_FILE,
    read_samples,
    read_training_job,
    write_json,
)
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import CLOSED, FAILED, OPEN, PUSHING, TRAINING
from imil_backend.loop.rounds import lifecycle, training
from imil_backend.loop.rounds.lifecycle import change_state
from imil_backend.store.tables import Dataset, Promotion, Round, Version, now

pytestmark = on_both_databases


@pytest.fixture(autouse=True)
def from_scratch(open_round: OpenRound) -> None:
    set_policy(open_round, close_share=0.5, close_quiet_seconds=0)
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).recipe = {"pretrained": False}


def set_policy(open_round: OpenRound, **policy: Any) -> None:
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).policy = policy


def set_state(open_round: OpenRound, state: str, error: str | None = None) -> None:
    with open_round.backend.store.begin() as session:
        change_state(session.get_one(Round, open_round.id), state, error)


def answer(open_round: OpenRound, *results: list[dict[str, Any]]) -> None:
    for task, result in zip(open_round.tasks, results, strict=False):
        open_round.label_studio.annotate(task, result)
    reconcile(open_round.backend, open_round.project)


def is_due(open_round: OpenRound) -> bool:
    with open_round.backend.store.begin() as session:
        return lifecycle.is_due(session, session.get_one(Round, open_round.id))


# --- when a round closes


def test_a_round_is_due_when_enough_of_its_tasks_are_answered(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)), [])  # the second is empty: set aside, and does not count
    assert not is_due(open_round)
    open_round.label_studio.update(2, result=chosen("nothing_to_black_out"))
    reconcile(open_round.backend, open_round.project)
    assert is_due(open_round)
    open_round.label_studio.update(2, was_cancelled=True)
    reconcile(open_round.backend, open_round.project)
    assert not is_due(open_round)


def test_tasks_that_are_gone_from_label_studio_do_not_count(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)))
    for task in open_round.tasks[1:3]:
        open_round.label_studio.delete_task(task)
    reconcile(open_round.backend, open_round.project)
    assert is_due(open_round)


def test_silence_closes_a_round_if_anything_was_answered(open_round: OpenRound) -> None:
    set_policy(open_round, close_after_hours=2)
    assert not is_due(open_round)
    answer(open_round, region(mask_of(1)))
    assert is_due(open_round)  # the fake's clock stands at the year's beginning
    annotation = open_round.annotations[0]
    with open_round.backend.store.begin() as session:
        session.get_one(type(annotation), annotation.id).label_studio_updated_at = now() - timedelta(hours=1)
    assert not is_due(open_round)


def test_without_a_time_silence_closes_nothing(open_round: OpenRound) -> None:
    answer(open_round, region(mask_of(1)))
    assert not is_due(open_round)


def test_a_number_of_answers_closes_a_round_too(open_round: OpenRound) -> None:
    set_policy(open_round, close_count=2, close_quiet_seconds=0)
    answer(open_round, region(mask_of(1)))
    assert not is_due(open_round)
    open_round.label_studio.annotate(open_round.tasks[1], region(mask_of(1)))
    reconcile(open_round.backend, open_round.project)
    assert is_due(open_round)


def test_a_clinician_who_is_still_answering_keeps_the_round_open_for_a_while(
    open_round: OpenRound, queues: FakeQueues, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_policy(open_round, close_share=0.5, close_quiet_seconds=60)
    answer(open_round, region(mask_of(1)), region(mask_of(1)))
    for _ in range(2):
        lifecycle.close_due_rounds(open_round.backend, queues)  # type: ignore[arg-type]
    assert open_round.round.state == OPEN
    assert queues.enqueued == [("close_due_rounds", (open_round.dataset.id,))]  # which looks again
    reconcile(open_round.backend, open_round.project, full=True)  # is no answer
    heard = now()
    for later, due in ((61, True), (30, False), (-3600, True)):  # the last: the clock was set back
        monkeypatch.setattr(lifecycle, "now", lambda later=later: heard + timedelta(seconds=later))
        assert is_due(open_round) == due


def test_the_last_answer_closes_a_round_at_once(open_round: OpenRound) -> None:
    set_policy(open_round, close_quiet_seconds=60)
    answer(open_round, *[region(mask_of(1))] * 4)
    assert is_due(open_round)


def test_a_due_round_is_closed_and_trained_once(open_round: OpenRound, queues: FakeQueues) -> None:
    answer(open_round, region(mask_of(1)), region(mask_of(2)))
    for _ in range(2):
        lifecycle.close_due_rounds(open_round.backend, queues)  # type: ignore[arg-type]
    assert open_round.round.state == TRAINING
    assert queues.enqueued == [("train_round", (open_round.id,))]


def test_only_an_answered_open_round_can_be_closed_by_hand(open_round: OpenRound) -> None:
    def close() -> str:
        with open_round.backend.store.begin() as session:
            return lifecycle.close_round(session, session.get_one(Round, open_round.id)).state

    with pytest.raises(RoundError, match="answered yet"):
        close()
    answer(open_round, chosen("nothing_to_black_out"))
    assert close() == close() == TRAINING
    for state in (PUSHING, CLOSED):
        set_state(open_round, state)
        with pytest.raises(RoundError, match=f"is {state}"):
            close()


# --- which round is next


def test_a_push_goes_on_with_the_round_under_way_and_else_opens_the_next(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        for state in (PUSHING, OPEN):
            change_state(session.get_one(Round, open_round.id), state)
            assert lifecycle.open_round(session, open_round.dataset).id == open_round.id
        for state in (TRAINING, FAILED):
            change_state(session.get_one(Round, open_round.id), state)
            with pytest.raises(RoundError, match=f"is {state}"):
                lifecycle.open_round(session, open_round.dataset)


def test_no_round_is_begun_when_nothing_is_left_to_ask(open_round: OpenRound) -> None:
    set_state(open_round, CLOSED)
    with open_round.backend.store.begin() as session, pytest.raises(RoundError, match="left to ask"):
        lifecycle.open_round(session, open_round.dataset)
    newer = make_version(open_round.backend, open_round.dataset, "newer", wrong=["train-6"])
    with open_round.backend.store.begin() as session:
        round_ = lifecycle.open_round(session, open_round.dataset)
    assert (round_.number, round_.state, round_.mined_version_id) == (2, PUSHING, newer.id)


def test_a_new_baseline_waits_for_the_round_under_way(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        for state, command in ((PUSHING, "imil push"), (OPEN, "imil train"), (TRAINING, "imil train")):
            change_state(session.get_one(Round, open_round.id), state)
            with pytest.raises(RoundError, match=command):
                lifecycle.begin_baseline(session, open_round.dataset)


@pytest.mark.parametrize(("state", "error"), [(CLOSED, None), (FAILED, "no"), (PUSHING, "no")])
def test_a_new_baseline_takes_the_place_of_what_cannot_go_on(
    open_round: OpenRound, state: str, error: str | None
) -> None:
    set_state(open_round, state, error)
    with open_round.backend.store.begin() as session:
        baseline = lifecycle.begin_baseline(session, open_round.dataset)
        assert (baseline.is_baseline, baseline.number, baseline.state) == (True, 2, TRAINING)
        assert lifecycle.begin_baseline(session, open_round.dataset).id == baseline.id
        change_state(baseline, FAILED, "no")
        again = lifecycle.begin_baseline(session, open_round.dataset)
        assert (again.id, again.attempt, again.state, again.error) == (baseline.id, 2, TRAINING, None)
    assert open_round.round.state in {CLOSED, FAILED}


# --- queues


def test_a_job_that_ended_without_moving_its_round_on_is_followed_by_another(
    open_round: OpenRound, queues: FakeQueues
) -> None:
    set_state(open_round, TRAINING)
    first = lifecycle.ensure_workflow(open_round.backend, queues, open_round.round)  # type: ignore[arg-type]
    queues.statuses[str(first)] = "ERROR"
    stale = open_round.round
    second = lifecycle.ensure_workflow(open_round.backend, queues, stale)  # type: ignore[arg-type]
    assert second != first
    assert lifecycle.ensure_workflow(open_round.backend, queues, stale) == second  # type: ignore[arg-type]
    queues.statuses[str(second)] = "SUCCESS"
    stale = open_round.round
    set_state(open_round, CLOSED)
    assert lifecycle.ensure_workflow(open_round.backend, queues, stale) is None  # type: ignore[arg-type]


def test_what_label_studio_held_up_is_tried_again_at_the_next_reconciliation(
    open_round: OpenRound, queues: FakeQueues
) -> None:
    backend = open_round.backend
    for state in (PUSHING, TRAINING):
        set_state(open_round, state)
        first = lifecycle.ensure_workflow(backend, queues, open_round.round)  # type: ignore[arg-type]
        for _ in range(2):
            training.postpone(backend, open_round.id, str(first), "Label Studio does not answer.")
        assert (open_round.round.state, open_round.round.error) == (state, "Label Studio does not answer.")
        lifecycle.close_due_rounds(backend, queues)  # type: ignore[arg-type]
        assert queues.status(lifecycle.workflow_id_of(open_round.round)) == "ENQUEUED"
        assert lifecycle.workflow_id_of(open_round.round) != first


def test_a_failed_training_waits_for_a_person_and_a_closed_round_stays_closed(
    open_round: OpenRound, queues: FakeQueues
) -> None:
    set_state(open_round, TRAINING)
    training.fail(open_round.backend, open_round.id, "It is damaged.")
    assert (open_round.round.state, open_round.round.error) == (FAILED, "It is damaged.")
    lifecycle.close_due_rounds(open_round.backend, queues)  # type: ignore[arg-type]
    assert queues.enqueued == []
    with open_round.backend.store.begin() as session:
        round_ = lifecycle.close_round(session, session.get_one(Round, open_round.id))
        assert (round_.state, round_.attempt, round_.error) == (TRAINING, 2, None)
    set_state(open_round, CLOSED)
    training.fail(open_round.backend, open_round.id, "too late")
    assert (open_round.round.state, open_round.round.error) == (CLOSED, None)


# --- the steps of a training


def train(backend: Backend, round_id: int, shortcut: dict[str, Any] | None = None) -> dict[str, Any]:
    """All steps, each twice, as after a crash that lost its record."""
    for _ in range(2):
        training.bring_in_line(backend, round_id)
    for _ in range(2):
        training.prepare_round_training(backend, round_id)
    with backend.store.begin() as session:
        directory = backend.directory / "versions" / str(session.get_one(Round, round_id).version_name)
    write_results(directory, read_samples(directory))
    if shortcut is not None:
        write_json(directory / SHORTCUT_FILE, shortcut)
    verdict = training.conclude(backend, round_id, RESULT)
    assert training.conclude(backend, round_id, RESULT) == verdict
    return verdict


def test_each_step_may_run_twice_and_a_version_comes_out_once(open_round: OpenRound) -> None:
    set_policy(open_round, **LENIENT)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    set_state(open_round, TRAINING)
    verdict = train(open_round.backend, open_round.id)
    assert (verdict["verdict"], verdict["champion"]) == ("promote", "baseline")
    assert (open_round.round.state, open_round.round.verdict) == (CLOSED, verdict)
    with open_round.backend.store.begin() as session:
        assert [version.blacked_out for version in session.scalars(select(Version))] == [0, 1]
        assert [promotion.version.name for promotion in session.scalars(select(Promotion))] == [
            "baseline",
            open_round.round.version_name,
        ]


def test_what_is_shown_on_exchanged_images_counts_as_the_dataset_says(open_round: OpenRound) -> None:
    set_policy(open_round, **LENIENT)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    set_state(open_round, TRAINING)
    verdict = train(open_round.backend, open_round.id, shortcut_results("baseline", [0.9] * 4, [0.9] * 4))
    assert (verdict["verdict"], verdict["judge"]) == ("undecided", "both")
    assert "is not shown to be better: +0.0 points on unchanged images" in verdict["reason"]
    assert verdict["shortcut"]["champion"]["robust_accuracy"]["value"] == pytest.approx(0.9)
    assert verdict["shortcut"]["candidate"]["drop"]["value"] == pytest.approx(0.1)
    with open_round.backend.store.begin() as session:
        version = session.scalars(select(Version).order_by(Version.id.desc())).first()
        assert version is not None
        job = read_training_job(Path(version.directory))
        assert job.parent_model == str(Path(open_round.version.directory) / MODEL_FILE)
        assert not (Path(version.directory) / SHORTCUT_FILE).stat().st_mode & 0o222


@pytest.mark.parametrize("judge", ["both", "plain", "robust"])
def test_a_test_of_another_champion_says_nothing_of_this_one(open_round: OpenRound, judge: str) -> None:
    set_policy(open_round, **LENIENT, judge=judge)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    set_state(open_round, TRAINING)
    verdict = train(open_round.backend, open_round.id, shortcut_results("another", [0.9] * 4, [0.2] * 4))
    assert verdict["verdict"] == ("undecided" if judge == "robust" else "promote")


def test_with_too_few_validation_groups_the_word_is_left_to_a_person(open_round: OpenRound) -> None:
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    set_state(open_round, TRAINING)
    assert train(open_round.backend, open_round.id)["verdict"] == "undecided"
    with open_round.backend.store.begin() as session:
        assert len(session.scalars(select(Promotion)).all()) == 1


def test_the_first_version_is_promoted(backend: Backend, open_round: OpenRound) -> None:
    with backend.store.begin() as session:
        for promotion in session.scalars(select(Promotion)):
            session.delete(promotion)
        session.get_one(Round, open_round.id).state = FAILED
        baseline = lifecycle.begin_baseline(session, session.get_one(Dataset, open_round.dataset.id))
    assert train(backend, baseline.id)["verdict"] == "promote"


def test_a_round_that_was_not_prepared_says_so(open_round: OpenRound) -> None:
    with pytest.raises(RoundError, match="not prepared"):
        training.run_round_training(open_round.backend, open_round.id)
    assert training.recipe_under_way(open_round.backend, open_round.round) is None
    assert training.training_progress(open_round.backend, open_round.round) is None
    assert Path(open_round.version.directory).exists()
