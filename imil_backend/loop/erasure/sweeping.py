"""Removes the traces of samples from the files of a data directory. All of it may be done twice."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import or_, select

from imil_backend.errors import StoreError
from imil_backend.files import UNFINISHED
from imil_backend.images.reading import image_format
from imil_backend.images.row_store import remove_store, removed_stores
from imil_backend.learning.contract.evidence import (
    EVIDENCE_FILE,
    Evidence,
    EvidenceFile,
    write_evidence,
)
from imil_backend.learning.contract.proposed import PROPOSED_FILE, read_proposed, write_proposed
from imil_backend.learning.contract.training_job import SAMPLES_FILE, read_samples
from imil_backend.loop.answers.sample_states import mask_path
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.base.unfinished import ASIDE, UNPACKED
from imil_backend.loop.cleanup.removable import CACHE, WHILE_TRAINING
from imil_backend.loop.comparing.runs import COMPARE, RUNS_FILE, WORK
from imil_backend.loop.erasure.names import ends_of, is_telling
from imil_backend.loop.erasure.plan import Plan
from imil_backend.loop.erasure.words import (
    Told,
    cell_of,
    cells_in,
    clean_json,
    clean_json_lines,
    clean_lines,
    is_text,
    mentions,
    pattern_of,
    read_lines,
    told_in_row,
    told_in_text,
)
from imil_backend.loop.evaluation.kept import REPORT_FOLDER
from imil_backend.loop.proposals.reasons import PROPOSING
from imil_backend.store.database import POSTGRES_COPY, SQLITE_FILE
from imil_backend.store.tables import Round, Sample, Version

_PICTURES = (".png", ".jpg", ".webp")


def sweep(backend: Backend, plan: Plan) -> None:
    """Remove everything but what lies in Label Studio and in the database.

    Raises:
        StoreError: a file cannot be removed or written, or a cache is in use.
    """
    with _says_what_stays():
        _sweep_reports(backend, plan)
        _sweep_versions(backend, plan)
        _remove_folder(backend.directory / PROPOSING)  # left by one that was killed
        _sweep_comparisons(backend, plan)
        _sweep_unpacked(backend, plan)
        for name in plan.files:
            (backend.directory / name).unlink(missing_ok=True)
        for sha256 in plan.masks:
            _remove_mask(mask_path(backend, sha256))
        _sweep_caches(backend, plan)


def still_found(backend: Backend, plan: Plan) -> list[str]:
    """Texts of the data directory that hold a word of the plan, and other files that are called one.

    Numbers and short words mean something else in most of them, and are looked for beside the images alone.
    """
    pattern = pattern_of(plan)
    found = {
        path
        for path in backend.directory.rglob("*")
        if path.is_file()
        and ".sqlite" not in path.name
        and (pattern.search(path.name) or (is_text(path) and mentions(path, plan)))
    }
    for top in _unpacked(backend, plan):
        found |= _still_told_beside(backend, top, told_in_text(plan))
    return [str(path.relative_to(backend.directory)) for path in sorted(found)]


def _still_told_beside(backend: Backend, top: Path, told: Told) -> set[Path]:
    return {
        path
        for path in _of_no_sample(backend, top)
        if told(str(path.relative_to(top))) or (is_text(path) and any(map(told, read_lines(path)[0])))
    }


def rounds_to_report_anew(backend: Backend, plan: Plan) -> tuple[int, ...]:
    """Ids of those that asked about a sample, since pictures may show it, and whose report names one.

    A report that is half removed may name none any more: keep them before anything is removed.
    """
    return tuple(
        round_id
        for round_id, report in _reports(backend)
        if round_id in plan.rounds
        or any(mentions(path, plan) for path in report.rglob("*") if path.is_file())
    )


def _reports(backend: Backend) -> list[tuple[int, Path]]:
    """The round and the folder of each, whether it was written or not."""
    made = select(Round.id, Version.directory).join(Version, Round.version_id == Version.id)
    with backend.store.begin() as session:
        return [(round_id, Path(directory) / REPORT_FOLDER) for round_id, directory in session.execute(made)]


def _sweep_reports(backend: Backend, plan: Plan) -> None:
    for round_id, report in _reports(backend):
        if round_id in plan.rounds:
            _remove_folder(report)


def _sweep_versions(backend: Backend, plan: Plan) -> None:
    with backend.store.begin() as session:
        versions = set(session.scalars(select(Version.name)))
    for directory in sorted((backend.directory / "versions").glob("*/")):
        _remove_unfinished(directory)
        if not _holds(directory, plan):
            continue
        if directory.name in versions:
            _clean_version(directory, plan)
        else:  # of a round that failed or was cancelled: it begins anew
            _remove_training(directory)


def _holds(directory: Path, plan: Plan) -> bool:
    there = (directory / SAMPLES_FILE).exists()
    return there and any(sample.key in plan.keys for sample in read_samples(directory))


def _remove_training(directory: Path) -> None:
    """The list of samples last: by it the training is known to hold one of them."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != SAMPLES_FILE:
            path.unlink()
    shutil.rmtree(directory)


def _clean_version(directory: Path, plan: Plan) -> None:
    """The list of samples last: by it a version is known to hold one of them."""
    for pattern in WHILE_TRAINING:
        for path in directory.glob(pattern):
            path.unlink()
    for path in sorted(directory.rglob("*")):
        if path.suffix in _PICTURES and REPORT_FOLDER not in path.parts:  # what a report shows is known
            path.unlink()
        elif path.is_file() and path.name != SAMPLES_FILE and is_text(path) and mentions(path, plan):
            if path.suffix == ".json":
                clean_json(path, plan)
            else:
                clean_lines(path, pattern_of(plan).search)
    for path in directory.glob("*.log"):
        clean_lines(path, told_in_text(plan))
    _clean_proposed(directory / PROPOSED_FILE, plan)
    _clean_evidence(directory / EVIDENCE_FILE, plan)
    clean_json(directory / SAMPLES_FILE, plan)


def _clean_proposed(path: Path, plan: Plan) -> None:
    if not path.exists():
        return
    keys, proposed = read_proposed(path)
    kept = np.array([key not in plan.keys for key in keys], bool)
    if not kept.all():
        masks = proposed
        if len(proposed.packed):  # there are none where proposals were no good
            masks = replace(proposed, packed=proposed.packed[kept], confidence=proposed.confidence[kept])
        write_proposed(path, [key for key, stays in zip(keys, kept, strict=True) if stays], masks)


def _clean_evidence(path: Path, plan: Plan) -> None:
    if not path.exists():
        return
    mode, file = path.stat().st_mode, EvidenceFile(path)
    splits = {name: file.split(name) for name in file.splits}
    if not any(key in plan.keys for split in splits.values() for key in split.keys):
        return
    write_evidence(path, {name: _without(split, plan) for name, split in splits.items()})
    path.chmod(mode)


def _without(split: Evidence, plan: Plan) -> Evidence:
    kept = np.array([key not in plan.keys for key in split.keys], bool)
    return Evidence(
        keys=tuple(key for key in split.keys if key not in plan.keys),
        labels=split.labels[kept],
        probabilities=split.probabilities[kept],
        label=split.label[kept],
        predicted=split.predicted[kept],
    )


def _sweep_comparisons(backend: Backend, plan: Plan) -> None:
    """Finished runs without the samples. What is half done goes: the fixed data set is no more."""
    for directory in sorted((backend.directory / COMPARE).glob("*/")):
        _remove_folder(directory / WORK)
        _remove_unfinished(directory)
        runs = directory / RUNS_FILE
        if runs.exists() and mentions(runs, plan):
            clean_json_lines(runs, plan)


def _sweep_unpacked(backend: Backend, plan: Plan) -> None:
    """What else was in the zips that images came from: tables that tell of them, masks that were not used."""
    told = told_in_row(plan)
    for top in _unpacked(backend, plan):
        stems = {Path(name).stem for name in plan.files if (backend.directory / name).is_relative_to(top)}
        named = _named_beside(backend, top, told)
        stems |= {path.stem for path in named if is_telling(path.stem)}
        for path in _of_no_sample(backend, top):  # such as masks; the named ones alone say whose these are
            if path not in named and (path.stem in stems or path.match(UNFINISHED)):
                path.unlink()
        for path in named:  # before the rows, which alone say whose they are
            path.unlink()
        for path in _of_no_sample(backend, top):
            if is_text(path):
                clean_lines(path, told)
            elif not _is_image(path):  # a workbook, an archive: what is in it cannot be told
                path.unlink()


def _unpacked(backend: Backend, plan: Plan) -> list[Path]:
    """The folders of the zips that images came from."""
    names = {Path(name).parts[1] for name in plan.files if Path(name).parts[0] == UNPACKED}
    return [backend.directory / UNPACKED / name for name in sorted(names)]


def _named_beside(backend: Backend, top: Path, told: Told) -> set[Path]:
    """Images of no sample that rows about the samples name, and no other rows: such as were set aside."""
    others = list(_of_no_sample(backend, top))
    cells: dict[bool, set[str]] = {True: set(), False: set()}  # by whether their row is about the samples
    for line in (line for path in others if is_text(path) for line in read_lines(path)[0]):
        cells[bool(told(line))].update(filter(is_telling, cells_in(line)))
    called: dict[str, list[Path]] = defaultdict(list)
    for path in filter(_is_image, others):
        for end in ends_of(path.relative_to(top)):
            called[cell_of(end)].append(path)
    own = cells[True] - cells[False]  # a label or a view is in the rows of others, too
    return {path for cell, (path, *more) in called.items() if cell in own and not more}


def _of_no_sample(backend: Backend, folder: Path) -> Iterator[Path]:
    inside = f"{folder}/"
    used = select(Sample.path, Sample.clinician_mask).where(
        or_(Sample.path.startswith(inside), Sample.clinician_mask.startswith(inside))
    )
    with backend.store.begin() as session:
        named = {path for row in session.execute(used) for path in row}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and str(path) not in named:
            yield path


def _is_image(path: Path) -> bool:
    with path.open("rb") as file:
        return image_format(file.read(4096)) is not None


def _sweep_caches(backend: Backend, plan: Plan) -> None:
    """Rows of pixels all of them, since nobody can tell what each was made of; they are rebuilt."""
    pattern = pattern_of(plan)
    for path in sorted(backend.cache.rglob("*")):
        if pattern.search(path.name) and path.is_file():  # thumbnails
            path.unlink()
    for directory in sorted(backend.cache.iterdir()):
        if CACHE.fullmatch(directory.name) and not remove_store(directory) and directory.exists():
            raise StoreError(f"The cache in {directory} is in use. Try again: `imil erase`.")
    for directory in removed_stores(backend.cache):
        shutil.rmtree(directory)


def _remove_mask(path: Path) -> None:
    """And what a process that was killed has written of it."""
    path.unlink(missing_ok=True)
    for unfinished in path.parent.glob(f".{path.name}.*"):
        unfinished.unlink()


def _remove_unfinished(directory: Path) -> None:
    """What a process that was killed has written of a file, an earlier erasure among them."""
    for path in directory.glob(UNFINISHED):
        path.unlink()


def _remove_folder(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def copies_of_everything(directory: Path) -> list[Path]:
    """Copies of the database from before a migration, and what a restore has moved aside."""
    patterns = (f"{SQLITE_FILE}.before-*", f"{POSTGRES_COPY}*", f"{ASIDE}*")
    return sorted(path for pattern in patterns for path in directory.glob(pattern))


def sweep_copies(directory: Path) -> None:
    """Remove these copies, which hold whatever is erased.

    Raises:
        StoreError: one cannot be removed.
    """
    with _says_what_stays():
        for path in copies_of_everything(directory):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def _says_what_stays() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename} cannot be erased: {error.strerror}.") from error
