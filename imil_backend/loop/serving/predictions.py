"""The champion's answers to Label Studio: its name, and its predictions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import ImageError, ImilError, LabelStudioError, MaskError, NotFoundError
from imil_backend.images.masks.blackout import black_out
from imil_backend.images.masks.masks import LabelMapping, annotation_mask
from imil_backend.label_studio.labeling.task_data import sample_key_of
from imil_backend.loop.base.backend import Backend, find_project
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.serving.loading import Networks
from imil_backend.loop.versions.champions import champion_of
from imil_backend.store.tables import Project, Sample, Version

if TYPE_CHECKING:
    from imil_backend.label_studio.labeling.label_config import ProjectMapping
    from imil_backend.learning.inference.prediction import Predictor

logger = logging.getLogger(__name__)

UNTRAINED = "imil-untrained"
# For the images of one request: Label Studio itself waits for 100 s (its ML_TIMEOUT_PREDICT).
FETCH_SECONDS = 60.0


class PredictionService:
    """Answers Label Studio's questions about the model. Torch and weights are loaded in the background.

    The champion's pointer is read on every request, so a promotion needs no restart: the version before
    answers until the promoted one is loaded.

    Args:
        backend: of this process.
        patient: let a prediction wait until the network is loaded.
    """

    def __init__(self, backend: Backend, *, patient: bool = False) -> None:
        self._backend = backend
        self._networks = Networks(backend, patient=patient)

    def load_ahead(self) -> threading.Thread:
        """Load, in the background, the champions of the projects in which an answer shows something."""
        thread = threading.Thread(target=self._load_ahead, name="load-ahead", daemon=True)
        thread.start()
        return thread

    def _load_ahead(self) -> None:
        from imil_backend.loop.projects.connection import takes_predictions

        try:
            with self._backend.store.begin() as session:
                instance = self._backend.settings.label_studio_url
                projects = session.scalars(select(Project).where(Project.instance == instance)).all()
                served = [(each, champion_of(session, each.dataset_id)) for each in projects]
            for project, version in served:
                if version is not None and takes_predictions(project):
                    there = self._backend.label_studio.project(project.label_studio_id)
                    self._prepare(project, version, there["label_config"])
        except ImilError as error:
            logger.warning("The network is loaded at the first request: %s", error)

    def version_name(self, project_number: int | None, label_config: str | None = None) -> str:
        """The name of the version that answers in a Label Studio project.

        With the project's labeling config, what will answer there begins to be loaded.
        """
        with self._backend.store.begin() as session:
            project = self._project(session, project_number)
            version = champion_of(session, project.dataset_id) if project else None
        if project is None or version is None:
            return UNTRAINED
        if label_config is not None:
            self._prepare(project, version, label_config)
        return version.name

    def _prepare(self, project: Project, version: Version, label_config: str) -> None:
        from imil_backend.loop.projects.mapping import read_config, shows_something

        try:
            mapping = read_config(project, label_config)
        except LabelStudioError as error:
            logger.warning("No predictions for project %d: %s", project.label_studio_id, error)
            return
        if shows_something(mapping):
            self._networks.prepare(version)

    def versions(self, project_number: int | None) -> list[str]:
        """All versions of a project's dataset, the latest first."""
        with self._backend.store.begin() as session:
            champion = self._version(session, project_number)
            if champion is None:
                return []
            found = select(Version.name).where(Version.dataset_id == champion.dataset_id)
            return list(session.scalars(found.order_by(Version.id.desc())))

    def predict(
        self,
        project_number: int | None,
        tasks: Sequence[Mapping[str, Any]],
        label_config: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """One prediction per task, in order.

        An interactive request is answered with the score alone, of the image without the regions drawn so
        far: Label Studio would write a class over the one that the clinician has chosen, and what it
        submits then could not be told from her choice.

        In a project with a Choices of the classes: the class and its score. Without one: the score alone. Not
        even that where the task shows how sure the model was when it was asked: the champion's score, without
        a class, would stand beside it and contradict it, and so no network is asked. A task whose image
        cannot be read gets an empty result and no score. The mask that is proposed for a task, if one is,
        comes with either.

        Until the first network is loaded there is no prediction at all: Label Studio would keep an empty one
        and not ask again.

        Images that have not come and been decoded within FETCH_SECONDS, all together, are not predicted: a
        slow image server, or huge images, hold a prediction no longer.
        """
        from imil_backend.loop.projects.mapping import read_config, shows_something
        from imil_backend.loop.proposals.serving import with_proposed_masks

        with self._backend.store.begin() as session:
            project = self._project(session, project_number)
            version = champion_of(session, project.dataset_id) if project else None
        if project is None or version is None:
            return _nothing(tasks, UNTRAINED)
        xml = label_config or self._backend.label_studio.project(project.label_studio_id)["label_config"]
        mapping = read_config(project, xml)
        if context is None and not shows_something(mapping):
            return with_proposed_masks(self._backend, project, mapping, tasks, _nothing(tasks, version.name))
        predictor = self._networks.answering(version)
        if predictor is None:
            return [] if context is None else _nothing(tasks, version.name)
        fill = policy_of(project.dataset).fill
        end = time.monotonic() + FETCH_SECONDS
        try:
            images = [self._image(task, mapping, predictor, context, fill, end) for task in tasks]
            probabilities = iter(predictor.predict([image for image in images if image is not None]))
        finally:
            self._networks.surplus.give_back()
        answers = [
            _answer(
                None if image is None else next(probabilities),
                predictor.config.classes,
                predictor.config.name,
                mapping,
            )
            for image in images
        ]
        if context is not None:
            return [{**answer, "result": []} for answer in answers]
        return with_proposed_masks(self._backend, project, mapping, tasks, answers)

    def _version(self, session: Session, project_number: int | None) -> Version | None:
        project = self._project(session, project_number)
        return champion_of(session, project.dataset_id) if project else None

    def _project(self, session: Session, number: int | None) -> Project | None:
        if number is None:
            return None
        return find_project(session, self._backend.settings.label_studio_url, number)

    def _image(
        self,
        task: Mapping[str, Any],
        mapping: ProjectMapping,
        predictor: Predictor,
        context: Mapping[str, Any] | None,
        fill: str,
        end: float,
    ) -> npt.NDArray[np.uint8] | None:
        """The image of a task as the network sees it, so that memory holds one at its natural size.

        It is the original if it is a sample of ours, else as Label Studio serves it, until `end` of
        `time.monotonic`.
        """
        if time.monotonic() > end:
            logger.warning("No prediction for task %s: those before it took too long", task.get("id"))
            return None
        try:
            image = self._backend.read_image(
                self._source(task, mapping, end),
                # As the pixel cache reads it; what is painted is laid over the natural size.
                draft_size=None if context else 2 * predictor.config.image_size,
            )
        except (ImageError, LabelStudioError, NotFoundError) as error:
            logger.warning("No prediction for task %s: %s", task.get("id"), error)
            return None
        return predictor.squash(without_what_is_painted(image, context, mapping.labels, fill))

    def _source(self, task: Mapping[str, Any], mapping: ProjectMapping, end: float) -> Path | bytes:
        with self._backend.store.begin() as session:
            path = session.scalar(select(Sample.path).where(Sample.key == sample_key_of(task)))
        if path is not None and Path(path).exists():
            return Path(path)
        address = str((task.get("data") or {}).get(mapping.image_key, ""))
        return self._backend.label_studio.download(address, max(0.0, end - time.monotonic()))


def _nothing(tasks: Sequence[Mapping[str, Any]], version: str) -> list[dict[str, Any]]:
    return [{"result": [], "model_version": version} for _ in tasks]


def _answer(
    probabilities: npt.NDArray[np.float64] | None,
    classes: Sequence[str],
    version: str,
    mapping: ProjectMapping,
) -> dict[str, Any]:
    """A prediction in Label Studio's form."""
    if probabilities is None:
        return {"result": [], "model_version": version}
    best = int(probabilities.argmax())
    score = round(float(probabilities[best]), 4)
    folded = {choice.casefold(): choice for choice in mapping.classes}
    choice = folded.get(classes[best].casefold())
    result = []
    if mapping.class_choices_name is not None and choice is not None:
        result.append(
            {
                "from_name": mapping.class_choices_name,
                "to_name": mapping.image_name,
                "type": "choices",
                "value": {"choices": [choice]},
                "score": score,
            }
        )
    return {"result": result, "score": score, "model_version": version}


def without_what_is_painted(
    image: npt.NDArray[np.uint8], context: Mapping[str, Any] | None, labels: LabelMapping, fill: str
) -> npt.NDArray[np.uint8]:
    """The image as training would see it, were the regions of an interactive request submitted.

    Args:
        image: uint8, (height, width) or (height, width, 3), at its natural size.
        context: `params.context` of Label Studio's request; its `result` holds the regions drawn so far.
        labels: what the painted labels mean.
        fill: of the dataset's policy, see `black_out`.

    Returns:
        The image itself where nothing is painted that means anything, or that can be used.
    """
    result = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(result, list) or not all(isinstance(item, Mapping) for item in result):
        return image
    height, width = image.shape[:2]
    try:
        mask = annotation_mask(result, labels, width, height)
    except MaskError as error:
        logger.warning("The regions painted so far are not used: %s", error)
        return image
    return black_out(image, mask, fill) if mask.any() else image
