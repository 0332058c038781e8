"""What of a data directory may be removed, and why."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.files import UNFINISHED
from imil_backend.images.row_store import removed_stores
from imil_backend.learning.contract.proposed import PROPOSED_FILE, holds_masks
from imil_backend.learning.contract.training_job import (
    CHECKPOINT_FILE,
    INTERMEDIATE_FILE,
    MASKS_FILE,
    MODEL_FILE,
)
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.cleanup.needed import (
    needed_caches,
    needed_intermediates,
    needed_masks,
    needed_weights,
    trainings_under_way,
)
from imil_backend.loop.proposals.reasons import PROPOSING
from imil_backend.store.tables import Dataset, Version

Kind = Literal[
    "weights", "intermediate state", "proposed masks", "training files", "proposing", "cache", "masks"
]

UNTOUCHED_SECONDS = 24 * 3600.0  # what was written since may be in use before anything refers to it
WHILE_TRAINING = (CHECKPOINT_FILE, MASKS_FILE, "best-*.safetensors", "kept-*.npy", UNFINISHED)
_OF_A_TRAINING = (MODEL_FILE, INTERMEDIATE_FILE, PROPOSED_FILE, *WHILE_TRAINING)
CACHE = re.compile(r"\d+px_[13]ch|before-\w+_\d+px_[0-9a-f]{16}")


@dataclass(frozen=True)
class Removable:
    """Files that nothing needs."""

    kind: Kind
    name: str  # of the version, training or cache
    reason: str
    paths: tuple[Path, ...]
    bytes: int
    version_id: int | None = None


def removable_of_versions(
    backend: Backend, session: Session, dataset: Dataset, keep: int
) -> Iterator[Removable]:
    """What of a dataset's versions may go.

    Args:
        backend: with the data directory.
        session: of the store.
        dataset: whose versions.
        keep: how many of the latest versions keep their weights, beside those that are needed.
    """
    jobs = [job for job in trainings_under_way(backend, session).values() if job is not None]
    in_use = {Path(path) for job in jobs for path in (job.resume_from, job.parent_model) if path}
    needed, intermediates = needed_weights(session, dataset, keep), needed_intermediates(session, dataset.id)
    versions = select(Version).where(Version.dataset_id == dataset.id).order_by(Version.id)
    for version in session.scalars(versions):
        directory = Path(version.directory)
        weights, proposed = directory / MODEL_FILE, directory / PROPOSED_FILE
        if version.id not in needed and weights not in in_use:
            reason = f"no champion, not undecided, and not among the {keep} latest versions"
            yield from _files("weights", version, reason, [weights])
            if holds_masks(proposed):
                yield from _files("proposed masks", version, reason, [proposed])
        intermediate = directory / INTERMEDIATE_FILE
        if version.id not in intermediates and intermediate not in in_use:
            reason = "rounds go on from a later baseline, and the champion does not come from it"
            yield from _files("intermediate state", version, reason, [intermediate])
        yield from _files(
            "training files",
            version,
            "left by a training that was killed when it was done",
            _found(directory, WHILE_TRAINING),
        )


def removable_of_no_version(backend: Backend, session: Session) -> Iterator[Removable]:
    """What may go of trainings that brought no version, of what proposed masks, of caches and masks."""
    yield from _trainings(backend, session)
    yield from _proposing(backend)
    yield from _caches(backend, session)
    yield from _masks(backend, session)


def _trainings(backend: Backend, session: Session) -> Iterator[Removable]:
    used = {*session.scalars(select(Version.name)), *trainings_under_way(backend, session)}
    for directory in sorted((backend.directory / "versions").glob("*/")):
        files = _found(directory, _OF_A_TRAINING)
        if directory.name not in used and files and was_left(directory):
            reason = "cancelled, or begun anew under another name"
            yield Removable("training files", directory.name, reason, tuple(files), _size(files))


def _proposing(backend: Backend) -> Iterator[Removable]:
    """Folders in which masks were being proposed, which takes seconds."""
    for directory in sorted((backend.directory / PROPOSING).glob("*/")):
        if was_left(directory):
            reason = "left by a process that was killed"
            yield Removable("proposing", directory.name, reason, (directory,), _size(directory.iterdir()))


def _caches(backend: Backend, session: Session) -> Iterator[Removable]:
    needed = tuple(needed_caches(backend, session))
    for directory in sorted(backend.cache.iterdir()):
        if CACHE.fullmatch(directory.name) and not directory.name.startswith(needed):
            reason = "no training of a dataset uses it"
            yield Removable("cache", directory.name, reason, (directory,), _size(directory.iterdir()))
    for directory in removed_stores(backend.cache):
        reason = "its removal was interrupted"
        yield Removable("cache", directory.name, reason, (directory,), _size(directory.iterdir()))


def _masks(backend: Backend, session: Session) -> Iterator[Removable]:
    needed, folder = needed_masks(backend, session), backend.directory / "masks"
    there = [*folder.glob("*/*.png"), *folder.glob(f"*/{UNFINISHED}")]  # the latter of a killed process
    unused = [path for path in sorted(there) if path.stem not in needed and _is_untouched(path)]
    if unused:
        reason = "no answer, no version and no entry of the audit trail has them"
        yield Removable("masks", f"{len(unused)} masks", reason, tuple(unused), _size(unused))


def _files(kind: Kind, version: Version, reason: str, paths: Iterable[Path]) -> Iterator[Removable]:
    there = tuple(path for path in paths if path.exists())
    if there:
        yield Removable(kind, version.name, reason, there, _size(there), version.id)


def _found(directory: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in directory.glob(pattern))


def was_left(directory: Path) -> bool:
    """Whether a directory has files, and none was written so lately that somebody may be at work there."""
    try:
        files = list(directory.iterdir())
    except FileNotFoundError:  # removed in the meantime by whoever was at work
        return False
    return bool(files) and all(map(_is_untouched, files))


def _is_untouched(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime < time.time() - UNTOUCHED_SECONDS
    return False


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        with suppress(FileNotFoundError):  # a process that used it has removed it
            total += path.stat().st_size
    return total
