"""Trainings in MLflow and TensorBoard, read back by their own readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import LENIENT, RESULT, OpenRound, mask_of, region, write_results

from imil_backend.learning.contract.training_job import Progress, read_samples
from imil_backend.loop.answers.reconcile import reconcile
from imil_backend.loop.rounds import training
from imil_backend.loop.rounds.lifecycle import close_round
from imil_backend.loop.tracking.trackers import tell_champion
from imil_backend.loop.versions.champions import ROLLBACK, promote
from imil_backend.store.tables import Dataset, Round, Version

# MLflow's own.
pytestmark = [pytest.mark.external, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

EPOCHS = [
    {"epoch": number, "train_loss": 1 / number, "validation": {"accuracy": number / 10}, "exchanged": None}
    for number in (2, 3, 4)
]


@pytest.fixture
def trained(open_round: OpenRound, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Trains the round, as far as trackers can tell, with these settings."""
    backend = open_round.backend
    with backend.store.begin() as session:
        session.get_one(Dataset, open_round.dataset.id).policy = dict(LENIENT)
    open_round.label_studio.annotate(open_round.tasks[0], region(mask_of(1)))
    reconcile(backend, open_round.project)
    with backend.store.begin() as session:
        close_round(session, session.get_one(Round, open_round.id))
    training.prepare_round_training(backend, open_round.id)

    def train(directory: Path, *, on_progress: Callable[[Progress], None], **_: Any) -> dict[str, Any]:
        for each in EPOCHS:
            on_progress(Progress("training", epoch=each["epoch"] + 1, metrics=each["validation"]))  # type: ignore[operator, arg-type]
        write_results(directory, read_samples(directory))
        return {**RESULT, "epochs": EPOCHS}

    monkeypatch.setattr(training, "run_training", train)

    def run(**settings: Any) -> dict[str, Any]:
        backend.settings = backend.settings.model_copy(update=settings)
        return training.run_round_training(backend, open_round.id)

    return run


def test_mlflow_has_a_run_for_a_version_and_the_champion_as_an_alias(
    open_round: OpenRound, trained: Callable[..., Any], tmp_path: Path
) -> None:
    where = str(tmp_path / "mlflow")
    results = [trained(mlflow_uri=where) for _ in range(2)]  # as after a kill
    verdict = training.conclude(open_round.backend, open_round.id, results[0])
    assert verdict["verdict"] == "promote"
    from mlflow.tracking import MlflowClient

    from imil_backend.loop.tracking.mlflow_runs import tracking_uri

    client, name = MlflowClient(tracking_uri(where)), str(open_round.round.version_name)
    experiment = client.get_experiment_by_name("films")
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.data.params["pretrained"] == "False"
    history = client.get_metric_history(run.info.run_id, "validation/accuracy")
    assert [(each.step, each.value) for each in history] == [(2, 0.2), (3, 0.3), (4, 0.4)]
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 3
    assert run.data.metrics["best test/auc"] == 0.8
    assert [each.path for each in client.list_artifacts(run.info.run_id, "model")] == [
        "model/model.safetensors"
    ]
    champion = client.get_model_version_by_alias("films", "champion")
    assert (champion.run_id, int(champion.version)) == (run.info.run_id, 1)
    with open_round.backend.store.begin() as session:
        promote(session, session.get_one(Version, open_round.version.id), ROLLBACK)
    tell_champion(open_round.backend.settings, "films", "baseline")  # from before MLflow was there
    assert client.get_registered_model("films").aliases == {}


def test_tensorboard_reads_every_epoch_once(trained: Callable[..., Any], tmp_path: Path) -> None:
    for _ in range(2):  # as after a kill
        trained(tensorboard_dir=tmp_path / "runs")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [folder] = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("films-round1-")
    assert len(list(folder.iterdir())) == 1
    read = EventAccumulator(str(folder)).Reload()
    told = [(each.step, round(each.value, 6)) for each in read.Scalars("validation/accuracy")]
    assert told == [(2, 0.2), (3, 0.3), (4, 0.4)]
    assert [each.step for each in read.Scalars("best validation/auc")] == [4]


def test_a_tracker_that_is_down_costs_a_warning_and_no_training(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = trained(mlflow_uri="http://127.0.0.1:1", tensorboard_dir=Path("/dev/null/runs"))
    assert result["epochs"] == EPOCHS
    warnings = [each.message for each in caplog.records if "cannot be told of films-round1" in each.message]
    assert len(warnings) == 2


def test_without_the_settings_nothing_is_told(
    trained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.Thread.start", lambda _: pytest.fail("a thread was started"))
    assert trained()["epochs"] == EPOCHS
