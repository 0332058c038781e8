"""Trainings as runs of MLflow, versions as versions of a registered model, whose alias names the champion."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

# Before mlflow is loaded: it reports its use to its makers, prints URLs, and waits for servers for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from imil_backend.learning.contract.training_job import MODEL_FILE
from imil_backend.loop.tracking.trackers import Run, Values

ALIAS = "champion"
_VERSION = "imil.version"  # a run's tag, by which a training that resumes finds its run
_MODEL = "model"  # an artifact's folder
_LONGEST = 500  # of a parameter's value, in characters


def tracking_uri(where: str) -> str:
    """Of a server, as it is; of a folder: MLflow's database in it."""
    if "://" in where:
        return where
    folder = Path(where).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder}/mlflow.db"


class MlflowRun:
    """One run of MLflow. The experiment is called like the dataset, the run like the version."""

    def __init__(self, where: str) -> None:
        """`where`: the tracking server's URL, or a folder."""
        self._client = MlflowClient(tracking_uri(where))
        self._artifacts = None if "://" in where else (Path(where).absolute() / "artifacts").as_uri()

    def begin(self, run: Run) -> None:
        """Make the run, or find that of an earlier attempt."""
        self._run = run
        self._logged: set[tuple[str, int]] = set()
        experiment = self._experiment(run.dataset)
        query = f"tags.`{_VERSION}` = '{run.name}'"
        found = self._client.search_runs([experiment], query, max_results=1)
        if found:
            self._id = str(found[0].info.run_id)
            self._client.set_terminated(self._id, "RUNNING")
            for name in found[0].data.metrics:
                history = self._client.get_metric_history(self._id, name)
                self._logged |= {(name, each.step) for each in history}
            return
        made = self._client.create_run(experiment, run_name=run.name, tags={_VERSION: run.name})
        self._id = str(made.info.run_id)
        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in run.parameters.items()]
        self._client.log_batch(self._id, params=parameters)

    def epoch(self, number: int, values: Values) -> None:
        """Log an epoch's values, but for those that an earlier attempt has logged."""
        self._log(number, values)

    def end(self, epochs: Mapping[int, Values], final: Values, version: Path) -> None:
        """Log what is not logged yet, the weights, and a version of the registered model."""
        for number, values in sorted(epochs.items()):
            self._log(number, values)
        self._log(max(epochs, default=0), final)
        self._client.log_artifact(self._id, str(version / MODEL_FILE), _MODEL)
        self._register()
        self._client.set_terminated(self._id)

    def _log(self, step: int, values: Values) -> None:
        named = {_metric(name): value for name, value in values.items()}
        new = {name: value for name, value in named.items() if (name, step) not in self._logged}
        now = int(time.time() * 1000)
        self._client.log_batch(
            self._id, metrics=[Metric(name, each, now, step) for name, each in new.items()]
        )
        self._logged |= {(name, step) for name in new}

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._artifacts))

    def _register(self) -> None:
        name = _model(self._run.dataset)
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        if _registered(self._client, name, self._run.name) is None:
            source = f"{self._client.get_run(self._id).info.artifact_uri}/{_MODEL}"
            self._client.create_model_version(name, source, self._id, tags={_VERSION: self._run.name})


def name_champion(where: str, dataset: str, version: str) -> None:
    """Let the alias of a dataset's registered model name the version that is the champion.

    One that was never registered, since it is older than the setting, cannot be named: then nothing is.
    """
    client, model = MlflowClient(tracking_uri(where)), _model(dataset)
    number = _registered(client, model, version)
    if number is not None:
        client.set_registered_model_alias(model, ALIAS, number)
    elif client.search_registered_models(f"name = '{model}'"):
        client.delete_registered_model_alias(model, ALIAS)


def _model(dataset: str) -> str:
    """The registered model's name: MLflow takes no slashes and colons in it, and no quotes in a query."""
    return re.sub(r"""[/:'"]""", "_", dataset)


def _registered(client: MlflowClient, model: str, version: str) -> str | None:
    found = client.search_model_versions(f"name = '{model}'")
    return next((str(each.version) for each in found if each.tags.get(_VERSION) == version), None)


def _metric(name: str) -> str:
    """MLflow takes letters, digits, spaces and some signs."""
    return "".join(sign if sign.isalnum() or sign in "_-./ :" else "_" for sign in name)
