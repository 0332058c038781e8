"""What the validation split can show, told at import, at push and in the status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from loop_fakes import LENIENT, URL, FakeLabelStudio, make_version, write_image
from sqlalchemy import select, update
from typer.testing import CliRunner

from imil_backend.cli import app
from imil_backend.learning.contract.training_job import PREDICTIONS_FILE
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import Policy
from imil_backend.loop.base.states import CLOSED
from imil_backend.loop.splitting.exclusion import GROUP_IN_TEST
from imil_backend.loop.versions.validation_power import as_sentences, validation_power
from imil_backend.store.tables import Dataset, Round, Sample

FOUR = "4 groups cannot exclude a loss of 0.020 in accuracy; 149 could."
TWO = "2 groups with lesion cannot exclude a loss of 0.100 in its recall; 29 could."


def told(backend: Backend, dataset: Dataset, policy: Policy | None = None) -> str:
    with backend.store.begin() as session:
        return as_sentences(validation_power(session, dataset, policy))


@pytest.fixture
def imil(backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """The command, on this backend's data directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMIL_DATA_DIR", str(backend.directory))
    monkeypatch.setenv("LABEL_STUDIO_URL", URL)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_before_the_baseline_the_imported_samples_are_counted(backend: Backend, dataset: Dataset) -> None:
    said = told(backend, dataset)
    assert said.startswith(f"Validation split: {FOUR} {TWO}")
    assert "no candidate is promoted automatically" in said
    with backend.store.begin() as session:
        sample = session.scalars(select(Sample).where(Sample.name == "validation-0")).one()
        sample.excluded = GROUP_IN_TEST
    assert "3 groups cannot exclude" in told(backend, dataset)


def test_once_there_is_a_champion_the_samples_that_it_was_measured_on_are_counted(
    backend: Backend, dataset: Dataset
) -> None:
    version = make_version(backend, dataset)
    with backend.store.begin() as session:
        for sample in session.scalars(select(Sample).where(Sample.split == "train")):
            sample.split = "validation"  # imported since; candidates are not compared on them
    assert FOUR in told(backend, dataset)
    (Path(version.directory) / PREDICTIONS_FILE).unlink()
    assert "12 groups cannot exclude" in told(backend, dataset)


def test_margins_that_a_split_can_show_leave_nothing_to_warn_of(backend: Backend, dataset: Dataset) -> None:
    said = told(backend, dataset, Policy(**LENIENT))
    assert said == (
        "Validation split: 4 groups can exclude a loss of 0.600 in accuracy. 2 groups with lesion can "
        "exclude a loss of 0.800 in its recall. 2 groups with lesion can exclude a loss of 0.800 in AUC."
    )


def test_a_push_says_it_before_anything_is_painted(
    backend: Backend, dataset: Dataset, label_studio: FakeLabelStudio, imil: Callable[..., str]
) -> None:
    make_version(backend, dataset, wrong=["train-0"])
    said = imil("push", "--dry-run")
    assert said.index(FOUR) < said.index("Would push")
    assert "4 groups can exclude a loss of 0.600 in accuracy" in imil(
        "push", "--dry-run", "--promotion-margin", "0.6"
    )
    assert label_studio.asked == []


def test_a_class_may_be_called_like_markup(
    backend: Backend, dataset: Dataset, imil: Callable[..., str]
) -> None:
    with backend.store.begin() as session:
        session.get_one(Dataset, dataset.id).classes = ["[red]", "normal"]
        session.execute(update(Sample).where(Sample.label == "lesion").values(label="[red]"))
        verdict = {"verdict": "undecided", "reason": "2 groups with [red] tell too little."}
        session.add(Round(dataset_id=dataset.id, number=0, state=CLOSED, verdict=verdict))
    said = imil("status")
    assert "2 groups with [red] cannot exclude a loss of 0.100 in its recall" in said
    assert "Verdict: undecided. 2 groups with [red] tell too little." in said


def test_the_status_says_what_cannot_be_shown(dataset: Dataset, imil: Callable[..., str]) -> None:
    assert f"Validation split: {FOUR} {TWO}" in imil("status")
    (found,) = json.loads(imil("status", "--json"))["datasets"]
    shown = [(each["metric"], each["groups"], each["needed"], each["enough"]) for each in found["validation"]]
    assert shown == [("accuracy", 4, 149, False), ("recall", 2, 29, False), ("auc", 2, 59, False)]


def test_an_import_says_it(imil: Callable[..., str], tmp_path: Path) -> None:
    for number in range(12):
        write_image(tmp_path / "films" / ("sick", "fit")[number % 2] / f"{number}.png", number)
    said = imil("import", str(tmp_path / "films"))
    assert "Validation split: 2 groups cannot exclude a loss of 0.020 in accuracy; 149 could." in said
    report = json.loads(imil("import", str(tmp_path / "films"), "--json"))
    assert (
        report["validation"][0]["told"] == "2 groups cannot exclude a loss of 0.020 in accuracy; 149 could."
    )
