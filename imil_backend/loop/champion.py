"""The champion: the version that answers. Promotion, rollback, and its predictions."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.config import Settings
from imil_backend.errors import ImageError, LabelStudioError, NotFoundError, RoundError
from imil_backend.loop import audit
from imil_backend.loop.backend import Backend, find_project
from imil_backend.store.tables import Dataset, Project, Promotion, Sample, Version

if TYPE_CHECKING:
    from imil_backend.label_studio.config_map import ProjectMapping
    from imil_backend.learning.prediction import Predictor

logger = logging.getLogger(__name__)

UNTRAINED = "imil-untrained"
LOOP, PERSON, ROLLBACK = "loop", "person", "rollback"  # by whom a version is promoted
IMAGES_AT_ONCE = 8  # held in memory at natural size


def champion_of(session: Session, dataset_id: int) -> Version | None:
    """The version promoted last, or None before the baseline."""
    promotion = session.scalar(
        select(Promotion).where(Promotion.dataset_id == dataset_id).order_by(Promotion.id.desc()).limit(1)
    )
    return promotion.version if promotion else None


def promote(session: Session, version: Version, by: str, reason: str = "", who: str | None = None) -> bool:
    """Make a version its dataset's champion; False if it is already.

    Args:
        session: of the store.
        version: which.
        by: LOOP, PERSON or ROLLBACK.
        reason: kept with the promotion and in the audit trail.
        who: the person's user name, for the audit trail.
    """
    champion = champion_of(session, version.dataset_id)
    if champion is not None and champion.id == version.id:
        return False
    session.add(Promotion(dataset_id=version.dataset_id, version_id=version.id, by=by, reason=reason))
    session.flush()
    event = audit.ROLLED_BACK if by == ROLLBACK else audit.PROMOTED
    audit.note(session, version.dataset_id, event, version_id=version.id, by=who or by, reason=reason or None)
    return True


def find_version(session: Session, name: str) -> Version:
    """The version of this name.

    Raises:
        NotFoundError: there is none.
    """
    version = session.scalar(select(Version).where(Version.name == name))
    if version is None:
        raise NotFoundError(f"There is no version {name!r}. `imil models` lists them.")
    return version


def roll_back(session: Session, dataset: Dataset, who: str | None = None) -> Version:
    """Make the champion before this one the champion again.

    Raises:
        RoundError: there was none before.
    """
    standing: list[int] = []  # the champions, as rollbacks left them
    history = select(Promotion).where(Promotion.dataset_id == dataset.id).order_by(Promotion.id)
    for promotion in session.scalars(history):
        if promotion.by == ROLLBACK:
            standing.pop()
        else:
            standing.append(promotion.version_id)
    if len(standing) < 2:
        raise RoundError(f"Dataset {dataset.name!r} has had no champion before this one.")
    version = session.get_one(Version, standing[-2])
    promote(session, version, ROLLBACK, "rolled back", who)
    return version


class Champion:
    """Answers Label Studio's questions about the model. Loads torch and weights on the first prediction.

    The champion's pointer is read on every request, so a promotion needs no restart.
    """

    def __init__(self, settings: Settings) -> None:
        self._backend = Backend(settings)
        self._loading = threading.Lock()
        self._loaded: dict[str, Predictor] = {}  # by dataset: the version used last

    def version_name(self, project_number: int | None) -> str:
        """The name of the version that answers in a Label Studio project."""
        with self._backend.store.begin() as session:
            version = self._version(session, project_number)
            return version.name if version else UNTRAINED

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
    ) -> list[dict[str, Any]]:
        """One prediction per task, in order.

        In a project with a Choices of the classes: the class and its score. In a brush project: the score
        alone, so that nothing is pre-filled. A task whose image cannot be read gets an empty result and
        no score.
        """
        from imil_backend.loop.sync import read_config

        with self._backend.store.begin() as session:
            project = self._project(session, project_number)
            version = champion_of(session, project.dataset_id) if project else None
        if project is None or version is None:
            return [{"result": [], "model_version": UNTRAINED} for _ in tasks]
        xml = label_config or self._backend.label_studio.project(project.number)["label_config"]
        mapping = read_config(project, xml)
        predictor = self._predictor(version)
        answers = []
        for start in range(0, len(tasks), IMAGES_AT_ONCE):
            images = [self._image(task, mapping) for task in tasks[start : start + IMAGES_AT_ONCE]]
            probabilities = iter(predictor.predict([image for image in images if image is not None]))
            answers += [
                _answer(
                    None if image is None else next(probabilities),
                    predictor.config.classes,
                    version.name,
                    mapping,
                )
                for image in images
            ]
        return answers

    def _version(self, session: Session, project_number: int | None) -> Version | None:
        project = self._project(session, project_number)
        return champion_of(session, project.dataset_id) if project else None

    def _project(self, session: Session, number: int | None) -> Project | None:
        if number is None:
            return None
        return find_project(session, self._backend.settings.label_studio_url, number)

    def _predictor(self, version: Version) -> Predictor:
        from imil_backend.learning.prediction import Predictor

        with self._loading:
            key = str(version.dataset_id)
            predictor = self._loaded.get(key)
            if predictor is None or predictor.config.name != version.name:
                predictor = Predictor(Path(version.directory), device=self._backend.settings.device)
                self._loaded[key] = predictor
            return predictor

    def _image(self, task: Mapping[str, Any], mapping: ProjectMapping) -> npt.NDArray[np.uint8] | None:
        """The image of a task: the original if it is a sample of ours, else as Label Studio serves it."""
        from imil_backend.images.reading import read_image

        settings = self._backend.settings
        data = task.get("data") or {}
        with self._backend.store.begin() as session:
            sample = session.scalar(select(Sample).where(Sample.key == str(data.get("imil_sample", ""))))
        try:
            source: Path | bytes
            if sample is not None and Path(sample.path).exists():
                source = Path(sample.path)
            else:
                source = self._backend.label_studio.download(str(data.get(mapping.image_key, "")))
            return read_image(
                source, max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
            )
        except (ImageError, LabelStudioError) as error:
            logger.warning("No prediction for task %s: %s", task.get("id"), error)
            return None


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
