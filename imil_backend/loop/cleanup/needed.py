"""What of a data directory is needed: by the champions, by rounds, by people who have yet to decide."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import (
    JOB_FILE,
    Recipe,
    TrainingJob,
    read_samples,
    read_training_job,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.policy import policy_of, recipe_of, recipe_of_round
from imil_backend.loop.base.states import FAILED, UNDER_WAY
from imil_backend.loop.versions.champions import UNDECIDED, champion_of, rejected_versions
from imil_backend.loop.versions.training_jobs import baseline_of
from imil_backend.store.tables import Annotation, AuditEntry, Dataset, Promotion, Proposal, Round, Version

COUNTEREXAMPLES = "layer4"  # what `auto` trains to choose how strong they are


def needed_weights(session: Session, dataset: Dataset, keep: int) -> set[int]:
    """Ids of the versions whose weights stay.

    Champions, current and former; the baseline that rounds go on from; candidates that nobody has decided
    on: undecided, not rejected by a person, and none was promoted since; and the latest ones.

    Args:
        session: of the store.
        dataset: whose versions.
        keep: how many of the latest ones.
    """
    own = select(Version.id).where(Version.dataset_id == dataset.id)
    promotions = select(Promotion).where(Promotion.dataset_id == dataset.id)
    promoted = session.scalars(promotions).all()
    decided_at = max((each.created_at for each in promoted), default=None)
    baseline = baseline_of(session, dataset.id)
    rejected = rejected_versions(session, dataset.id)
    candidates = [
        round_.version
        for round_ in session.scalars(select(Round).where(Round.dataset_id == dataset.id))
        if round_.version is not None
        and round_.version_id not in rejected
        and (round_.verdict or {}).get("verdict") == UNDECIDED
    ]
    return {
        *(each.version_id for each in promoted),
        *([baseline.id] if baseline else []),
        *(each.id for each in candidates if decided_at is None or each.created_at > decided_at),
        *session.scalars(own.order_by(Version.id.desc()).limit(keep)),
    }


def needed_intermediates(session: Session, dataset_id: int) -> set[int]:
    """Ids of the baselines whose intermediate state stays: rounds go on from it, or the champion did."""
    latest, champion = baseline_of(session, dataset_id), champion_of(session, dataset_id)
    ids = {latest.id} if latest else set()
    return ids | {champion.baseline_id or champion.id} if champion else ids


def trainings_under_way(backend: Backend, session: Session) -> dict[str, TrainingJob | None]:
    """The training jobs of rounds that have not ended, by name; None where it is not written yet.

    A round that has failed can be tried again as long as it is its dataset's latest.
    """
    latest = select(func.max(Round.id)).group_by(Round.dataset_id)
    rounds = (
        select(Round.version_name)
        .where(Round.version_name.is_not(None), Round.state.in_(UNDER_WAY))
        .where((Round.state != FAILED) | Round.id.in_(latest))
    )
    jobs: dict[str, TrainingJob | None] = {}
    for name in session.scalars(rounds):
        directory = backend.directory / "versions" / str(name)
        jobs[str(name)] = read_training_job(directory) if (directory / JOB_FILE).exists() else None
    return jobs


def needed_caches(backend: Backend, session: Session) -> set[str]:
    """The beginnings of the names of caches that trainings under way use, and the next ones will."""
    used: set[tuple[Recipe, int]] = set()
    for job in trainings_under_way(backend, session).values():
        if job is not None:
            used.add((job.recipe, job.channels))
    for dataset in session.scalars(select(Dataset)):
        used |= {(recipe_of(dataset), channels) for channels in (1, 3)}
        if baseline := baseline_of(session, dataset.id):
            recipe = recipe_of_round(Recipe(**baseline.recipe), policy_of(dataset))
            used.add((recipe, read_training_job(Path(baseline.directory)).channels))
    return {name for recipe, channels in used for name in _caches_of(recipe, channels)}


def _caches_of(recipe: Recipe, channels: int) -> list[str]:
    size = f"{recipe.image_size}px"
    features = {recipe.trainable} - {"all"} | ({COUNTEREXAMPLES} if recipe.correction == "auto" else set())
    return [f"{size}_{channels}ch", *(f"before-{layers}_{size}_" for layers in features)]


def needed_masks(backend: Backend, session: Session) -> set[str]:
    """The hashes of masks that an answer, a proposal, the audit trail or a training under way refers to.

    The audit trail has those of withdrawn answers, and of all that a version was trained with.
    """
    mentioned = AuditEntry.details["mask_sha256"].as_string()
    in_trainings = {
        sample.mask_sha256
        for name, job in trainings_under_way(backend, session).items()
        if job is not None
        for sample in read_samples(backend.directory / "versions" / name)
    }
    found = {
        *session.scalars(select(Annotation.mask_sha256).distinct()),
        *session.scalars(select(Proposal.mask_sha256).distinct()),
        *session.scalars(select(mentioned).where(mentioned.is_not(None)).distinct()),
        *in_trainings,
    }
    return {sha256 for sha256 in found if sha256 is not None}
