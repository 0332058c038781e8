"""Pictures of samples in a round: the image, and all of its class evidence on one scale."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from imil_backend.errors import NotFoundError
from imil_backend.learning.contract.evidence import SampleEvidence, read_evidence
from imil_backend.loop.base.backend import Backend
from imil_backend.loop.dashboard.pictures import Overlay, encoded, end_of_scale, panel_of, with_evidence
from imil_backend.loop.dashboard.rounds.one_round import GALLERY, find_round
from imil_backend.loop.evaluation.changes import kept_changes
from imil_backend.loop.evaluation.kept import folder_of
from imil_backend.loop.evaluation.reasons import kept_reasons
from imil_backend.store.tables import Round, Sample, Version

IMAGE = "image"
# The class evidence of a round: which version's, and for which class, a field of SampleEvidence.
EVIDENCE = {
    "before": (0, "label"),
    "after": (1, "label"),
    "before-predicted": (0, "predicted"),
    "after-predicted": (1, "predicted"),
}


def round_picture(backend: Backend, dataset_id: int, number: int, key: str, kind: str) -> bytes:
    """A JPEG of a sample.

    Args:
        backend: the store and the images.
        dataset_id: whose.
        number: of the round, whose versions' evidence is shown.
        key: of the sample.
        kind: IMAGE, or one of EVIDENCE.

    Raises:
        NotFoundError: there is no such round, sample or kind, or a version has no evidence of it.
        ImageError: the image cannot be read.
    """
    with backend.store.begin() as session:
        round_, sample = find_round(session, dataset_id, number), sample_of(session, dataset_id, key)
        both = evidence_of(session, round_, key) if kind in EVIDENCE else None
    if kind == IMAGE:
        return encoded(panel_of(backend, sample))
    if both is None:
        raise NotFoundError(f"There is no class evidence of sample {key} in round {number}.")
    maps = {name: getattr(both[place], field) for name, (place, field) in EVIDENCE.items()}
    overlay = Overlay(maps[kind], end_of_scale(list(maps.values())))
    return encoded(with_evidence(panel_of(backend, sample), overlay))


def evidence_of(session: Session, round_: Round, key: str) -> tuple[SampleEvidence, SampleEvidence] | None:
    """What the versions before and after a round saw in a sample; None where one of them does not tell."""
    version = round_.version
    parent = session.get(Version, version.parent_id) if version and version.parent_id else None
    if version is None or parent is None:
        return None
    before, after = (read_evidence(Path(each.directory)) for each in (parent, version))
    found = (before and before.sample(key), after and after.sample(key))
    return (found[0], found[1]) if found[0] and found[1] else None


def has_evidence(backend: Backend, dataset_id: int, number: int) -> bool:
    """Whether both versions of a round have class evidence."""
    with backend.store.begin() as session:
        version = find_round(session, dataset_id, number).version
        parent = session.get(Version, version.parent_id) if version and version.parent_id else None
        both = [each for each in (version, parent) if each and read_evidence(Path(each.directory))]
        return len(both) == 2


def drawn(backend: Backend, dataset_id: int, number: int, name: str) -> bytes:
    """A plot or picture that was drawn with a round's report.

    Args:
        backend: the store and the report.
        dataset_id: whose.
        number: of the round.
        name: of the file.

    Raises:
        NotFoundError: the report has none of this name.
    """
    with backend.store.begin() as session:
        version = find_round(session, dataset_id, number).version
    if version is None or name not in _drawn_in(folder_of(version)):
        raise NotFoundError(f"The report of round {number} has no {name}.")
    return (folder_of(version) / name).read_bytes()


def gallery_keys(backend: Backend, dataset_id: int, number: int) -> set[str]:
    """The samples that the page of a round shows."""
    with backend.store.begin() as session:
        version = find_round(session, dataset_id, number).version
    changes = kept_changes(folder_of(version)) if version else None
    validation = changes.splits.get("validation") if changes else None
    if validation is None:
        return set()
    shown = (*validation.became_right[:GALLERY], *validation.became_wrong[:GALLERY])
    return {each.key for each in shown}


def sample_of(session: Session, dataset_id: int, key: str) -> Sample:
    """The sample of this key.

    Raises:
        NotFoundError: the dataset has none.
    """
    found = select(Sample).where(Sample.dataset_id == dataset_id, Sample.key == key)
    sample = session.scalar(found)
    if sample is None:
        raise NotFoundError(f"There is no sample {key}. The page of samples lists them.")
    return sample


def _drawn_in(folder: Path) -> set[str]:
    """The files that pages may show."""
    changes, reasons = kept_changes(folder), kept_reasons(folder)
    plots = [split.values for split in changes.splits.values()] if changes else []
    if changes and changes.differences:
        plots.append(changes.differences)
    return {plot.file for plot in plots} | {each.file for each in (reasons.means if reasons else ())}
