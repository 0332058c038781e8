"""`imil gc` that is killed anywhere: only what was noted is gone, and the next one finishes it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_fakes import make_version, mask_of
from sqlalchemy import select
from support.killing import killed_at

from imil_backend.learning.contract.proposed import (
    PROPOSED_FILE,
    Proposed,
    Quality,
    read_proposed,
    write_proposed,
)
from imil_backend.learning.contract.training_job import CHECKPOINT_FILE, INTERMEDIATE_FILE, LOCK_FILE
from imil_backend.loop.answers.sample_states import mask_path, save_mask
from imil_backend.loop.base import audit
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.cleanup.removable import Removable
from imil_backend.loop.cleanup.removal import find_removable, remove_unneeded
from imil_backend.loop.proposals.reasons import PROPOSING
from imil_backend.store.tables import AuditEntry, Dataset, Version

REMOVED = (audit.WEIGHTS_REMOVED, audit.FILES_REMOVED)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks")]


@pytest.fixture
def scene(backend: Backend, dataset: Dataset) -> Version:
    """One of everything that is removed, beside what stays; gives a version that loses its weights."""
    for name in ("earlier", "baseline"):
        version = make_version(backend, dataset, name)
        (Path(version.directory) / INTERMEDIATE_FILE).write_bytes(b"state")
    rejected = make_version(backend, dataset, "rejected", baseline=version, champion=False)
    (Path(rejected.directory) / CHECKPOINT_FILE).write_bytes(b"state")
    quality = Quality((0.9,), 0.9, 0.8, 1.0, 3, 3)
    proposed = Proposed(True, "Good.", quality, 96, np.zeros((3, 1152), np.uint8), np.ones(3, np.float32))
    write_proposed(Path(rejected.directory) / PROPOSED_FILE, "abc", proposed)
    left = [
        *(backend.path("versions", "cancelled", name) for name in (CHECKPOINT_FILE, LOCK_FILE)),
        backend.path(PROPOSING, "round-1", "job.json"),
        *(backend.path("cache", name, "lock") for name in ("64px_1ch", "224px_1ch", ".64px_3ch.1.removed")),
    ]
    for path in left:
        path.touch()
    for path in [*left, *(mask_path(backend, save_mask(backend, mask_of(column))) for column in (1, 2))]:
        os.utime(path, (0, 0))
    backend.close()
    return rejected


@pytest.fixture
def begin_anew(scene: Version, backend: Backend, tmp_path: Path) -> Callable[[], None]:
    """Puts the data directory back to what it is now."""
    shutil.copytree(backend.directory, tmp_path / "kept")

    def put_back() -> None:
        backend.close()
        shutil.rmtree(backend.directory)
        shutil.copytree(tmp_path / "kept", backend.directory)

    return put_back


def files(backend: Backend) -> dict[str, bytes]:
    """What is in the data directory, but for databases and locks."""
    return {
        str(path.relative_to(backend.directory)): path.read_bytes()
        for path in backend.directory.rglob("*")
        if path.is_file() and not re.search(rf"\.sqlite|{LOCK_FILE}|/locks/", str(path))
    }


def noted(backend: Backend) -> set[tuple[str, int | None, str | None]]:
    """Kind, version and name of what the audit trail says was removed."""
    with backend.store.begin() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.event.in_(REMOVED)))
        return {(each.details["kind"], each.version_id, each.details.get("name")) for each in entries}


def as_noted(item: Removable) -> tuple[str, int | None, str | None]:
    return item.kind, item.version_id, None if item.version_id else item.name


def test_a_cleanup_that_is_killed_anywhere_is_finished_by_the_next(
    scene: Version, backend: Backend, begin_anew: Callable[[], None]
) -> None:
    found = find_removable(backend, keep=0)
    assert len({item.kind for item in found}) == 7  # all there are
    remove_unneeded(backend, keep=0)
    after, proposed = files(backend), Path(scene.directory) / PROPOSED_FILE
    stays = {name: content for name, content in after.items() if not name.endswith(PROPOSED_FILE)}
    last: Any = None
    for number in range(1000):
        begin_anew()
        if not killed_at(number, lambda: remove_unneeded(backend, keep=0)):
            break
        left, last = last, (files(backend), noted(backend))
        if left == last:
            continue
        assert stays.items() <= last[0].items(), number
        read_proposed(proposed)
        gone = {as_noted(item) for item in found if not all(path.exists() for path in item.paths)}
        assert gone <= last[1], number
        remove_unneeded(backend, keep=0)
        assert files(backend) == after, number
        assert find_removable(backend, keep=0) == []
    assert number > 15
