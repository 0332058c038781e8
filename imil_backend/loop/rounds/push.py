"""Pushing a round: the champion's mispredictions as tasks in Label Studio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.errors import ImageError, RoundError, UnreadableImageError
from imil_backend.images.intensity.scaling import Window
from imil_backend.images.reading import image_format, load_bytes, png_for_display
from imil_backend.label_studio.api.storages import address_in
from imil_backend.label_studio.api.tasks import PushItem, push_tasks, pushed_tasks
from imil_backend.label_studio.labeling.label_config import ProjectMapping
from imil_backend.label_studio.labeling.task_data import (
    CONFIDENCE_KEY,
    EVIDENCE_KEY,
    EVIDENCE_SAYS_KEY,
    PROBLEM_KEY,
    ROUND_KEY,
    SHOWN_KEYS,
)
from imil_backend.loop.answers.notes import Earlier, earlier_answers, note
from imil_backend.loop.asking.gold import NOT_PUSHED, gold_keys, gold_of, mixed
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend, project_of
from imil_backend.loop.base.dataset_window import window_of
from imil_backend.loop.base.locks import locked, wait_for_erasures
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.set_aside import set_aside
from imil_backend.loop.base.states import FAILED, OPEN, PUSHING, Purpose
from imil_backend.loop.projects.mapping import mapping_of, shows_something
from imil_backend.loop.projects.readers import ask_readers
from imil_backend.loop.proposals.offers import Offer, are_proposed, keep_offer, offers_of, prediction_of
from imil_backend.loop.proposals.refresh import refresh_proposals
from imil_backend.loop.proposals.sources import kept_masks
from imil_backend.loop.proposals.switching import switch_proposals
from imil_backend.loop.rounds.beside import Beside, evidence_beside
from imil_backend.loop.rounds.lifecycle import change_state, check_not_cancelled, held_round
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.versions.mispredictions import MinedMisprediction, next_mispredictions
from imil_backend.store.tables import Dataset, Project, Round, Sample, Task, Version


def push_round(backend: Backend, round_id: int, progress: Callable[[int, int], None] | None = None) -> int:
    """Push a round's tasks and open it. Idempotent; an interrupted push resumes.

    Args:
        backend: the store and Label Studio.
        round_id: a round that is being pushed; in an open one the number of readers is updated, and proposed
            masks are shown or taken away.
        progress: called with the number of tasks done, and of all.

    Returns:
        The number of the round's tasks, without reviews and gold tasks.

    Raises:
        LabelStudioError: Label Studio cannot be reached or refuses.
        RoundError: there is no project, or nothing to ask.
    """
    # The worker may take up a push that a command has begun: one of them waits, and finds it done.
    with locked(backend, "push", round_id):
        wait_for_erasures(backend)
        with backend.store.begin() as session:
            round_ = session.get_one(Round, round_id)
            project = project_of(session, round_.dataset_id)
            own = (Task.round_id == round_id, Task.purpose == Purpose.ASKED.value)
            count = session.scalar(select(func.count(Task.id)).where(*own)) or 0
        if round_.state == OPEN and project is not None:
            ask_readers(backend, project, round_)
            switch_proposals(backend, project)
        if round_.state != PUSHING:
            return count
        if project is None:
            raise RoundError("The dataset has no Label Studio project yet. Make one: `imil push`.")
        return _push(backend, round_, project, progress)


def _push(
    backend: Backend, round_: Round, project: Project, progress: Callable[[int, int], None] | None
) -> int:
    mapping = mapping_of(backend, project)
    already = pushed_tasks(backend.label_studio, project.label_studio_id, round_.number)
    with backend.store.begin() as session:
        asked = _chosen(session, round_, already.keys() - gold_keys(session, round_))
    if not asked:
        raise RoundError(
            f"Round {round_.number} has no mispredictions left to ask about. Cancel it (`imil "
            "cancel`) and push with --fill-budget or --repeat."
        )
    with backend.store.begin() as session:
        gold = gold_of(session, project, round_, [item.sample.key for item in asked])
    items = mixed(asked, gold, round_.number)
    by_key = {item.sample.key: item for item in items}
    proposing = _Proposing(backend, project, round_, mapping, {item.sample.key for item in gold})
    count, created = 0, set()
    for task in push_tasks(
        backend.label_studio,
        project.label_studio_id,
        _push_items(backend, items, round_, already, mapping, project.label_studio_id, proposing),
        already=already,
        image_key=mapping.image_key,
        inline=not mapping.takes_uploads,
        progress=(lambda done: progress(done, len(items))) if progress else None,
    ):
        offer = proposing.offers.get(task.sample_key) if task.created else None
        purpose = Purpose.GOLD if task.sample_key in proposing.gold else Purpose.ASKED
        _keep_task(backend, project, round_, by_key[task.sample_key], task.task_id, offer, purpose)
        count += purpose is Purpose.ASKED
        if task.created:
            created.add(task.task_id)
    if not count:
        raise RoundError("None of the images to ask about can be read; `imil status` says why.")
    ask_readers(backend, project, round_)
    refresh_proposals(backend, project, mapping, proposing.masks, done=created)
    switch_proposals(backend, project)
    with backend.store.begin() as session:
        round_ = held_round(session, round_.id)
        check_not_cancelled(round_)
        if round_.state == FAILED:
            raise RoundError(f"Round {round_.number} was cancelled for a new baseline while it was pushed.")
        if round_.state == PUSHING:
            change_state(round_, OPEN)
    return count


def _chosen(session: Session, round_: Round, already: Collection[str]) -> list[MinedMisprediction]:
    """What this round asks. A push that was interrupted keeps what it has, and adds the rest."""
    own = (Task.round_id == round_.id, Task.purpose == Purpose.ASKED.value)
    kept = set(session.scalars(select(Sample.key).join(Task).where(*own)))
    dataset = session.get_one(Dataset, round_.dataset_id)
    version = session.get_one(Version, round_.mined_version_id)
    return next_mispredictions(session, dataset, version=version, chosen=kept | set(already))


def _push_items(
    backend: Backend,
    asked: list[MinedMisprediction],
    round_: Round,
    already: Mapping[str, int],
    mapping: ProjectMapping,
    number: int,
    proposing: _Proposing,
) -> Iterator[PushItem]:
    """The items in order; an image that can no longer be read is set aside and the rest goes on."""
    with backend.store.begin() as session:
        dataset = session.get_one(Dataset, round_.dataset_id)
        earlier = earlier_answers(session, round_)
    window, language = window_of(dataset), policy_of(dataset).language
    new = [item for item in asked if item.sample.key not in already]
    more_fields = _more_fields(backend, dataset, new, mapping)
    beside = _beside(backend, round_, language, dataset, mapping)
    address_of = _addresses(backend, dataset, number)
    for item in asked:
        sample, address = item.sample, address_of(item.sample)
        try:
            content = b"" if address or sample.key in already else _shown(backend, sample, window)
        except ImageError as error:
            set_aside(backend, sample.dataset_id, "image", sample.name, str(error))
            continue
        shown = None if sample.key in already else beside(sample)
        yield PushItem(
            sample_key=sample.key,
            filename=f"shown.{image_format(content) or ''}",
            read=partial(bytes, content),
            address=address,
            data=more_fields(sample)
            | _shown_fields(item, round_, language, {} if sample.key in proposing.gold else earlier)
            | _says(shown),
            beside=shown.picture if shown else None,
            prediction=None if sample.key in already else proposing.prediction(sample),
        )


class _Proposing:
    """The masks that are proposed for a round's tasks as they are pushed: for none of its gold tasks."""

    def __init__(
        self,
        backend: Backend,
        project: Project,
        round_: Round,
        mapping: ProjectMapping,
        gold: Collection[str],
    ) -> None:
        self.gold = gold  # keys of samples
        self._backend, self._round, self._mapping = backend, round_, mapping
        policy = policy_of(project.dataset)
        with backend.store.begin() as session:
            champion = champion_of(session, project.dataset_id)
            proposed = are_proposed(project, mapping, policy)
            self.masks = kept_masks(session, project.dataset) if proposed else None
        self._offer_of = offers_of(backend, self.masks, policy, champion.name if champion else "")
        self.offers: dict[str, Offer] = {}  # by the sample's key

    def prediction(self, sample: Sample) -> dict[str, Any] | None:
        """What a sample's task is pre-filled with, if anything."""
        offer = None if sample.key in self.gold else self._offer_of(sample, self._round.number)
        if offer is None:
            return None
        self.offers[sample.key] = offer
        if not offer.shown or shows_something(self._mapping):
            return None
        return prediction_of(self._backend, self._mapping, sample, offer)


def _beside(
    backend: Backend, round_: Round, language: str, dataset: Dataset, mapping: ProjectMapping
) -> Callable[[Sample], Beside | None]:
    """What the page shows beside an image, if it does."""
    if EVIDENCE_KEY not in mapping.fields or not mapping.takes_uploads:
        return lambda _: None
    with backend.store.begin() as session:
        version = session.get_one(Version, round_.mined_version_id)
    return evidence_beside(backend, version, language, dataset.classes)


def _says(beside: Beside | None) -> dict[str, str]:
    return {EVIDENCE_SAYS_KEY: beside.says} if beside else {}


def _addresses(backend: Backend, dataset: Dataset, number: int) -> Callable[[Sample], str | None]:
    """The URL of an image that came from this Label Studio, to be shown in project `number`."""
    if dataset.source_instance != backend.settings.label_studio_url:
        return lambda _: None
    best = address_in(backend.label_studio, number)
    return lambda sample: best(sample.address) if sample.address and sample.shown_as_is else None


def _shown_fields(
    item: MinedMisprediction, round_: Round, language: str, earlier: Mapping[int, Earlier]
) -> dict[str, Any]:
    """What our own labeling config shows beside the image."""
    return {
        "label": item.sample.label,
        "predicted": item.predicted,
        CONFIDENCE_KEY: f"{item.probability:.0%}",
        ROUND_KEY: round_.number,
        "note": note(
            language,
            wrong=item.wrong,
            likely_label_error=item.likely_label_error,
            earlier=earlier.get(item.sample.id),
        ),
        PROBLEM_KEY: "",
    }


def _more_fields(
    backend: Backend, dataset: Dataset, asked: Iterable[MinedMisprediction], mapping: ProjectMapping
) -> Callable[[Sample], dict[str, Any]]:
    """What else the labeling config shows: as in the task that a sample came from, else empty.

    Label Studio takes no task without the fields of its config.
    """
    wanted = mapping.fields - {mapping.image_key, *SHOWN_KEYS}
    there: dict[int, dict[str, Any]] = {}
    if wanted and dataset.source_project and dataset.source_instance == backend.settings.label_studio_url:
        numbers = [item.sample.source_task for item in asked if item.sample.source_task]
        tasks = backend.label_studio.named_tasks(dataset.source_project, numbers)
        there = {int(task["id"]): task["data"] for task in tasks}
    return lambda sample: {name: there.get(sample.source_task or 0, {}).get(name, "") for name in wanted}


def _shown(backend: Backend, sample: Sample, window: Window | None) -> bytes:
    """What the editor shows: the original, or a PNG whose frame is the mask's frame."""
    limits = backend.settings
    data = load_bytes(Path(sample.path), limits.max_image_bytes)
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise UnreadableImageError(
            f"{sample.name} is no longer the image that was imported. Restore the original."
        )
    if sample.shown_as_is:
        return data
    return png_for_display(
        data,
        max_bytes=limits.max_image_bytes,
        max_pixels=limits.max_image_pixels,
        name=sample.name,
        window=window,
    )


def _keep_task(
    backend: Backend,
    project: Project,
    round_: Round,
    item: MinedMisprediction,
    task_id: int,
    offer: Offer | None,
    purpose: Purpose,
) -> None:
    with backend.store.begin() as session:
        own = (Task.round_id == round_.id, Task.sample_id == item.sample.id, Task.purpose == purpose.value)
        task = session.scalar(select(Task).where(*own))
        is_new = task is None or task.label_studio_id == NOT_PUSHED
        if task is None:
            task = Task(
                project_id=project.id,
                round_id=round_.id,
                sample_id=item.sample.id,
                label_studio_id=task_id,
                rank=item.rank,
                purpose=purpose.value,
            )
            session.add(task)
        task.label_studio_id, task.deleted = task_id, False
        session.flush()
        if is_new:
            audit.note_asked(session, task)
        if offer is not None:
            keep_offer(session, task, offer)
