"""Removes what is not needed: noted in the audit trail first, so that a kill leaves nothing untold."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import StoreError, TrainingFailedError
from imil_backend.images.row_store import remove_store
from imil_backend.learning.contract.proposed import drop_masks
from imil_backend.learning.contract.supervision import only_training_in
from imil_backend.learning.contract.training_job import LOCK_FILE
from imil_backend.loop.answers.sample_states import remove_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.locks import CLEANUP, LockTakenError, locked
from imil_backend.loop.cleanup.removable import (
    UNTOUCHED_SECONDS,
    Kind,
    Removable,
    removable_of_no_version,
    removable_of_versions,
    was_left,
)
from imil_backend.store.database import lock_row
from imil_backend.store.tables import Dataset

logger = logging.getLogger(__name__)


def find_removable(backend: Backend, keep: int) -> list[Removable]:
    """What `remove_unneeded` would remove. Changes nothing.

    Args:
        backend: with the data directory.
        keep: how many of each dataset's latest versions keep their weights, beside those that are needed.
    """
    with backend.store.begin() as session:
        of_versions = [
            item
            for dataset in session.scalars(select(Dataset).order_by(Dataset.id))
            for item in removable_of_versions(backend, session, dataset, keep)
        ]
        return [*of_versions, *removable_of_no_version(backend, session)]


def remove_unneeded(backend: Backend, keep: int) -> list[Removable]:
    """Remove what is not needed, while everything runs; what is in use at this moment is left for next time.

    JSON files, reports and the rows of versions always stay.

    Args:
        backend: with the data directory.
        keep: how many of each dataset's latest versions keep their weights, beside those that are needed.

    Returns:
        What was removed.

    Raises:
        StoreError: another cleanup or a backup is under way, or a file cannot be removed.
    """
    with _alone(backend):
        with backend.store.begin() as session:
            datasets = session.scalars(select(Dataset).order_by(Dataset.id)).all()
        removed = [item for dataset in datasets for item in _remove_of_versions(backend, dataset, keep)]
        with backend.store.begin() as session:
            others = list(removable_of_no_version(backend, session))
            for dataset in datasets if others else []:  # nobody can tell whose they were
                _note(session, dataset.id, others)
        return removed + [item for item in others if _remove(item)]


@contextmanager
def _alone(backend: Backend) -> Iterator[None]:
    try:
        with locked(backend, CLEANUP, wait=False):
            yield
    except LockTakenError as error:
        raise StoreError(
            "Another `imil gc`, or a backup, is under way. Try again when it has ended."
        ) from error


def _remove_of_versions(backend: Backend, dataset: Dataset, keep: int) -> list[Removable]:
    """While the dataset is held, none of its versions is promoted."""
    with backend.store.begin() as session:
        lock_row(session, dataset)
        noted = list(removable_of_versions(backend, session, dataset, keep))
        _note(session, dataset.id, noted)
    if not noted:
        return []
    with backend.store.begin() as session:
        lock_row(session, dataset)
        still = [item for item in removable_of_versions(backend, session, dataset, keep) if item in noted]
        return [item for item in still if _remove(item)]


def _note(session: Session, dataset_id: int, items: list[Removable]) -> None:
    for item in items:
        weights = item.kind == "weights"
        audit.note(
            session,
            dataset_id,
            audit.WEIGHTS_REMOVED if weights else audit.FILES_REMOVED,
            version_id=item.version_id,
            kind=item.kind,
            name=None if item.version_id else item.name,
            reason=item.reason,
            files=[path.name for path in item.paths],
            bytes=item.bytes,
        )


def _remove(item: Removable) -> bool:
    """Whether all of it was removed; what is in use is not."""
    remove = _REMOVE.get(item.kind, _remove_file)
    try:
        removed = [remove(path) for path in item.paths]
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be removed: {error.strerror}.") from error
    if not all(removed):
        logger.info("Some of %s %s is in use, and stays.", item.kind, item.name)
    return all(removed)


def _remove_file(path: Path) -> bool:
    path.unlink(missing_ok=True)
    return True


def _remove_training_file(path: Path) -> bool:
    try:
        with only_training_in(path.parent / LOCK_FILE, patience=0):
            return _remove_file(path)
    except TrainingFailedError:
        return False


def _remove_proposed(path: Path) -> bool:
    drop_masks(path)
    return True


def _remove_proposing(path: Path) -> bool:
    with suppress(FileNotFoundError):  # masks were proposed there since
        if not was_left(path):
            return False
        shutil.rmtree(path)
    return True


def _remove_cache(path: Path) -> bool:
    if not path.name.startswith("."):
        return remove_store(path)
    with suppress(FileNotFoundError):  # whose removal was not interrupted after all
        shutil.rmtree(path)
    return True


def _remove_unused_mask(path: Path) -> bool:
    return remove_mask(path, time.time() - UNTOUCHED_SECONDS)


_REMOVE: Mapping[Kind, Callable[[Path], bool]] = {
    "training files": _remove_training_file,
    "proposed masks": _remove_proposed,
    "proposing": _remove_proposing,
    "cache": _remove_cache,
    "masks": _remove_unused_mask,
}
