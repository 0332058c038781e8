"""The ML-backend protocol of Label Studio: /health /setup /predict /versions /job_status."""

from __future__ import annotations

from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest, Gone, ServiceUnavailable

from imil_backend.server.body import project_id, read_object

if TYPE_CHECKING:
    from imil_backend.loop.running.events import Events
    from imil_backend.loop.serving.predictions import PredictionService


# Our words for the state of a job, in Label Studio's: to it, a job that is queued or started is running.
JOB_STATUS = {"pending": "queued", "running": "started", "done": "finished", "failed": "failed"}

# At once, in one process. Predictions are a comfort and may take seconds; events and /health, for which Label
# Studio waits a second, must always find a thread.
MOST_PREDICTIONS = 4
MOST_TASKS = 10_000  # in one request; an answer takes memory for each


def ml_api(champion: PredictionService, events: Events) -> Blueprint:
    """Build the endpoints that Label Studio's ML connector calls.

    /health and /setup run each time a task is opened, within 1 s and 3 s: they must load nothing heavy.
    """
    api = Blueprint("ml_api", __name__)
    places = BoundedSemaphore(MOST_PREDICTIONS)

    @api.get("/")
    @api.get("/health")
    def health() -> dict[str, str]:
        return {"status": "UP"}

    @api.post("/setup")
    def setup() -> dict[str, str]:
        # The body also holds a token of the project's creator: it is neither used, kept nor logged.
        body = read_object(request)
        version = champion.version_name(project_id(body.get("project")), _text(body.get("schema")))
        return {"model_version": version}

    @api.post("/predict")
    def predict() -> dict[str, Any]:
        body = read_object(request)
        project = project_id(body.get("project"))
        if not places.acquire(blocking=False):
            raise ServiceUnavailable(
                f"{MOST_PREDICTIONS} predictions are already in progress: retry in a moment, or "
                "increase IMIL_WEB_PROCESSES."
            )
        try:
            label_config = _text(body.get("label_config"))
            return {"results": champion.predict(project, _tasks(body), label_config, _context(body))}
        finally:
            places.release()

    @api.get("/versions")
    def versions() -> dict[str, list[str]]:
        # Label Studio asks without naming a project; people may add ?project=13.
        return {"versions": champion.versions(project_id(request.args.get("project")))}

    @api.post("/versions")
    def versions_of_project() -> dict[str, list[str]]:
        return {"versions": champion.versions(project_id(read_object(request).get("project")))}

    @api.post("/job_status")
    def job_status() -> dict[str, str]:
        job = read_object(request).get("job")
        if not isinstance(job, str) or not job or not job.isprintable():
            raise BadRequest('The request needs the job: {"job": "..."}.')
        status = JOB_STATUS.get(events.workflow_status(job))
        if status is None:
            # Label Studio takes 410, and no other status, for a job that is not there any more.
            raise Gone(f"There is no job {job[:50]!r}.")
        return {"job_status": status}

    return api


def _tasks(body: dict[str, Any]) -> list[dict[str, Any]]:
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not all(_is_task(task) for task in tasks):
        raise BadRequest('tasks must be a list of tasks: {"tasks": [{"id": 1, "data": {...}}]}.')
    if len(tasks) > MOST_TASKS:
        raise BadRequest(f"{len(tasks):,} tasks are asked for at once; ask for {MOST_TASKS:,} at most.")
    return tasks


def _is_task(task: object) -> bool:
    """Whether it has the form of a task; both its id and its data may be absent."""
    return (
        isinstance(task, dict)
        and not isinstance(task.get("id"), (bool, dict, list))
        and isinstance(task.get("data", {}), dict)
    )


def _context(body: dict[str, Any]) -> dict[str, Any] | None:
    """The regions drawn so far, where the editor asks interactively."""
    params = body.get("params")
    context = params.get("context") if isinstance(params, dict) else None
    return context if isinstance(context, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
