"""The figures of each dataset: rounds, answers, training, versions, verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.metrics_core import GaugeMetricFamily
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from imil_backend.loop.base import timestamps
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.states import TRAINING
from imil_backend.loop.monitoring.gauges import gauge
from imil_backend.loop.rounds.lifecycle import answered, latest_round
from imil_backend.loop.rounds.training import training_progress
from imil_backend.loop.versions.champions import champion_of
from imil_backend.loop.views.undecided import undecided_since
from imil_backend.store.tables import Annotation, Dataset, Project, Round, Sample, Task, Version

_Values = Mapping[tuple[str, ...], float]


def dataset_figures(backend: Backend) -> Iterator[GaugeMetricFamily]:
    """All figures that have a dataset as a label.

    Raises:
        StoreError: the database cannot be used.
    """
    with backend.store.begin() as session:
        datasets = {dataset.id: dataset for dataset in session.scalars(select(Dataset))}
        names = {number: dataset.name for number, dataset in datasets.items()}
        yield from _counts(session, names)
        yield _reconciliations(backend, session, names)
        latest = {number: latest_round(session, number) for number in datasets}
        rounds = {names[number]: round_ for number, round_ in latest.items() if round_ is not None}
        yield from _rounds(session, rounds)
        yield from _trainings(backend, rounds)
        yield _undecided(session, names)
        yield _metrics(session, names)


def _counts(session: Session, names: Mapping[int, str]) -> Iterator[GaugeMetricFamily]:
    by_state = select(Round.dataset_id, Round.state, func.count()).group_by(Round.dataset_id, Round.state)
    yield gauge("imil_rounds", "Rounds by state.", _named(session, names, by_state), "dataset", "state")

    verdict = Round.verdict["verdict"].as_string()
    # In a query of its own: PostgreSQL takes two uses of a JSON path for two columns.
    judged = select(Round.dataset_id, verdict.label("verdict")).where(verdict.is_not(None)).subquery()
    by_verdict = select(judged, func.count()).group_by(*judged.c)
    yield gauge(
        "imil_verdicts",
        "Closed rounds by verdict.",
        _named(session, names, by_verdict),
        "dataset",
        "verdict",
    )
    by_answer = (
        select(Project.dataset_id, Annotation.answer, func.count())
        .join(Project, Project.id == Annotation.project_id)
        .where(~Annotation.deleted)
        .group_by(Project.dataset_id, Annotation.answer)
    )
    yield gauge(
        "imil_annotations",
        "Annotations that stand, by what they mean.",
        _named(session, names, by_answer),
        "dataset",
        "answer",
    )
    asked = Sample.id.in_(select(Task.sample_id))  # so that no other samples are read
    agreement = (
        select(Sample.dataset_id, func.avg(Sample.agreement))
        .where(asked, Sample.agreement.is_not(None))
        .group_by(Sample.dataset_id)
    )
    yield gauge(
        "imil_agreement_dice",
        "Mean Dice between readers, over the samples that several have painted (0 to 1).",
        _named(session, names, agreement),
        "dataset",
    )


def _named(session: Session, names: Mapping[int, str], question: Any) -> _Values:
    """The rows of a query: a dataset's id, labels, and last the value."""
    return {
        (names[dataset_id], *labels): float(value)
        for dataset_id, *labels, value in session.execute(question)
        if dataset_id in names
    }


def _reconciliations(backend: Backend, session: Session, names: Mapping[int, str]) -> GaugeMetricFamily:
    """Of the projects that are reconciled: those of the present Label Studio."""
    ended = timestamps.last(backend, timestamps.RECONCILIATION)
    ours = select(Project).where(Project.instance == backend.settings.label_studio_url)
    return gauge(
        "imil_last_reconciliation_timestamp_seconds",
        "When a dataset's project was last compared with Label Studio to the end; else, when it was made.",
        {
            (names[each.dataset_id],): ended.get(str(each.id), each.created_at.timestamp())
            for each in session.scalars(ours)
            if each.dataset_id in names
        },
        "dataset",
    )


def _rounds(session: Session, latest: Mapping[str, Round]) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "imil_round_number",
        "Number of the latest round.",
        {(name,): round_.number for name, round_ in latest.items()},
        "dataset",
    )
    yield gauge(
        "imil_round_state_since_timestamp_seconds",
        "State of the latest round, and since when.",
        {(name, round_.state): round_.changed_at.timestamp() for name, round_ in latest.items()},
        "dataset",
        "state",
    )
    progress = {name: answered(session, round_) for name, round_ in latest.items()}
    yield gauge(
        "imil_round_tasks",
        "Tasks of the latest round that Label Studio has.",
        {(name,): each.tasks for name, each in progress.items()},
        "dataset",
    )
    yield gauge(
        "imil_round_tasks_answered",
        "Tasks of the latest round that all their readers have answered.",
        {(name,): each.answered for name, each in progress.items()},
        "dataset",
    )


def _trainings(backend: Backend, latest: Mapping[str, Round]) -> Iterator[GaugeMetricFamily]:
    found = {
        name: progress
        for name, round_ in latest.items()
        if round_.state == TRAINING and (progress := training_progress(backend, round_)) is not None
    }
    for key, name, documentation in (
        ("epoch", "imil_training_epoch", "Epoch that a training is in, from 1."),
        ("epochs", "imil_training_epochs", "Epochs that a training has."),
        ("images_per_second", "imil_training_images_per_second", "Images per second, in this phase."),
        ("updated_at", "imil_training_updated_timestamp_seconds", "When a training last told where it is."),
    ):
        yield gauge(name, documentation, {(each,): found[each][key] for each in found}, "dataset")


def _undecided(session: Session, names: Mapping[int, str]) -> GaugeMetricFamily:
    """Since when a verdict waits for a person: no version was promoted after it, and it was not rejected."""
    since = {name: at for number, name in names.items() if (at := undecided_since(session, number))}
    return gauge(
        "imil_undecided_since_timestamp_seconds",
        "Since when the latest verdict is undecided and nobody has decided.",
        {(name,): at.timestamp() for name, at in since.items()},
        "dataset",
    )


def _metrics(session: Session, names: Mapping[int, str]) -> GaugeMetricFamily:
    values: dict[tuple[str, ...], float] = {}
    for number, name in names.items():
        newest = select(Version).where(Version.dataset_id == number).order_by(Version.id.desc()).limit(1)
        versions = {"champion": champion_of(session, number), "latest": session.scalar(newest)}
        for role, version in versions.items():
            measured = version.metrics.get("validation", {}) if version is not None else {}
            values.update({(name, role, key): value for key, value in measured.items() if value is not None})
    return gauge(
        "imil_validation_metric",
        "Metrics on the validation split, of the champion and of the latest version.",
        values,
        "dataset",
        "role",
        "metric",
    )
