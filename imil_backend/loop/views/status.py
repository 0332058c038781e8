"""The state of everything, as plain values for `imil status` and `--json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.answers.agreement import agreement_of, readings_of
from imil_backend.loop.answers.sample_states import standing_answers
from imil_backend.loop.asking.disputes import reviews_of
from imil_backend.loop.asking.gold import gold_figures
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend, find_dataset, project_of
from imil_backend.loop.base.policy import policy_of
from imil_backend.loop.base.states import EXCLUDED_AS, TRAINING, Purpose
from imil_backend.loop.erasure.erasing import unfinished_erasures
from imil_backend.loop.importing.importing import group_counts, left_out_counts, sample_counts
from imil_backend.loop.proposals.figures import proposal_figures
from imil_backend.loop.proposals.reasons import why_nothing_is_proposed
from imil_backend.loop.queues.launching import worker_is_running
from imil_backend.loop.rounds.lifecycle import answered, find_closed_round, latest_round
from imil_backend.loop.rounds.training import training_progress
from imil_backend.loop.rounds.worth import worth_of
from imil_backend.loop.versions.champions import champion_of, rejected_versions
from imil_backend.loop.versions.removed_weights import removed_weights
from imil_backend.loop.versions.validation_power import as_values, validation_power
from imil_backend.loop.views.answers_set_aside import add_names, passed_over, set_aside
from imil_backend.store.tables import Annotation, Annotator, Dataset, Promotion, Round, Sample, Version


def status(backend: Backend, name: str | None = None) -> dict[str, Any]:
    """The state of the worker and of every dataset, or of the one of this name.

    Raises:
        NotFoundError: there is no dataset of this name.
    """
    with backend.store.begin() as session:
        chosen = (
            [find_dataset(session, name)] if name else session.scalars(select(Dataset).order_by(Dataset.id))
        )
        datasets = [_dataset(backend, session, dataset) for dataset in chosen]
        erasures = unfinished_erasures(session)
    add_names(backend, [item for each in datasets for item in (*each["set_aside"], *each["passed_over"])])
    return {
        "worker_running": worker_is_running(backend),
        "unfinished_erasures": erasures,
        "datasets": datasets,
    }


def versions(session: Session, dataset: Dataset) -> list[dict[str, Any]]:
    """All versions of a dataset, the oldest first."""
    champion = champion_of(session, dataset.id)
    once = set(
        session.scalars(select(Promotion.version_id).where(Promotion.dataset_id == dataset.id).distinct())
    )
    names = {row.id: row.name for row in session.scalars(select(Version))}
    removed = removed_weights(session, dataset.id)
    found = session.scalars(select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id))
    return [
        {
            "name": version.name,
            "champion": champion is not None and version.id == champion.id,
            "promoted_once": version.id in once,
            "parent": names.get(version.parent_id or 0),
            "metrics": version.metrics,
            "blacked_out": version.blacked_out,
            "fingerprint": version.fingerprint,
            "recipe": version.recipe,
            "choices": version.runtime_info,
            "code_version": version.code_version,
            "model_sha256": version.model_sha256,
            "weights_removed_at": removed[version.id].isoformat() if version.id in removed else None,
            "seed": version.recipe.get("seed"),
            "seconds": version.seconds,
            "created_at": version.created_at.isoformat(),
            "directory": version.directory,
        }
        for version in found
    ]


def _dataset(backend: Backend, session: Session, dataset: Dataset) -> dict[str, Any]:
    project = project_of(session, dataset.id)
    champion = champion_of(session, dataset.id)
    round_ = latest_round(session, dataset.id)
    closed = find_closed_round(session, dataset.id)
    standing = standing_answers(session, dataset.id)
    gold = [each for each in standing if each.task.purpose == Purpose.GOLD.value]
    train = [each for each in standing if each.task.purpose != Purpose.GOLD.value]
    repair = audit.latest(session, dataset.id, audit.WEBHOOK_REPAIRED)
    return {
        "name": dataset.name,
        "classes": dataset.classes,
        "samples": sample_counts(session, dataset.id),
        "groups": group_counts(session, dataset.id),
        "left_out": left_out_counts(session, dataset.id),
        "excluded": _excluded(session, dataset),
        "validation": as_values(validation_power(session, dataset)),
        "project": project.label_studio_id if project else None,
        "project_gone_at": project.gone_at.isoformat() if project and project.gone_at else None,
        "webhook_repaired_at": repair.at.isoformat() if repair else None,
        "champion": champion.name if champion else None,
        "round": _round(backend, session, round_) if round_ else None,
        "last_closed": _round(backend, session, closed) if closed else None,
        "worth": _worth(session, closed),
        "answers": dict(Counter(annotation.answer for annotation in train)),
        "agreement": _agreement(session, dataset),
        "readers": _readers(standing),
        "proposals": _proposals(standing),
        "nothing_proposed": why_nothing_is_proposed(backend, session, dataset),
        "reviews": asdict(reviews_of(session, dataset, policy_of(dataset).review_below, standing)),
        "gold": _gold(backend, session, gold),
        "left_training": _left_training(train),
        "set_aside": set_aside(backend, session, dataset, standing),
        "passed_over": passed_over(backend, session, standing),
    }


def _round(backend: Backend, session: Session, round_: Round) -> dict[str, Any]:
    progress = answered(session, round_)
    return {
        "number": round_.number,
        "is_baseline": round_.is_baseline,
        "state": round_.state,
        "version": round_.version_name,
        "tasks": progress.tasks,
        "answered": progress.answered,
        "begun": progress.begun,
        "readers": round_.readers,
        "training": training_progress(backend, round_) if round_.state == TRAINING else None,
        "verdict": round_.verdict,
        "rejected_by_hand": round_.version_id in rejected_versions(session, round_.dataset_id) - {None},
        "error": round_.error,
        "changed_at": round_.changed_at.isoformat(),
    }


def _worth(session: Session, round_: Round | None) -> list[str]:
    """What the last round that closed has brought for the time it took, and whether another is to pay."""
    worth = worth_of(session, round_) if round_ else None
    return list(worth.sentences) if worth else []


def _excluded(session: Session, dataset: Dataset) -> list[dict[str, str]]:
    """The samples that are excluded from training and metrics, with the reason."""
    columns = select(Sample.key, Sample.name, Sample.split, Sample.excluded)
    found = columns.where(Sample.dataset_id == dataset.id, Sample.excluded.is_not(None)).order_by(Sample.id)
    return [
        {"sample": key, "source": name, "split": split, "reason": reason or ""}
        for key, name, split, reason in session.execute(found)
    ]


def _agreement(session: Session, dataset: Dataset) -> dict[str, Any] | None:
    """The mean Dice between annotators, over the samples that several of them answered."""
    agreed = select(func.count(Sample.agreement), func.avg(Sample.agreement))
    samples, mean = session.execute(agreed.where(Sample.dataset_id == dataset.id)).one()
    return {"samples": samples, "dice": float(mean)} if samples else None


def _readers(standing: Sequence[Annotation]) -> dict[str, Any] | None:
    """The agreement of people who answered the same samples; the least agreement first."""
    readings = readings_of(standing)
    figures = agreement_of(readings)
    if figures is None:
        return None
    return {
        "samples": figures.samples,
        "same_answer": figures.same,
        "kappa": figures.kappa,
        "dice": figures.dice,
        "apart": [
            {
                "sample": each.sample.key,
                "source": each.sample.name,
                "task": each.answers[0].task.label_studio_id,
                "answers": [{"annotator": answer.user, "answer": answer.answer} for answer in each.answers],
                "dice": each.sample.agreement,
            }
            for each in readings
            if not each.agrees
        ],
    }


def _proposals(standing: Sequence[Annotation]) -> dict[str, Any] | None:
    """What became of proposed masks, and whether they are accepted without looking."""
    figures = proposal_figures(standing)
    return None if figures is None else {**asdict(figures), "told": figures.sentences}


def _gold(backend: Backend, session: Session, given: Sequence[Annotation]) -> list[dict[str, Any]]:
    """How each annotator has answered gold tasks, by the id in Label Studio, as elsewhere in the status."""
    figures = gold_figures(backend, session, given)
    known = session.scalars(select(Annotator).where(Annotator.key.in_(figures)))
    users = {each.key: each.label_studio_id for each in known}
    return [{"annotator": users.get(key or 0), **asdict(own)} for key, own in figures.items()]


def _left_training(standing: Sequence[Annotation]) -> list[dict[str, str]]:
    return [
        {
            "sample": annotation.sample.key,
            "source": annotation.sample.name,
            "answer": annotation.answer,
            "reason": annotation.reason or "",
        }
        for annotation in standing
        if annotation.answer in EXCLUDED_AS
    ]
