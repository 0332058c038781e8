"""A round that is trained in the command's own process, without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop.loop_fakes import (
    LENIENT,
    RESULT,
    FakeLabelStudio,
    OpenRound,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    region,
    write_results,
)
from rich.progress import Progress

from imil_backend.cli.helpers.following import _described, run_and_follow
from imil_backend.cli.helpers.showing import phase_in_words
from imil_backend.learning.contract.training_job import read_samples
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds import lifecycle, training
from imil_backend.store.tables import Dataset, Round

pytestmark = pytest.mark.slow  # whole commands, on data directories


@pytest.fixture
def open_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_of_this_test: None
) -> Iterator[OpenRound]:
    """An answered round of two tasks, whose training takes no time and leaves two mispredictions."""
    backend = make_backend(tmp_path / "data")
    prepare(backend)
    label_studio = FakeLabelStudio()
    backend.__dict__["label_studio"] = label_studio
    dataset = make_dataset(backend)
    with backend.store.begin() as session:
        found = session.get_one(Dataset, dataset.id)
        found.policy, found.recipe = {**LENIENT, "budget": 0.25}, {"pretrained": False}
    version = make_version(backend, dataset, wrong=["train-0", "train-1"])
    project = make_project(backend, dataset)
    round_ = make_round(backend, label_studio, project, version, ["train-0", "train-1"])
    for task in list(label_studio.tasks_there):
        sync_annotation(backend, project, label_studio.annotate(task, region(mask_of(1))))

    def train(directory: Path, **_: Any) -> dict[str, Any]:
        write_results(directory, read_samples(directory), ["train-5", "train-6"])
        return RESULT

    monkeypatch.setattr(training, "run_training", train)
    yield OpenRound(backend, label_studio, dataset, version, project, round_.id)
    backend.close()


def states(open_round: OpenRound) -> list[str]:
    with open_round.backend.store.begin() as session:
        return [row.state for row in session.query(Round).order_by(Round.number)]


def test_without_a_worker_the_command_pushes_the_next_round_and_ends_in_order(
    open_round: OpenRound, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with open_round.backend.store.begin() as session:
        lifecycle.close_round(session, session.get_one(Round, open_round.id))
    run_and_follow(open_round.backend, open_round.id)
    assert states(open_round) == ["closed", "open"]
    assert len(open_round.label_studio.tasks_there) == 4
    assert [record for record in caplog.records if record.exc_info] == []
    said = capsys.readouterr().out
    assert said.index("Promoted.") < said.index("Round 2 is open.")


def test_a_push_that_fails_is_told_with_what_to_do(
    open_round: OpenRound, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imil_backend.loop.rounds.push._push_items", lambda *_: iter(()))
    with open_round.backend.store.begin() as session:
        lifecycle.close_round(session, session.get_one(Round, open_round.id))
    run_and_follow(open_round.backend, open_round.id)
    assert states(open_round) == ["closed", "pushing"]
    said = capsys.readouterr().out
    assert "Round 2 is not pushed yet: None of the images to ask about can be read" in said
    assert "imil push" in said


def test_a_baseline_in_a_connected_project_asks_nobody_until_it_is_pushed(
    open_round: OpenRound, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_round.backend.store.begin() as session:
        lifecycle.change_state(session.get_one(Round, open_round.id), CLOSED)
        dataset = session.get_one(Dataset, open_round.dataset.id)
        baseline = lifecycle.begin_baseline(session, dataset)
    run_and_follow(open_round.backend, baseline.id)
    assert states(open_round) == ["closed", "closed"]
    assert len(open_round.label_studio.tasks_there) == 2
    assert "imil push" in capsys.readouterr().out


def test_a_training_that_is_done_shows_neither_epoch_nor_images() -> None:
    training = {"phase": "training", "epoch": 2, "epochs": 2, "done": 12, "total": 36, "images_per_second": 8}
    done = {**training, "phase": "done", "done": 0, "total": 0, "images_per_second": 0}
    assert phase_in_words(training) == "Training, epoch 2 of 2"
    assert phase_in_words(done) == "Done"
    with Progress(disable=True) as bars:
        bar = bars.add_task("", images="")
        bars.update(bar, **_described(training))
        assert bars.tasks[0].fields["images"] == "12/36 8 images/s"
        bars.update(bar, **_described(done))
        assert (bars.tasks[0].fields["images"], bars.tasks[0].finished) == ("", True)
