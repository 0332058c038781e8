"""A Label Studio and a queue in memory, and small datasets, versions and rounds to work on."""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from imil_backend.config import Settings
from imil_backend.errors import LabelStudioError, LabelStudioUnreachableError, NotFoundError
from imil_backend.images.masks.masks import mask_to_png
from imil_backend.label_studio.api.client import AnnotationSummary
from imil_backend.label_studio.api.simulated_clinician import paint
from imil_backend.label_studio.labeling.label_config import load_label_config, read_label_config
from imil_backend.learning.contract.training_job import (
    MINING_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    write_json,
    write_training_job,
)
from imil_backend.learning.scoring.robustness import robustness_of
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import OPEN
from imil_backend.loop.versions.champions import promote
from imil_backend.store.database import SQLITE_FILE, Store
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version

URL = "http://label-studio.test"
OWN_NAME = "https://label-studio.example.org"  # that people open it under
on_both_databases = pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.external)], indirect=True
)
PROJECT = 3
# What the real one assumes of a webhook.
WEBHOOK = {
    "send_payload": True,
    "send_for_all_actions": True,
    "headers": {},
    "actions": [],
    "is_active": True,
}
WIDTH, HEIGHT = 8, 6
LENIENT = {"promotion_margin": 0.6, "recall_margin": 0.8, "auc_margin": 0.8}  # two groups a class can do
MAPPING = read_label_config(load_label_config("blackout"))


def make_backend(directory: Path, **settings: Any) -> Backend:
    """A backend on an empty store; the environment and .env have no part in it."""
    values = {"label_studio_url": URL, "label_studio_api_key": "token", **settings}
    backend = Backend(Settings(_env_file=None, data_dir=directory, **values))
    if backend.settings.database_url is not None:
        backend.store.migrate()
        return backend
    (directory / SQLITE_FILE).write_bytes(_empty_store())

    @event.listens_for(backend.store.engine, "connect")
    def _hurry(connection: sqlite3.Connection, _: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    return backend


@functools.cache
def _empty_store() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / SQLITE_FILE
        store = Store(f"sqlite:///{path}")
        store.migrate()
        store.close()
        return path.read_bytes()


class FakeLabelStudio:
    """What the loop uses of our client. Its clock moves on by a second with every change.

    What it answers is held against the real one by test_label_studio_contract.py.

    Args:
        file: where its state is kept, so that another process finds it; but for images and projects.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.tasks_there: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, dict[str, Any]] = {}
        self.predictions: dict[int, dict[str, Any]] = {}
        self.projects_there = {PROJECT: load_label_config("blackout").strip()}  # the configs
        self.images: dict[str, bytes] = {}  # by path
        self.uploads = 0
        self.seconds = 0
        self.down = False
        self.gone = False  # its project
        self.name: str | None = OWN_NAME
        self.webhooks: list[dict[str, Any]] = []
        self.tabs: list[dict[str, Any]] = []
        self.settings: dict[int, dict[str, Any]] = {}  # of projects
        self.asked: list[str] = []
        if file is not None and file.exists():
            state = json.loads(file.read_text())
            self.uploads, self.seconds = state["uploads"], state["seconds"]
            self.webhooks = state["webhooks"]
            for name in ("tasks_there", "annotations"):
                setattr(self, name, {int(key): value for key, value in state[name].items()})

    # --- what the loop calls

    def project(self, number: int) -> dict[str, Any]:
        self._ask("project")
        self._check_project(number)
        settings = {"expert_instruction": "", **self.settings.get(number, {})}
        return {"id": number, "label_config": self.projects_there[number], **settings}

    def create_project(
        self, title: str, label_config: str, instructions: str, *, predictions: bool = True
    ) -> int:
        self._ask("create project")
        number = max(self.projects_there) + 1
        self.projects_there[number] = label_config.strip()
        return number

    def request(self, method: str, path: str, **request: Any) -> Any:  # noqa: PLR0911
        """Of webhooks, uploads, tabs and predictions; changes of projects and tasks; deletion of tasks."""
        self._ask(f"{method} {path}")
        if path.endswith("/file-uploads"):
            return self._file_uploads(method, **request)
        if method == "DELETE" and path.startswith("/api/tasks/"):
            task = int(path.split("/")[3])
            if task not in self.tasks_there:
                raise NotFoundError("No Task matches the given query.")
            return self.delete_task(task)
        if "predictions" in path or path.startswith("/api/dm/"):
            answer = self._predictions if "predictions" in path else self._tabs
            return answer(method, path, **request)
        if path.startswith("/api/projects/"):
            self.settings.setdefault(int(path.split("/")[3]), {}).update(request["body"])
            return None
        if path.startswith("/api/tasks/"):
            task = int(path.split("/")[3])
            self.tasks_there[task] |= deepcopy(request["body"])
            self._touch(task)
            return None
        number = path.removeprefix("/api/webhooks/").strip("/")
        if method == "GET":
            return [
                deepcopy(hook) for hook in self.webhooks if hook["project"] == request["params"]["project"]
            ]
        if method == "POST":
            self.webhooks.append({**WEBHOOK, **request["body"], "id": len(self.webhooks) + 1})
            self._save()
            return None
        hook = next((hook for hook in self.webhooks if str(hook["id"]) == number), None)
        if hook is None:
            raise NotFoundError("No Webhook matches the given query.")
        if method == "DELETE":
            self.webhooks.remove(hook)
        else:
            hook.update({"actions": [], **request["body"]})
        return None

    def _tabs(self, method: str, path: str, **request: Any) -> Any:
        if path == "/api/dm/columns":
            return {"columns": [{"id": "id"}, {"id": "image", "parent": "data"}]}
        if method == "GET":
            return [deepcopy(tab) for tab in self.tabs if tab["project"] == request["params"]["project"]]
        if method == "POST":
            self.tabs.append({**request["body"], "id": len(self.tabs) + 1})
        else:
            self.tabs = [tab for tab in self.tabs if path != f"/api/dm/views/{tab['id']}/"]
        return None

    def _predictions(self, method: str, path: str, **request: Any) -> Any:
        if method == "GET":
            task = request["params"]["task"]
            return [deepcopy(each) for each in self.predictions.values() if each["task"] == task]
        if method == "PATCH":
            return self.predictions[int(path.split("/")[3])].update(request["body"])
        for each in request["body"]:
            self.predict(each["task"], each)
        return {"created": len(request["body"])}

    def _file_uploads(self, method: str, **request: Any) -> Any:
        by_id = {int(path.rpartition("/")[2][:8], 16): path for path in self.images}
        if method == "GET":
            return [{"id": key, "file": path.removeprefix("/data/")} for key, path in by_id.items()]
        for key in request["body"]["file_upload_ids"]:
            del self.images[by_id[key]]
        return {"deleted": len(request["body"]["file_upload_ids"])}

    def own_name(self) -> str | None:
        self._ask("own name")
        return self.name

    def version(self) -> str:
        return "1.23.2"

    def user_id(self) -> int:
        return 1

    def people(self) -> dict[int, str]:
        self._ask("people")
        return {1: "ann@example.org", 7: "bob@example.org"}

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        self._ask("tasks")
        return iter([self._counted(task) for task in self.tasks_there.values() if task["project"] == project])

    def annotation_summaries(self, project: int) -> Iterator[AnnotationSummary]:
        self._ask("summaries")
        for number, annotation in list(self.annotations.items()):
            if annotation["project"] == project:
                task = self.tasks_there[annotation["task"]]
                yield AnnotationSummary(number, task["id"], task["updated_at"])

    def annotation(self, number: int) -> dict[str, Any] | None:
        self._ask(f"annotation {number}")
        return deepcopy(self.annotations.get(number))

    def named_tasks(
        self, project: int, numbers: Sequence[int], *, whole: bool = False
    ) -> Iterator[dict[str, Any]]:
        for number in numbers:
            self._ask(f"task {number}")
            task = self.tasks_there.get(number)
            if task and task["project"] == project:
                own = [item for item in self.annotations.values() if item["task"] == number]
                yield deepcopy({**task, "annotations": own} if whole else task)

    def upload_images(self, project: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        self._ask("upload")
        assert all(name and content for name, content in images)
        self._check_project_of_import(project)
        paths = []
        for name, content in images:
            self.uploads += 1
            paths.append(f"/data/upload/{project}/{self.uploads:08x}-{name.replace(' ', '_')}")
            self.images[paths[-1]] = content
        return paths

    def download(self, path: str, seconds: float | None = None) -> bytes:
        self._ask("download")
        if path not in self.images:
            raise NotFoundError(f"{path} is not there.")
        return self.images[path]

    def import_tasks(self, project: int, tasks: Sequence[dict[str, Any]]) -> list[int]:
        self._ask("import")
        self._check_project_of_import(project)
        if any(MAPPING.image_key not in task["data"] for task in tasks):
            raise LabelStudioError(f"A task has no {MAPPING.image_key!r}.")
        numbers = [self.add_task(task["data"], project) for task in tasks]
        for number, task in zip(numbers, tasks, strict=True):
            for prediction in task.get("predictions", ()):
                self.predict(number, prediction)
        return numbers

    def create_annotation(self, task: int, result: Sequence[dict[str, Any]], lead_time: float) -> int:
        if task not in self.tasks_there:
            raise NotFoundError("No Task matches the given query.")
        return self.update(self.annotate(task, result), lead_time=lead_time)

    # --- what a clinician, or somebody else, does there

    def add_task(self, data: dict[str, Any], project: int = PROJECT, number: int | None = None) -> int:
        number = number or max(self.tasks_there, default=100) + 1
        there = {"id": number, "project": project, "data": dict(data), "overlap": 1, "is_labeled": False}
        self.tasks_there[number] = there
        self._touch(number)
        return number

    @property
    def shown(self) -> dict[int, dict[str, Any]]:
        """What projects were told to show of predictions."""
        names = ("show_collab_predictions", "model_version")
        told = {
            number: {name: settings[name] for name in names if name in settings}
            for number, settings in self.settings.items()
        }
        return {number: settings for number, settings in told.items() if settings}

    def predict(self, task: int, prediction: dict[str, Any]) -> int:
        number = max(self.predictions, default=0) + 1
        self.predictions[number] = {**deepcopy(prediction), "id": number, "task": task}
        return number

    def served(self, by: int) -> list[int]:
        """The tasks that somebody's label stream would serve."""
        done = {each["task"] for each in self.annotations.values() if each["completed_by"] == by}
        return [
            number
            for number, task in self.tasks_there.items()
            if not task["is_labeled"] and number not in done
        ]

    def accept(self, task: int, change: Any = None, by: int = 1) -> int:
        """Submit what is pre-filled in a task; with a result, what it was changed into."""
        [prediction] = [each for each in self.predictions.values() if each["task"] == task]
        origin = "prediction" if change is None else "prediction-changed"
        result = prediction["result"] if change is None else change
        number = self.annotate(task, [{**item, "origin": origin} for item in deepcopy(result)], by=by)
        return self.update(number, parent_prediction=prediction["id"], lead_time=2.0)

    def annotate(self, task: int, result: Sequence[Any], number: int | None = None, by: int = 1) -> int:
        number = number or max(self.annotations, default=0) + 1
        self.annotations[number] = {
            "id": number,
            "task": task,
            "project": self.tasks_there[task]["project"],
            "completed_by": by,
            "was_cancelled": False,
            "result": list(result),
            "created_at": self._touch(task),
        }
        self.tasks_there[task]["is_labeled"] = True
        return self._updated(number)

    def update(self, number: int, **changes: Any) -> int:
        self.annotations[number] |= changes
        self._touch(self.annotations[number]["task"])
        return self._updated(number)

    def delete(self, number: int) -> None:
        task = self.annotations.pop(number)["task"]
        left = any(each["task"] == task for each in self.annotations.values())
        self.tasks_there[task]["is_labeled"] = left
        self._touch(task)

    def delete_task(self, number: int) -> None:
        del self.tasks_there[number]
        gone = [key for key, value in self.annotations.items() if value["task"] == number]
        for key in gone:
            del self.annotations[key]

    def _counted(self, task: dict[str, Any]) -> dict[str, Any]:
        counts = {
            f"total_{name}": sum(each["task"] == task["id"] for each in there.values())
            for name, there in (("annotations", self.annotations), ("predictions", self.predictions))
        }
        return {**deepcopy(task), **counts}

    def _check_project(self, number: int) -> None:
        if not self._has_project(number):
            raise NotFoundError("No Project matches the given query.")

    def _check_project_of_import(self, number: int) -> None:
        """The real one answers such an import with a page, as something that is not Label Studio does."""
        if not self._has_project(number):
            raise LabelStudioUnreachableError(f"The answer to POST /api/projects/{number}/import is a page.")

    def _has_project(self, number: int) -> bool:
        return number in self.projects_there and not self.gone

    def _updated(self, number: int) -> int:
        annotation = self.annotations[number]
        annotation["updated_at"] = self.tasks_there[annotation["task"]]["updated_at"]
        self._save()
        return number

    def _touch(self, task: int) -> str:
        self.seconds += 1
        moment = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=self.seconds)
        self.tasks_there[task]["updated_at"] = moment.isoformat().replace("+00:00", "Z")
        self._save()
        return str(self.tasks_there[task]["updated_at"])

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.down:
            raise LabelStudioUnreachableError("Label Studio does not answer.")

    def _save(self) -> None:
        if self.file is not None:
            names = ("tasks_there", "annotations", "webhooks", "uploads", "seconds")
            self.file.write_text(json.dumps({name: getattr(self, name) for name in names}))


@dataclass
class FakeQueues:
    """Remembers what was enqueued, as `engine.WorkflowQueues` does."""

    enqueued: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    statuses: dict[str, str] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)

    def enqueue(
        self,
        workflow: str,
        queue: str,
        *args: Any,
        workflow_id: str | None = None,
        delay: float = 0.0,
        unless_waiting: bool = False,
    ) -> str:
        workflow_id = workflow_id or f"workflow-{len(self.statuses) + 1}"
        if workflow_id not in self.statuses:
            self.statuses[workflow_id] = "ENQUEUED"
            self.enqueued.append((workflow, args))
        return workflow_id

    def status(self, workflow_id: str) -> str | None:
        return self.statuses.get(workflow_id)

    def result(self, workflow_id: str) -> Any:
        return self.results.get(workflow_id)

    def has_begun(self, workflow_id: str) -> None:
        self.statuses[workflow_id] = "PENDING"


def region(mask: Any) -> list[dict[str, Any]]:
    """The result of somebody who painted this mask, bool of shape (HEIGHT, WIDTH), as irrelevant."""
    results: list[Any] = []

    class Catcher:
        def create_annotation(self, task: int, result: list[Any], lead_time: float) -> int:
            results.extend(result)
            return 1

    paint(Catcher(), MAPPING, 1, np.asarray(mask, bool))  # type: ignore[arg-type]
    return [{name: value for name, value in item.items() if name != "meta"} for item in results]


def chosen(meaning: str) -> list[dict[str, Any]]:
    """The result of somebody who chose what means nothing_to_black_out, label_wrong or unreadable."""
    choice = next(text for text, means in MAPPING.review.items() if means == meaning)
    return [
        {"id": "c", "from_name": MAPPING.review_name, "to_name": MAPPING.image_name, "type": "choices",
         "value": {"choices": [choice]}}
    ]  # fmt: skip


def mask_of(*columns: int) -> Any:
    """A mask with these columns painted."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, list(columns)] = True
    return mask


def write_image(path: Path, seed: int = 100, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_mask(path: Path, mask: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mask_to_png(mask))
    return path


def make_dataset(backend: Backend, train: int = 8, validation: int = 4, test: int = 2) -> Dataset:
    """A dataset of two classes with real tiny images, each of one grey; samples are train-0, train-1, ..."""
    with backend.store.begin() as session:
        dataset = Dataset(name="films", classes=["lesion", "normal"])
        session.add(dataset)
        session.flush()
        for split, count in (("train", train), ("validation", validation), ("test", test)):
            for number in range(count):
                name = f"{split}-{number}"
                path = backend.path("originals", f"{name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (WIDTH, HEIGHT), 50 + number).save(path)
                session.add(
                    Sample(
                        dataset_id=dataset.id, key=f"key-{name}", name=name, path=str(path),
                        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                        width=WIDTH, height=HEIGHT, channels=1, shown_as_is=True, split=split, group=name,
                        label=dataset.classes[number % 2],
                    )
                )  # fmt: skip
    return dataset


def make_version(
    backend: Backend,
    dataset: Dataset,
    name: str = "baseline",
    *,
    wrong: Sequence[str] = (),
    baseline: Version | None = None,
    parent: Version | None = None,
    champion: bool = True,
) -> Version:
    """A trained version: `wrong` are the mispredicted training samples, the most instructive first."""
    directory = backend.path("versions", name, "x").parent
    with backend.store.begin() as session:
        samples = training_samples(session, dataset)
        job = TrainingJob(name, tuple(dataset.classes), 1, Recipe(pretrained=False), "cache")
        write_training_job(directory, job, samples)
        write_results(directory, samples, wrong)
        version = Version(
            dataset_id=dataset.id, name=name, baseline_id=baseline.id if baseline else None,
            parent_id=parent.id if parent else None, directory=str(directory),
            recipe=asdict(job.recipe), metrics=METRICS, runtime_info={},
            fingerprint="f", blacked_out=0, code_version="0", seconds=1.0,
        )  # fmt: skip
        session.add(version)
        session.flush()
        if champion:
            promote(session, version, "loop")
    return version


METRICS = {
    split: {"accuracy": 0.75, "balanced_accuracy": 0.7, "auc": 0.8, "loss": 0.5}
    for split in ("validation", "test")
}
RESULT = {"metrics": METRICS, "choices": {"device": "cpu"}, "seconds": 1.5, "set_aside": []}


def write_results(directory: Path, samples: Sequence[TrainingSample], wrong: Sequence[str] = ()) -> None:
    """What a training leaves behind: every validation sample is predicted right."""
    (directory / MODEL_FILE).write_bytes(f"weights of {directory.name}".encode())
    records = [_record(sample, wrong) for sample in samples if sample.split == "train"]
    write_json(directory / MINING_FILE, records)
    predictions = {}
    for split in ("validation", "test"):
        own = [sample for sample in samples if sample.split == split]
        predictions[split] = {
            "keys": [sample.key for sample in own],
            "groups": [sample.group for sample in own],
            "labels": [sample.label for sample in own],
            "probabilities": [[0.9, 0.1] if sample.label == 0 else [0.1, 0.9] for sample in own],
        }
    write_json(directory / PREDICTIONS_FILE, predictions)


def shortcut_results(parent: str, champion: Sequence[float], candidate: Sequence[float]) -> dict[str, Any]:
    """A shortcut test of the validation samples: the shares of draws of any class answered rightly."""
    keys = [f"key-validation-{number}" for number in range(len(champion))]
    results: dict[str, Any] = {
        "untested": None, "draws": 10, "seed": 0, "left_out": 1, "seconds": 2.0,
        "keys": keys, "groups": keys, "labels": [number % 2 for number in range(len(keys))],
        "parent_untested": None,
    }  # fmt: skip
    for role, name, shares in (("parent", parent, champion), ("candidate", "candidate", candidate)):
        same, other = np.ones(len(keys)), np.array(shares, np.float64)
        results[role] = {
            "name": name, "same_class": same.tolist(), "any_class": other.tolist(),
            "summary": asdict(robustness_of(same, other, keys)),
        }  # fmt: skip
    return results


def _record(sample: TrainingSample, wrong: Sequence[str]) -> dict[str, Any]:
    name = sample.key.removeprefix("key-")
    is_wrong = name in wrong
    number = name.rpartition("-")[2]
    margin = float(number) if number.isdecimal() else 1.0
    return {
        "key": sample.key, "label": sample.label, "predicted": 1 - sample.label if is_wrong else sample.label,
        "wrong": is_wrong, "probability": 0.9, "mean_margin": None, "likely_label_error": False,
        "margin": float(wrong.index(name) - 100) if is_wrong else margin,
    }  # fmt: skip


def training_samples(session: Session, dataset: Dataset) -> list[TrainingSample]:
    found = session.scalars(select(Sample).where(Sample.dataset_id == dataset.id).order_by(Sample.id))
    return [
        TrainingSample(
            sample.key,
            sample.path,
            sample.sha256,
            dataset.classes.index(sample.label),
            sample.split,
            sample.group,
        )  # type: ignore[arg-type]
        for sample in found
    ]


def make_project(backend: Backend, dataset: Dataset, number: int = PROJECT) -> Project:
    with backend.store.begin() as session:
        project = Project(dataset_id=dataset.id, instance=URL, label_studio_id=number)
        session.add(project)
    with backend.store.begin() as session:
        return session.get_one(Project, project.id)


def make_round(
    backend: Backend, label_studio: FakeLabelStudio, project: Project, version: Version, names: Sequence[str]
) -> Round:
    """An open round of these samples, with their tasks in Label Studio."""
    with backend.store.begin() as session:
        numbers = session.scalars(select(Round.number).where(Round.dataset_id == project.dataset_id)).all()
        round_ = Round(
            dataset_id=project.dataset_id, number=len(numbers) + 1, state=OPEN, mined_version_id=version.id
        )
        session.add(round_)
        session.flush()
        for rank, name in enumerate(names, start=1):
            sample = session.scalars(select(Sample).where(Sample.name == name)).one()
            number = label_studio.add_task(
                {"imil_sample": sample.key, "round": round_.number}, project.label_studio_id
            )
            session.add(
                Task(
                    project_id=project.id,
                    round_id=round_.id,
                    sample_id=sample.id,
                    label_studio_id=number,
                    rank=rank,
                )
            )
    return round_


@dataclass
class OpenRound:
    """An open round of train-0 to train-3 in Label Studio."""

    backend: Backend
    label_studio: FakeLabelStudio
    dataset: Dataset
    version: Version
    project: Project
    id: int

    @property
    def tasks(self) -> list[int]:
        """The tasks' numbers in Label Studio, the first rank first."""
        with self.backend.store.begin() as session:
            found = select(Task.label_studio_id).where(Task.round_id == self.id).order_by(Task.rank)
            return list(session.scalars(found))

    @property
    def round(self) -> Round:
        with self.backend.store.begin() as session:
            return session.get_one(Round, self.id)

    @property
    def annotations(self) -> list[Annotation]:
        """What the store holds of them and takes for standing."""
        with self.backend.store.begin() as session:
            found = select(Annotation).where(~Annotation.deleted).order_by(Annotation.label_studio_id)
            return list(session.scalars(found))
