"""A round that is given up: nothing of the clinicians' work goes, and nothing comes of it by itself."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import RESULT, FakeQueues, OpenRound, mask_of, region, write_results
from sqlalchemy import func, select

from imil_backend.errors import RoundError, TrainingStoppedError
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.answers.sample_states import sample_states
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.audit import history
from imil_backend.loop.base.states import CANCELLED, CLOSED, OPEN, PUSHING
from imil_backend.loop.rounds import training
from imil_backend.loop.rounds.lifecycle import cancel_round, change_state, close_due_rounds, close_round
from imil_backend.loop.rounds.lifecycle import open_round as next_round
from imil_backend.loop.rounds.push import push_round
from imil_backend.loop.versions.training_jobs import directory_of
from imil_backend.store.tables import Dataset, Round, Version


def cancel(open_round: OpenRound) -> None:
    with open_round.backend.store.begin() as session:
        cancel_round(session, session.get_one(Dataset, open_round.dataset.id), "someone")


def begin_training(open_round: OpenRound) -> Path:
    answer(open_round, 0)
    with open_round.backend.store.begin() as session:
        close_round(session, session.get_one(Round, open_round.id))
    training.prepare_round_training(open_round.backend, open_round.id)
    return directory_of(open_round.backend, str(open_round.round.version_name))


def answer(open_round: OpenRound, task: int) -> None:
    number = open_round.label_studio.annotate(open_round.tasks[task], region(mask_of(1)))
    sync_annotation(open_round.backend, open_round.project, number)


def test_the_answers_of_a_cancelled_round_stand_and_later_ones_too(
    open_round: OpenRound, queues: FakeQueues
) -> None:
    answer(open_round, 0)
    cancel(open_round)
    for task in (1, 2, 3):
        answer(open_round, task)
    close_due_rounds(open_round.backend, queues)  # type: ignore[arg-type]
    assert (open_round.round.state, queues.enqueued) == (CANCELLED, [])
    with open_round.backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        assert len(sample_states(open_round.backend, session, dataset)) == 4
        (told,) = (entry for entry in history(session, dataset) if entry["event"] == "cancelled")
        assert (told["by"], told["was"], told["round"]) == ("someone", "open", 1)
        dataset.policy = {"fill_budget": True, "budget": 0.5}
        assert next_round(session, dataset).number == 2


def test_a_training_that_is_cancelled_stops_and_brings_no_version(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backend = open_round.backend
    begin_training(open_round)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_LOOKS", 0)

    def train(directory: Path, *, should_stop: Any, **_: Any) -> dict[str, Any]:
        assert not should_stop()
        cancel(open_round)
        assert should_stop()
        raise TrainingStoppedError("stopped")

    monkeypatch.setattr(training, "run_training", train)
    with pytest.raises(TrainingStoppedError):
        training.run_round_training(backend, open_round.id)
    training.fail(backend, open_round.id, "stopped")
    training.postpone(backend, open_round.id, "train-round-1-1", "stopped")
    assert (open_round.round.state, open_round.round.error) == (CANCELLED, None)
    assert all(record.levelno == logging.INFO for record in caplog.records)
    assert "The training of round 1 was cancelled." in caplog.text
    for step in (training.prepare_round_training, training.run_round_training):
        with pytest.raises(RoundError, match="was cancelled"):
            step(backend, open_round.id)


def test_a_training_that_ends_as_its_round_is_cancelled_brings_no_version(open_round: OpenRound) -> None:
    directory = begin_training(open_round)
    write_results(directory, read_samples(directory))
    cancel(open_round)
    with pytest.raises(RoundError, match="was cancelled"):
        training.conclude(open_round.backend, open_round.id, RESULT)
    with open_round.backend.store.begin() as session:
        assert session.scalar(select(func.count(Version.id))) == 1


def test_a_push_that_ends_as_its_round_is_cancelled_does_not_open_it(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_round.backend
    with backend.store.begin() as session:
        change_state(session.get_one(Round, open_round.id), PUSHING)
        session.get_one(Dataset, open_round.dataset.id).policy = {"budget": 0.5}
    monkeypatch.setattr(
        "imil_backend.loop.rounds.push._push_items", lambda *_: (cancel(open_round), iter(()))[1]
    )
    with pytest.raises(RoundError):
        push_round(backend, open_round.id)
    assert open_round.round.state == CANCELLED
    reconcile(backend, open_round.project)
    assert len(open_round.tasks) == 4


def test_only_what_is_under_way_can_be_cancelled(open_round: OpenRound) -> None:
    assert open_round.round.state == OPEN
    with open_round.backend.store.begin() as session:
        change_state(session.get_one(Round, open_round.id), CLOSED)
    with pytest.raises(RoundError, match="no current round to cancel"):
        cancel(open_round)
