"""Options that can change nothing any more are refused, with the reason and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from loop.loop_fakes import (
    URL,
    FakeLabelStudio,
    OpenRound,
    make_backend,
    make_dataset,
    make_project,
    make_round,
    make_version,
    mask_of,
    region,
)
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.loop.answers.sync import sync_annotation
from imil_backend.loop.base.policy import Policy, policy_of, recipe_of
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.rounds import lifecycle, training
from imil_backend.store.tables import Dataset, Round

pytestmark = pytest.mark.slow  # whole commands, on data directories


@pytest.fixture
def open_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenRound:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LABEL_STUDIO_URL", URL)
    monkeypatch.setenv("COLUMNS", "200")
    backend, label_studio = make_backend(tmp_path / "data"), FakeLabelStudio()
    prepare(backend)
    backend.__dict__["label_studio"] = label_studio
    dataset = make_dataset(backend)
    version = make_version(backend, dataset, wrong=["train-0"])
    project = make_project(backend, dataset)
    round_ = make_round(backend, label_studio, project, version, ["train-0"])
    return OpenRound(backend, label_studio, dataset, version, project, round_.id)


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.splitlines()
    return line


def dataset_of(open_round: OpenRound) -> Dataset:
    with open_round.backend.store.begin() as session:
        return session.get_one(Dataset, open_round.dataset.id)


@pytest.mark.parametrize(
    ("option", "chosen"),
    [
        (("--budget", "0.1"), "budget 0.04"),
        (("--fill-budget",), "fill_budget False"),
        (("--class-quota",), "class_quota False"),
        (("--repeat",), "repeat False"),
        (("--budget", "0.1", "--dry-run"), "budget 0.04"),
    ],
)
def test_what_chooses_the_samples_is_refused_once_they_are_asked(
    open_round: OpenRound, option: tuple[str, ...], chosen: str
) -> None:
    line = refused("push", *option)
    assert f"Round 1 is open, and its tasks were chosen with {chosen}: {option[0]}" in line
    assert "imil cancel" in line
    assert dataset_of(open_round).policy == {}


def test_a_recipe_is_refused_once_its_training_is_under_way(
    open_round: OpenRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = open_round.backend
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, open_round.dataset.id)
        dataset.recipe = {"pretrained": False}
        lifecycle.change_state(session.get_one(Round, open_round.id), CLOSED)
        baseline = lifecycle.begin_baseline(session, dataset)
    training.prepare_round_training(backend, baseline.id)
    line = refused("train", "--fresh", "--epochs", "99")
    assert f"Round 2 is already being trained with epochs {recipe_of(dataset).epochs}," in line
    assert "imil cancel" in line
    assert dataset_of(open_round).recipe == {"pretrained": False}


@pytest.mark.parametrize(
    ("option", "begun"),
    [
        (("--trainable", "layer4"), "trainable all"),
        (("--correction", "blackout"), "correction counterexample"),
        (("--confirmed-weight", "5"), "confirmed_weight 1"),
    ],
)
def test_how_a_round_is_trained_is_refused_once_it_is_being_trained(
    open_round: OpenRound, option: tuple[str, str], begun: str
) -> None:
    backend, label_studio = open_round.backend, open_round.label_studio
    with backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).recipe = {"pretrained": False}
    answer = label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    sync_annotation(backend, open_round.project, answer)
    with backend.store.begin() as session:
        lifecycle.close_round(session, session.get_one(Round, open_round.id))
    training.prepare_round_training(backend, open_round.id)
    assert f"with {begun}," in refused("train", *option)
    assert policy_of(dataset_of(open_round)) == Policy()
