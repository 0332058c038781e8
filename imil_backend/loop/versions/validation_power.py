"""What a dataset's validation split can show of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.learning.contract.training_job import PREDICTIONS_FILE, read_json
from imil_backend.learning.scoring.power import Power, power_of
from imil_backend.loop.base.policy import Policy, policy_of
from imil_backend.loop.versions.champions import champion_of
from imil_backend.store.tables import Dataset, Sample


def validation_power(session: Session, dataset: Dataset, policy: Policy | None = None) -> list[Power]:
    """Which losses can be excluded by the samples that the next candidate is compared on.

    Args:
        session: of the store.
        dataset: whose validation split.
        policy: with the margins; the dataset's if absent.
    """
    labels, groups = _compared(session, dataset)
    return power_of(labels, groups, dataset.classes, (policy or policy_of(dataset)).margins)


def as_values(powers: Sequence[Power]) -> list[dict[str, Any]]:
    """For JSON."""
    return [{**asdict(each), "enough": each.enough, "told": f"{each}."} for each in powers]


def as_sentences(powers: Sequence[Power]) -> str:
    """For people, with what follows from it."""
    told = "Validation split: " + " ".join(f"{each}." for each in powers)
    if all(each.enough for each in powers):
        return told
    return (
        f"{told} So no candidate is promoted automatically: you decide. A larger validation split "
        "can show more; `imil push --promotion-margin`, `--recall-margin` and `--auc-margin` require less."
    )


def _compared(session: Session, dataset: Dataset) -> tuple[list[str], list[str]]:
    """Labels and groups. Later samples have no part until there is a new baseline that has seen them."""
    champion = champion_of(session, dataset.id)
    path = Path(champion.directory) / PREDICTIONS_FILE if champion else None
    measured = set(read_json(path)["validation"]["keys"]) if path is not None and path.exists() else None
    found = session.execute(
        select(Sample.key, Sample.label, Sample.group).where(
            Sample.dataset_id == dataset.id, Sample.split == "validation", Sample.excluded.is_(None)
        )
    )
    compared = [sample for sample in found if measured is None or sample.key in measured]
    return [sample.label for sample in compared], [sample.group for sample in compared]
