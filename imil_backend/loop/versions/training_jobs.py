"""Training jobs from the store, and versions from their results."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

import imil_backend
from imil_backend.errors import DatasetError, RoundError
from imil_backend.files import sha256_of
from imil_backend.learning.contract.evidence import EVIDENCE_FILE
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    INTERMEDIATE_FILE,
    JOB_FILE,
    MINING_FILE,
    MODEL_FILE,
    PREDICTIONS_FILE,
    SHORTCUT_FILE,
    STRENGTH_FILE,
    Recipe,
    TrainingJob,
    TrainingSample,
    note_start,
    read_samples,
    read_training_job,
    write_training_job,
)
from imil_backend.loop.answers.sample_states import SampleState, mask_path, sample_states
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of, recipe_of, recipe_of_round
from imil_backend.loop.base.set_aside import forget_set_aside, note_set_aside
from imil_backend.loop.versions.starting_weights import required_weights
from imil_backend.store.tables import Dataset, Round, Sample, Version

_OTHERWISE = (
    "The answers, the samples, the settings or this program's release have changed since it was begun."
)


def new_version_name(dataset: Dataset, number: int) -> str:
    """A name for the version that a round will bring."""
    slug = re.sub(r"[^a-z0-9]+", "-", dataset.name.lower()).strip("-") or "dataset"
    return f"{slug[:60]}-round{number}-{secrets.token_hex(3)}"


def directory_of(backend: Backend, version_name: str) -> Path:
    """Where a version's training runs and its files stay."""
    return backend.path("versions", version_name, "x").parent


def baseline_of(session: Session, dataset_id: int) -> Version | None:
    """The latest baseline of a dataset, whose intermediate point all fine-tuning goes on from."""
    return session.scalar(
        select(Version)
        .where(Version.dataset_id == dataset_id, Version.baseline_id.is_(None))
        .order_by(Version.id.desc())
        .limit(1)
    )


def prepare_training_job(backend: Backend, session: Session, round_: Round, parent: Version | None) -> None:
    """Write the training job of a round. Idempotent.

    Where the answers or settings have changed since a first attempt, the training starts over under a new
    name: a checkpoint belongs to the samples and masks it was made from.

    Raises:
        DatasetError: there is nothing to train on.
        RoundError: the round's baseline is missing.
    """
    dataset = session.get_one(Dataset, round_.dataset_id)
    baseline = None if round_.is_baseline else baseline_of(session, dataset.id)
    if baseline is None and not round_.is_baseline:
        raise RoundError(f"Dataset {dataset.name!r} has no baseline yet. Train one: `imil train`.")
    samples = training_samples(backend, session, dataset, baseline)
    recipe = recipe_of(dataset)
    if baseline:
        recipe = recipe_of_round(Recipe(**baseline.recipe), policy_of(dataset))
    job = TrainingJob(
        name=round_.version_name or new_version_name(dataset, round_.number),
        classes=tuple(dataset.classes),
        channels=read_training_job(Path(baseline.directory)).channels
        if baseline
        else _channels(session, dataset.id),
        recipe=recipe,
        cache_dir=str(backend.cache),
        weights=str(required_weights(backend, recipe.backbone)) if recipe.pretrained else None,
        resume_from=str(Path(baseline.directory) / INTERMEDIATE_FILE) if baseline else None,
        device=backend.settings.device,
        round_number=round_.number,
        parent=parent.name if parent else None,
        parent_model=str(Path(parent.directory) / MODEL_FILE) if parent else None,
        max_image_bytes=backend.settings.max_image_bytes,
        max_image_pixels=backend.settings.max_image_pixels,
        max_image_memory=backend.settings.max_image_memory,
    )
    before = directory_of(backend, job.name)
    if _is_another(before, job, samples):
        job = replace(job, name=new_version_name(dataset, round_.number))
        if (before / CHECKPOINT_FILE).exists():
            note_start(directory_of(backend, job.name), _OTHERWISE)
    round_.version_name = job.name
    write_training_job(directory_of(backend, job.name), job, samples)


def _is_another(directory: Path, job: TrainingJob, samples: list[TrainingSample]) -> bool:
    """Whether a directory holds a job other than this one."""
    if not (directory / JOB_FILE).exists():
        return False
    return read_training_job(directory) != job or read_samples(directory) != samples


def training_samples(
    backend: Backend, session: Session, dataset: Dataset, baseline: Version | None
) -> list[TrainingSample]:
    """All samples as training is to see them.

    A round takes the baseline's samples alone, so that its candidate differs from the champion by the
    clinicians' answers and nothing else.
    """
    states = sample_states(backend, session, dataset)
    known = {sample.key for sample in read_samples(Path(baseline.directory))} if baseline else None
    found = session.scalars(
        select(Sample).where(Sample.dataset_id == dataset.id, Sample.excluded.is_(None)).order_by(Sample.id)
    )
    index = {name: number for number, name in enumerate(dataset.classes)}
    fill = policy_of(dataset).fill
    samples = []
    for sample in found:
        # Answers concern training; validation and test stay what they were.
        state = states.get(sample.id) if sample.split == "train" else None
        if (known is None or sample.key in known) and not (state and state.excluded_as):
            samples.append(_training_sample(backend, sample, index[sample.label], state, fill))
    if not samples:
        raise DatasetError(
            f"Dataset {dataset.name!r} has no samples to train on. Import more: `imil import SOURCE`."
        )
    return samples


def _training_sample(
    backend: Backend, sample: Sample, label: int, state: SampleState | None, fill: str
) -> TrainingSample:
    mask = state.mask_sha256 if state else None
    return TrainingSample(
        key=sample.key,
        image=sample.path,
        sha256=sample.sha256,
        label=label,
        split=sample.split,  # type: ignore[arg-type]
        group=sample.group,
        mask=str(mask_path(backend, mask)) if mask else None,
        mask_sha256=mask,
        fill=fill,
        outside=bool(mask and state and state.outside),
        confirmed=state is not None and state.confirmed,
    )


def _channels(session: Session, dataset_id: int) -> Any:
    coloured = select(Sample.id).where(Sample.dataset_id == dataset_id, Sample.channels == 3).limit(1)
    return 1 if session.scalar(coloured) is None else 3


def code_version() -> str:
    """The package's version; in a git checkout with its revision too, such as "0.1.0+92cf3b4"."""
    checkout = Path(imil_backend.__file__).parents[1]
    if not (checkout / ".git").exists() or shutil.which("git") is None:
        return imil_backend.__version__
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    revision = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{imil_backend.__version__}+{revision}"[:40] if revision else imil_backend.__version__


def fingerprint(samples: list[TrainingSample], recipe: Recipe) -> str:
    """The SHA-256 of what a version was trained on: every sample with its mask, and the recipe."""
    described = [
        [s.key, s.sha256, s.label, s.split, s.mask_sha256, s.fill if s.mask_sha256 else None]
        for s in sorted(samples, key=lambda sample: sample.key)
    ]
    content = json.dumps([described, asdict(recipe)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def record_version(
    backend: Backend, session: Session, round_: Round, parent: Version | None, result: dict[str, Any]
) -> Version:
    """Record a round's finished training as a version, with its mispredictions. Idempotent."""
    if round_.version_id is not None:
        return session.get_one(Version, round_.version_id)
    if round_.version_name is None:
        raise RoundError(f"Round {round_.number} has not been trained. Train it: `imil train`.")
    directory = directory_of(backend, round_.version_name)
    dataset = session.get_one(Dataset, round_.dataset_id)
    baseline = None if round_.is_baseline else baseline_of(session, dataset.id)
    samples, job = read_samples(directory), read_training_job(directory)
    if list(job.classes) != dataset.classes:
        raise RoundError(
            f"Round {round_.number} was trained for {', '.join(job.classes)}; the dataset now has "
            f"{', '.join(dataset.classes)}. Train it again: `imil train`."
        )
    recipe = Recipe(**result["recipe"]) if "recipe" in result else job.recipe  # older results do not say it
    version = Version(
        dataset_id=dataset.id,
        name=round_.version_name,
        parent_id=parent.id if parent else None,
        baseline_id=baseline.id if baseline else None,
        directory=str(directory),
        recipe=asdict(recipe),
        metrics=result["metrics"],
        runtime_info=result["choices"],
        fingerprint=fingerprint(samples, recipe),
        blacked_out=sum(sample.mask_sha256 is not None for sample in samples),
        code_version=code_version(),
        model_sha256=sha256_of(directory / MODEL_FILE),
        seconds=result["seconds"],
    )
    session.add(version)
    session.flush()
    round_.version_id = version.id
    not_always = {EVIDENCE_FILE, SHORTCUT_FILE, STRENGTH_FILE}
    for name in (MODEL_FILE, MINING_FILE, PREDICTIONS_FILE, *not_always):
        if name not in not_always or (directory / name).exists():
            (directory / name).chmod(0o444)  # a version is never changed
    _note_trained(session, round_, version, samples)
    keys = select(Sample.key, Sample.name).where(Sample.dataset_id == dataset.id)
    names = {row.key: row.name for row in session.execute(keys)}
    forget_set_aside(session, dataset.id, "training", names.values())
    unused = [("training", names[item["key"]], item["reason"]) for item in result["set_aside"]]
    note_set_aside(session, dataset.id, unused)
    return version


def _note_trained(session: Session, round_: Round, version: Version, samples: list[TrainingSample]) -> None:
    """Put into the audit trail which blacked-out samples a version was trained on."""
    keys = select(Sample.key, Sample.id).where(Sample.dataset_id == version.dataset_id)
    ids = {row.key: row.id for row in session.execute(keys)}
    for sample in samples:
        if sample.mask_sha256 is not None:
            audit.note(
                session,
                version.dataset_id,
                audit.TRAINED,
                sample_id=ids[sample.key],
                version_id=version.id,
                round_id=round_.id,
                mask_sha256=sample.mask_sha256,
                fill=sample.fill,
            )
