"""Checks of this machine: disk, database, torch, device and weights."""

from __future__ import annotations

import shlex
import shutil
import stat

from sqlalchemy import text, update

from imil_backend.files import OTHERS
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.queues.engine import prepare
from imil_backend.loop.upkeep.check_results import Outcome, State
from imil_backend.loop.versions.starting_weights import selected_weights
from imil_backend.store.tables import Project

GIGABYTE = 1e9
# A version takes 0.1 GB with its checkpoints; the pixel cache comes on top.
TIGHT_BYTES = 2 * GIGABYTE
FULL_BYTES = 0.3 * GIGABYTE


def disk(backend: Backend) -> Outcome:
    """That there is room in the data directory."""
    free = shutil.disk_usage(backend.directory).free
    found = f"{free / GIGABYTE:.1f} GB are free in {backend.directory}."
    if free >= TIGHT_BYTES:
        return State.OK, found
    state = State.FAILED if free < FULL_BYTES else State.WARNING
    return state, f"{found} Free some space, or set IMIL_DATA_DIR."


def permissions(backend: Backend) -> Outcome:
    """That nobody but its owner can read the data directory: databases, images, the key of the patients."""
    looked_at = [
        backend.directory,
        *backend.directory.iterdir(),
        *backend.path("secrets", "x").parent.iterdir(),
    ]
    for path in looked_at:
        mode = path.lstat().st_mode
        if mode & OTHERS and not stat.S_ISLNK(mode):
            return State.WARNING, (
                f"{path} can be read by others ({stat.filemode(mode)}). Stop the backend, and: "
                f"chmod -R go-rwx {shlex.quote(str(backend.directory))}"
            )
    return State.OK, f"{backend.directory} is its owner's alone."


def database(backend: Backend) -> Outcome:
    """That the database is brought up to date, can be written, and lets readers read meanwhile."""
    prepare(backend)
    with backend.store.begin() as session:
        session.execute(update(Project).where(Project.id < 0).values(label_studio_id=0))
        if session.get_bind().dialect.name != "sqlite":
            return State.OK, "PostgreSQL, migrated and writable."
        mode = session.execute(text("PRAGMA journal_mode")).scalar()
    if mode != "wal":
        return State.WARNING, (
            f"SQLite is in journal mode {mode!r} instead of WAL; is the data directory on a network share? "
            "Move it to a local disk, or set IMIL_DATABASE_URL to a PostgreSQL database."
        )
    return State.OK, "SQLite, migrated and writable."


def torch_build(backend: Backend) -> Outcome:
    """That torch can be loaded, and whether it is built for a GPU that is there."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return State.FAILED, f"torch cannot be loaded ({error}). Install this package again."
    built = f"torch {torch.__version__}, built for {torch.version.cuda or 'CPU'}."
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        return State.WARNING, f"{built} There is an NVIDIA driver: install torch with CUDA to use the GPU."
    return State.OK, built


def device(backend: Backend) -> Outcome:
    """That the device of the settings is there."""
    import torch

    wanted, there = backend.settings.device, torch.cuda.is_available()
    if there:
        return State.OK, f"{torch.cuda.device_count()} GPU(s): {torch.cuda.get_device_name()}."
    if wanted == "cuda":
        return State.FAILED, (
            "IMIL_DEVICE is cuda, but torch sees no GPU. Does nvidia-smi show one (also in the "
            "container), and is its driver new enough for this torch? Or set IMIL_DEVICE=auto."
        )
    if wanted == "mps" and not torch.backends.mps.is_available():
        return State.FAILED, "IMIL_DEVICE is mps, but torch has no such device here. Set IMIL_DEVICE=auto."
    return State.OK, f"No CUDA; IMIL_DEVICE is {wanted}, {torch.get_num_threads()} threads."


def weights(backend: Backend) -> Outcome:
    """That there are ImageNet weights to start from."""
    path = selected_weights(backend)
    if path is None:
        return State.WARNING, "No ImageNet weights yet. `imil train` fetches them, or `imil weights` now."
    return State.OK, f"{path}."
