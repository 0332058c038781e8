"""What the samples of an erasure are called: in whatever the backend writes, and in tables beside images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.loop.base.unfinished import UNPACKED
from imil_backend.loop.erasure.subject import Subject
from imil_backend.store.tables import Sample

_LEAST_CHARACTERS = 4

Cells = tuple[str, ...]  # that name a sample where all of them are in one row of a table


def is_telling(word: str) -> bool:
    """Whether a word stands for nothing else; short ones and plain numbers occur everywhere."""
    return len(word) >= _LEAST_CHARACTERS and not word.isdecimal()


def words_of(session: Session, subject: Subject, masks: set[str]) -> tuple[str, ...]:
    """Words by which samples are told anywhere, and no others are."""
    ids = [each.id for each in subject.samples]
    groups = _groups(subject)
    shared = select(Sample.group).where(Sample.group.in_(groups), Sample.id.not_in(ids)).distinct()
    found = {*(groups - set(session.scalars(shared))), *masks}
    for each in subject.samples:
        file_name = Path(each.path).name
        same = Sample.path.endswith(f"/{file_name}", autoescape=True)
        if session.scalar(select(Sample.id).where(same, Sample.id.not_in(ids)).limit(1)) is None:
            found.add(file_name)  # as tables call it
        found |= {each.key, each.name, each.path, each.sha256}
        found |= {each.pixels_sha256 or "", each.perceptual_hash or "", each.address or ""}
        found.add(each.clinician_mask or "")
    return tuple(sorted(word for word in found if is_telling(word)))


def cells_of(session: Session, subject: Subject, directory: Path) -> tuple[Cells, ...]:
    """Cells by which tables tell of samples, and of no others of the same datasets.

    Args:
        session: of the store.
        subject: the samples.
        directory: the data directory, whose unpacked zips the tables are in.
    """
    found = {*_of_groups(session, subject), *_of_files(session, subject, directory / UNPACKED)}
    return tuple(sorted(found))


def ends_of(path: PurePath) -> set[str]:
    """What a table may call a file: each end of its path, with its suffix or, for a template, without."""
    ends = {"/".join(path.parts[start:]) for start in range(len(path.parts))}
    return ends | {end.removesuffix(path.suffix) for end in ends}


def _groups(subject: Subject) -> set[str]:
    return {each.group for each in subject.samples} | ({subject.group} if subject.group else set())


def _of_groups(session: Session, subject: Subject) -> Iterable[Cells]:
    """A group whole, and its parts: an import joins the cells of several columns with slashes."""
    ids, names = [each.id for each in subject.samples], {each.name for each in subject.samples}
    datasets = {each.dataset_id for each in subject.samples}
    others = select(Sample.group).where(Sample.dataset_id.in_(datasets), Sample.id.not_in(ids)).distinct()
    shared = set(session.scalars(others))
    shared_parts = {part for group in shared for part in group.split("/")}
    for group in _groups(subject) - shared:
        yield (group,)
        if group not in names:  # which an image without a group has as its own
            parts = tuple(filter(None, group.split("/")))
            yield parts
            yield from ((part,) for part in parts if part not in shared_parts)


def _of_files(session: Session, subject: Subject, unpacked: Path) -> Iterable[Cells]:
    """The ends of paths below a zip's folder that no other sample's path has."""
    ids = [each.id for each in subject.samples]
    inside = [Path(each.path) for each in subject.samples if Path(each.path).is_relative_to(unpacked)]
    for top in {unpacked / path.relative_to(unpacked).parts[0] for path in inside}:
        ends = {end for path in inside if path.is_relative_to(top) for end in ends_of(path.relative_to(top))}
        others = select(Sample.path).where(Sample.path.startswith(f"{top}/", autoescape=True))
        others = others.where(Sample.id.not_in(ids))
        for path in session.scalars(others):
            ends -= ends_of(Path(path).relative_to(top))
        yield from ((end,) for end in ends)
