"""A round that is trained step by step in the caller's process, as a notebook does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from loop_fakes import RESULT, OpenRound, mask_of, region, write_results

from imil_backend.errors import RoundError, TrainingFailedError
from imil_backend.learning.contract.training_job import Progress, read_samples
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds import training
from imil_backend.loop.rounds.beginning import begin_training
from imil_backend.loop.running import waiting
from imil_backend.loop.running.waiting import train_and_wait
from imil_backend.store.tables import Dataset, Round


@pytest.fixture
def answered(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> OpenRound:
    """A round of answered tasks, whose training takes no time."""
    prepare(open_round.backend)
    with open_round.backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).recipe = {"pretrained": False}
    for task in list(open_round.label_studio.tasks_there):
        number = open_round.label_studio.annotate(task, region(mask_of(1)))
        sync_annotation(open_round.backend, open_round.project, number)

    def train(directory: Path, **told: Any) -> dict[str, Any]:
        told["on_progress"](Progress("training", 1, 2))
        write_results(directory, read_samples(directory), ["train-5"])
        return RESULT

    monkeypatch.setattr(training, "run_training", train)
    return open_round


def state(round_: OpenRound) -> str:
    with round_.backend.store.begin() as session:
        return session.get_one(Round, round_.id).state


def test_an_open_round_is_closed_and_trained(answered: OpenRound) -> None:
    seen: list[Progress] = []
    round_ = begin_training(answered.backend, None, {}, {})
    version, verdict = train_and_wait(answered.backend, round_.id, seen.append)
    assert round_.id == answered.id
    assert state(answered) == "closed"
    assert version.parent_id == answered.version.id
    assert verdict["candidate"] == version.name
    assert [progress.epoch for progress in seen] == [1]


def test_a_training_that_fails_says_why_and_can_be_tried_again(
    answered: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = training.run_training

    def fails(directory: Path, **_: Any) -> dict[str, Any]:
        raise TrainingFailedError("It broke.")

    monkeypatch.setattr(training, "run_training", fails)
    with pytest.raises(TrainingFailedError, match="It broke"):
        train_and_wait(answered.backend, begin_training(answered.backend, None, {}, {}).id)
    assert state(answered) == "failed"
    monkeypatch.setattr(training, "run_training", works)
    train_and_wait(answered.backend, begin_training(answered.backend, None, {}, {}).id, lambda _: None)
    assert state(answered) == "closed"


def test_an_interrupted_training_goes_on_with_the_same_call(
    answered: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = training.run_training

    def interrupted(directory: Path, **_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "run_training", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_and_wait(answered.backend, begin_training(answered.backend, None, {}, {}).id)
    assert state(answered) == "training"
    monkeypatch.setattr(training, "run_training", works)
    train_and_wait(answered.backend, begin_training(answered.backend, None, {}, {}).id, lambda _: None)
    assert state(answered) == "closed"


def test_a_worker_that_runs_does_the_training(answered: OpenRound, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is simulated: it is there twice when it is looked for, and then no more."""
    round_ = begin_training(answered.backend, None, {}, {})
    monkeypatch.setattr(training, "run_training", lambda *_, **__: pytest.fail("trained here"))
    asked = iter([True, True, False])
    monkeypatch.setattr(waiting, "worker_is_running", lambda _backend: next(asked))
    with pytest.raises(RoundError, match="The worker has ended"):
        waiting.train_and_wait(answered.backend, round_.id)
    assert state(answered) == "training"
