"""The parts of Label Studio's API that the loop needs, as plain methods with plain results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imil_backend.errors import LabelStudioError, NotFoundError
from imil_backend.label_studio.http.other_names import name_it_has
from imil_backend.label_studio.http.transport import Transport

Json = dict[str, Any]

PAGE_SIZE = 500
# With their annotations tasks may be large: a region of a brush has 100,000 numbers.
WHOLE_PAGE_SIZE = 100
# Each task that is named adds 80 characters to an address, which proxies cut off at some thousands.
NAMED_TASKS = 25
# An upload of many files is one request; Label Studio takes 100 files and 250 MB at most.
MAX_FILES_PER_UPLOAD = 100
# Of type Number, although it is a list: with String, Label Studio answers 500 for a project without tasks.
IS_ANNOTATED = {
    "filter": "filter:tasks:annotations_ids",
    "operator": "empty",
    "type": "Number",
    "value": "false",
}
SOON = 2.0  # seconds, for what can be done without
IDS_CHARACTERS = 500  # where Label Studio cuts a task's annotations_ids off


@dataclass(frozen=True)
class AnnotationSummary:
    """That an annotation exists.

    Attributes:
        annotation_id: Label Studio's id.
        task_id: the task that it belongs to.
        task_updated_at: Label Studio's clock, ISO 8601; it moves whenever an annotation of the task is
            created, changed or deleted.
    """

    annotation_id: int
    task_id: int
    task_updated_at: str


class LabelStudio:
    """One Label Studio, seen by one user.

    All methods raise LabelStudioUnreachableError where trying again makes sense, LabelStudioAuthError for 401
    and 403, NotFoundError for 404 unless they say otherwise, and LabelStudioError for the rest. Only reading
    is retried; what changes something is sent once. Safe to use from several threads.

    Args:
        url: Label Studio's URL, with its sub-path if it has one.
        api_key: personal access token or legacy token.
        timeout: seconds to wait for an answer.
        max_image_bytes: largest image that is downloaded.
        image_hosts: other hosts that images may come from, see `addresses.AllowedHosts`.
        aliases: other URLs of this Label Studio that occur in tasks.
        ca: certificates (PEM) that Label Studio's own is checked against.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 30.0,
        max_image_bytes: int = 200 * 2**20,
        image_hosts: Sequence[str] = (),
        aliases: Sequence[str] = (),
        ca: Path | None = None,
    ) -> None:
        self._transport = Transport(
            url,
            api_key,
            timeout=timeout,
            max_image_bytes=max_image_bytes,
            image_hosts=image_hosts,
            aliases=aliases,
            ca=ca,
        )
        self.url = self._transport.url
        self.request = self._transport.request
        self.download = self._transport.download

    def version(self) -> str:
        """Label Studio's version, such as "1.23.2"."""
        return str(self.request("GET", "/api/version/").get("release", ""))

    def user_id(self) -> int:
        """The id of the token's user."""
        return int(self.request("GET", "/api/current-user/whoami")["id"])

    def own_name(self) -> str | None:
        """The address that people open it under (its LABEL_STUDIO_HOST), or None where it does not tell."""
        return name_it_has(self.request)

    def people(self) -> dict[int, str]:
        """The e-mail address of every user, by id; asked for with little patience."""
        users = self.request("GET", "/api/users/", timeout=SOON)
        return {int(user["id"]): str(user.get("email") or user.get("username") or "") for user in users}

    def create_project(
        self, title: str, label_config: str, instructions: str, *, predictions: bool = True
    ) -> int:
        """Make a project and return its id.

        Args:
            title: 3 to 50 characters.
            label_config: labeling config, XML.
            instructions: what the clinician reads before the first task; HTML is understood.
            predictions: ask the project's ML backend for one when a task is opened, which waits for it.
        """
        project = self.request(
            "POST",
            "/api/projects/",
            body={
                "title": title,
                "label_config": label_config,
                "expert_instruction": instructions,
                "show_instruction": bool(instructions),
                "enable_empty_annotation": False,
                "show_collab_predictions": predictions,
            },
        )
        return int(project["id"])

    def project(self, project_id: int) -> Json:
        """The project with its settings."""
        return _object(self.request("GET", f"/api/projects/{project_id}/"))

    def upload_image(self, project_id: int, filename: str, data: bytes) -> str:
        """Upload one image; returns the path under which Label Studio serves it."""
        return self.upload_images(project_id, [(filename, data)])[0]

    def upload_images(self, project_id: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
        """Upload up to 100 images, (file name, content) each, without making tasks of them.

        Returns:
            The paths under which Label Studio serves them, in the same order.
        """
        if not 0 < len(images) <= MAX_FILES_PER_UPLOAD:
            raise ValueError(f"{len(images)} images; one upload takes 1 to {MAX_FILES_PER_UPLOAD}")
        answer = self.request(
            "POST",
            f"/api/projects/{project_id}/import",
            params={"commit_to_project": "false"},
            files={f"file{number}": image for number, image in enumerate(images)},
        )
        ids = [int(upload) for upload in answer["file_upload_ids"]]
        uploads = self.request(
            "GET", f"/api/projects/{project_id}/file-uploads", params={"ids": json.dumps(ids)}
        )
        paths = {int(upload["id"]): f"/data/{upload['file']}" for upload in uploads}
        if len(ids) != len(images) or not paths.keys() >= set(ids):
            raise LabelStudioError(f"Label Studio accepted {len(paths)} of {len(images)} images; push again.")
        return [paths[upload] for upload in ids]

    def import_tasks(self, project_id: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Make tasks, {"data": {...}} each, and return their ids in the same order."""
        answer = self.request(
            "POST",
            f"/api/projects/{project_id}/import",
            params={"return_task_ids": "true"},
            body=list(tasks),
        )
        ids = answer.get("task_ids") or []
        if len(ids) != len(tasks):
            raise LabelStudioError(f"Label Studio reported {len(ids)} of {len(tasks)} new tasks; push again.")
        return [int(task) for task in ids]

    def tasks(self, project_id: int) -> Iterator[Json]:
        """All tasks of a project by id, without annotations and predictions: id, data, updated_at, more."""
        return self._pages(project_id, [])

    def annotation_summaries(self, project_id: int) -> Iterator[AnnotationSummary]:
        """Every annotation of a project, skipped ones too, without its regions.

        A listing of many pages is no snapshot: when tasks vanish meanwhile, one may be missed. Ask for an
        annotation itself before taking it for deleted.
        """
        for task in self._pages(project_id, [IS_ANNOTATED]):
            for annotation_id in self._annotation_ids(project_id, task):
                yield AnnotationSummary(annotation_id, int(task["id"]), str(task["updated_at"]))

    def _annotation_ids(self, project_id: int, task: Json) -> list[int]:
        listed = str(task["annotations_ids"])
        if len(listed) < IDS_CHARACTERS:
            return [int(annotation_id) for annotation_id in listed.split(",") if annotation_id.strip()]
        whole = self.named_tasks(project_id, [int(task["id"])], whole=True)
        return [int(annotation["id"]) for task in whole for annotation in task["annotations"]]

    def whole_tasks(
        self, project_id: int, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Json]:
        """All tasks of a project with their annotations and predictions, a page at a time.

        Args:
            project_id: of Label Studio.
            progress: called with the number of tasks listed, and of all.
        """
        return self._pages(project_id, [], WHOLE_PAGE_SIZE, progress, fields="all")

    def named_tasks(self, project_id: int, task_ids: Sequence[int], *, whole: bool = False) -> Iterator[Json]:
        """The tasks of these ids that the project has, a few at a time.

        Asked for by its own address a task would make Label Studio ask the ML backend for a prediction.

        Args:
            project_id: of Label Studio.
            task_ids: of the tasks.
            whole: with their annotations, skipped ones too.
        """
        for first in range(0, len(task_ids), NAMED_TASKS):
            named = [
                {"filter": "filter:tasks:id", "operator": "equal", "type": "Number", "value": number}
                for number in task_ids[first : first + NAMED_TASKS]
            ]
            yield from self._pages(
                project_id, named, conjunction="or", fields="all" if whole else "task_only"
            )

    def _pages(
        self,
        project_id: int,
        filters: list[dict[str, Any]],
        page_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        conjunction: str = "and",
        **more: str,
    ) -> Iterator[Json]:
        # Fields that are filtered by are computed; that is how annotations_ids come without the annotations.
        query = json.dumps({"filters": {"conjunction": conjunction, "items": filters}} if filters else {})
        wanted: dict[str, str | int] = {
            "project": project_id,
            "page_size": page_size or PAGE_SIZE,
            "query": query,
        }
        seen, page = 0, 1
        while True:
            answer = self.request("GET", "/api/tasks/", params={**wanted, **more, "page": page})
            tasks = answer["tasks"]
            yield from tasks
            seen, page = seen + len(tasks), page + 1
            if progress:
                progress(seen, int(answer["total"]))
            if not tasks or seen >= int(answer["total"]):
                return

    def annotation(self, annotation_id: int) -> Json | None:
        """The annotation with its regions, or None where it is gone."""
        annotation: Json | None = self._or_none(f"/api/annotations/{annotation_id}/")
        return annotation

    def create_annotation(self, task_id: int, result: Sequence[Mapping[str, Any]], lead_time: float) -> int:
        """Submit an annotation as the token's user and return its id; `lead_time` in seconds."""
        annotation = self.request(
            "POST",
            f"/api/tasks/{task_id}/annotations/",
            body={"result": list(result), "lead_time": lead_time},
        )
        return int(annotation["id"])

    def _or_none(self, path: str) -> Any:
        try:
            return self.request("GET", path)
        except NotFoundError:
            return None


def _object(answer: Any) -> Json:
    if not isinstance(answer, dict):
        raise LabelStudioError("Label Studio's response is not a JSON object.")
    return answer
